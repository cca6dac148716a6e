"""What a probe tries a model and its loss on: samples from all over the data, points away from the given one, outputs for
every target; and how it compares what they give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples

EDGE, EVEN, CLASSES = 3, 6, 12
"""Samples from either end of the data, at equal distances, and with different least or largest targets."""


def spread(targets: Sequence[Tensor]) -> Tensor:
    """Places `(m,)` of few samples that differ as the data does: from both ends, at equal distances, and of many classes.

    Data is often sorted: by class, by length, with the padded samples last. The first ones alone tell nothing.
    """
    n = len(targets[0])
    ends = [*range(min(EDGE, n)), *range(max(0, n - EDGE), n)]
    rows = [target.reshape(n, -1) for target in targets if target.numel() and not target.is_complex()]
    keys = [key for flat in rows for key in (flat.amin(1), flat.amax(1))]
    places = [torch.tensor(ends), torch.arange(EVEN) * n // EVEN, *map(_first_of_each, keys)]
    return torch.cat([place.to(targets[0].device) for place in places]).unique()


def _first_of_each(keys: Tensor) -> Tensor:
    """Where up to `CLASSES` different keys, the least and the largest among them, are first met."""
    values, kinds = keys.unique(return_inverse=True)
    first = torch.full(values.shape, len(keys), device=keys.device).scatter_reduce(
        0, kinds, torch.arange(len(keys), device=keys.device), "amin"
    )
    count = len(values)
    return first[torch.linspace(0, count - 1, min(CLASSES, count), device=keys.device).round().long()]


def moved(parameters: dict[str, Tensor], generator: torch.Generator, scale: float) -> dict[str, Tensor]:
    """Parameters at a generic place: a head that starts at zero makes every loss look like a mean."""

    def step(value: Tensor) -> Tensor:
        fan = value[0].numel() if value.ndim > 1 and len(value) else 10
        size = max(0.5 * value.double().square().mean().sqrt().item() if value.numel() else 0.0, 0.3 * max(fan, 1) ** -0.5)
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        return value + scale * size * noise

    return {name: step(value) for name, value in parameters.items()}


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model made of n samples: tensors `(n, ...)` in any nest of tuples and dictionaries."""

    leaves: list[Any]
    nest: Any
    samples: int

    @classmethod
    def of(cls, output: object, samples: int) -> "Outputs | None":
        """None if a tensor in it does not count the samples along axis 0, so that no sample's part can be told."""
        leaves, nest = pytree.tree_flatten(output)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if not tensors or any(not leaf.ndim or len(leaf) != samples for leaf in tensors):
            return None
        return cls([leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves], nest, samples)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors of real numbers in it."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]

    @property
    def device(self) -> torch.device:
        return next(leaf.device for leaf in self.leaves if isinstance(leaf, Tensor))

    @property
    def dtype(self) -> torch.dtype:
        """Of its real numbers."""
        return next((leaf.dtype for leaf in self.tensors), torch.float32)

    @property
    def size(self) -> float:
        """The largest absolute value."""
        return max((leaf.abs().max().item() for leaf in self.tensors if leaf.numel()), default=0.0)

    @property
    def bytes_each(self) -> int:
        """Bytes of one sample's part in float64."""
        return 8 * sum(leaf[0].numel() for leaf in self.leaves if isinstance(leaf, Tensor)) or 1

    def take(self, index: Tensor, dtype: torch.dtype | None = None) -> Any:
        """The part of some samples, as the model would have returned it, copied, with real numbers in `dtype`."""

        def part(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf[index].to(dtype) if dtype is not None and leaf.is_floating_point() else leaf[index]

        return pytree.tree_unflatten([part(leaf) for leaf in self.leaves], self.nest)

    def joined(self, other: "Outputs") -> "Outputs":
        """The samples of both."""
        pairs = zip(self.leaves, other.leaves, strict=True)
        leaves = [torch.cat(pair) if isinstance(pair[0], Tensor) else pair[0] for pair in pairs]
        return Outputs(leaves, self.nest, self.samples + other.samples)


def cloned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that may be written over."""
    return {name: value.clone() for name, value in tensors.items()}


def copy_of(output: Any) -> Any:
    """An output that may be written over."""
    return pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output)


def has_reals(output: object) -> bool:
    """Whether there are real numbers in an output, which are not the same at two points by chance."""
    return any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in pytree.tree_leaves(output))


def same(one: Tensor, other: Tensor) -> bool:
    """Equal bits, NaN equal to NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


def _compared(one: object, other: object, tensors: Callable[[Tensor, Tensor], bool]) -> bool:
    """Whether two outputs have the same tensors, as `tensors` compares them, in the same nest."""
    (ones, nest), (others, twin) = pytree.tree_flatten(one), pytree.tree_flatten(other)
    pairs = [(a, b) for a, b in zip(ones, others, strict=False) if isinstance(a, Tensor) and isinstance(b, Tensor)]
    return nest == twin and all(a.shape == b.shape and tensors(a, b) for a, b in pairs)


def alike(one: object, other: object) -> bool:
    """Whether two outputs are equal to the last bit."""
    return _compared(one, other, same)


def close(one: object, other: object, share: float) -> bool:
    """Equal up to a share of the largest entry; whole numbers are not compared, for they jump."""
    coarse = {torch.bfloat16: 0.06, torch.float16: 0.01}

    def near(a: Tensor, b: Tensor) -> bool:
        if not a.is_floating_point() or same(a, b):
            return True
        size = b[b.isfinite()].abs().max().item() if b.isfinite().any() else 0.0
        return torch.allclose(a, b, rtol=0.0, atol=max(share, coarse.get(a.dtype, 0.0)) * size, equal_nan=True)

    return _compared(one, other, near)


@dataclass(eq=False)
class Trial:
    """A model and its loss on few samples.

    Attributes:
        rows: the copy of the model, and its loss.
        model: the caller's, which is not run.
        own: the model's parameters that move, in the dtype of points.
        few: the samples.
        room: relative difference that is rounding.
    """

    rows: RowLosses
    model: nn.Module
    own: Tensors
    few: Samples
    room: float

    @property
    def constants(self) -> Tensors:
        return self.rows.constants_like(next(iter(self.own.values())))

    def fresh(self) -> Samples:
        """The samples, for once."""
        return self.few.clone()

    def output(self, point: Tensors, samples: Samples | None = None, rows: RowLosses | None = None) -> Any:
        """What the model makes of the few samples, or others, at a point; all of it copies."""
        samples = self.fresh() if samples is None else samples
        return (rows or self.rows).output(cloned(point), cloned(self.constants), samples.inputs)

    def judged(self, output: Any) -> Tensor:
        """The loss of an output for the few samples, of which it may write over a copy."""
        return self.rows.loss.value(output if self.rows.looks_back else copy_of(output), self.few.own_target)
