"""`dss plane`: the loss on the plane through three saved models."""

import argparse
from pathlib import Path

from tqdm import tqdm

from dss.base.files import check_writable
from dss.base.space import ParameterSpace
from dss.cli.ends import load_ends
from dss.cli.metrics import Watched
from dss.page.loss_plane import survey
from dss.page.report import write_plane
from dss.runs.checkpoints import load_checkpoint
from dss.tasks import load_task


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("plane", help="the loss on the plane through three saved models, as a page")
    parser.add_argument("points", type=Path, nargs=3, metavar=("A", "B", "C"), help="weights; A to B is the first axis")
    parser.add_argument("--task", required=True, help="digits, quadratics, cubics, fashion, file.py:name or package.module:name")
    parser.add_argument("--threshold", type=float, help="L0: the boundary of its level set is drawn")
    parser.add_argument(
        "--cells", type=int, default=32, help="per side of the finest grid: 8, 16, 32, ... (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, help="the page to write; it is there after the coarsest grid")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Survey the plane, ever finer; the page is replaced after every grid."""
    check_writable(options.out, overwrite=options.overwrite)
    first, second, third = options.points
    ends = load_ends(first, second, load_task(options.task), "cpu")
    corner = load_checkpoint(third, ParameterSpace.of(ends.task.model)).point.to(ends.start)
    _, judge = ends.task.objectives()
    with tqdm(desc="losses", unit=" points", delay=2, total=(options.cells + 1) ** 2) as bar:
        grids = survey(
            Watched(judge, bar),
            [ends.start, ends.end, corner],
            names=[point.name for point in options.points],
            threshold=options.threshold,
            cells=options.cells,
        )
        for terrain in grids:
            write_plane(terrain, options.out)
    print(options.out.resolve().as_uri())
    return 0
