"""A page with the terrain between any three points."""

from pathlib import Path as FilePath

from dss.base.files import write_text
from dss.page.loss_plane import Terrain
from dss.page.report.drawings import terrain_drawing
from dss.page.report.render import Page, render


def write_plane(terrain: Terrain, out: FilePath) -> FilePath:
    """Write one terrain as a page, replacing the file."""
    names = [name for name, *_ in terrain.marks]
    page = Page(
        title=f"The plane through {', '.join(names)}",
        about=f"The loss on the plane through three sets of weights of one network: {terrain.description}.",
        drawings=[terrain_drawing(terrain)],
        footer="The first axis runs from the first point to the second; their distance is the unit of both axes.",
    )
    write_text(FilePath(out), render(page))
    return FilePath(out)
