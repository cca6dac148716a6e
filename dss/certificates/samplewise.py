"""A proof's knowledge of single samples: what passes from a cell to its parts, and which samples of them are bounded."""

import math
from typing import Protocol

import torch
from torch import Tensor

from dss.certificates.apart import inherited, tightened, wanted
from dss.certificates.cells import Cell, Place
from dss.objectives.objective import Apart


class Found(Protocol):
    """Bounds `(k, m, c)` on the samples `(k, m)` of cells."""

    def __call__(self, cells: list[Cell], index: Tensor, *, tried: bool) -> Tensor: ...


class Samplewise:
    """What is known of every sample on cells that may be cut, and on parts of cut cells that wait to be bounded.

    Args:
        apart: bounds single samples.
        samples: how many there are.
        found: where they are bounded.
    """

    def __init__(self, apart: Apart, samples: int, found: Found):
        self.apart, self.samples, self.found = apart, samples, found
        self.values: dict[Place, Tensor] = {}
        self.gaps: dict[Place, Tensor] = {}
        # Of cells that were tried, the samples that were not.
        self.rest: dict[Place, Tensor] = {}
        block = apart.block
        # Spread over the data, which may be sorted.
        self.few = torch.arange(block) * samples // block if block < samples else None

    def pass_on(self, cell: Cell, parts: list[Cell], middle: Tensor) -> None:
        """Give the parts of a cut cell what is known of every sample on the whole; `middle` is the point in its middle."""
        values = self.values.pop(cell.place, None)
        if values is None or not math.isfinite(cell.bound):
            return
        gaps = (values[:, 2:4].mean(1) - self.apart.losses(middle)).nan_to_num(nan=math.inf)
        for i, part in enumerate(parts):
            self.values[part.place] = inherited(values, i / len(parts), (i + 1) / len(parts))
            self.gaps[part.place] = gaps

    def is_unknown(self, cell: Cell) -> bool:
        """Whether nothing is known of its samples, so that it can be tried on a few first."""
        return self.few is not None and cell.place not in self.values

    def tried(self, cells: list[Cell], middles: list[Tensor]) -> list[float]:
        """How far the bounds on cells lie above the loss at their middles, for a few samples, whose bounds are kept."""
        assert self.few is not None
        found = self.found(cells, self.few.expand(len(cells), -1), tried=True)
        others = torch.ones(self.samples, dtype=torch.bool).index_fill(0, self.few, False).nonzero()[:, 0]
        gaps = []
        for cell, middle, values in zip(cells, middles, found):
            gaps.append((values.mean(0).max() - self.apart.losses(middle, self.few).mean()).nan_to_num(nan=math.inf).item())
            unknown = values.new_full((self.samples, values.shape[1]), math.inf)
            self.values[cell.place], self.rest[cell.place] = unknown.index_copy(0, self.few, values), others
        return gaps

    def forget(self, cell: Cell) -> None:
        """A cell that is cut after it was tried."""
        del self.values[cell.place], self.rest[cell.place]

    def bounds(self, cells: list[Cell], goal: float, *, done: bool) -> list[float]:
        """Bounds on cells of which only some samples are bounded anew; nothing is kept of cells at the goal if they are `done` then."""
        index = {cell: self._asked(cell, goal) for cell in cells}
        for size in sorted({len(rows) for rows in index.values()} - {0}):
            together = [cell for cell in cells if len(index[cell]) == size]
            for cell, found in zip(together, self.found(together, torch.stack([index[cell] for cell in together]), tried=False)):
                old = self.values.get(cell.place)
                self.values[cell.place] = found if old is None else tightened(old, index[cell], found)
        bounds = [self.apart.mean(self.values[cell.place]).max().item() for cell in cells]
        for cell, bound in zip(cells, bounds):
            if done and bound <= goal:
                del self.values[cell.place]
        return [math.inf if math.isnan(bound) else bound for bound in bounds]

    def _asked(self, cell: Cell, goal: float) -> Tensor:
        """The samples of a cell that are to be bounded."""
        values, everything = self.values.get(cell.place), torch.arange(self.samples)
        if values is None:
            return everything
        if cell.place in self.rest:
            return self.rest.pop(cell.place)
        gaps = self.gaps.pop(cell.place)
        excess = self.apart.mean(values).max().item() - goal
        return gaps.argsort(descending=True)[: wanted(gaps, excess)] if excess > 0 else everything[:0]
