"""A page that puts the runs of several finders between the same ends beside one another."""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath

from dss.base.errors import InputError
from dss.base.files import write_text
from dss.objectives.objective import Objective
from dss.page.figures import comparison_table, losses_compared, string_table, strings_compared
from dss.page.figures.style import number
from dss.page.loss_cache import LossCache, Remembered
from dss.page.profile import EVALUATIONS, PathProfile, StringPicture, measure_path, picture_strings
from dss.page.report.render import Drawing, Page, render
from dss.page.report.words import above
from dss.runs import PROFILE, Run

COLUMNS = (
    "finder",
    "connected",
    "largest loss",
    "proven bound",
    "normalized length",
    "beads",
    "seconds",
    "losses read",
    "gradients read",
)


def write_comparison(runs: Mapping[str, Run], judge: Objective, out: FilePath, *, evaluations: int = EVALUATIONS) -> FilePath:
    """Write a page with a table of finished runs between the same ends, and their paths over one another.

    Args:
        runs: by the name that people know the finder by.
        judge: the loss of all of them; what it evaluates is kept beside the page.
        out: the page.
        evaluations: about how many points of each path are evaluated.

    Raises:
        InputError: no run, or runs with other ends or another threshold.
        RunError: a run that has not ended, or was changed after its certificate.
    """
    _check(list(runs.values()))
    out = FilePath(out)
    cache = LossCache(out.parent / PROFILE)
    remembered, threshold = Remembered(cache, "judged loss", judge), next(iter(runs.values())).question["threshold"]
    try:
        profiles = {
            name: measure_path(run.path, {"judged loss": remembered}, threshold=threshold, evaluations=evaluations)
            for name, run in runs.items()
        }
        paths = {name: run.path for name, run in runs.items()}
        picture = picture_strings(paths, remembered, threshold=threshold, evaluations=evaluations)
    finally:
        cache.save()
    drawings = _drawings(profiles, picture, judge.description)
    write_text(out, render(_page(runs, drawings, judge.description, threshold)))
    return out


def _check(runs: Sequence[Run]) -> None:
    if not runs:
        raise InputError("nothing to compare: at least one run is needed")
    first = runs[0]
    for run in runs:
        _ = run.outcome
        same = [run.path.digests[i] == first.path.digests[i] for i in (0, -1)]
        if not all(same) or run.question["threshold"] != first.question["threshold"]:
            raise InputError(f"{first.folder} and {run.folder} have other ends or another threshold: they cannot be compared")


def _drawings(profiles: Mapping[str, PathProfile], picture: StringPicture, data: str) -> list[Drawing]:
    return [
        Drawing(
            name="losses",
            title="Loss along each path",
            caption=f"{data[:1].upper() + data[1:]}: along the path that each finder proposed, by distance travelled; threshold dotted.",
            variants={"losses": losses_compared(profiles)},
            csv=comparison_table(profiles),
        ),
        Drawing(
            name="strings",
            title="The strings in space",
            caption="The paths along the first three principal axes of all their beads together, with the share of variance that each "
            "axis carries, on one scale; stretched, every axis fills the box. Grey lines are shadows on the walls.",
            variants={"strings": strings_compared(picture)},
            csv=string_table(picture),
            kind="space",
        ),
    ]


def _page(runs: Mapping[str, Run], drawings: Sequence[Drawing], data: str, threshold: float) -> Page:
    start, end = (FilePath(file).name for file in next(iter(runs.values())).question.get("ends", ("A", "B")))
    versions = next(iter(runs.values())).outcome.get("versions", {})
    return Page(
        title=f"{start} → {end}: {len(runs)} finders",
        about=f"Paths between the same two sets of weights, below the loss {number(threshold)}, judged by one certificate: {data}.",
        drawings=drawings,
        table=(COLUMNS, [row(name, run.outcome) for name, run in runs.items()]),
        footer="Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()),
    )


def row(name: str, summary: dict) -> list[str]:
    """A run as a row of the table under `COLUMNS`."""
    s = summary
    verdict = ("proved" if s["proven"] else "sampled") if s["connected"] else "no"
    bound = "–" if s["upper_bound"] is None else above(s["upper_bound"])
    figures = [number(float(s["max_loss"])), bound, number(float(s["normalized_length"]), 5), str(s["intermediate_beads"])]
    work = [f"{s['seconds']:.1f}", f"{s['loss_evaluations']:,}", f"{s['gradient_evaluations']:,}"]
    return [name, verdict, *figures, *work]
