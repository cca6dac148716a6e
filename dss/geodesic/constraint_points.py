"""Places of a string that are held below a level."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Places:
    """Where a string is held below the level: place i is at `t[i]` of segment `segments[i]`.

    Attributes:
        segments: `(m,)`.
        t: `(m,)` float64 in [0, 1).
    """

    segments: Tensor
    t: Tensor

    @classmethod
    def grid(cls, count: int, cells: int) -> "Places":
        """Every inner bead of `count` segments, and `cells - 1` equidistant places inside every one."""
        segments = torch.arange(count).repeat_interleave(cells)
        t = (torch.arange(cells, dtype=torch.float64) / cells).repeat(count)
        return cls(segments[1:], t[1:])

    def add(self, segments: Tensor, t: Tensor) -> "Places":
        """These places too."""
        return Places(torch.cat([self.segments, segments]), torch.cat([self.t, t]))

    def near(self, t: Tensor, distance: float = 0.02) -> Tensor:
        """Whether segment i has a place within `distance` of `t[i]`, `(n,)` bool."""
        gaps = (self.t - t[self.segments]).abs()
        return torch.bincount(self.segments, weights=(gaps <= distance).double(), minlength=len(t)) > 0

    def take(self, index: Tensor) -> "Places":
        """The places at `index`."""
        return Places(self.segments[index], self.t[index])

    def count(self, segments: int) -> Tensor:
        """How many places each segment has, `(segments,)`."""
        return torch.bincount(self.segments, minlength=segments)

    def as_json(self) -> dict[str, list]:
        """The places as JSON values."""
        return {"segments": self.segments.tolist(), "t": self.t.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, list]) -> "Places":
        """The inverse of `as_json`."""
        return cls(torch.tensor(values["segments"]), torch.tensor(values["t"], dtype=torch.float64))
