"""An immutable string of beads joined by straight segments. Geometry is float64, whatever the beads' dtype."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError, NotFinite
from dss.base.shown import Shown


@dataclass(frozen=True, eq=False, repr=False)
class Path(Shown):
    """A string of n >= 2 beads `(n, p)`, ends included, joined by straight segments.

    Raises:
        InputError: `beads` is not a finite floating-point matrix of two rows or more.
    """

    beads: Tensor

    def __post_init__(self):
        if self.beads.ndim != 2 or len(self.beads) < 2 or not self.beads.is_floating_point():
            raise InputError(f"a path needs floating-point beads of shape (n >= 2, p), got {tuple(self.beads.shape)}")
        if not self.beads.isfinite().all():
            raise NotFinite("a path needs finite beads, got NaN or infinity")

    @classmethod
    def straight(cls, start: Tensor, end: Tensor) -> "Path":
        """The two-bead path between two points `(p,)`."""
        return cls(torch.stack([start, end]))

    def __repr__(self) -> str:
        n, p = self.beads.shape
        return f"Path({n} beads of {p:,} parameters, {str(self.beads.dtype).removeprefix('torch.')})"

    def __len__(self) -> int:
        return len(self.beads)

    @property
    def intermediate_beads(self) -> int:
        """Beads without the two ends."""
        return len(self.beads) - 2

    def segment_lengths(self, coordinates: Tensor | None = None) -> Tensor:
        """Euclidean lengths `(n - 1,)` in float64, over all coordinates or those of a mask `(p,)`."""
        beads = self.beads if coordinates is None else self.beads[:, coordinates]
        # One segment at a time: float64 copies of a whole string of large networks would double its memory.
        return torch.stack([(b.double() - a.double()).norm() for a, b in itertools.pairwise(beads)])

    def length(self, coordinates: Tensor | None = None) -> float:
        """Sum of the segment lengths."""
        return self.segment_lengths(coordinates).sum().item()

    @property
    def normalized_length(self) -> float:
        """Length over the distance of the ends: 1 for a straight line (Freeman & Bruna 2017, section 3.1)."""
        return self.normalized_length_over(None)

    def normalized_length_over(self, coordinates: Tensor | None) -> float:
        """Normalized length over the coordinates of a mask `(p,)`; infinity for coincident ends."""
        ends = self.beads[[0, -1]] if coordinates is None else self.beads[[0, -1]][:, coordinates]
        distance = (ends[1].double() - ends[0].double()).norm().item()
        return self.length(coordinates) / distance if distance else float("inf")

    def arc_lengths(self) -> Tensor:
        """Distance travelled at every bead as a fraction of the length, `(n,)` float64, from 0 to 1."""
        travelled = torch.cat([torch.zeros(1, dtype=torch.float64, device=self.beads.device), self.segment_lengths().cumsum(0)])
        return travelled / travelled[-1].clamp_min(torch.finfo(torch.float64).tiny)

    def points(self, segments: Tensor, t: Tensor) -> Tensor:
        """Points `(m, p)` at places t in [0, 1] of segments, both `(m,)`; t = 0 and 1 give the beads exactly."""
        segments = segments.to(self.beads.device)
        return torch.lerp(self.beads[segments], self.beads[segments + 1], t.to(self.beads)[:, None])

    def insert(self, segments: Tensor, beads: Tensor) -> "Path":
        """A longer path: bead i `(p,)` of `beads` goes into segment `segments[i]`; one per segment, ascending."""
        rows = torch.cat([self.beads, beads.to(self.beads)])
        places = torch.cat([torch.arange(len(self.beads), dtype=torch.float64), segments.cpu() + 0.5])
        return Path(rows[places.argsort().to(rows.device)])

    def replace(self, indices: Tensor, beads: Tensor) -> "Path":
        """The path with the beads at `indices` `(m,)` exchanged for `beads` `(m, p)`."""
        rows = self.beads.clone()
        rows[indices] = beads.to(rows)
        return Path(rows)

    def resample(self, n: int) -> "Path":
        """n beads at equal arc lengths along this path; the ends stay as they are."""
        if n < 2:
            raise InputError(f"a path needs two beads at least, got {n}")
        arc = self.arc_lengths()
        where = torch.linspace(0, 1, n, dtype=torch.float64, device=arc.device)
        segments = torch.searchsorted(arc, where, right=True).sub(1).clamp(0, len(self) - 2)
        spans = (arc[segments + 1] - arc[segments]).clamp_min(torch.finfo(torch.float64).tiny)
        beads = self.points(segments, ((where - arc[segments]) / spans).clamp(0, 1))
        beads[0], beads[-1] = self.beads[0], self.beads[-1]
        return Path(beads)
