"""Figures with what a page says under them."""

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
from dss.page.figures.style import number
from dss.page.loss_plane import LossPlane
from dss.page.loss_sheet import LossSheet
from dss.page.profile import PathProfile, StringPicture
from dss.page.report.render import Drawing


def loss_drawing(profile: PathProfile, data: str) -> Drawing:
    """Loss along the path, every metric of it."""
    variants = {metric.name: loss_along_path(profile, metric=i) for i, metric in enumerate(profile.metrics)}
    proof = " The green bounds are the proven bound: no point of the path lies above them." if profile.bounds is not None else ""
    return Drawing(
        name="loss",
        title="Loss along the path",
        caption=f"{data[:1].upper() + data[1:]}: at {len(profile.arc)} points of the path, by distance travelled, with its beads; "
        f"the straight line between the same ends (dashed); and the threshold (dotted). Red beads exceed it.{proof}",
        variants=variants,
        csv=loss_table(profile),
    )


def string_drawing(picture: StringPicture, data: str) -> Drawing:
    """The string in space, with its history."""
    grown = " The slider goes through the rounds of the search." if len(picture.strings) > 1 else ""
    return Drawing(
        name="string",
        title="The string in space",
        caption=f"The path along the first three principal axes of its beads, with the share of their variance that each axis "
        f"carries, on one scale; stretched, every axis fills the box and says by how much. Colour is the loss ({data}); grey lines are shadows on the walls.{grown}",
        variants={"string": string_in_space(picture, controls=False)},
        moments=[(string.name, string.note) for string in picture.strings] if len(picture.strings) > 1 else [],
        csv=string_table(picture),
        kind="space",
    )


def sheet_drawing(sheet: LossSheet) -> Drawing:
    """The sheet between straight line and path."""
    return Drawing(
        name="sheet",
        title="From the straight line to the path",
        caption=f"Loss ({sheet.description}) on the sheet that joins the straight line (bottom, dashed) to the path (top, white), and a "
        "little beyond both: at every share of the length, the straight connection of the two. The sheet is unrolled, so the white row "
        "is the path itself and its ground is the path's own loss; the left side is A, the right side B. The orange line is the boundary "
        f"of the level set at the threshold. Evaluated at {len(sheet.along)} × {len(sheet.across)} places and interpolated between them; "
        f"where they are farthest apart, path and line are {number(sheet.widest, 3)} times the distance of A and B apart.",
        variants={"sheet": loss_on_sheet(sheet)},
        csv=sheet_table(sheet),
        kind="sheet",
    )


def plane_drawing(plane: LossPlane) -> Drawing:
    """The drawing of a plane, for the page of a run and for a page of its own."""
    names = ", ".join(name for name, *_ in plane.marks)
    places = f"{len(plane.x)} × {len(plane.y)}"
    boundary = "" if plane.threshold is None else " The orange line is the boundary of the level set at the threshold."
    return Drawing(
        name="plane",
        title="The loss on a plane around the path" if plane.seen is not None else "The loss on the plane through three points",
        caption=f"{_off_plane(plane)}Loss ({plane.description}) on the plane through {names}, evaluated at {places} places and "
        f"interpolated between them.{boundary}",
        variants={"plane": loss_on_plane(plane)},
        csv=plane_table(plane),
        kind="plane",
    )


def _off_plane(plane: LossPlane) -> str:
    """First of all, whether the ground under the path is its own."""
    if plane.seen is None:
        return ""
    far = plane.seen.distances.max().item()
    if far < 1e-6:
        return "The path lies in this plane. "
    return (
        f"The path is not in this plane: it leaves it by up to {number(far, 3)} times the distance of A and B, the white line is its "
        "projection, and the ground under it is not its own loss. "
    )
