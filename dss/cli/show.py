"""`dss show`: the page of a run."""

import argparse
import sys
import time
import webbrowser
from pathlib import Path

from dss._connection import Connection
from dss.base.errors import InputError, TaskError
from dss.base.limits import Spent
from dss.base.progress import ProgressMeter
from dss.cli.answers import answer
from dss.cli.deadline import Timed
from dss.cli.metrics import JUDGE, Judged, is_cheap, metrics_of, watched
from dss.cli.progress import meter
from dss.objectives.objective import Objective
from dss.page.profile import EVALUATIONS
from dss.page.report import write_report
from dss.page.report.own import check_page, is_current
from dss.page.report.views import Views, keep_known, view
from dss.runs import REPORT, Run, load_run

# Intervals per side of a plane that nobody asked for.
COARSE = 16
# Evaluations along a path whose judge is expensive.
FEW_EVALUATIONS = 24


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("show", help="write the page of a run and open it")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder, finished or not")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the run folder); an earlier page is replaced")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is no page")
    parser.add_argument(
        "--evaluations",
        "--looks",
        type=int,
        help=f"about how many points of the path are evaluated (default: {EVALUATIONS}, or {FEW_EVALUATIONS} where one is expensive)",
    )
    parser.add_argument(
        "--plane", "--terrain", type=int, metavar="RESOLUTION",
        help=f"intervals per side of the sheet and of the plane around the path: 8, 16, 32, ..., 0 for neither (default: {COARSE} where it is cheap)",
    )  # fmt: skip
    parser.add_argument("--all-metrics", action="store_true", help="also metrics that are expensive on this run")
    parser.add_argument("--no-open", action="store_true", help="write the page, do not open it")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the page, say where it is, open it."""
    if options.evaluations is not None and options.evaluations < 4:
        raise InputError(f"--evaluations must be at least 4, got {options.evaluations}")
    found = load_run(options.folder)
    check_page(options.out or found.folder / REPORT, overwrite=options.overwrite)
    page = write_page(
        found,
        evaluations=options.evaluations,
        resolution=options.plane,
        every=options.all_metrics,
        out=options.out,
        progress=meter(options),
    )
    answer(options, {"run": str(found.folder), "page": str(page)}, page.resolve().as_uri())
    if not options.no_open:
        webbrowser.open(page.resolve().as_uri())
    return 0


def write_page(
    found: Run,
    *,
    evaluations: int | None = None,
    resolution: int | None = None,
    every: bool = False,
    out: Path | None = None,
    progress: ProgressMeter | None = None,
    until: float | None = None,
    judged: Judged | None = None,
) -> Path:
    """The page of a run; if its task cannot be built any more, or the time is up, of what the folder holds.

    Args:
        evaluations, resolution, out: see `dss.write_report`; None is fewer evaluations and no plane where one is expensive.
        every: metrics that are expensive, too.
        progress: shown the losses that are evaluated.
        until: when `time.monotonic()` is there, no loss is evaluated any more; what was is kept in the folder.
        judged: see `dss.cli.metrics.metrics_of`.
    """
    with (progress or ProgressMeter()).stage("losses", "points") as stage:
        metrics = _metrics(found, every, stage, judged) if until is None or time.monotonic() < until else None
        if metrics is not None and until is not None:
            metrics = {name: Timed(metric, until) for name, metric in metrics.items()}
        evaluations = evaluations or _evaluations(None if metrics is None else metrics[JUDGE], found.path.size)
        cheap = metrics is not None and is_cheap(metrics[JUDGE], found.path.size)
        wanted = (COARSE if cheap else 0) if resolution is None else resolution
        try:
            return write_report(found, metrics, out=out, evaluations=evaluations, resolution=wanted)
        except Spent:
            return write_report(found, None, out=out, evaluations=evaluations)


def keep_losses(folder: Path, found: Connection, grid: int) -> None:
    """Keep in a run folder the losses that its certificate evaluated and its page will show, where they can be used.

    Where points go through a network together, the last bit of a loss depends on which do. A run that goes on after an interruption
    remembers others than one that was not interrupted; its page, asked afresh, is the same. Large networks' losses cost too much
    for that.
    """
    judge = found.problem.judge
    if judge.evaluates_apart or not is_cheap(judge, found.path.size):
        keep_known(folder, judge, found.path, certified=grid, evaluations=_evaluations(judge, found.path.size))


def _evaluations(judge: Objective | None, size: int) -> int:
    return EVALUATIONS if judge is not None and is_cheap(judge, size) else FEW_EVALUATIONS


def complete_page(
    folder: Path, *, progress: ProgressMeter | None = None, until: float | None = None, judged: Judged | None = None
) -> None:
    """The page of a run folder, if it has none, or one that was drawn before its summary."""
    if not is_current(folder):
        write_page(load_run(folder), progress=progress, until=until, judged=judged)


def view_of(found: Run, *, resolution: int, sheet: int, progress: ProgressMeter) -> Views:
    """What one figure of a run needs, judged as the page judges it; see `dss.page.report.views.view`."""
    with progress.stage("losses", "points") as stage:
        return view(found, _metrics(found, False, stage), resolution=resolution, sheet=sheet)


def _metrics(found: Run, every: bool, stage: ProgressMeter, judged: Judged | None = None) -> dict[str, Objective] | None:
    """The metrics of a run with a meter, or None and a word on the terminal."""
    try:
        return watched(metrics_of(found, every=every, judged=judged), stage)
    except TaskError as error:
        print(f"dss: the task cannot be rebuilt, so no loss can be evaluated: {error}", file=sys.stderr)
        return None
