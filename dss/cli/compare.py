"""`dss compare`: every finder between the same two models, one table and one picture."""

import argparse
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

from dss.base.errors import InputError
from dss.base.files import check_writable, write_text
from dss.base.progress import ProgressMeter
from dss.cli import connect
from dss.cli.answers import answer
from dss.cli.arithmetic import add_arithmetic
from dss.cli.common import add_common
from dss.cli.config import as_toml
from dss.cli.ends import add_buffers, add_reading
from dss.cli.exits import NO, YES
from dss.cli.metrics import JUDGE, metrics_of, watched
from dss.cli.progress import meter
from dss.cli.thresholds import HELP, threshold
from dss.cli.workers import absolute, add_workers, executor_of
from dss.finders import FINDERS
from dss.page.loss_cache import is_cache
from dss.page.report import write_comparison
from dss.page.report.compare import COLUMNS, row
from dss.page.report.own import check_page
from dss.parallel import as_done
from dss.runs import PROFILE, load_run
from dss.runs.layout import OPTIONS

COMPARISON = "compare.html"
# What all of its runs share beside task, threshold and seed.
ORIGIN = ("only", "device", "dtype", "autocast", "buffers")


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("compare", help="run several finders between the same ends; a table and their paths overlaid")
    parser.add_argument("start", metavar="A", help="weights of one end")
    parser.add_argument("end", metavar="B", help="weights of the other end")
    parser.add_argument("--task", required=True, help="digits, quadratics, cubics, fashion, file.py:name or package.module:name")
    parser.add_argument("--threshold", required=True, type=threshold, metavar="L0", help=HELP)
    parser.add_argument("--out", type=Path, required=True, help="a folder: one run folder per finder, and compare.html")
    parser.add_argument(
        "--finders", nargs="+", choices=FINDERS, default=[name for name in FINDERS if name not in ("convex", "fastest")],
        help="which (default: all but convex, which takes chains of layers alone)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a compare.html that is no page; runs are gone on with")
    add_buffers(parser)
    add_arithmetic(parser)
    add_reading(parser)
    add_workers(parser.add_argument_group("where the finders run"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """One run a finder, resumed where it stands already; then the page. Exit code 0 if any of them connected."""
    _check_folder(options.out, overwrite=options.overwrite)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / OPTIONS, as_toml(options))
    names = list(dict.fromkeys(options.finders))
    folders = {name: options.out / name for name in names}
    with executor_of(options) as executor:
        for number, said in as_done(executor, [partial(connected, _words(options, name)) for name in names]):
            print(f"{names[number]}:\n{said}", end="", flush=True)
    runs = {name: load_run(folder) for name, folder in folders.items()}
    page = _write(runs, options.out / COMPARISON, meter(options))
    connected_at_all = any(found.outcome["connected"] for found in runs.values())
    figures = {"page": str(page), "connected": connected_at_all, "finders": {n: found.outcome for n, found in runs.items()}}
    table = _table([row(name, found.outcome) for name, found in runs.items()])
    answer(options, figures, f"{table}\n{page.resolve().as_uri()}")
    return YES if connected_at_all else NO


def _words(options: argparse.Namespace, finder: str) -> list[str]:
    """`dss connect` with one of the finders, as it would be typed; paths in full where another machine reads them."""
    files = [options.start, options.end, str(options.out / finder)]
    task = options.task
    if options.dask is not None:
        files, task = [str(Path(file).resolve()) for file in files], absolute(task)
    # One word, because argparse takes a negative number in a word of its own for an option.
    origin = [f"--{name}={value}" for name in ORIGIN if (value := getattr(options, name)) is not None]
    shared = [
        *origin,
        *(f"--allow={name}" for name in options.allow),
        "--task",
        task,
        f"--threshold={options.threshold}",
        f"--seed={options.seed}",
        "--finder",
        finder,
    ]
    return ["connect", *files[:2], *shared, "--out", files[2], "--resume", *(["--quiet"] if options.quiet else [])]


def connected(words: list[str]) -> str:
    """Run `dss connect` with these words, gone on with where it stands, in whatever process this is; what it says."""
    parser = argparse.ArgumentParser(prog="dss")
    commands = parser.add_subparsers()
    connect.add(commands)
    add_common(commands.choices["connect"])
    arguments, said = parser.parse_args(words), StringIO()
    with redirect_stdout(said):
        arguments.run(arguments)
    return said.getvalue()


def _check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse early what would destroy a file late: in the folder itself stand the page and the losses that it remembers.

    Raises:
        InputError: something else has their name.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; a folder for the runs is needed")
    losses = out / PROFILE
    if out.is_dir():
        check_page(out / COMPARISON, overwrite=overwrite)
        check_writable(losses, overwrite=overwrite or is_cache(losses))


def _write(runs: dict, out: Path, progress: ProgressMeter) -> Path:
    judge = metrics_of(next(iter(runs.values())))[JUDGE]
    with progress.stage("losses", "points") as stage:
        return write_comparison(runs, watched({JUDGE: judge}, stage)[JUDGE], out)


def _table(rows: list[list[str]]) -> str:
    """Columns of equal width."""
    lines = [list(COLUMNS), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
