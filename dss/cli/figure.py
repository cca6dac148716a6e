"""`dss figure`: one figure of a run as an image, or its data."""

import argparse
from pathlib import Path

from dss.base.errors import InputError
from dss.base.files import check_writable, write_text
from dss.cli.progress import add_quiet, meter
from dss.cli.show import COARSE, view_of
from dss.page.report.image import IMAGES, draw, write_image
from dss.runs import load_run

OTHERS = (".csv", ".html", ".json")
FIGURES = ("loss", "string", "plane")
FORMER = {"terrain": "plane"}


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("figure", help="one figure of a run as an image, a page, plotly's JSON, or its data as CSV")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--which", choices=FIGURES, type=lambda name: FORMER.get(name, name), required=True, help="the figure")
    parser.add_argument("--out", type=Path, required=True, help=f"the file; its ending says what: {', '.join(IMAGES + OTHERS)}")
    parser.add_argument("--width", type=int, default=900, help="of an image, in pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=600, help="of an image, in pixels (default: %(default)s)")
    parser.add_argument(
        "--resolution", "--cells", type=int, default=COARSE,
        help="of the plane: intervals per side, 8, 16, 32, ... (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate what the figure needs, draw it, write it."""
    ending = options.out.suffix.lower()
    _check_ending(ending, options.out)
    check_writable(options.out, overwrite=options.overwrite)
    views = view_of(
        load_run(options.folder), resolution=options.resolution if options.which == "plane" else 0, progress=meter(options)
    )
    figure, table = draw(options.which, views, controls=ending not in IMAGES)
    if ending == ".csv":
        write_text(options.out, table)
    elif ending == ".json":
        write_text(options.out, figure.to_json() or "")
    elif ending == ".html":
        write_text(options.out, figure.to_html(include_plotlyjs=True))
    else:
        write_image(figure, options.out, width=options.width, height=options.height)
    print(options.out)
    return 0


def _check_ending(ending: str, out: Path) -> None:
    if ending not in IMAGES + OTHERS:
        raise InputError(f"{out} has no ending that is known: use one of {', '.join(IMAGES + OTHERS)}")
