"""Algorithms that propose paths, one a file."""

from dss.finders.band import ElasticBand
from dss.finders.bend import BendString
from dss.finders.constrained import ConstrainedString
from dss.finders.convex import ConvexPath
from dss.finders.curve import BezierCurve, PolygonalChain
from dss.finders.default import default_finder
from dss.finders.fastest import FastestPath
from dss.finders.geodesic import GeodesicString
from dss.finders.greedy import GreedyString
from dss.finders.straight import StraightLine

FINDERS = {
    "fastest": FastestPath,
    "bend": BendString,
    "greedy": GreedyString,
    "constrained": ConstrainedString,
    "geodesic": GeodesicString,
    "band": ElasticBand,
    "curve": BezierCurve,
    "chain": PolygonalChain,
    "convex": ConvexPath,
    "straight": StraightLine,
}
"""Finders by their name on the command line."""

__all__ = [
    "FINDERS",
    "BendString",
    "BezierCurve",
    "ConstrainedString",
    "ConvexPath",
    "ElasticBand",
    "FastestPath",
    "GeodesicString",
    "GreedyString",
    "PolygonalChain",
    "StraightLine",
    "default_finder",
]
