"""Places of a string, and the forces that hold them below a level."""

from dataclasses import dataclass, replace

import numpy
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Places:
    """Where a string is held below the level: place i is at `t[i]` of segment `segments[i]`.

    Attributes:
        segments: `(m,)`.
        t: `(m,)` float64 in [0, 1).
        multipliers: `(m,)` float64, the force with which each place is held.
    """

    segments: Tensor
    t: Tensor
    multipliers: Tensor

    @classmethod
    def grid(cls, count: int, cells: int) -> "Places":
        """Every inner bead of `count` segments, and `cells - 1` equidistant places inside every one; no forces yet."""
        segments = torch.arange(count).repeat_interleave(cells)
        t = (torch.arange(cells, dtype=torch.float64) / cells).repeat(count)
        return cls(segments[1:], t[1:], torch.zeros(len(t) - 1, dtype=torch.float64))

    def add(self, segments: Tensor, t: Tensor) -> "Places":
        """These places too, without force."""
        zeros = torch.zeros(len(t), dtype=torch.float64)
        return Places(torch.cat([self.segments, segments]), torch.cat([self.t, t]), torch.cat([self.multipliers, zeros]))

    def near(self, t: Tensor, distance: float = 0.02) -> Tensor:
        """Whether segment i has a place within `distance` of `t[i]`, `(n,)` bool."""
        gaps = (self.t - t[self.segments]).abs()
        return torch.bincount(self.segments, weights=(gaps <= distance).double(), minlength=len(t)) > 0

    def take(self, index: Tensor) -> "Places":
        """The places at `index`."""
        return Places(self.segments[index], self.t[index], self.multipliers[index])

    def carried(self, beads: Tensor, cells: int) -> "Places":
        """A grid over a string with more beads, its forces interpolated from these.

        The terms of the Lagrangian are averaged over places, so a force is a density along the string.

        Args:
            beads: `(n,)` float64, where each bead of the new string lies on the old one: segment + t.
            cells: as for `grid`.
        """
        fresh = Places.grid(len(beads) - 1, cells)
        new = torch.lerp(beads[fresh.segments], beads[fresh.segments + 1], fresh.t)
        old, order = (self.segments + self.t).sort()
        forces = numpy.interp(new.numpy(), old.numpy(), self.multipliers[order].numpy(), left=0.0, right=0.0)
        return replace(fresh, multipliers=torch.from_numpy(forces))

    def count(self, segments: int) -> Tensor:
        """How many places each segment has, `(segments,)`."""
        return torch.bincount(self.segments, minlength=segments)

    def as_json(self) -> dict[str, list]:
        """The places as JSON values."""
        return {"segments": self.segments.tolist(), "t": self.t.tolist(), "multipliers": self.multipliers.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, list]) -> "Places":
        """The inverse of `as_json`."""
        t, multipliers = (torch.tensor(values[name], dtype=torch.float64) for name in ("t", "multipliers"))
        return cls(torch.tensor(values["segments"]), t, multipliers)
