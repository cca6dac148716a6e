"""Low-dimensional views of parameter space: principal axes of beads, and the plane through three points.

Axes are combinations of a few beads, and are kept as such: for large networks one float64 axis would be two models. What is
wanted of them, inner products, is added up over pieces of the beads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError

# Float64 copies of pieces of points held at once.
CHUNK_BYTES = 64 * 2**20
# A direction with a smaller share of the variance is rounding of the Gram matrix, not geometry.
NEGLIGIBLE = 1e-12

Points = Tensor | Sequence[Tensor]
"""A matrix `(k, p)`, or k points `(p,)`."""


@dataclass(frozen=True, eq=False)
class Projection:
    """An affine view `x -> axes (x - origin)` of points `(p,)`, in float64.

    Attributes:
        points: `n` of them `(p,)`, of which origin and axes are made.
        middle: `(n,)`, the origin's coefficients.
        mix: `(d, n)`, the axes' coefficients of the points less the origin: orthonormal rows; a row is zero where the points
            span fewer than d directions.
        explained: `(d,)` share of the points' variance on each axis, or None for a plane that was not fitted.
    """

    points: Sequence[Tensor]
    middle: Tensor
    mix: Tensor
    explained: Tensor | None = None

    @property
    def origin(self) -> Tensor:
        """`(p,)`; made anew."""
        return torch.cat([middle for _, middle, _ in self._pieces(())])

    @property
    def axes(self) -> Tensor:
        """`(d, p)`; made anew."""
        return torch.cat([axes for _, _, axes in self._pieces(())], 1)

    @property
    def shares(self) -> Tensor:
        """`explained`, of a view along principal axes."""
        assert self.explained is not None, "a plane through three points explains no variance"
        return self.explained

    @classmethod
    def principal(cls, points: Points, dimensions: int = 3) -> "Projection":
        """Principal axes of points `(n, p)`, n much smaller than p: eigenvectors of their `(n, n)` Gram matrix.

        Signs are fixed: the last point never lies behind the first along an axis.

        Raises:
            InputError: fewer than two points, or points that coincide.
        """
        if (isinstance(points, Tensor) and points.ndim != 2) or len(points) < 2:
            shape = tuple(points.shape) if isinstance(points, Tensor) else (len(points),)
            raise InputError(f"principal axes need points of shape (n >= 2, p), got {shape}")
        rows = [point.detach() for point in points]
        middle = torch.full((len(rows),), 1 / len(rows), dtype=torch.float64, device=rows[0].device)
        plain = cls(rows, middle, torch.eye(len(rows), dtype=torch.float64, device=middle.device))
        gram = sum((axes @ axes.T for _, _, axes in plain._pieces(())), torch.zeros_like(plain.mix))
        values, vectors = torch.linalg.eigh(gram)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        if not values[0] > 0:
            raise InputError("principal axes need points that differ, got one point repeated")
        kept = int((values[:dimensions] > NEGLIGIBLE * values[0]).sum())
        mix = _orthonormal(cls(rows, middle, vectors[:, :kept].T / values[:kept, None].sqrt())).mix
        forward = mix @ (gram[:, -1] - gram[:, 0])
        mix = mix * torch.where(forward < 0, -1.0, 1.0)[:, None].to(mix)
        explained = torch.zeros(dimensions, dtype=torch.float64)
        explained[:kept] = (values[:kept] / values.sum()).cpu()
        return cls(rows, middle, torch.cat([mix, mix.new_zeros(dimensions - kept, len(rows))]), explained)

    @classmethod
    def line(cls, a: Tensor, b: Tensor) -> "Projection":
        """The line through two points `(p,)`: origin a, axis towards b.

        Raises:
            InputError: the points coincide.
        """
        length = cls._through([a, b], [0, 1])._gram().item() ** 0.5
        if not length > 0:
            raise InputError("a line needs two points that differ, got one point twice")
        return cls._through([a, b], [0, 1 / length])

    @classmethod
    def plane(cls, a: Tensor, b: Tensor, c: Tensor) -> "Projection":
        """The plane through three points `(p,)`: origin a, first axis towards b, c on the positive side of it.

        The construction of Garipov et al. 2018, section 4 ("Loss surfaces, mode connectivity", figure 1).

        Raises:
            InputError: the three points lie on a line.
        """
        corners, share = [a, b, c], 0.0
        along, aside = cls._through(corners, [0, 1, 0], [0, 0, 1])._gram().diagonal().sqrt().tolist()
        # Twice: subtraction of nearly parallel vectors leaves a share of the first axis behind.
        for _ in range(2 if along else 0):
            gram = cls._through(corners, [0, 1, 0], [0, -share, 1])._gram()
            share += (gram[0, 1] / gram[0, 0]).item()
        rest, scale = cls._through(corners, [0, -share, 1])._gram().item() ** 0.5, max(along, aside)
        if along <= 1e-9 * scale or rest <= 1e-9 * scale:
            raise InputError("a plane needs three points that are not on one line; choose another third point")
        return cls._through(corners, [0, 1 / along, 0], [0, -share / rest, 1 / rest])

    def project(self, points: Points) -> Tensor:
        """Coordinates `(k, d)` float64 on the CPU of points `(k, p)`."""
        found = torch.zeros(len(points), len(self.mix), dtype=torch.float64, device=self.mix.device)
        for rows, middle, axes in self._pieces(points):
            found += (rows - middle) @ axes.T
        return found.cpu()

    def lift(self, coordinates: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Points `(k, p)` in `dtype` at coordinates `(k, d)`, computed in float64."""
        coordinates = coordinates.to(self.mix)
        return torch.cat([(middle + coordinates @ axes).to(dtype) for _, middle, axes in self._pieces(())], 1)

    def distances(self, points: Points) -> Tensor:
        """How far points `(k, p)` lie off this view, `(k,)` float64 on the CPU."""
        places = self.project(points).to(self.mix)
        squares = torch.zeros(len(points), dtype=torch.float64, device=self.mix.device)
        for rows, middle, axes in self._pieces(points):
            squares += (rows - middle - places @ axes).square().sum(1)
        return squares.sqrt().cpu()

    def _pieces(self, points: Points) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Float64 pieces `(k, c)` of points, `(c,)` of the origin, `(d, c)` of the axes."""
        size, own = self.points[0].numel(), self.points
        columns = max(1, CHUNK_BYTES // (8 * (2 * len(own) + 2 * len(points) + len(self.mix))))
        for start in range(0, size, columns):
            beads = torch.stack([point[start : start + columns].double() for point in own])
            middle = self.middle @ beads
            rows = [point[start : start + columns].detach().to(beads) for point in points]
            yield torch.stack(rows) if rows else beads[:0], middle, self.mix @ (beads - middle)

    def _gram(self) -> Tensor:
        """Inner products `(d, d)` of the axes."""
        zero = torch.zeros(len(self.mix), len(self.mix), dtype=torch.float64, device=self.mix.device)
        return sum((axes @ axes.T for _, _, axes in self._pieces(())), zero)

    @classmethod
    def _through(cls, points: Sequence[Tensor], *mix: Sequence[float]) -> "Projection":
        """A view with its origin at the first of the points."""
        axes = torch.tensor(mix, dtype=torch.float64, device=points[0].device)
        middle = torch.zeros_like(axes[0])
        middle[0] = 1
        return cls([point.detach() for point in points], middle, axes)


def _orthonormal(view: Projection) -> Projection:
    """The same view with axes that are orthonormal to rounding, by Cholesky factors of their Gram matrix, twice
    (CholeskyQR2: Yamamoto et al. 2015, "Roundoff error analysis of the CholeskyQR2 algorithm")."""
    for _ in range(2):
        factor = torch.linalg.cholesky(view._gram())
        mix = torch.linalg.solve_triangular(factor, view.mix, upper=False)
        view = Projection(view.points, view.middle, mix)
    return view
