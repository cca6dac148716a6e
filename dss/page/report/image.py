"""One figure of a run by its name, and as an image."""

from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go

from dss.base.errors import InputError
from dss.base.files import write_atomically
from dss.page.figures import loss_along_path, loss_on_plane, loss_table, plane_table, string_in_space, string_table
from dss.page.report.views import Views

IMAGES = (".png", ".svg", ".pdf", ".jpg", ".webp")


def draw(which: str, views: Views, *, controls: bool = True) -> tuple[go.Figure, str]:
    """A figure by its name on the command line, and its data as CSV.

    Args:
        controls: whether the string has its slider and play button.

    Raises:
        InputError: the run has nothing to draw it from.
    """
    if which == "string":
        return string_in_space(views.picture, controls=controls), string_table(views.picture)
    if which == "plane":
        if views.plane is None:
            raise InputError("there is no plane to draw: the path is straight, or its task cannot be rebuilt")
        return loss_on_plane(views.plane), plane_table(views.plane)
    if not views.profile.known:
        raise InputError("no loss along the path is known: its task cannot be rebuilt; run dss show where it can be")
    return loss_along_path(views.profile), loss_table(views.profile)


def write_image(figure: go.Figure, out: Path, *, width: int, height: int) -> None:
    """An image on white by kaleido, which drives an installed chromium.

    Raises:
        InputError: kaleido or the browser is missing.
    """
    if find_spec("kaleido") is None:
        raise InputError(
            f"{out.suffix} images need kaleido and a chromium or chrome: pip install kaleido; "
            "or write .html, or use the PNG and SVG buttons of the page"
        )
    figure = go.Figure(figure).update_layout(paper_bgcolor="white")
    try:
        write_atomically(out, lambda file: figure.write_image(file, width=width, height=height, scale=2))
    except RuntimeError as error:
        raise InputError(f"kaleido could not draw {out.name}, is a chromium or chrome installed? {error}") from error
