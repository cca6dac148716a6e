"""The loss on a plane through three points, evaluated ever more closely (Garipov et al. 2018, figure 1)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.chunks import distance
from dss.base.errors import InputError
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.objectives.objective import Objective
from dss.page.profile import grid
from dss.page.projection import Projection

# Points on the plane held at once.
POINT_BYTES = 64 * 2**20
# Air around what is shown, as a share of its extent.
AIR = 0.25
# Intervals per side of the first grid; every refinement doubles them.
COARSEST = 8


@dataclass(frozen=True, eq=False)
class PathOnPlane:
    """A path seen on a plane: `points` `(m, 2)`, which of them are `beads` `(n,)`, `distances` `(m,)` off the plane."""

    points: Tensor
    beads: Tensor
    distances: Tensor


@dataclass(frozen=True, eq=False)
class LossPlane:
    """Losses on a grid of a plane, whose unit is the distance of the first two points.

    Attributes:
        x: `(c,)` and y `(r,)`: coordinates along and across the line from the first point to the second.
        losses: `(r, c)` float64.
        marks: `(name, x, y)` of the three points.
        seen: the path seen on the plane, or None.
        threshold: L0, or None.
        description: the loss, and on which data.
    """

    x: Tensor
    y: Tensor
    losses: Tensor
    marks: tuple[tuple[str, float, float], ...]
    seen: PathOnPlane | None
    threshold: float | None
    description: str


def farthest_bead(path: Path) -> int:
    """The bead farthest from the straight line between the ends: with them it spans the plane that shows most.

    Raises:
        InputError: no bead lies off that line.
    """
    line = Projection.line(path.rows[0], path.rows[-1])
    distances = line.distances(path.rows[1:-1]).tolist()
    if not distances or max(distances) <= 1e-9 * distance(path.rows[0], path.rows[-1]).item():
        raise InputError("every bead lies on the straight line between the ends: there is no plane through them to show")
    return 1 + max(range(len(distances)), key=distances.__getitem__)


@renamed(cells="resolution")
def survey(
    judge: Objective,
    corners: Sequence[Tensor],
    *,
    names: Sequence[str] = ("A", "B", "C"),
    path: Path | None = None,
    threshold: float | None = None,
    resolution: int = 32,
) -> Iterator[LossPlane]:
    """Evaluate the loss on the plane through three points, on 9 x 9 places, then 17 x 17, and so on.

    Every grid holds the one before it, so nothing is evaluated twice.

    Args:
        judge: the loss.
        corners: three points `(p,)`; the first two give the first axis and the unit of length.
        names: of the three, for people.
        path: a path to be seen on the plane.
        threshold: L0.
        resolution: intervals per side of the last grid: 8 times a power of two.

    Raises:
        InputError: points on one line, or another resolution.
    """
    if resolution < COARSEST or resolution & (resolution - 1):
        raise InputError(f"the resolution must be 8, 16, 32, ..., got {resolution}")
    plane = Projection.plane(*corners)
    unit = plane.project([corners[1]])[0, 0].item()
    marks = plane.project(corners) / unit
    seen = None if path is None else _seen(plane, path, unit)
    low, high = _extent(marks if seen is None else torch.cat([marks, seen.points]))
    losses, count = None, COARSEST
    while count <= resolution:
        steps = torch.arange(count + 1, dtype=torch.float64) / count
        x, y = (low[i] + (high[i] - low[i]) * steps for i in (0, 1))
        losses = _refined(judge, plane, x * unit, y * unit, losses, corners[0].dtype)
        places = tuple((name, *place) for name, place in zip(names, marks.tolist(), strict=True))
        yield LossPlane(x, y, losses, places, seen, threshold, judge.description)
        count *= 2


def _seen(plane: Projection, path: Path, unit: float) -> PathOnPlane:
    """Beads, and a few places between them: a segment is straight on the plane, but its distance from it is not."""
    segments, t, beads = grid(torch.full((len(path) - 1,), 8))
    seen = [(plane.project(points), plane.distances(points)) for points in _points(path, segments, t)]
    points, distances = (torch.cat(parts) / unit for parts in zip(*seen, strict=True))
    return PathOnPlane(points, beads, distances)


def _points(path: Path, segments: Tensor, t: Tensor) -> Iterator[Tensor]:
    rows = max(1, POINT_BYTES // path.rows[0].nbytes)
    for part in zip(segments.split(rows), t.split(rows), strict=True):
        yield path.points(*part)


def _extent(points: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper corner `(2,)` around points, with air; never much longer than wide."""
    low, high = points.min(0).values, points.max(0).values
    spread = torch.maximum(high - low, 0.6 * (high - low).max())
    middle = (low + high) / 2
    return middle - spread * (0.5 + AIR), middle + spread * (0.5 + AIR)


def _refined(judge: Objective, plane: Projection, x: Tensor, y: Tensor, coarse: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Losses `(r, c)` on a grid; every second row and column is known from the coarse one."""
    losses = torch.full((len(y), len(x)), torch.nan, dtype=torch.float64)
    fresh = torch.ones_like(losses, dtype=torch.bool)
    if coarse is not None:
        losses[::2, ::2], fresh[::2, ::2] = coarse, False
    row, column = torch.nonzero(fresh, as_tuple=True)
    places = torch.stack([x[column], y[row]], 1)
    rows = max(1, POINT_BYTES // (8 * len(plane.points[0])))
    with torch.no_grad():
        parts = [judge(plane.lift(part, dtype)).double().cpu() for part in places.split(rows)]
    losses[row, column] = torch.cat(parts)
    return losses
