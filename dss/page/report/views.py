"""What there is to draw of a run: losses along its path, its strings in space, the plane around it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path as FilePath

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.iteration import last
from dss.base.path import Path
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Counted
from dss.page.loss_cache import LossCache, Remembered
from dss.page.loss_plane import LossPlane, farthest_bead, survey
from dss.page.loss_sheet import LossSheet, unroll
from dss.page.profile import (
    EVALUATIONS,
    POINT_BYTES,
    PathProfile,
    StringPicture,
    describe,
    measure_path,
    picture_string,
    places_of,
)
from dss.runs import PROFILE, Run

# A history longer than this is thinned: the first and the last string always stay.
MOMENTS = 60
JUDGE = "judged loss"
# A path longer than the straight line by less than this share lies on it.
STRAIGHT = 1e-9


@dataclass(frozen=True, eq=False)
class Views:
    """What there is to draw of a run."""

    profile: PathProfile
    picture: StringPicture
    plane: LossPlane | None
    sheet: LossSheet | None


def view(
    run: Run,
    metrics: Mapping[str, Objective] | None = None,
    *,
    bounds: Tensor | None = None,
    evaluations: int = EVALUATIONS,
    resolution: int = 0,
    sheet: int | None = None,
) -> Views:
    """Evaluate what `write_report` shows, with the same arguments; losses are looked up in the run folder first.

    Args:
        sheet: resolution of the sheet; that of the plane by default.
    """
    cache = LossCache(run.folder / PROFILE)
    remembered = _remembered(cache, metrics)
    threshold, judge = run.question["threshold"], next(iter(remembered.values()))
    places = {"evaluations": evaluations, "certified": run.question.get("points")}
    try:
        profile = measure_path(
            run.path, remembered, bounds=run.bounds if bounds is None else bounds, threshold=threshold, **places
        )
        picture = picture_string(run.path, judge, threshold=threshold, history=history(run), **places)
        plane = plane_of(run.path, judge, threshold, resolution) if metrics and resolution else None
        unrolled = sheet_of(run.path, judge, threshold, resolution if sheet is None else sheet) if metrics else None
    finally:
        # An interrupted page keeps what it has evaluated.
        if metrics:
            cache.save()
    return Views(profile, picture, plane, unrolled)


def keep_known(folder: FilePath, judge: Counted, path: Path, *, certified: int, evaluations: int = EVALUATIONS) -> None:
    """Keep in a run folder what a certificate evaluated where a page will show it: along the path, and along the straight line.

    Args:
        judge: with the certificate's evaluations in its memory.
        certified: the certificate's grid; `evaluations`: the page's.
    """
    cache = LossCache(folder / PROFILE)
    for string, (segments, t, _) in places_of(path, evaluations, certified):
        losses = judge.known_along(string, segments, t)
        known = torch.nonzero(~losses.isnan())[:, 0]
        for some in known.split(max(1, POINT_BYTES // path.rows[0].nbytes)):
            cache.learn(JUDGE, judge.description, string.points(segments[some], t[some]), losses[some])
    cache.save()


def plane_of(path: Path, judge: Objective, threshold: float, resolution: int) -> LossPlane | None:
    """The plane through the ends and the bead farthest from their line; None for a path that is straight."""
    try:
        middle = farthest_bead(path)
    except InputError:
        return None
    corners, names = [path.rows[i] for i in (0, -1, middle)], ("A", "B", f"bead {middle}")
    return last(survey(judge, corners, names=names, path=path, threshold=threshold, resolution=resolution))


def sheet_of(path: Path, judge: Objective, threshold: float, resolution: int) -> LossSheet | None:
    """The sheet between the straight line and the path; None for a path that is straight, or without a resolution."""
    if not resolution or path.normalized_length <= 1 + STRAIGHT:
        return None
    return unroll(judge, path, threshold=threshold, resolution=resolution)


def _remembered(cache: LossCache, metrics: Mapping[str, Objective] | None) -> dict[str, Remembered]:
    """Every metric through the cache; without metrics, those that the cache has."""
    if metrics:
        return {name: Remembered(cache, name, objective) for name, objective in metrics.items()}
    return {name: Remembered(cache, name, None) for name in cache.names() or (JUDGE,)}


def history(run: Run) -> Iterator[tuple[str, str, Path]]:
    """`(name, note, path)` of at most `MOMENTS` recorded strings before the last one, read one at a time."""
    stride = max(1, -(-run.recorded // MOMENTS))
    for snapshot in islice(run.history, 0, None, stride):
        if snapshot.path.digests != run.path.digests:
            yield f"round {snapshot.step.round}", describe(snapshot.path), snapshot.path
