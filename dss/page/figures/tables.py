"""The data of each figure as comma-separated values."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from dss.page.loss_plane import LossPlane
from dss.page.loss_sheet import LossSheet
from dss.page.profile import PathProfile, StringPicture


def loss_table(profile: PathProfile) -> str:
    """CSV of a profile: one row per place, on the path and on the straight line."""
    names = [metric.name for metric in profile.metrics]
    beads = torch.zeros(len(profile.arc), dtype=torch.long)
    beads[profile.beads] = 1
    rows = []
    for line, arc, marks in (
        ("path", profile.arc, beads),
        ("straight", profile.straight_arc, torch.zeros(len(profile.straight_arc))),
    ):
        values = torch.stack([getattr(metric, line) for metric in profile.metrics], 1).tolist()
        places = zip(arc.tolist(), marks.tolist(), values, strict=True)
        rows += [(line, place, int(mark), *losses) for place, mark, losses in places]
    return written(("line", "arc", "bead", *names), rows)


def comparison_table(profiles: Mapping[str, PathProfile]) -> str:
    """CSV of several finders' profiles: the rows of `loss_table` after the finder's name."""
    tables = {name: loss_table(profile).splitlines() for name, profile in profiles.items()}
    header = "finder," + next(iter(tables.values()))[0]
    return "\n".join([header, *(f"{name},{row}" for name, rows in tables.items() for row in rows[1:])]) + "\n"


def string_table(picture: StringPicture) -> str:
    """CSV of a picture: every string's beads along the axes."""
    rows = []
    for string in picture.strings:
        points, losses = string.points[string.beads].tolist(), string.losses[string.beads].tolist()
        rows += [(string.name, i, *point, loss) for i, (point, loss) in enumerate(zip(points, losses, strict=True))]
    return written(("string", "bead", "axis 1", "axis 2", "axis 3", "loss"), rows)


def plane_table(plane: LossPlane) -> str:
    """CSV of a plane: one row per place of the grid."""
    return _grid_table(plane.x, plane.y, plane.losses)


def sheet_table(sheet: LossSheet) -> str:
    """CSV of a sheet: one row per place of the grid."""
    return _grid_table(sheet.along, sheet.across, sheet.losses)


def _grid_table(along: Tensor, across: Tensor, losses: Tensor) -> str:
    rows = zip(across.tolist(), losses.tolist(), strict=True)
    return written(
        ("along", "across", "loss"), ((x, y, loss) for y, row in rows for x, loss in zip(along.tolist(), row, strict=True))
    )


def written(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A header and rows as text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()
