"""Data of an objective, as tensors: read once, so that the loss is one fixed function."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from dss.base.errors import InputError


@dataclass(frozen=True, eq=False)
class Samples:
    """n samples: `inputs`, each `(n, ...)`, are the model's positional arguments; `target` is `(n, ...)`."""

    inputs: tuple[Tensor, ...]
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: Tensor | slice) -> "Samples":
        """The samples at `index`."""
        return Samples(tuple(x[index] for x in self.inputs), self.target[index])

    def chunks(self, size: int) -> Iterator["Samples"]:
        """Consecutive slices of `size` samples; the last may be shorter."""
        return (self.take(slice(i, i + size)) for i in range(0, len(self), size))

    def cast(self, dtype: torch.dtype, device: torch.device, *, channels_last: bool = False) -> "Samples":
        """Floating-point tensors in `dtype`, everything on `device`; images in channels-last order if asked."""

        def move(x: Tensor) -> Tensor:
            x = x.to(device, dtype) if x.is_floating_point() else x.to(device)
            return x.contiguous(memory_format=torch.channels_last) if channels_last and x.ndim == 4 else x

        return Samples(tuple(map(move, self.inputs)), move(self.target))


def as_samples(data: object) -> Samples:
    """Read `(inputs, target)` tensors, a `Dataset` or a `DataLoader` into memory, in its order without shuffling.

    Random augmentation is drawn once, here: an objective is a function, and a function has fixed data.

    Raises:
        InputError: no samples, inputs and target of different lengths, or not data at all.
    """
    if isinstance(data, DataLoader):
        data = _read(data.dataset, data.collate_fn)
    elif isinstance(data, Dataset):
        data = _read(data, None)
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(f"data must be (inputs, target), a Dataset or a DataLoader, got {type(data).__name__}")
    inputs, target = data
    inputs = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    samples = Samples(tuple(torch.as_tensor(x).detach() for x in inputs), torch.as_tensor(target).detach())
    lengths = {len(x) for x in (*samples.inputs, samples.target)}
    if lengths == {0}:
        raise InputError("the data is empty: at least one sample is needed")
    if len(lengths) != 1:
        raise InputError(f"inputs and target must have as many samples, got {sorted(lengths)}")
    return samples


def _read(dataset: Dataset, collate) -> tuple[object, Tensor]:
    """All samples of a dataset, joined."""
    if not isinstance(dataset, IterableDataset) and len(dataset) == 0:
        raise InputError("the data is empty: at least one sample is needed")
    batches = list(DataLoader(dataset, batch_size=256, shuffle=False, collate_fn=collate))
    if not batches:
        raise InputError("the data is empty: at least one sample is needed")
    *inputs, targets = zip(*batches, strict=True)
    return tuple(torch.cat(column) for column in inputs), torch.cat(targets)
