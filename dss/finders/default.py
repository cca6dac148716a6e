"""The finder that is taken where none is named."""

from dss.finders.bend import BendString
from dss.finders.finder import Finder
from dss.finders.greedy import GreedyString

# Coordinates from which on greedy insertion searches. Bends move all at once, each with a gradient, moments and a mean; and on the paper's
# networks of a million parameters and more their paths were longer than greedy's and took longer (docs/paper.md), on those of thousands neither.
LARGE = 2**18


def default_finder(size: int, *, on_disk: bool = False) -> Finder:
    """Bends; greedy insertion for points of many coordinates, or where beads lie on disk for want of memory."""
    return GreedyString() if on_disk or size >= LARGE else BendString()
