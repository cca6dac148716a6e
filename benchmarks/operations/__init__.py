"""Every operation that can be enclosed, with random options: what the soundness campaign and its tests are made of."""

from benchmarks.operations import aliases, comparisons, composed, current, entries, layers, moves, places, reductions, writes
from benchmarks.operations.drawing import OPERATIONS, Draw, Shape, Step

__all__ = [
    "OPERATIONS",
    "Draw",
    "Shape",
    "Step",
    "aliases",
    "comparisons",
    "composed",
    "current",
    "entries",
    "layers",
    "moves",
    "places",
    "reductions",
    "writes",
]
