"""Samples bounded apart: on a part of a cell, most samples keep what is known of them from the whole cell.

On a cell every sample's loss lies below a function f convex in (tau, q), of which the values at the `CORNERS` of a hexagon
are known. The hexagon of a half of the cell, put into the coordinates of the whole, lies inside the hexagon of the whole: its
own tangents are among the sides, or above them, and its chord is below. So f at its corners is at most a convex combination of the
known values, with the same weights for all samples, and only the samples with the widest gaps have to be bounded anew. Cells
are cut into 2, 4 or 16 parts, so that their ends are fractions that floats hold exactly.
"""

from functools import lru_cache

import torch
from torch import Tensor

from dss.enclosure import CORNERS

LOST = 1e-14
"""More than the weights of a combination lose by rounding, in shares of the sum of absolute values."""

SHRINKS = 0.8
"""What of a sample's gap goes away when the sample is bounded on a part of the cell; it goes like the square of the width at least."""

SPARE = 1.25
"""Times what has to go away: a bound that stays above the goal costs another cut."""

SIZES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
"""Shares of the samples that are bounded together: cells with as many share a call."""


def inherited(values: Tensor, first: float, last: float) -> Tensor:
    """Values `(n, 6)` at the corners of the part [first, last] of a cell, 0 <= first < last <= 1: bounds again, rounded up."""
    return values @ _weights(first, last).T + LOST * values.abs().sum(1, keepdim=True)


@lru_cache(maxsize=64)
def _weights(first: float, last: float) -> Tensor:
    """Row k: how the k-th corner of the part is a mean of the corners of the whole, `(6, 6)`."""
    middle, half = first + last - 1, last - first
    rows = []
    for tau, q in CORNERS:
        # tau^2 = (1 + q) / 2 in the part's own coordinates
        square = middle * middle + 2 * middle * half * tau + half * half * (1 + q) / 2
        rows.append(_shares(middle + half * tau, 2 * square - 1))
    return torch.tensor(rows, dtype=torch.float64)


def _shares(tau: float, q: float) -> list[float]:
    """Weights of the corners whose mean is a point of the hexagon: between its upper side, q = 1, and the side below the point."""
    i = next(i for i in range(len(CORNERS) - 1) if tau <= CORNERS[i + 1][0])
    (left, low), (right, high) = CORNERS[i], CORNERS[i + 1]
    share = (tau - left) / (right - left)
    floor = (1 - share) * low + share * high
    part = 0.0 if floor == 1 else (q - floor) / (1 - floor)
    assert -1e-12 <= part <= 1 + 1e-12, "the point lies outside the hexagon"
    weights = [0.0] * len(CORNERS)
    for at, weight in (
        (i, (1 - part) * (1 - share)),
        (i + 1, (1 - part) * share),
        (0, part * (1 - tau) / 2),
        (-1, part * (1 + tau) / 2),
    ):
        weights[at] += weight
    return weights


def wanted(gaps: Tensor, excess: float) -> int:
    """How many samples, those with the widest gaps first, should be bounded anew for the mean bound to fall by `excess`.

    A share of `SIZES`, or all of them.
    """
    count = len(gaps)
    if not excess < torch.inf or gaps.isinf().all():
        return count
    falls = (SHRINKS / count) * gaps.sort(descending=True).values.cumsum(0)
    needed = int((falls < SPARE * excess).sum()) + 1
    needed = max(needed, int(gaps.isinf().sum()))
    return next((size for size in (max(1, round(share * count)) for share in SIZES) if needed <= size), count)


def tightened(values: Tensor, index: Tensor, found: Tensor) -> Tensor:
    """Values `(n, 6)`, with those of the samples `index` `(m,)` replaced where the new ones `(m, 6)` are lower."""
    old = values[index]
    better = (found.amax(1) < old.amax(1))[:, None]
    return values.index_copy(0, index, torch.where(better, found, old))
