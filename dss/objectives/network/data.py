"""Data of an objective, as tensors in one fixed order: read once, so that the loss is one fixed function.

loader, data set, arrays -> batches -> columns of tensors -> Samples (in memory) or Streamed (read chunk by chunk)
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import TensorDataset

from dss.base.errors import InputError
from dss.base.mapped import give_back
from dss.objectives.network.batches import Layout, Target, Tree, describe, filled, numbered, split, target_names, tidy
from dss.objectives.network.collecting import Collected
from dss.objectives.network.reading import batches, drawn_once

# Up to here data is copied into memory; more of it stays where it lies, and is read chunk by chunk.
WHOLE_BYTES = 256 * 2**20
# Data that a chunk of a stream is read in, as long as nothing else asks for smaller chunks.
CHUNK_BYTES = 64 * 2**20


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
        return len(self.leaves[-1])

    def take(self, index: Tensor | slice) -> "Samples":
        """The samples at `index`."""
        return self._each(lambda x: x[index])

    def chunks(self, size: int) -> Iterator["Samples"]:
        """Consecutive slices of `size` samples; the last may be shorter."""
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
        return self.leaves[-1].device

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
        return None if isinstance(self.target, Tensor) else f"a target that is {describe(self.target)} is not followed"

    @property
    def leaves(self) -> list[Tensor]:
        """All tensors: the inputs, then those of the target."""
        return [*self.inputs, *self.targets]

    @property
    def targets(self) -> list[Tensor]:
        """The tensors of the target."""
        return tree_leaves(self.target)

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Samples":
        return replace(self, inputs=tuple(map(function, self.inputs)), target=tree_map(function, self.target))


class Streamed(Samples):
    """More samples than are held in memory: `take` reads what it is asked for, into memory of its own.

    `inputs` and `target` read everything there is, whenever they are asked for.
    """

    def __init__(self, stored: Samples, cast: "_Cast | None" = None):
        vars(self).update(stored=stored, moved=cast, layout=stored.layout, batch_size=stored.batch_size)

    stored: Samples
    moved: "_Cast | None"

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
        return super().chunks(min(size, max(1, CHUNK_BYTES // max(1, _row_bytes(self.stored.leaves)))))

    def cast(self, dtype: torch.dtype, device: torch.device, *, channels_last: bool = False) -> "Streamed":
        """The same samples, cast as they are read."""
        return Streamed(self.stored, _Cast(dtype, device, channels_last))

    def without_inputs(self) -> "Streamed":
        return Streamed(self.stored.without_inputs(), self.moved)

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
        rows = x[index if isinstance(index, slice) else index.to(x.device)]
        found = rows if self.moved is None else self.moved(rows)
        if found.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
            found = found.clone()
        give_back(x)
        return found


@dataclass(frozen=True)
class _Cast:
    """See `Samples.cast`."""

    dtype: torch.dtype
    device: torch.device
    channels_last: bool

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.device, self.dtype) if x.is_floating_point() else x.to(self.device)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else x


def _row_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of one sample."""
    return sum(x[:1].numel() * x.element_size() for x in tensors)


def as_samples(data: object, *, target: Target = None, seed: int = 0) -> Samples:
    """Read data in its own order, once; what it draws at random is drawn under `seed`.

    Args:
        data: `(inputs, target)`, `(x1, x2, ..., target)` or a dict of tensors or arrays; a data set with `len` and `[i]`;
            an `IterableDataset`; a `DataLoader`, which is iterated as it is, or any iterable of batches; `Samples`.
        target: which part of a batch the loss compares with, where that is not the last of a tuple or one of
            "labels", "label", "target", "targets" of a dict: a key, several keys (the loss is given a dict), or a function
            of the batch, which the model is then given whole.

    Raises:
        InputError: no samples, inputs and target of different lengths, batches that do not fit together, a batch of which
            the target cannot be told, or not data at all.
    """
    if isinstance(data, Samples):
        return data
    if type(data) is TensorDataset:  # a subclass may do more than index its tensors
        data = data.tensors
    if isinstance(data, (tuple, list, Mapping, Tensor, np.ndarray)):
        batch = tidy(data)
        if not any(map(len, tree_leaves(batch))):
            raise InputError(EMPTY)
        columns = _Columns.of(batch, target)
        return _kept(columns.samples(columns.tensors), copied=False)
    size, first = getattr(data, "batch_size", None), None
    with drawn_once(data, seed), Collected(WHOLE_BYTES) as collected:
        for columns in (_Columns.of(batch, target) for batch in batches(data, target)):
            first = first or columns
            first.check_same(columns)
            collected.add(columns.names, columns.tensors)
        if first is None:
            raise InputError(EMPTY)
        samples = first.samples(collected.tensors())
    return _kept(replace(samples, batch_size=size if isinstance(size, int) else None), copied=True)


EMPTY = "the data is empty: at least one sample is needed"


def _kept(samples: Samples, *, copied: bool) -> Samples:
    """Samples in memory of our own, or, where that would take too much of it, read when they are asked for."""
    if len(samples) == 0:
        raise InputError(EMPTY)
    if sum(x.numel() * x.element_size() for x in samples.leaves) > WHOLE_BYTES:
        return Streamed(samples)
    return samples if copied else samples.clone()


@dataclass(frozen=True, eq=False)
class _Columns:
    """The tensors of one batch, and how inputs and target are made of them again."""

    tensors: list[Tensor]
    layout: Layout
    target: Tree
    names: list[str]
    batch: Tree

    @classmethod
    def of(cls, batch: Tree, target: Target) -> "_Columns":
        positional, keywords, found = split(batch, target)
        inputs, layout = Layout.of(positional, keywords)
        compared = tree_leaves(found)
        if not inputs or not compared:
            raise InputError(f"a batch was {describe(batch)}, which leaves nothing for the {'loss' if inputs else 'model'}")
        if len({len(x) for x in (*inputs, *compared)}) != 1:
            raise InputError(f"inputs and target must have as many samples (axis 0), but a batch was {describe(batch)}")
        return cls([*inputs, *compared], layout, numbered(found), [*layout.names, *target_names(found)], batch)

    def check_same(self, other: "_Columns") -> None:
        """Refuse a batch that is built differently."""
        if (self.layout, self.target) != (other.layout, other.target):
            raise InputError(f"batches must be built alike, but one was {describe(self.batch)}, another {describe(other.batch)}")

    def samples(self, tensors: Sequence[Tensor]) -> Samples:
        """The samples whose columns these are."""
        count = len(self.layout.names)
        return Samples(tuple(tensors[:count]), filled(self.target, tensors[count:]), self.layout)


def check_same_layout(samples: Samples, other: Samples) -> None:
    """Refuse data that the model would have to be given in another way."""
    if samples.layout != other.layout:
        raise InputError(
            f"the data and the calibration data must be built alike, got {_names(samples)} and {_names(other)} for the model"
        )


def _names(samples: Samples) -> str:
    return ", ".join(samples.layout.names) if samples.layout else f"{len(samples.inputs)} inputs"
