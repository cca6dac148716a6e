"""Algorithms that propose paths, one a file."""

from dss.finders.geodesic import GeodesicString
from dss.finders.greedy import GreedyString
from dss.finders.straight import StraightLine

FINDERS = {"greedy": GreedyString, "geodesic": GeodesicString, "straight": StraightLine}
"""Finders by their name on the command line."""

__all__ = ["FINDERS", "GeodesicString", "GreedyString", "StraightLine"]
