"""`dss figure`: one figure of a run as an image, or its data."""

import argparse
from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go

from dss.cli.show import COARSE, view_of
from dss.errors import InputError
from dss.figures import loss_along_path, loss_table, string_in_space, string_table, terrain_on_plane, terrain_table
from dss.files import check_writable, write_atomically, write_text
from dss.report.views import Views
from dss.runs import load_run

IMAGES, OTHERS = (".png", ".svg", ".pdf", ".jpg", ".webp"), (".csv", ".html", ".json")
FIGURES = ("loss", "string", "terrain")


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser("figure", help="one figure of a run as an image, a page, plotly's JSON, or its data as CSV")
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--which", choices=FIGURES, required=True, help="the figure")
    parser.add_argument("--out", type=Path, required=True, help=f"the file; its ending says what: {', '.join(IMAGES + OTHERS)}")
    parser.add_argument("--width", type=int, default=900, help="of an image, in pixels (default: %(default)s)")
    parser.add_argument("--height", type=int, default=600, help="of an image, in pixels (default: %(default)s)")
    parser.add_argument("--cells", type=int, default=COARSE, help="terrain: cells per side, 8, 16, 32, ... (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Evaluate what the figure needs, draw it, write it."""
    ending = options.out.suffix.lower()
    _check_ending(ending, options.out)
    check_writable(options.out, overwrite=options.overwrite)
    views = view_of(load_run(options.folder), terrain=options.cells if options.which == "terrain" else 0)
    figure, table = draw(options.which, views, controls=ending not in IMAGES)
    if ending == ".csv":
        write_text(options.out, table)
    elif ending == ".json":
        write_text(options.out, figure.to_json())
    elif ending == ".html":
        write_text(options.out, figure.to_html(include_plotlyjs=True))
    else:
        figure.update_layout(paper_bgcolor="white")
        write_image(figure, options.out, width=options.width, height=options.height)
    print(options.out)
    return 0


def draw(which: str, views: Views, *, controls: bool = True) -> tuple[go.Figure, str]:
    """A figure by its name on the command line, and its data as CSV.

    Args:
        controls: whether the string has its slider and play button.

    Raises:
        InputError: the run has nothing to draw it from.
    """
    if which == "string":
        return string_in_space(views.picture, controls=controls), string_table(views.picture)
    if which == "terrain":
        if views.terrain is None:
            raise InputError("there is no terrain to draw: the path is straight, or its task cannot be rebuilt")
        return terrain_on_plane(views.terrain), terrain_table(views.terrain)
    if not views.profile.known:
        raise InputError("no loss along the path is known: its task cannot be rebuilt; run dss show where it can be")
    return loss_along_path(views.profile), loss_table(views.profile)


def write_image(figure: go.Figure, out: Path, *, width: int, height: int) -> None:
    """An image by kaleido, which drives an installed chromium.

    Raises:
        InputError: kaleido or the browser is missing.
    """
    if find_spec("kaleido") is None:
        raise InputError(
            f"{out.suffix} images need kaleido and a chromium or chrome: pip install kaleido; "
            "or write .html, or use the PNG and SVG buttons of the page"
        )
    try:
        write_atomically(out, lambda file: figure.write_image(file, width=width, height=height, scale=2))
    except RuntimeError as error:
        raise InputError(f"kaleido could not draw {out.name}, is a chromium or chrome installed? {error}") from error


def _check_ending(ending: str, out: Path) -> None:
    if ending not in IMAGES + OTHERS:
        raise InputError(f"{out} has no ending that is known: use one of {', '.join(IMAGES + OTHERS)}")
