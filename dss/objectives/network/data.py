"""Data of an objective, as tensors in one fixed order: read once, so that the loss is one fixed function.

loader, data set, arrays -> batches -> columns of tensors -> Samples (in memory) or Streamed (read chunk by chunk)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import TensorDataset

from dss.base.errors import InputError
from dss.objectives.network.batches import Layout, Target, Tree, describe, filled, numbered, split, target_names, tidy
from dss.objectives.network.collecting import Collected
from dss.objectives.network.reading import batches, drawn_once
from dss.objectives.network.samples import Samples, Streamed

EMPTY = "the data is empty: at least one sample is needed"
# Up to here data is copied into memory; more of it stays where it lies, and is read chunk by chunk.
WHOLE_BYTES = 256 * 2**20


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
