"""From a run folder to its page."""

from collections.abc import Mapping
from pathlib import Path as FilePath

from torch import Tensor

from dss.errors import InputError
from dss.figures import loss_along_path, loss_table, string_in_space, string_table, terrain_on_plane, terrain_table
from dss.figures.style import number
from dss.files import write_text
from dss.loss_cache import LossCache, Remembered
from dss.objective import Objective
from dss.path import Path
from dss.profile import LOOKS, PathProfile, StringPicture, measure_path, picture_strings
from dss.report.render import Drawing, Page, render
from dss.report.words import key_figures, verdict
from dss.runs import PROFILE, REPORT, Run
from dss.terrain import Terrain, farthest_bead, survey

# A history longer than this is thinned: the first and the last string always stay.
MOMENTS = 60
JUDGE = "judged loss"


def write_report(
    run: Run,
    metrics: Mapping[str, Objective] | None = None,
    *,
    stairs: Tensor | None = None,
    looks: int = LOOKS,
    terrain: int = 0,
    out: FilePath | None = None,
) -> FilePath:
    """Write the page of a run: one HTML file that opens from disk without a network.

    Every loss it evaluates is kept in the run folder, so that the next page of the same path evaluates one point.

    Args:
        run: see `dss.runs.load_run`; it may be unfinished.
        metrics: the judge first, then what else the reader may switch to, by name. Without it, the page shows what the
            run folder holds and says what is missing.
        stairs: `(c, 4)` cells of a proof, as `Certificate.stairs`.
        looks: about how many points of the path are evaluated.
        terrain: cells per side of the plane through the ends and the bead farthest from their line (8, 16, 32, ...);
            0 leaves it out.
        out: the file; `report.html` in the run folder by default.

    Returns:
        Where the page was written.
    """
    cache = LossCache(run.folder / PROFILE)
    remembered = _remembered(cache, metrics)
    threshold, judge = run.question["threshold"], next(iter(remembered.values()))
    try:
        profile = measure_path(run.path, remembered, threshold=threshold, stairs=stairs, looks=looks)
        picture = picture_strings(history(run), judge, threshold=threshold, looks=looks)
        plane = terrain_of(run.path, judge, threshold, terrain) if metrics and terrain else None
    finally:
        # An interrupted page keeps what it has evaluated.
        if metrics:
            cache.save()
    out = run.folder / REPORT if out is None else FilePath(out)
    write_text(out, render(page_of(run, profile, picture, plane)))
    return out


def terrain_of(path: Path, judge: Objective, threshold: float, cells: int) -> Terrain | None:
    """The plane through the ends and the bead farthest from their line; None for a path that is straight."""
    try:
        middle = farthest_bead(path)
    except InputError:
        return None
    corners, names = [path.beads[i] for i in (0, -1, middle)], ("A", "B", f"bead {middle}")
    for terrain in survey(judge, corners, names=names, path=path, threshold=threshold, cells=cells):
        pass
    return terrain


def _remembered(cache: LossCache, metrics: Mapping[str, Objective] | None) -> dict[str, Remembered]:
    """Every metric through the cache; without metrics, those that the cache has."""
    if metrics:
        return {name: Remembered(cache, name, objective) for name, objective in metrics.items()}
    return {name: Remembered(cache, name, None) for name in cache.names() or (JUDGE,)}


def history(run: Run) -> list[tuple[str, str, Path]]:
    """`(name, note, path)` of the recorded strings, at most `MOMENTS`, the run's path last."""
    recorded = [(snapshot.step.round, snapshot.path) for snapshot in run.history]
    stride = max(1, -(-len(recorded) // (MOMENTS - 1)))
    moments = [(f"round {number}", _beads(path), path) for number, path in recorded[::stride]]
    if moments and moments[-1][2].beads.shape == run.path.beads.shape and (moments[-1][2].beads == run.path.beads).all():
        moments.pop()
    return [*moments, ("the path", _beads(run.path), run.path)]


def _beads(path: Path) -> str:
    count = path.intermediate_beads
    beads = "the straight line" if count == 0 else "1 intermediate bead" if count == 1 else f"{count} intermediate beads"
    return f"{beads}, normalized length {path.normalized_length:.4f}"


def page_of(run: Run, profile: PathProfile, picture: StringPicture, terrain: Terrain | None = None) -> Page:
    """What the page of a run says."""
    summary, question = run.summary, run.question
    start, end = (FilePath(file).name for file in question.get("ends", ("A", "B")))
    data = profile.metrics[0].description or f"task {question.get('task', 'unknown')}"
    drawings = [_loss_drawing(profile, data)] if profile.known else []
    drawings.append(_string_drawing(picture, data))
    if terrain is not None:
        drawings.append(terrain_drawing(terrain))
    return Page(
        title=f"{start} → {end}",
        about=f"A path from {start} (A) to {end} (B), two sets of weights of one network. Judged by: {data}.",
        verdict=verdict(summary, profile.threshold),
        figures_of_run=key_figures(summary, question),
        drawings=drawings,
        missing=_missing(profile),
        footer=_footer(summary),
    )


def _missing(profile: PathProfile) -> list[str]:
    if profile.complete:
        return []
    what = "Some losses along the path are" if profile.known else "The losses along the path are"
    return [f"{what} not in the run folder, and the task could not be rebuilt to evaluate them: grey parts have no known loss."]


def _footer(summary: dict | None) -> str:
    versions = (summary or {}).get("versions", {})
    return "Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) if versions else "Search not finished."


def _loss_drawing(profile: PathProfile, data: str) -> Drawing:
    variants = {metric.name: loss_along_path(profile, metric=i) for i, metric in enumerate(profile.metrics)}
    positive = {
        metric.name: bool((metric.path.nan_to_num(nan=1.0) > 0).all() and (metric.straight.nan_to_num(nan=1.0) > 0).all())
        for metric in profile.metrics
    }
    proof = " The green stairs are the proven bound: no point of the path lies above them." if profile.stairs is not None else ""
    return Drawing(
        name="loss",
        title="Loss along the path",
        caption=f"{data[:1].upper() + data[1:]}: at {len(profile.arc)} points of the path, by distance travelled, with its beads; "
        f"the straight line between the same ends (dashed); and the threshold (dotted). Red beads exceed it.{proof}",
        variants=variants,
        log=positive,
        csv=loss_table(profile),
    )


def _string_drawing(picture: StringPicture, data: str) -> Drawing:
    grown = " The slider goes through the rounds of the search." if len(picture.strands) > 1 else ""
    return Drawing(
        name="string",
        title="The string in space",
        caption=f"The path along the first three principal axes of its beads, with the share of their variance that each axis "
        f"carries; every axis is stretched to fill the box. Colour is the loss ({data}); grey lines are shadows on the walls.{grown}",
        variants={"string": string_in_space(picture, controls=False)},
        moments=[(strand.name, strand.note) for strand in picture.strands] if len(picture.strands) > 1 else [],
        csv=string_table(picture),
        kind="space",
    )


def terrain_drawing(terrain: Terrain) -> Drawing:
    """The drawing of a plane, for the page of a run and for a page of its own."""
    names = ", ".join(name for name, *_ in terrain.marks)
    places = f"{len(terrain.x)} × {len(terrain.y)}"
    boundary = "" if terrain.threshold is None else " The orange line is the boundary of the level set at the threshold."
    off = ""
    if terrain.trail is not None:
        far = number(terrain.trail.distances.max().item(), 3)
        off = (
            f" The white path is projected: it leaves the plane by up to {far} times the distance of A and B, "
            "and the ground under it is not its own loss."
        )
    return Drawing(
        name="terrain",
        title="The terrain around the path" if terrain.trail is not None else "The terrain between three points",
        caption=f"Loss ({terrain.description}) on the plane through {names}, at {places} places.{boundary}{off}",
        variants={"terrain": terrain_on_plane(terrain)},
        csv=terrain_table(terrain),
        kind="terrain",
    )
