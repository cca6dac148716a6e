"""Many networks in one frame: each one's units in the order that brings it closest to all the others."""

from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.objective import Objective

METHODS = ("weights", "activations")
# Rounds of aligning everything anew; the sum of distances falls with each, and few are enough.
SWEEPS = 10


def aligned(objective: Objective, points: Tensor, *, by: Literal["weights", "activations"], seed: int = 0) -> Tensor:
    """Copies of points `(K, p)` with reordered units, the same functions; the first point stays as it is.

    By weights, each is aligned to the mean of those before it, and then again and again to the mean of all others until
    nothing moves (Ainsworth et al. 2023, algorithm 3). By activations, each is aligned to the first: a mean of networks has
    no activations worth following.

    Raises:
        InputError: an unknown way, or a network whose units cannot be aligned.
    """
    if by not in METHODS:
        raise InputError(f"align must be one of {', '.join(METHODS)}, or None, got {by!r}")
    if find_spec("dss.symmetry") is None:
        raise InputError("this version cannot align networks; leave align out")
    align = import_module("dss.symmetry").align
    rows = [points[0]]
    for point in points[1:]:
        near = torch.stack(rows).mean(0) if by == "weights" else rows[0]
        rows.append(align(objective, near, point, by=by, seed=seed).point)
    for _ in range(SWEEPS if by == "weights" and len(rows) > 2 else 0):
        before = torch.stack(rows)
        for i in range(1, len(rows)):
            others = torch.stack(rows[:i] + rows[i + 1 :]).mean(0)
            rows[i] = align(objective, others, rows[i], by=by, seed=seed).point
        if torch.equal(before, torch.stack(rows)):
            break
    return torch.stack(rows)
