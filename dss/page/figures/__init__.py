"""Results as plotly figures, for notebooks and for the page, and the numbers they are drawn from.

Nothing here shows or writes anything.
"""

from dss.page.figures import style
from dss.page.figures.comparison import losses_compared, strings_compared
from dss.page.figures.loss import loss_along_path
from dss.page.figures.plane import loss_on_plane
from dss.page.figures.sheet import loss_on_sheet
from dss.page.figures.string import string_in_space
from dss.page.figures.tables import comparison_table, loss_table, plane_table, sheet_table, string_table
from dss.page.figures.tree import (
    barrier_matrix,
    component_counts,
    components_by_threshold,
    map_by_barriers,
    map_by_weights,
    map_of_points,
    merge_tree_figure,
    steps_of_trajectory,
)
from dss.page.loss_plane import survey
from dss.page.loss_sheet import unroll
from dss.page.profile import StringPicture, describe, measure_path, picture_string, picture_strings

__all__ = [
    "StringPicture",
    "barrier_matrix",
    "comparison_table",
    "component_counts",
    "components_by_threshold",
    "describe",
    "loss_along_path",
    "loss_table",
    "losses_compared",
    "map_by_barriers",
    "map_by_weights",
    "map_of_points",
    "measure_path",
    "merge_tree_figure",
    "picture_string",
    "picture_strings",
    "steps_of_trajectory",
    "string_in_space",
    "string_table",
    "strings_compared",
    "style",
    "survey",
    "loss_on_plane",
    "loss_on_sheet",
    "plane_table",
    "sheet_table",
    "unroll",
]
