"""What a proof knows: where it stands, and how well the largest loss of a path is known."""

import math
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.base.rounded import above, below
from dss.base.shown import Shown
from dss.objectives.objective import Objective


class Verdict(Enum):
    """Where a proof stands; the value is the sentence for people."""

    OPEN = "the bound is still being lowered"
    PROVEN = "the loss is proved to stay at or below the threshold on the whole path"
    REFUTED = "a point of the path was computed to lie above the threshold"
    BRACKETED = "the largest loss of the path is known to the tolerance"
    CELLS = "the limit on cells was reached before a proof"
    SECONDS = "the limit on seconds was reached before a proof"
    RESOLUTION = "cells became as narrow as arithmetic allows before a proof"

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self is not Verdict.OPEN


@dataclass(frozen=True, repr=False)
class Bracket(Shown):
    """What is known of the largest loss of a path.

    Attributes:
        upper: proved: no point of the path has a larger loss (infinite until every cell has a finite bound).
        seen: the largest loss that was computed, in the arithmetic of the beads.
        segment, t: where it was seen.
        cells: how many cells were bounded on the whole data so far.
        verdict: where the proof stands.
        bounds: `(c, 4)` float64, the cells that cover the path in order: segment, lower t, upper t, proved bound.
        lower: proved, where a proof to a tolerance has ended: at that place of the path the loss is at least this, the rounding of
            computing it enclosed; minus infinity where that is not known.
    """

    upper: float
    seen: float
    segment: int
    t: float
    cells: int
    verdict: Verdict
    bounds: Tensor = field(repr=False)
    lower: float = -math.inf

    def __repr__(self) -> str:
        lower = below(self.lower) if math.isfinite(self.lower) else "not known"
        return f"Bracket(largest loss proved at most {above(self.upper)}, at least {lower}; {self.cells} cells; {self.verdict.value})"

    @property
    def proven(self) -> bool:
        """Whether the whole path is proved to stay at or below the threshold."""
        return self.verdict is Verdict.PROVEN

    @property
    def width(self) -> float:
        """`upper - seen`: how well the largest loss is known."""
        return self.upper - self.seen


def lower_side(objective: Objective, beads: Tensor, bracket: Bracket) -> float:
    """The proved lower side: what the loss is at least where the largest was seen."""
    at, t = bracket.segment, torch.tensor([bracket.t], dtype=torch.float64, device=beads.device)
    try:
        found = objective.floor(beads[at : at + 1], beads[at + 1 : at + 2], t).item()
    except EnclosureError:
        return -math.inf
    return -math.inf if math.isnan(found) else found
