"""Where the units of a group lie in a tensor: blocks, and how a permutation moves their entries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product as choices
from math import prod

import torch
from torch import Tensor

from dss.symmetry.axes import Axis, factors, resolve, terms

Permutations = Mapping[str, Tensor]
# A run of places over atoms: where it starts, and each atom with its stride, outermost first.
Segment = tuple[int, tuple[tuple[Axis, int], ...]]


@dataclass(frozen=True)
class Group:
    """Units that may be put in any order without changing the function.

    Attributes:
        name: the first parameter and axis where they occur.
        size: the number of units.
        places: all parameters and axes where they occur.
        within: the group (or pinned axis) to whose units these belong, such as features within attention heads: the order
            may differ from one to the next. None for a group that stands by itself.
        blocks: the number of units of `within`; 1 without.
    """

    name: str
    size: int
    places: tuple[tuple[str, int], ...]
    within: str | None = None
    blocks: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a permutation: `(size,)`, or `(blocks, size)` with a row for each block."""
        return (self.size,) if self.within is None else (self.blocks, self.size)

    @property
    def units(self) -> int:
        """How many units there are in all."""
        return self.size * self.blocks


@dataclass(frozen=True)
class Block:
    """A part of a contiguous tensor as an array, each of whose axes runs over one atom.

    Attributes:
        axes: for each axis its group (or the name that groups are within), or None where the order is pinned.
        sizes, strides, offset: of the array, in entries of the tensor.
        sources: for each axis the axis of the tensor that it is a part of.
    """

    axes: tuple[str | None, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    sources: tuple[int, ...]

    def of(self, tensor: Tensor) -> Tensor:
        """The block of a contiguous tensor, sharing its memory."""
        return tensor.as_strided(self.sizes, self.strides, tensor.storage_offset() + self.offset)


def segments(axis: Axis, stride: int = 1) -> list[Segment]:
    """The axis as runs of places over atoms, for places `stride` entries apart.

    A case gives the runs of all its parts.
    """
    axis = resolve(axis)
    if axis.kind == "case":
        return [segment for part in axis.parts for segment in segments(part, stride)]
    if axis.kind == "sum":
        found, offset = [], 0
        for term in terms(axis):
            found += [(offset * stride + start, run) for start, run in segments(term, stride)]
            offset += term.size
        return found
    if axis.kind == "atom":
        return [(0, ((axis, stride),) if axis.size != 1 else ())]
    found = [(0, ())]
    for factor in reversed(factors(axis)):
        inner = segments(factor, stride)
        found = [(a + b, (*run, *tail)) for a, run in inner for b, tail in found]
        stride *= factor.size
    return found


def blocks_of(axes: Sequence[Axis], names: Mapping[Axis, str]) -> list[Block]:
    """A tensor with these axes cut into blocks: one for each choice of a segment along every axis."""
    strides = [prod(axis.size for axis in axes[place + 1 :]) for place in range(len(axes))]
    runs = [segments(axis, stride) for axis, stride in zip(axes, strides, strict=True)]
    found = []
    for choice in choices(*runs):
        parts = [(atom, stride, place) for place, (_, run) in enumerate(choice) for atom, stride in run]
        found.append(
            Block(
                tuple(names.get(atom) for atom, _, _ in parts),
                tuple(atom.size for atom, _, _ in parts),
                tuple(stride for _, stride, _ in parts),
                sum(offset for offset, _ in choice),
                tuple(place for _, _, place in parts),
            )
        )
    return found


def permuted(array: Tensor, axes: Sequence[str | None], groups: Mapping[str, Group], permutations: Permutations) -> Tensor:
    """The array of a block with its units in the new order: entry i of a group is its former entry `permutation[i]`.

    First whole units move, then what is within them: row i of an inner permutation is that of the new unit i.
    """
    moved = [(dim, name) for dim, name in enumerate(axes) if name is not None and name in permutations]
    for dim, name in moved:
        if groups[name].within is None:
            array = array.index_select(dim, permutations[name].to(array.device))
    for dim, name in moved:
        if (outer := groups[name].within) is not None:
            array = array.take_along_dim(_index(axes, axes.index(outer), dim, permutations[name]).to(array.device), dim)
    return array


def _index(axes: Sequence[str | None], outer: int, inner: int, permutation: Tensor) -> Tensor:
    """An inner permutation `(blocks, size)` laid along its two axes, of size 1 along all others."""
    shape = [1] * len(axes)
    shape[outer], shape[inner] = permutation.shape
    return (permutation if outer < inner else permutation.T).reshape(shape)


def rearranged(tensor: Tensor, blocks: Sequence[Block], groups: Mapping[str, Group], permutations: Permutations) -> Tensor:
    """The tensor with all its blocks permuted; its own memory is left alone."""
    source = tensor.contiguous()
    result = source.clone()
    for block in blocks:
        if any(name in permutations for name in block.axes):
            block.of(result).copy_(permuted(block.of(source), block.axes, groups, permutations))
    return result


def identity(groups: Mapping[str, Group]) -> dict[str, Tensor]:
    """Every unit in its place."""
    return {name: torch.arange(group.size).expand(group.shape).clone() for name, group in groups.items()}
