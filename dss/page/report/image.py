"""One figure of a run by its name, and as an image."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go

from dss.base.errors import InputError
from dss.base.files import write_atomically
from dss.page.figures import (
    loss_along_path,
    loss_on_plane,
    loss_on_sheet,
    loss_table,
    plane_table,
    sheet_table,
    string_in_space,
    string_table,
)
from dss.page.report.views import Views

IMAGES = (".png", ".svg", ".pdf", ".jpg", ".webp")
MOVIES = (".gif", ".mp4")
# Widths of one column and of a page with two, in pixels of 1/96 inch: 3.3 and 7 inches, as conferences have them.
# Room for axis, title and bar of colours, in the same pixels.
BAR = 96
PAPER = {"column": 317, "page": 672}


def draw(which: str, views: Views, *, controls: bool = True) -> tuple[go.Figure, str]:
    """A figure by its name on the command line, and its data as CSV.

    Args:
        controls: whether the string has its slider and play button.

    Raises:
        InputError: the run has nothing to draw it from.
    """
    if which == "string":
        return string_in_space(views.picture, controls=controls), string_table(views.picture)
    if which == "sheet":
        if views.sheet is None:
            raise InputError("there is no sheet to draw: the path is straight, or its task cannot be rebuilt")
        return loss_on_sheet(views.sheet), sheet_table(views.sheet)
    if which == "plane":
        if views.plane is None:
            raise InputError("there is no plane to draw: the path is straight, or its task cannot be rebuilt")
        return loss_on_plane(views.plane), plane_table(views.plane)
    if not views.profile.known:
        raise InputError("no loss along the path is known: its task cannot be rebuilt; run dss show where it can be")
    return loss_along_path(views.profile), loss_table(views.profile)


def for_paper(figure: go.Figure, height: int) -> go.Figure:
    """A figure with the fonts, lines and margins of print, for the widths of `PAPER` and a height in the same pixels."""
    small = {"size": 9.5}
    margin = {"l": 44, "r": 8, "t": 30, "b": 40}
    figure = go.Figure(figure).update_layout(
        font={"size": 10.5, "family": "Helvetica, Arial, sans-serif", "color": "black"}, margin=margin, legend={"font": small}
    )
    figure.update_annotations(font=small)
    figure.update_xaxes(title={"standoff": 4})
    sides = {f"{letter}axis": {"title": {"font": small}, "tickfont": {"size": 8}} for letter in "xyz"}
    figure.update_scenes(sides | {"camera": {"eye": {"x": 1.6, "y": 1.6, "z": 1.0}}})
    figure.update_traces(line={"width": 1.4}, selector={"type": "scatter", "mode": "lines"})
    figure.update_traces(marker={"size": 4}, selector={"type": "scatter", "mode": "markers"})
    if figure.layout.coloraxis.colorbar.orientation:
        _bar_below(figure, height - margin["t"] - BAR, small)
    return figure


def _bar_below(figure: go.Figure, plot: int, font: dict) -> None:
    """Make room for the bar of colours under the axis and its title, which a plot that is `plot` pixels high leaves too little of."""
    flat = bool(figure.layout.xaxis.title.text)
    bar = {"thickness": 7, "tickfont": font, "title": {"font": font}, "y": -(46 if flat else 4) / plot}
    figure.update_layout(coloraxis={"colorbar": bar}, margin={"b": BAR})


def write_image(figure: go.Figure, out: Path, *, width: int, height: int) -> None:
    """An image on white by kaleido, which drives an installed chromium.

    Args:
        width, height: in pixels of 1/96 inch; those of PNG, JPG and WebP are halved.

    Raises:
        InputError: kaleido or the browser is missing.
    """
    check_installed("kaleido", f"{out.suffix} images", "or write .html, or use the PNG and SVG buttons of the page")
    figure = on_white(figure)
    with drawing(out):
        write_atomically(out, lambda file: figure.write_image(file, width=width, height=height, scale=2))


def on_white(figure: go.Figure) -> go.Figure:
    """What images show behind a figure."""
    return go.Figure(figure).update_layout(paper_bgcolor="white")


def check_installed(package: str, what: str, instead: str) -> None:
    """Refuse to go on without a package of the extra `figures`.

    Raises:
        InputError: it is missing.
    """
    if find_spec(package) is None:
        raise InputError(
            f"{what} need {package} and a chromium or chrome: pip install 'dynamic-string-sampling[figures]'; {instead}"
        )


@contextmanager
def drawing(out: Path) -> Iterator[None]:
    """What kaleido cannot do, in a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"kaleido could not draw {out.name}, is a chromium or chrome installed? {error}") from error
