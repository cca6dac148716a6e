"""Many points: validated, their losses, and the straight lines between them."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.path import Path
from dss.certificates.sampling import as_losses, sample_segments
from dss.objectives.objective import End, Objective, as_point

Pair = tuple[int, int]

# Straight lines evaluated together: a number that depends on nothing, so that neither do the values.
LINES = 16


def stacked(objective: Objective, points: Tensor | Sequence[End], names: Sequence[str] | None) -> Tensor:
    """The points `(K, p)`, validated."""
    if len(points) == 0:
        raise InputError("at least one point is needed, got none")
    if names is not None and len(names) != len(points):
        raise InputError(f"every point needs one name, got {len(names)} names for {len(points)} points")
    called = [f"point {i}" for i in range(len(points))] if names is None else names
    rows = [as_point(objective, point, name) for point, name in zip(points, called, strict=True)]
    for row, name in zip(rows, called, strict=True):
        if row.shape != rows[0].shape or row.dtype != rows[0].dtype or row.device != rows[0].device:
            raise InputError(
                f"all points must have one shape, dtype and device: {called[0]} is {tuple(rows[0].shape)} {rows[0].dtype} "
                f"{rows[0].device}, {name} is {tuple(row.shape)} {row.dtype} {row.device}; they must be of one architecture"
            )
    return torch.stack(rows)


def all_pairs(count: int) -> list[Pair]:
    """(0, 1), (0, 2), ..., (K - 2, K - 1)."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def losses_at(judge: Objective, points: Tensor, names: Sequence[str]) -> Tensor:
    """The judged losses `(K,)` of the points, one at a time: how many others there are must not round them anew.

    Raises:
        InputError: a loss is not finite.
    """
    with torch.no_grad():
        losses = torch.cat([as_losses(judge(point[None])) for point in points])
    bad = [name for name, loss in zip(names, losses.tolist(), strict=True) if not isfinite(loss)]
    if bad:
        raise InputError(f"every point needs a finite loss ({judge.description}), but not so: {', '.join(bad)}")
    return losses


def straight_lines(judge: Objective, points: Tensor, pairs: Sequence[Pair], *, grid: int = 20) -> list[float]:
    """The largest loss seen inside the straight line of each pair, many lines at a time."""
    found: list[float] = []
    for start in range(0, len(pairs), LINES):
        ends = torch.stack([points[i] for pair in pairs[start : start + LINES] for i in pair])
        # One string through all ends in turn; every other segment is a line that is meant.
        peaks = sample_segments(judge, Path(ends), torch.arange(0, len(ends), 2), grid=grid)
        found += peaks.losses.tolist()
    return found
