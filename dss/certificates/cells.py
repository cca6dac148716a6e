"""The cells of a proof, how they are split, and how long they take."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class ProofOptions:
    """How cells are split; the defaults are what was quickest on the networks of `docs/proof.md`.

    Attributes:
        resolution: cells narrower than this are not split: rounding of t would dominate.
        most_parts: a cell is cut into at most so many parts at once: its excess tells how many, and tells too few better than
            too many.
        hopeless, many_parts: a cell whose excess asks for more than `hopeless` parts is cut into `many_parts`: bounds of deep
            networks explode on wide cells, and say nothing of how wide they may be.
        order: the power of the width like which a bound's excess shrinks, which tells the number of parts.
        few: on data of at least `few` samples, these are bounded apart (`dss.certificates.apart`).
        doubtful: a cell is cut after a few of its samples were bounded if their gap is so many times what there is room for.
        large, rehearsal: on data of at least `large` samples, cells are tried on `rehearsal` of them first: what is hopeless
            there is split unseen by the rest.
        at_once: cells that are tried in one step; a fixed number, so that a proof does not depend on the machine's speed.
        patience: seconds that a step should take at most, so that progress is seen and a limit in seconds is kept.
    """

    resolution: float = 2.0**-40
    most_parts: int = 4
    hopeless: int = 16
    many_parts: int = 16
    order: float = 3.0
    few: int = 64
    doubtful: float = 2.5
    large: int = 2048
    rehearsal: int = 64
    at_once: int = 16
    patience: float = 10.0


OPTIONS = ProofOptions()

Place = tuple[int, float, float]
"""A segment, and the t at which a cell of it begins and ends."""


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
    def place(self) -> Place:
        """Which cell it is."""
        return self.segment, self.lower, self.upper

    @property
    def middle(self) -> float:
        return (self.lower + self.upper) / 2

    @property
    def narrow(self) -> bool:
        return self.upper - self.lower < OPTIONS.resolution


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
