"""Losses along a path: evaluated in bounded memory, and peaks of segments by a grid refined where the loss is highest."""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.objectives.objective import Objective

# A peak has stopped moving when the loss beside it is lower by less than this share of the segment's range of losses.
SETTLED = 1e-3
# Interpolated points held at once.
POINT_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Peaks:
    """The largest loss seen strictly inside each of m segments: `losses`, `t` (m,) float64; `evaluations` in all."""

    losses: Tensor
    t: Tensor
    evaluations: int


@renamed(points="grid")
def sample_segments(
    judge: Objective,
    path: Path,
    segments: Tensor | None = None,
    *,
    grid: int,
    threshold: float = inf,
    refine: bool = True,
) -> Peaks:
    """Evaluate segments at t = 1/grid, ..., (grid-1)/grid, then ever closer around each peak.

    Args:
        judge: the loss.
        path: the path.
        segments: `(m,)` which segments; all by default.
        grid: intervals of the first grid.
        threshold: a segment already seen above it is not refined: it has failed.
        refine: whether to look closer until the peak stops moving.

    Raises:
        InputError: a grid of fewer than two intervals.
    """
    if grid < 2:
        raise InputError(f"a grid of at least 2 intervals is needed to see inside a segment, got {grid}")
    segments = torch.arange(len(path) - 1) if segments is None else segments
    t = torch.arange(1, grid, dtype=torch.float64) / grid
    losses = evaluate(judge, path, segments[:, None].expand(-1, len(t)), t.expand(len(segments), -1))
    best, index = losses.max(1)
    peaks = Peaks(best, t[index], losses.numel())
    spread = (best - losses.min(1).values).clamp_min(torch.finfo(torch.float64).tiny)
    return refined(judge, path, segments, peaks, 1 / grid, spread, threshold) if refine else peaks


def refined(
    judge: Objective, path: Path, segments: Tensor, peaks: Peaks, width: float, spread: Tensor, threshold: float
) -> Peaks:
    """Two evaluations on either side of each peak, halving the distance, while the peak moves.

    Args:
        segments: `(m,)`, those whose peaks these are.
        width: of the grid on which they were found.
        spread: `(m,)`, the range of the losses seen in each.
        threshold: what is seen above it is not refined.
    """
    losses, t, evaluations = peaks.losses.clone(), peaks.t.clone(), peaks.evaluations
    moving = torch.nonzero(losses <= threshold)[:, 0]
    while len(moving) and width > 1e-6:
        width /= 2
        near = (t[moving, None] + torch.tensor([-width, width])).clamp(0, 1)
        found = evaluate(judge, path, segments[moving, None].expand(-1, 2), near)
        evaluations += near.numel()
        best, side = found.max(1)
        flat = losses[moving] - found.min(1).values <= SETTLED * spread[moving]
        higher = best > losses[moving]
        losses[moving[higher]], t[moving[higher]] = best[higher], near[higher, side[higher]]
        moving = moving[~(flat & ~higher) & (losses[moving] <= threshold)]
    return Peaks(losses, t, evaluations)


def evaluate(judge: Objective, path: Path, segments: Tensor, t: Tensor) -> Tensor:
    """Losses at places `t` of `segments`, of one shape all three, as many at once as bounded memory allows.

    On the CPU in float64; a NaN counts as infinitely bad.
    """
    rows = max(1, POINT_BYTES // path.rows[0].nbytes)
    parts = zip(segments.reshape(-1).split(rows), t.reshape(-1).split(rows), strict=True)
    return torch.cat([as_losses(judge.along(path, *part)) for part in parts]).view(t.shape)


def evaluate_beads(judge: Objective, path: Path) -> Tensor:
    """Losses `(n,)` of the beads, in the same way."""
    last = len(path) - 2
    return evaluate(judge, path, torch.arange(last + 2).clamp_max(last), torch.tensor([0.0] * (last + 1) + [1.0]))


def as_losses(values: Tensor) -> Tensor:
    """What a judge returned, on the CPU in float64; a NaN counts as infinitely bad."""
    return values.detach().double().cpu().nan_to_num(nan=inf, posinf=inf)


def after_insertion(maxima: Tensor, segments: Tensor) -> Tensor:
    """Segment maxima `(n - 1,)` after one insertion in each of `segments`: both halves are not judged yet."""
    counts = torch.ones_like(maxima, dtype=torch.long)
    counts[segments] = 2
    maxima = maxima.clone()
    maxima[segments] = torch.nan
    return maxima.repeat_interleave(counts)
