"""`dss plane`: the loss on the plane through three saved models."""

import argparse
from pathlib import Path

from dss.base.files import check_writable
from dss.cli.answers import answer
from dss.cli.arithmetic import Arithmetic, add_arithmetic
from dss.cli.ends import add_reading, load_ends, read, with_subset
from dss.cli.metrics import watched
from dss.cli.progress import meter
from dss.cli.thresholds import threshold
from dss.page.loss_plane import survey
from dss.page.report import write_plane
from dss.tasks import load_task


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("plane", help="the loss on the plane through three saved models, as a page")
    for name, text in (("a", "weights; A to B is the first axis"), ("b", "weights"), ("c", "weights")):
        parser.add_argument(name, type=Path, metavar=name.upper(), help=text)
    parser.add_argument("--task", required=True, help="digits, quadratics, cubics, fashion, file.py:name or package.module:name")
    parser.add_argument(
        "--threshold", type=threshold, metavar="L0",
        help="the boundary of its level set is drawn; 1.1x is 1.1 times the higher loss of A and B",
    )  # fmt: skip
    parser.add_argument(
        "--resolution", "--cells", type=int, default=32,
        help="intervals per side of the finest grid: 8, 16, 32, ... (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="the page to write; it is there after the coarsest grid")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_arithmetic(parser)
    add_reading(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Survey the plane, ever finer; the page is replaced after every grid."""
    check_writable(options.out, overwrite=options.overwrite)
    files = (options.a, options.b, options.c)
    task = with_subset(load_task(options.task), options.only)
    ends = load_ends(options.a, options.b, task, Arithmetic.of(options), allow=options.allow)
    corner = read(options.c, ends.task.space, allow=options.allow).point.to(ends.start)
    _, judge = ends.task.objectives()
    level = None if options.threshold is None else options.threshold(judge, ends.start, ends.end)
    with meter(options).stage("losses", "points") as stage:
        stage.expect((options.resolution + 1) ** 2)
        grids = survey(
            watched({"judge": judge}, stage)["judge"],
            [ends.start, ends.end, corner],
            names=[file.name for file in files],
            threshold=level,
            resolution=options.resolution,
        )
        for plane in grids:
            write_plane(plane, options.out)
    figures = {"page": str(options.out), "names": [file.name for file in files], "threshold": level}
    answer(options, figures | {"resolution": options.resolution, "judge": judge.description}, options.out.resolve().as_uri())
    return 0
