"""Results as plotly figures, for notebooks and for the page. Nothing here shows or writes anything."""

from dss.page.figures.comparison import losses_compared, strings_compared
from dss.page.figures.loss import loss_along_path
from dss.page.figures.plane import terrain_on_plane
from dss.page.figures.string import string_in_space
from dss.page.figures.tables import comparison_table, loss_table, string_table, terrain_table

__all__ = [
    "comparison_table",
    "loss_along_path",
    "loss_table",
    "losses_compared",
    "string_in_space",
    "string_table",
    "strings_compared",
    "terrain_on_plane",
    "terrain_table",
]
