"""Low-dimensional views of parameter space: principal axes of beads, and the plane through three points."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError

# Float64 copies of points held at once.
CHUNK_BYTES = 64 * 2**20
# A direction with a smaller share of the variance is rounding of the Gram matrix, not geometry.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class Projection:
    """An affine view `x -> axes (x - origin)` of points `(p,)`, in float64.

    Attributes:
        origin: `(p,)`.
        axes: `(d, p)` orthonormal rows; a row is zero where the points span fewer than d directions.
        explained: `(d,)` share of the points' variance on each axis, or None for a plane that was not fitted.
    """

    origin: Tensor
    axes: Tensor
    explained: Tensor | None = None

    @property
    def shares(self) -> Tensor:
        """`explained`, of a view along principal axes."""
        assert self.explained is not None, "a plane through three points explains no variance"
        return self.explained

    @classmethod
    def principal(cls, points: Tensor, dimensions: int = 3) -> "Projection":
        """Principal axes of points `(n, p)`, n much smaller than p: eigenvectors of their `(n, n)` Gram matrix.

        Signs are fixed: the last point never lies behind the first along an axis.

        Raises:
            InputError: fewer than two points, or points that coincide.
        """
        if points.ndim != 2 or len(points) < 2:
            raise InputError(f"principal axes need points of shape (n >= 2, p), got {tuple(points.shape)}")
        points = points.detach()
        # Row by row: a float64 copy of all points of a large network would double its memory.
        origin = sum((row.double() for row in points), torch.zeros((), dtype=torch.float64, device=points.device)) / len(points)
        gram = sum(piece @ piece.T for piece in _centred_columns(points, origin))
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        if not values[0] > 0:
            raise InputError("principal axes need points that differ, got one point repeated")
        kept = int((values[:dimensions] > NEGLIGIBLE * values[0]).sum())
        axes = torch.cat([vectors[:, :kept].T @ piece for piece in _centred_columns(points, origin)], 1)
        axes = _signed(torch.linalg.qr(axes.T).Q.T, points)
        explained = torch.zeros(dimensions, dtype=torch.float64)
        explained[:kept] = (values[:kept] / values.sum()).cpu()
        return cls(origin, torch.cat([axes, axes.new_zeros(dimensions - kept, axes.shape[1])]), explained)

    @classmethod
    def plane(cls, a: Tensor, b: Tensor, c: Tensor) -> "Projection":
        """The plane through three points `(p,)`: origin a, first axis towards b, c on the positive side of it.

        The construction of Garipov et al. 2018, section 4 ("Loss surfaces, mode connectivity", figure 1).

        Raises:
            InputError: the three points lie on a line.
        """
        origin, along, aside = a.double(), b.double() - a.double(), c.double() - a.double()
        scale = max(along.norm(), aside.norm()).clamp_min(torch.finfo(torch.float64).tiny)
        first = along / along.norm().clamp_min(torch.finfo(torch.float64).tiny)
        rest = aside - (aside @ first) * first
        # Once more: subtraction of nearly parallel vectors leaves a share of the first axis behind.
        rest = rest - (rest @ first) * first
        if along.norm() <= 1e-9 * scale or rest.norm() <= 1e-9 * scale:
            raise InputError("a plane needs three points that are not on one line; choose another third point")
        return cls(origin, torch.stack([first, rest / rest.norm()]))

    def project(self, points: Tensor) -> Tensor:
        """Coordinates `(k, d)` float64 on the CPU of points `(k, p)`."""
        parts = [(rows.double() - self.origin) @ self.axes.T for rows in self._chunks(points.detach())]
        return torch.cat(parts).cpu()

    def lift(self, coordinates: Tensor) -> Tensor:
        """Points `(k, p)` float64 at coordinates `(k, d)`."""
        return self.origin + coordinates.to(self.axes) @ self.axes

    def distances(self, points: Tensor) -> Tensor:
        """How far points `(k, p)` lie off this view, `(k,)` float64 on the CPU."""
        parts = []
        for rows in self._chunks(points.detach()):
            offsets = rows.double() - self.origin
            parts.append((offsets - (offsets @ self.axes.T) @ self.axes).norm(dim=1))
        return torch.cat(parts).cpu()

    def _chunks(self, points: Tensor) -> tuple[Tensor, ...]:
        return points.split(max(1, CHUNK_BYTES // (8 * self.axes.shape[1])))


def _centred_columns(points: Tensor, origin: Tensor):
    """`points - origin` in float64, a bounded number of columns at a time."""
    columns = max(1, CHUNK_BYTES // (8 * len(points)))
    for piece, middle in zip(points.split(columns, 1), origin.split(columns), strict=True):
        yield piece.double() - middle


def _signed(axes: Tensor, points: Tensor) -> Tensor:
    """Axes turned so that the last point does not lie behind the first."""
    forward = axes @ (points[-1].double() - points[0].double())
    return axes * torch.where(forward < 0, -1.0, 1.0)[:, None].to(axes)
