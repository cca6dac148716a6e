"""`dss show`: the page of a run."""

import argparse
import sys
import webbrowser
from pathlib import Path

from tqdm import tqdm

from dss.cli.metrics import metrics_of, watched
from dss.errors import InputError, TaskError
from dss.profile import LOOKS
from dss.report import write_report
from dss.runs import Run, load_run


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("show", help="write the page of a run and open it")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder, finished or not")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the run folder, replaced)")
    parser.add_argument("--looks", type=int, default=LOOKS, help="about how many points of the path are evaluated (default: %(default)s)")
    parser.add_argument("--all-metrics", action="store_true", help="also metrics that are expensive on this run")
    parser.add_argument("--no-open", action="store_true", help="write the page, do not open it")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the page, say where it is, open it."""
    if options.looks < 4:
        raise InputError(f"--looks must be at least 4, got {options.looks}")
    page = write_page(load_run(options.folder), looks=options.looks, every=options.all_metrics, out=options.out)
    print(page.resolve().as_uri())
    if not options.no_open:
        webbrowser.open(page.resolve().as_uri())
    return 0


def write_page(found: Run, *, looks: int = LOOKS, every: bool = False, out: Path | None = None) -> Path:
    """The page of a run; if its task cannot be built any more, of what the folder holds."""
    try:
        metrics = metrics_of(found, every=every)
    except TaskError as error:
        print(f"dss: the task cannot be rebuilt, so no loss can be evaluated: {error}", file=sys.stderr)
        return write_report(found, out=out, looks=looks)
    with tqdm(desc="losses", unit=" points", delay=2) as bar:
        return write_report(found, watched(metrics, bar), out=out, looks=looks)
