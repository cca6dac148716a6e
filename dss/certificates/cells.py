"""The cells of a proof, and how long they take."""

import time
from dataclasses import dataclass

RESOLUTION = 2.0**-40
"""Cells narrower than this are not split: rounding would dominate."""


@dataclass(order=True, frozen=True)
class Cell:
    """A part of a segment; the worst bound comes first."""

    key: float
    segment: int
    lower: float
    upper: float

    @property
    def bound(self) -> float:
        return -self.key

    @property
    def middle(self) -> float:
        return (self.lower + self.upper) / 2

    @property
    def narrow(self) -> bool:
        return self.upper - self.lower < RESOLUTION


@dataclass
class Pace:
    """How many cells were bounded, and in what time."""

    cells: int = 0
    seconds: float = 0.0

    def note(self, cells: int, seconds: float) -> None:
        self.cells, self.seconds = self.cells + cells, self.seconds + seconds

    def affordable(self, count: int, deadline: float) -> int:
        """How many of `count` cells can be bounded before the deadline; one at least, and one if the pace is not known."""
        each, left = self.seconds / max(1, self.cells), deadline - time.monotonic()
        return int(max(1, min(count, left / each))) if each > 0 else 1
