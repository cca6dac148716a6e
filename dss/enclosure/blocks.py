"""Samples bounded in blocks of one size, so that one recording serves every cell."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dss.enclosure.rounding import is_plain_float32
from dss.enclosure.tape import LARGEST, CannotRecord, Tape

CACHE = 2**20
"""Bytes of a block's activations in float32, roughly: several arrays of float64 as large as them fit a core's own cache."""

LEAST, MOST = 64, 256
"""Samples of a block: with fewer, operations would wait for Python, with more, for memory."""

EARLY = 2
"""Passes before one is recorded, which takes as long as several of them; none where the samples of one cell take more than that."""


class Blocks:
    """Passes over blocks of samples of one network, one cell at a time, played from a tape once they have shown to come again.

    Args:
        bytes_per_sample: what a forward pass takes.
        samples: of the data, for blocks of even size.
        most: samples that memory allows in a block.
        memory: bytes that may be held while a pass is recorded.
    """

    def __init__(self, bytes_per_sample: int, *, samples: int | None = None, most: int = MOST, memory: int = LARGEST):
        self.memory = memory
        # The power of two at or below what fits the cache.
        suited = 2 ** (CACHE // max(1, bytes_per_sample)).bit_length() // 2
        size = max(1, min(MOST, max(LEAST, suited), most))
        # A block that is not full takes as long as one that is.
        count = 1 if samples is None else -(-samples // size)
        self.size = size if samples is None else -(-samples // count)
        self.early = EARLY if count <= EARLY else 0
        self.tape: Tape | None = None
        self.passes, self.can_record, self._plain = 0, True, True

    def values(self, function: Callable[..., Tensor], cell: Sequence[Tensor], index: Tensor) -> Tensor:
        """`function(*cell, rows)` for the rows `(m,)` of the data, `(m, ...)`.

        Args:
            function: from tensors of a cell and some rows `(size,)` to a value for each row.
        """
        began, found = False, []
        for rows in index.split(self.size):
            # Samples are bounded each alone, so that one seen twice changes nothing.
            block = torch.cat([rows, rows[-1:].expand(self.size - len(rows))])
            if not self._has_tape(function, cell, block):
                found.append(function(*cell, block)[: len(rows)])
                continue
            assert self.tape is not None
            if not began:
                self.tape.at(cell)
                began = True
            found.append(self.tape.play([block])[: len(rows)])
        return torch.cat(found)

    def _has_tape(self, function: Callable[..., Tensor], cell: Sequence[Tensor], block: Tensor) -> bool:
        """Whether the passes can be played, after a recording if that pays."""
        plain = is_plain_float32(block.device)
        if self.tape is not None and plain != self._plain:  # another arithmetic was asked for since
            self.tape = None
        self.passes += 1
        if self.tape is None and self.can_record and self.passes > self.early:
            try:
                self.tape, self._plain = Tape(function, cell, [block], most=self.memory), plain
            except CannotRecord:
                self.can_record = False
        return self.tape is not None
