"""`dss show`: the page of a run."""

import argparse
import sys
import webbrowser
from pathlib import Path

from tqdm import tqdm

from dss.base.errors import InputError, TaskError
from dss.cli.metrics import JUDGE, is_cheap, metrics_of, watched
from dss.objectives.objective import Objective
from dss.page.profile import LOOKS
from dss.page.report import write_report
from dss.page.report.views import Views, view
from dss.runs import Run, load_run

# Cells per side of a terrain that nobody asked for.
COARSE = 16
# Looks along a path whose judge is expensive.
FEW_LOOKS = 24


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("show", help="write the page of a run and open it")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder, finished or not")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the run folder, replaced)")
    parser.add_argument(
        "--looks",
        type=int,
        help=f"about how many points of the path are evaluated (default: {LOOKS}, or {FEW_LOOKS} where one is expensive)",
    )
    parser.add_argument(
        "--terrain", type=int, metavar="CELLS",
        help=f"per side of the plane around the path: 8, 16, 32, ..., 0 for none (default: {COARSE} where it is cheap)",
    )  # fmt: skip
    parser.add_argument("--all-metrics", action="store_true", help="also metrics that are expensive on this run")
    parser.add_argument("--no-open", action="store_true", help="write the page, do not open it")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the page, say where it is, open it."""
    if options.looks is not None and options.looks < 4:
        raise InputError(f"--looks must be at least 4, got {options.looks}")
    page = write_page(
        load_run(options.folder), looks=options.looks, terrain=options.terrain, every=options.all_metrics, out=options.out
    )
    print(page.resolve().as_uri())
    if not options.no_open:
        webbrowser.open(page.resolve().as_uri())
    return 0


def write_page(
    found: Run, *, looks: int | None = None, terrain: int | None = None, every: bool = False, out: Path | None = None
) -> Path:
    """The page of a run; if its task cannot be built any more, of what the folder holds.

    Args:
        looks, terrain, out: see `dss.page.report.write_report`; None is fewer looks and no terrain where one is expensive.
        every: metrics that are expensive, too.
    """
    with _bar() as bar:
        metrics = _metrics(found, every, bar)
        cheap = metrics is not None and is_cheap(found, metrics[JUDGE])
        looks = looks or (LOOKS if cheap else FEW_LOOKS)
        cells = (COARSE if cheap else 0) if terrain is None else terrain
        return write_report(found, metrics, out=out, looks=looks, terrain=cells)


def view_of(found: Run, *, terrain: int) -> Views:
    """What one figure of a run needs, judged as the page judges it."""
    with _bar() as bar:
        return view(found, _metrics(found, False, bar), terrain=terrain)


def _metrics(found: Run, every: bool, bar: tqdm) -> dict[str, Objective] | None:
    """The metrics of a run with a bar, or None and a word on the terminal."""
    try:
        return watched(metrics_of(found, every=every), bar)
    except TaskError as error:
        print(f"dss: the task cannot be rebuilt, so no loss can be evaluated: {error}", file=sys.stderr)
        return None


def _bar() -> tqdm:
    return tqdm(desc="losses", unit=" points", delay=2)
