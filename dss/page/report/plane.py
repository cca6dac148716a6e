"""A page with the plane between any three points."""

from pathlib import Path as FilePath

from dss.base.files import write_text
from dss.page.loss_plane import LossPlane
from dss.page.report.drawings import plane_drawing
from dss.page.report.render import Page, render


def write_plane(plane: LossPlane, out: FilePath) -> FilePath:
    """Write one plane as a page, replacing the file."""
    names = [name for name, *_ in plane.marks]
    page = Page(
        title=f"The plane through {', '.join(names)}",
        about=f"The loss on the plane through three sets of weights of one network: {plane.description}.",
        drawings=[plane_drawing(plane)],
        footer="The first axis runs from the first point to the second; their distance is the unit of both axes.",
    )
    write_text(FilePath(out), render(page))
    return FilePath(out)
