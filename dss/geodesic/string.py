"""A string in coordinates in which its energy is a sum of squares."""

import torch
from torch import Tensor

from dss.base.path import Path
from dss.geodesic.constraint_points import ConstraintPoints


class String:
    """Beads in coordinates `y` `(n - 2, p)` in which the energy is 1 + |y|^2."""

    def __init__(self, path: Path):
        beads, inner = path.beads, len(path) - 2
        self.ends = beads[[0, -1]]
        self.distance = (beads[-1].double() - beads[0].double()).norm().item()
        neighbours = torch.diag(torch.ones(inner - 1, dtype=torch.float64), 1)
        factor = torch.linalg.cholesky(2 * torch.eye(inner, dtype=torch.float64) - neighbours - neighbours.T)
        root = (inner + 1) ** 0.5 / self.distance
        self.to_beads = (torch.linalg.inv(factor).T / root).to(beads)
        share = torch.linspace(0, 1, inner + 2, dtype=torch.float64)[1:-1, None].to(beads)
        self.line = torch.lerp(beads[0], beads[-1], share)
        self.y = (factor.T * root).to(beads) @ (beads[1:-1] - self.line)

    def beads(self) -> Tensor:
        return torch.cat([self.ends[:1], self.line + self.to_beads @ self.y, self.ends[1:]])

    def path(self) -> Path:
        return Path(self.beads())

    def length(self) -> float:
        """Normalized length."""
        return self.path().normalized_length

    def points(self, held: ConstraintPoints) -> Tensor:
        """The constraint points `(m, p)`."""
        return self.path().points(held.segments, held.t)

    def weights(self, held: ConstraintPoints) -> Tensor:
        """How the constraint points `(m, p)` follow the coordinates: `weights (m, n - 2) @ y`, up to a constant."""
        rows = torch.zeros(len(self.to_beads) + 2, len(self.to_beads), dtype=self.y.dtype, device=self.y.device)
        rows[1:-1] = self.to_beads
        segments = held.segments.to(self.y.device)
        return torch.lerp(rows[segments], rows[segments + 1], held.t.to(rows)[:, None])

    def largest_move(self, direction: Tensor) -> float:
        """How far the bead that moves farthest goes with a step in the coordinates, in distances of the ends."""
        return (self.to_beads @ direction).norm(dim=1).max().item() / self.distance
