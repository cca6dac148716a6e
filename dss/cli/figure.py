"""`dss figure`: one figure of a run as an image, or its data."""

import argparse
from pathlib import Path

from dss.base.errors import InputError
from dss.base.files import check_writable, write_text
from dss.cli.answers import answer
from dss.cli.progress import meter
from dss.cli.show import COARSE, view_of
from dss.page.report.image import IMAGES, MOVIES, PAPER, draw
from dss.page.report.pixels import write_pixels
from dss.runs import load_run

OTHERS = (".csv", ".html", ".json")
FIGURES = ("sheet", "loss", "string", "plane")
FORMER = {"terrain": "plane"}


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("figure", help="one figure of a run as an image, a page, plotly's JSON, or its data as CSV")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--which", choices=FIGURES, type=lambda name: FORMER.get(name, name), required=True, help="the figure")
    parser.add_argument(
        "--out", type=Path, required=True,
        help=f"the file; its ending says what: {', '.join(IMAGES + OTHERS)}; {' or '.join(MOVIES)}: the string as it grew",
    )  # fmt: skip
    parser.add_argument(
        "--width", type=_width, default=900, metavar="PIXELS|column|page",
        help="of an image: in pixels, or fonts and sizes for one column or both of a paper (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--height", type=int, help="of an image, in pixels (default: two thirds of the width, of a column four fifths)"
    )
    parser.add_argument(
        "--resolution", "--cells", type=int, default=COARSE,
        help="of sheet and plane: intervals per side, 8, 16, 32, ... (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate what the figure needs, draw it, write it."""
    ending = options.out.suffix.lower()
    _check_ending(ending, options)
    check_writable(options.out, overwrite=options.overwrite)
    wanted = {name: options.resolution if options.which == name else 0 for name in ("plane", "sheet")}
    views = view_of(load_run(options.folder), resolution=wanted["plane"], sheet=wanted["sheet"], progress=meter(options))
    figure, table = draw(options.which, views, controls=ending in OTHERS)
    if ending == ".csv":
        write_text(options.out, table)
    elif ending == ".json":
        write_text(options.out, figure.to_json() or "")
    elif ending == ".html":
        write_text(options.out, figure.to_html(include_plotlyjs=True))
    else:
        write_pixels(figure, options.out, width=options.width, height=options.height)
    answer(options, {"run": str(options.folder), "which": options.which, "out": str(options.out)}, str(options.out))
    return 0


def _width(text: str) -> int | str:
    """Pixels, or the name of a width."""
    return text if text in PAPER else int(text)


def _check_ending(ending: str, options: argparse.Namespace) -> None:
    if ending not in IMAGES + OTHERS + MOVIES:
        raise InputError(f"{options.out} has no ending that is known: use one of {', '.join(IMAGES + OTHERS + MOVIES)}")
    if ending in MOVIES and options.which != "string":
        raise InputError(f"the string alone grows: --which string, or another ending than {ending}")
    if (isinstance(options.width, int) and options.width < 50) or (options.height is not None and options.height < 50):
        raise InputError(f"an image needs 50 pixels or more each way, got {options.width} and {options.height}")
