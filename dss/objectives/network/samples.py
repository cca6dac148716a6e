"""Samples in memory, and samples that are read chunk by chunk because they are too many for it."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dss.base.mapped import give_back, is_mapped
from dss.objectives.network.batches import Layout, Tree, target_names

# Data that a chunk of a stream is read in, as long as nothing else asks for smaller chunks.
CHUNK_BYTES = 64 * 2**20
# Rows gathered from a mapped file at once: with each, the kernel may map as much as two megabytes around it.
SCATTERED = 64


@dataclass(frozen=True, eq=False)
class Samples:
    """n samples in memory.

    Attributes:
        inputs: what the model is given, each `(n, ...)`; its positional arguments, unless `layout` says otherwise.
        target: what the loss compares with: a tensor `(n, ...)`, or a tuple, list or dict of such.
        layout: how the model is given the inputs; None stands for by position.
        batch_size: that of the loader they were read with, if there was one.
    """

    inputs: tuple[Tensor, ...]
    target: Tree
    layout: Layout | None = None
    batch_size: int | None = None

    def __len__(self) -> int:
        return len(self.inputs[0] if self.inputs else self.leaves[-1])

    def take(self, index: Tensor | slice) -> "Samples":
        """The samples at `index`."""
        return self._each(lambda x: x[index])

    def chunks(self, size: int) -> Iterator["Samples"]:
        """Consecutive slices of `size` samples; the last may be shorter."""
        return iter([self]) if size >= len(self) else self._slices(size)

    def _slices(self, size: int) -> Iterator["Samples"]:
        return (self.take(slice(i, i + size)) for i in range(0, len(self), size))

    def cast(self, dtype: torch.dtype, device: torch.device, *, channels_last: bool = False) -> "Samples":
        """Floating-point tensors in `dtype`, everything on `device`; images in channels-last order if asked."""
        return self._each(_Cast(dtype, device, channels_last))

    def given_to(self, model: Callable) -> Any:
        """What the model returns for these inputs."""
        return model(*self.inputs) if self.layout is None else self.layout.call(model, *self.inputs)

    def fitted(self, model: nn.Module) -> nn.Module:
        """`model`, or a twin of it, that takes `inputs` as positional arguments.

        Raises:
            InputError: it does not take what the data gives it.
        """
        return model if self.layout is None else self.layout.fitted(model)

    def clone(self) -> "Samples":
        """Copies that may be written over."""
        return self._each(Tensor.clone)

    def with_leaves(self, leaves: Sequence[Tensor]) -> "Samples":
        """Other tensors in the places of these `leaves`."""
        inputs, others = tuple(leaves[: len(self.inputs)]), iter(leaves[len(self.inputs) :])
        return Samples(inputs, tree_map(lambda _: next(others), self.target), self.layout, self.batch_size)

    def without_inputs(self) -> "Samples":
        """The targets alone."""
        return Samples((), self.target)

    @property
    def own_target(self) -> Tree:
        """A copy of the target, for a loss that may write over it."""
        return tree_map(Tensor.clone, self.target)

    @property
    def device(self) -> torch.device:
        """Where the samples lie."""
        return self.targets[0].device

    def digest(self) -> str:
        """32 hexadecimal digits for what the samples are, in their order: names, dtypes, shapes, bits."""
        names = self.layout.names if self.layout else [f"input[{i}]" for i in range(len(self.inputs))]
        head = repr(([*names, *target_names(self.target)], [(str(x.dtype), tuple(x.shape)) for x in self.leaves]))
        found = hashlib.blake2b(head.encode(), digest_size=16)
        for leaf in self.leaves:
            for rows in leaf.split(max(1, CHUNK_BYTES // max(1, _row_bytes([leaf])))):
                found.update(rows.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
                give_back(leaf)
        return found.hexdigest()

    @property
    def overhead(self) -> int:
        """Bytes of memory that reading one sample takes: none, for it is there."""
        return 0

    @property
    def obstacle(self) -> str | None:
        """Why no enclosure can read these samples, if none can."""
        return None

    @property
    def leaves(self) -> list[Tensor]:
        """All tensors: the inputs, then those of the target."""
        return [*self.inputs, *self.targets]

    @property
    def targets(self) -> list[Tensor]:
        """The tensors of the target."""
        return tree_leaves(self.target)

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Samples":
        target = function(self.target) if isinstance(self.target, Tensor) else tree_map(function, self.target)
        return Samples(tuple(map(function, self.inputs)), target, self.layout, self.batch_size)


class Streamed(Samples):
    """More samples than are held in memory: `take` reads what it is asked for, into memory of its own.

    `inputs` and `target` read everything there is, whenever they are asked for.
    """

    def __init__(self, stored: Samples, cast: "_Cast | None" = None):
        mapped = {id(x) for x in stored.leaves if is_mapped(x)}
        vars(self).update(stored=stored, moved=cast, mapped=mapped, layout=stored.layout, batch_size=stored.batch_size)

    stored: Samples
    moved: "_Cast | None"
    mapped: set[int]

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def inputs(self) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(self._read(x, slice(None)) for x in self.stored.inputs)

    @property
    def target(self) -> Tree:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tree_map(lambda x: self._read(x, slice(None)), self.stored.target)

    def take(self, index: Tensor | slice) -> Samples:
        return self.stored._each(lambda x: self._read(x, index))

    def chunks(self, size: int) -> Iterator[Samples]:
        """Consecutive slices of at most `size` samples: fewer if so many would be large."""
        return self._slices(min(size, max(1, CHUNK_BYTES // max(1, _row_bytes(self.stored.leaves)))))

    def cast(self, dtype: torch.dtype, device: torch.device, *, channels_last: bool = False) -> "Streamed":
        """The same samples, cast as they are read."""
        return Streamed(self.stored, _Cast(dtype, device, channels_last))

    def clone(self) -> Samples:
        return self.take(slice(None))

    def without_inputs(self) -> "Streamed":
        return Streamed(self.stored.without_inputs(), self.moved)

    @property
    def device(self) -> torch.device:
        return self.stored.device if self.moved is None else self.moved.device

    def digest(self) -> str:
        return self.stored.digest()

    @property
    def overhead(self) -> int:
        """The pages of the file, a copy, what it is cast to, and the chunk before, which is let go of last."""
        return 4 * _row_bytes(self.stored.leaves)

    @property
    def obstacle(self) -> str | None:
        size = _row_bytes(self.stored.leaves) * len(self)
        return f"{size / 2**30:.2g} GB of data are read chunk by chunk, and a proof needs them in memory; judge by a part of them"

    def _read(self, x: Tensor, index: Tensor | slice) -> Tensor:
        """Rows of a stored tensor, in memory that nobody else has."""
        if id(x) not in self.mapped:
            return self._rows(x, index)
        if isinstance(index, Tensor) and len(index) > SCATTERED:
            return torch.cat([self._read(x, part) for part in index.split(SCATTERED)])
        found = self._rows(x, index)
        give_back(x)
        return found

    def _rows(self, x: Tensor, index: Tensor | slice) -> Tensor:
        rows = x[index if isinstance(index, slice) else index.to(x.device)]
        found = rows if self.moved is None else self.moved(rows)
        if found.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
            found = found.clone()
        return found


@dataclass(frozen=True)
class _Cast:
    """See `Samples.cast`."""

    dtype: torch.dtype
    device: torch.device
    channels_last: bool

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.device, self.dtype) if x.is_floating_point() else x.to(self.device)
        return _channels_last(x) if self.channels_last and x.ndim == 4 else x


def _channels_last(x: Tensor) -> Tensor:
    """Images `(n, c, h, w)` with their channels together; those of one channel need no copy, only the strides by which convolutions choose
    their order."""
    _, channels, height, width = x.shape
    if channels == 1 and x.is_contiguous():
        return x.as_strided(x.shape, (height * width, 1, width, 1))
    return x.to(memory_format=torch.channels_last)


@dataclass(frozen=True, eq=False)
class Slices(Sequence[Samples]):
    """Consecutive slices of samples, from each cut to the next; each is read when it is asked for, as often as it is."""

    samples: Samples
    cuts: Sequence[int]

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def __getitem__(self, i: int) -> Samples:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.samples.take(slice(self.cuts[i], self.cuts[i + 1]))


def _row_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of one sample."""
    return sum(x[:1].numel() * x.element_size() for x in tensors)
