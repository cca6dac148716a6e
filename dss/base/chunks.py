"""Arithmetic on whole points, a bounded number of coordinates at a time: a float64 copy of a large network would be two."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Coordinates taken at once: copies of so many stay in fast memory, and are not given back to the system in between.
COORDINATES = 2**20


def pieces(*points: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Points `(..., p)` side by side, some coordinates at a time."""
    return zip(*(point.split(COORDINATES, -1) for point in points), strict=True)


def distance(a: Tensor, b: Tensor, coordinates: Tensor | None = None) -> Tensor:
    """The Euclidean distance `()` of two points `(p,)` in float64, over all coordinates or those of a mask `(p,)`."""
    if coordinates is None:
        norms = [(y.double() - x.double()).norm() for x, y in pieces(a, b)]
    else:
        norms = [(y[on].double() - x[on].double()).norm() for x, y, on in pieces(a, b, coordinates)]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm()


def all_finite(point: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    return all(bool(piece.isfinite().all()) for (piece,) in pieces(point.reshape(-1)))
