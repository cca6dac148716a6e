"""From a run folder to its page."""

from collections.abc import Mapping
from pathlib import Path as FilePath

from torch import Tensor

from dss.base.files import write_text
from dss.base.renamed import renamed
from dss.objectives.objective import Objective
from dss.page.profile import EVALUATIONS, PathProfile
from dss.page.report.drawings import loss_drawing, plane_drawing, sheet_drawing, string_drawing
from dss.page.report.kept import changed, kept
from dss.page.report.own import subject
from dss.page.report.render import Page, render
from dss.page.report.views import Views, view
from dss.page.report.words import judged, key_figures, verdict, work
from dss.runs import REPORT, Run


@renamed(looks="evaluations", stairs="bounds", terrain="resolution")
def write_report(
    run: Run,
    metrics: Mapping[str, Objective] | None = None,
    *,
    bounds: Tensor | None = None,
    evaluations: int = EVALUATIONS,
    resolution: int = 0,
    out: FilePath | None = None,
) -> FilePath:
    """Write the page of a run: one HTML file that opens from disk without a network.

    Every loss it evaluates is kept in the run folder, so that the next page of the same path evaluates one point.

    Args:
        run: see `dss.runs.load_run`; it may be unfinished.
        metrics: the judge first, then what else the reader may switch to, by name. Without it, the page shows what the
            run folder holds and says what is missing.
        bounds: `(c, 4)` cells of a proof, as `Certificate.bounds`; by default those in the run folder's
            `bounds.safetensors`, if it is there.
        evaluations: about how many points of the path are evaluated.
        resolution: of the sheet between line and path, and intervals per side of the plane through the ends and the bead
            farthest from their line (8, 16, 32, ...); 0 leaves both out.
        out: the file; `report.html` in the run folder by default.

    Returns:
        Where the page was written.
    """
    views = view(run, metrics, bounds=bounds, evaluations=evaluations, resolution=resolution)
    out = run.folder / REPORT if out is None else FilePath(out)
    write_text(out, render(page_of(run, views)))
    return out


def page_of(run: Run, views: Views) -> Page:
    """What the page of a run says."""
    # What is said of a path that was changed since is said of another one.
    summary, question, profile = None if run.changes else run.summary, run.question, views.profile
    start, end = (FilePath(file).name for file in question.get("ends", ("A", "B")))
    copy = "a reordered copy of " if question.get("align") else ""
    data = profile.metrics[0].description or f"task {question.get('task', 'unknown')}"
    drawings = [] if views.sheet is None else [sheet_drawing(views.sheet)]
    drawings += [loss_drawing(profile, data)] if profile.known else []
    drawings.append(string_drawing(views.picture, data))
    if views.plane is not None:
        drawings.append(plane_drawing(views.plane))
    return Page(
        title=f"{start} → {end}",
        about=f"A path from {start} (A) to {copy}{end} (B), two sets of weights of one network. Judged by: {data}.",
        verdict=changed(run) if run.changes else verdict(summary, profile.threshold),
        facts={
            "Key figures": key_figures(summary, question),
            "Network, data and judge": [*judged(summary, question, run.path), *kept(run)],
            "Work and versions": work(summary, question),
        },
        drawings=drawings,
        missing=_missing(profile),
        footer=_footer(run.summary),
        subject=subject(run.folder),
    )


def _missing(profile: PathProfile) -> list[str]:
    if profile.complete:
        return []
    what = "Some losses along the path are" if profile.known else "The losses along the path are"
    return [
        f"{what} not in the run folder, and the task could not be rebuilt, or the time was up, to evaluate them: grey parts have no known loss."
    ]


def _footer(summary: dict | None) -> str:
    versions = (summary or {}).get("versions", {})
    return (
        "Made with " + ", ".join(f"{name} {version}" for name, version in versions.items())
        if versions
        else "Search not finished."
    )
