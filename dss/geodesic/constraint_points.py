"""Points of a string that are held below a level: where the constraints of its tightening stand."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ConstraintPoints:
    """Where a string is held below the level: point i is at `t[i]` of segment `segments[i]`.

    Attributes:
        segments: `(m,)`.
        t: `(m,)` float64 in [0, 1).
    """

    segments: Tensor
    t: Tensor

    @classmethod
    def spread(cls, segments: int, each: int) -> "ConstraintPoints":
        """Every inner bead of so many segments, and `each - 1` equidistant points inside every one."""
        which = torch.arange(segments).repeat_interleave(each)
        t = (torch.arange(each, dtype=torch.float64) / each).repeat(segments)
        return cls(which[1:], t[1:])

    def add(self, segments: Tensor, t: Tensor) -> "ConstraintPoints":
        """These too."""
        return ConstraintPoints(torch.cat([self.segments, segments]), torch.cat([self.t, t]))

    def near(self, t: Tensor, distance: float = 0.02) -> Tensor:
        """Whether segment i is held within `distance` of `t[i]`, `(n,)` bool."""
        gaps = (self.t - t[self.segments]).abs()
        return torch.bincount(self.segments, weights=(gaps <= distance).double(), minlength=len(t)) > 0

    def take(self, index: Tensor) -> "ConstraintPoints":
        """Those at `index`."""
        return ConstraintPoints(self.segments[index], self.t[index])

    def count(self, segments: int) -> Tensor:
        """At how many points each segment is held, `(segments,)`."""
        return torch.bincount(self.segments, minlength=segments)

    def as_json(self) -> dict[str, list]:
        """As JSON values."""
        return {"segments": self.segments.tolist(), "t": self.t.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, list]) -> "ConstraintPoints":
        """The inverse of `as_json`."""
        return cls(torch.tensor(values["segments"]), torch.tensor(values["t"], dtype=torch.float64))
