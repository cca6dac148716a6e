"""Batches put end to end: in memory, or in temporary files once they are too many for it."""

import tempfile
from collections.abc import Sequence
from typing import IO

import numpy as np
import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.network.batches import describe


class Collected:
    """Columns of tensors that grow batch by batch.

    Args:
        limit: bytes that are kept in memory; beyond, every column goes to a file that vanishes with its last reader.
    """

    def __init__(self, limit: int):
        self.limit, self.bytes = limit, 0
        self.columns: list[_Column] = []

    def __enter__(self) -> "Collected":
        return self

    def __exit__(self, *_: object) -> None:
        for column in self.columns:
            column.close()

    def add(self, names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        """One more batch.

        Args:
            names: of the columns, for people.

        Raises:
            InputError: it is of other shapes or dtypes than the first, or there is no room for it.
        """
        self.columns = self.columns or [_Column() for _ in names]
        for name, column, tensor in zip(names, self.columns, tensors, strict=True):
            column.check(name, tensor)
            column.add(tensor)
            self.bytes += tensor.numel() * tensor.element_size()
        if self.bytes > self.limit:
            for column in self.columns:
                column.spill()

    def tensors(self) -> list[Tensor]:
        """The columns, each `(n, ...)`; those in files stay when the files are closed."""
        return [column.joined() for column in self.columns]


class _Column:
    """The batches of one tensor."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.rows, self.first = 0, torch.empty(0)
        self.file: IO[bytes] | None = None

    def check(self, name: str, tensor: Tensor) -> None:
        """Rows of one shape and dtype, or they could not be cut into other batches than they came in."""
        first = self.first
        if self.rows and (tensor.shape[1:] != first.shape[1:] or tensor.dtype != first.dtype):
            raise InputError(
                f"batches differ beyond their number of samples: {name} was {describe(first)} at first and {describe(tensor)} "
                "later; pad or crop all samples to one size and dtype, in the data set or in collate_fn"
            )

    def add(self, tensor: Tensor) -> None:
        if not self.rows:
            self.first = tensor
        self.rows += len(tensor)
        if self.file is None:
            # A copy: a loader may fill the same buffer again.
            self.parts.append(tensor.clone())
        else:
            _write(self.file, tensor)

    def spill(self) -> None:
        """Move what is in memory to a file."""
        if self.file is None:
            self.file = tempfile.TemporaryFile(prefix="dss-data-")  # noqa: SIM115
            for part in self.parts:
                _write(self.file, part)
            self.parts = []

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def joined(self) -> Tensor:
        if self.file is None:
            return torch.cat(self.parts)
        self.file.flush()
        shape = (self.rows, *self.first.shape[1:])
        if 0 in shape:  # an empty file cannot be mapped
            return self.first.new_empty(shape)
        return torch.from_numpy(np.memmap(self.file, np.uint8, "r+")).view(self.first.dtype).view(shape)


def _write(file: IO[bytes], tensor: Tensor) -> None:
    try:
        file.write(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    except OSError as error:
        raise InputError(
            f"the data is too large for memory and for {tempfile.gettempdir()} ({error.strerror}); let TMPDIR name a folder with room"
        ) from error
