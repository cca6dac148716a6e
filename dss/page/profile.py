"""What a page shows of a run: losses along its path, and its strings seen along principal axes. Plain small data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.path import Path
from dss.base.renamed import renamed
from dss.objectives.objective import Objective
from dss.page.projection import Projection

# Interpolated points held at once.
POINT_BYTES = 64 * 2**20
# Evaluations along a whole path, spread over its segments; and intervals per segment for strings of a search's history.
EVALUATIONS, HISTORY_INTERVALS = 100, 4


Places = tuple[Tensor, Tensor, Tensor]
"""Segments `(m,)`, t `(m,)` on each, and which places are beads `(n,)`."""


@dataclass(frozen=True, eq=False)
class Metric:
    """One loss along a path.

    Attributes:
        name: as the reader knows it: "judge", "training loss", "error rate".
        description: what it is and on which data.
        path: `(m,)` its values along the path.
        straight: `(s,)` its values along the straight line.
    """

    name: str
    description: str
    path: Tensor
    straight: Tensor


@dataclass(frozen=True, eq=False)
class PathProfile:
    """Losses along a path by arc length.

    Attributes:
        arc: `(m,)` places as shares of the path's length, 0 to 1.
        beads: `(n,)` which of them are beads.
        straight_arc: `(s,)` places on the straight line between the ends.
        metrics: the judge first.
        threshold: L0, for the judge.
        bounds: `(c, 3)` proven bounds in order: from this arc, to this arc, the loss is at most that; None without.
    """

    arc: Tensor
    beads: Tensor
    straight_arc: Tensor
    metrics: tuple[Metric, ...]
    threshold: float
    bounds: Tensor | None = None

    @property
    def complete(self) -> bool:
        """Whether the judge's loss is known at every place."""
        return not bool(self.metrics[0].path.isnan().any() or self.metrics[0].straight.isnan().any())

    @property
    def known(self) -> bool:
        """Whether the judge's loss is known anywhere."""
        return not bool(self.metrics[0].path.isnan().all() and self.metrics[0].straight.isnan().all())


@renamed(looks="evaluations", stairs="bounds")
def measure_path(
    path: Path,
    metrics: Mapping[str, Objective],
    *,
    threshold: float,
    bounds: Tensor | None = None,
    evaluations: int = EVALUATIONS,
    certified: int | None = None,
) -> PathProfile:
    """Evaluate every metric along a path and along the straight line between its ends.

    Args:
        metrics: by name; the first is the judge.
        threshold: L0.
        bounds: `(c, 4)` the cells of a proof (segment, lower t, upper t, bound), if there is one.
        evaluations: about how many places along the path, spread evenly over its segments.
        certified: intervals of a segment on the certificate's grid, at whose places the judge is known; see `intervals_for`.
    """
    (_, (segments, t, beads)), (line, (line_segments, line_t, _)) = places_of(path, evaluations, certified)
    measured = tuple(
        Metric(name, judge.description, along(judge, path, segments, t), along(judge, line, line_segments, line_t))
        for name, judge in metrics.items()
    )
    return PathProfile(_arcs(path, segments, t), beads, line_t, measured, threshold, _by_arc(path, bounds))


def places_of(path: Path, evaluations: int, certified: int | None) -> Iterator[tuple[Path, Places]]:
    """A path and the straight line between its ends, each with the places at which a profile shows it."""
    line = Path.straight(path.rows[0], path.rows[-1])
    for string, count in ((path, evaluations), (line, 2 * evaluations // 5)):
        yield string, grid(intervals_for(string, count, certified))


def intervals_for(path: Path, evaluations: int, certified: int | None = None) -> Tensor:
    """Intervals `(n - 1,)` of each segment by its share of the length, about `evaluations` in all, at least four.

    Args:
        certified: intervals of a segment on the certificate's grid. Those here are multiples of it, or divisors: about as many
            places, most of which are known already. Without it they are multiples of four.
    """
    lengths = path.segment_lengths().cpu()
    wanted = evaluations * (lengths / lengths.sum())
    if certified is None:
        return 4 * (wanted / 4).round().clamp_min(1).long()
    last = max(4, int(wanted.max())) + certified
    choices = torch.tensor([n for n in range(4, last) if n % certified == 0 or certified % n == 0])
    return choices[(torch.searchsorted(choices, wanted, right=True) - 1).clamp_min(0)]


def grid(intervals: Tensor) -> Places:
    """Segments `(m,)` and places t `(m,)` at every bead and at equal steps between them, and which are beads `(n,)`."""
    beads = torch.cat([intervals.new_zeros(1), intervals.cumsum(0)])
    segments = torch.arange(len(intervals)).repeat_interleave(intervals)
    t = (torch.arange(len(segments)) - beads[segments]).double() / intervals[segments]
    return torch.cat([segments, segments[-1:]]), torch.cat([t, torch.ones(1, dtype=torch.float64)]), beads


def along(judge: Objective, path: Path, segments: Tensor, t: Tensor) -> Tensor:
    """Losses `(m,)` float64 on the CPU at places of a path; NaN where a kept one is not known."""
    return in_pieces(judge, lambda places: path.points(segments[places], t[places]), torch.arange(len(t)), path.rows[0].nbytes)


def in_pieces(judge: Objective, points: Callable[[Tensor], Tensor], places: Tensor, size: int) -> Tensor:
    """Losses `(m,)` float64 on the CPU of `points(places)`, of which as many as `POINT_BYTES` holds are made at once.

    Args:
        points: points `(k, p)` of places `(k,)`.
        places: `(m,)`.
        size: bytes of one point.
    """
    with torch.no_grad():
        return torch.cat([judge(points(part)).double().cpu() for part in places.split(max(1, POINT_BYTES // size))])


def _arcs(path: Path, segments: Tensor, t: Tensor) -> Tensor:
    arcs = path.arc_lengths().cpu()
    return torch.lerp(arcs[segments], arcs[segments + 1], t)


def _by_arc(path: Path, bounds: Tensor | None) -> Tensor | None:
    """Bounds of cells with their sides as arc lengths, in the order of the path."""
    if bounds is None:
        return None
    bounds = bounds.double().cpu()
    sides = [_arcs(path, bounds[:, 0].long(), bounds[:, side]) for side in (1, 2)]
    return torch.stack([*sides, bounds[:, 3]], 1)[sides[0].argsort(stable=True)]


@dataclass(frozen=True, eq=False)
class ProjectedPath:
    """One string seen in three dimensions.

    Attributes:
        name: what the reader calls it: "round 3", "GreedyString".
        note: a sentence on its state.
        points: `(m, 3)` along the string, float64.
        losses: `(m,)` the judge's, there.
        beads: `(n,)` which of them are beads.
    """

    name: str
    note: str
    points: Tensor
    losses: Tensor
    beads: Tensor


@dataclass(frozen=True, eq=False)
class StringPicture:
    """Strings on common axes, with one scale of losses.

    Attributes:
        strings: in order of time, or one per finder.
        explained: `(3,)` share of the beads' variance on each axis.
        threshold: L0.
    """

    strings: tuple[ProjectedPath, ...]
    explained: Tensor
    threshold: float


@renamed(looks="evaluations")
def picture_string(
    path: Path,
    judge: Objective,
    *,
    threshold: float,
    history: Iterable[tuple[str, str, Path]] = (),
    evaluations: int = EVALUATIONS,
    certified: int | None = None,
) -> StringPicture:
    """See a string, and how it grew, along its three principal axes (Freeman & Bruna 2017, appendix D).

    Args:
        path: the string as it ended.
        judge: the loss that colours it; wrap it in `dss.page.loss_cache.Remembered`, for strings of a history share segments.
        threshold: L0.
        history: `(name, note, path)` of earlier strings, taken one at a time.
        evaluations: about how many places along the path; earlier strings have four intervals a segment.
        certified: as for `measure_path`.
    """
    view = Projection.principal(path.rows)
    earlier = [
        _projected(name, note, string, judge, view, torch.full((len(string) - 1,), HISTORY_INTERVALS))
        for name, note, string in history
    ]
    last = _projected("the path", describe(path), path, judge, view, intervals_for(path, evaluations, certified))
    return StringPicture((*earlier, last), view.shares, threshold)


@renamed(looks="evaluations")
def picture_strings(
    paths: Mapping[str, Path], judge: Objective, *, threshold: float, evaluations: int = EVALUATIONS
) -> StringPicture:
    """See several strings along the three principal axes of all their beads together.

    Args:
        paths: by name.
        judge: the loss.
        threshold: L0.
        evaluations: about how many places along each.
    """
    view = Projection.principal([row for path in paths.values() for row in path.rows])
    strings = (
        _projected(name, describe(path), path, judge, view, intervals_for(path, evaluations)) for name, path in paths.items()
    )
    return StringPicture(tuple(strings), view.shares, threshold)


def describe(path: Path) -> str:
    """A string in a few words."""
    count = path.intermediate_beads
    beads = "no bead between the ends" if count == 0 else "1 intermediate bead" if count == 1 else f"{count} intermediate beads"
    return f"{beads}, normalized length {path.normalized_length:.4f}"


def _projected(name: str, note: str, path: Path, judge: Objective, view: Projection, intervals: Tensor) -> ProjectedPath:
    """A string on the axes of a view; segments are straight there, so only beads need projecting."""
    segments, t, beads = grid(intervals)
    corners = view.project(path.rows)
    points = torch.lerp(corners[segments], corners[segments + 1], t[:, None])
    return ProjectedPath(name, note, points, along(judge, path, segments, t), beads)
