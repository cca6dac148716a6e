"""The loss along a straight line, evaluated where it bends.

A line starts as eight intervals. The loss at every inner place is predicted from its neighbours by the cubic through four of
them; where the prediction fails, the loss bends more than the places show, and the intervals on both sides are halved. So
a parabola is done after nine evaluations, and a narrow bump gets its places. Then the top is approached by halving.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor

from dss.base.path import Path
from dss.certificates.bracket import Bracket
from dss.certificates.sampling import evaluate
from dss.objectives.objective import Objective

# Intervals at first, and at most where the loss bends.
INTERVALS, FINEST = 8, 64
# A prediction may be wrong by this share of the range of rises; by a tenth of it near the top, on which the verdict rests.
RESOLUTION, NEAR_TOP = 0.02, 0.2
# The top has been found when places beside it are lower by less than this share of the range.
SETTLED = 1e-4


@dataclass(frozen=True, eq=False)
class LossLine:
    """Losses along the straight line between two points.

    Attributes:
        t: `(m,)` float64, from 0 to 1, ascending; 1/2 is among them.
        losses: `(m,)` float64.
        metrics: other losses `(m,)` at the same places, by name.
        bracket: what a proof knows of the largest loss, if one was asked for and could be had.
        proof: in words; empty if none was asked for.
    """

    t: Tensor
    losses: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    bracket: Bracket | None = None
    proof: str = ""

    @property
    def interpolated(self) -> Tensor:
        """The ends' losses, interpolated linearly: `(m,)`."""
        return torch.lerp(self.losses[0], self.losses[-1], self.t)

    @property
    def rises(self) -> Tensor:
        """Losses less the ends' interpolated ones: `(m,)`; at both ends 0."""
        rises = self.losses - self.interpolated
        rises[[0, -1]] = 0.0  # also where an end's loss is infinite
        return rises

    @property
    def rise(self) -> float:
        """The largest loss above the ends' interpolated ones (the *error barrier* of Frankle et al. 2020)."""
        return self.rises.max().item()

    @property
    def place(self) -> float:
        """Where on the line the rise is: t."""
        return self.t[self.rises.argmax()].item()

    @property
    def barrier(self) -> float:
        """The largest loss."""
        return self.losses.max().item()

    @property
    def excess(self) -> float:
        """The barrier less the higher end's loss."""
        return self.barrier - max(self.losses[0].item(), self.losses[-1].item())

    @property
    def middle(self) -> float:
        """The loss of the average."""
        return self.losses[self.t == 0.5].item()


def look_along(judge: Objective, start: Tensor, end: Tensor, metrics: Mapping[str, Objective] | None = None) -> LossLine:
    """Evaluate the loss along a line at as many places as its bends need, and other losses at the same ones.

    Args:
        judge: the loss whose bends decide.
        start, end: points `(p,)`.
        metrics: other losses, by name.
    """
    path = Path.straight(start, end)
    t = torch.arange(INTERVALS + 1, dtype=torch.float64) / INTERVALS
    line = LossLine(t, _losses(judge, path, t))
    while len(fresh := _where_it_bends(line)):
        line = _with(line, fresh, _losses(judge, path, fresh))
    line = _to_the_top(judge, path, _to_the_top(judge, path, line, tilted=True), tilted=False)
    return LossLine(line.t, line.losses, {name: _losses(metric, path, line.t) for name, metric in (metrics or {}).items()})


def _losses(judge: Objective, path: Path, t: Tensor) -> Tensor:
    """At places of the line, without gradient."""
    with torch.no_grad():
        return evaluate(judge, path, torch.zeros(len(t), dtype=torch.long), t)


def _with(line: LossLine, t: Tensor, losses: Tensor) -> LossLine:
    """The line with more places."""
    places, order = torch.cat([line.t, t]).sort()
    return LossLine(places, torch.cat([line.losses, losses])[order])


def _where_it_bends(line: LossLine) -> Tensor:
    """The middles of the intervals beside places whose loss their neighbours predict badly."""
    rises = line.rises
    span = (rises.max() - rises.min()).item()
    if not 0 < span < inf:
        return line.t[:0]
    allowed = torch.where(rises >= rises.max() - NEAR_TOP * span, RESOLUTION / 10, RESOLUTION) * span
    bent = torch.zeros(len(line.t), dtype=torch.bool)
    bent[1:-1] = (_predicted(line.t, rises) - rises[1:-1]).abs() > allowed[1:-1]
    widths = line.t.diff()
    split = (bent[1:] | bent[:-1]) & (widths > 1.5 / FINEST)
    return line.t[:-1][split] + widths[split] / 2


def _predicted(t: Tensor, values: Tensor) -> Tensor:
    """For every inner place `(m - 2,)` the value there of the cubic through the four nearest other places."""
    inner = torch.arange(1, len(t) - 1)
    first = (inner - 2).clamp(0, len(t) - 5)
    window = first[:, None] + torch.arange(5)
    others = window[window != inner[:, None]].view(-1, 4)
    x, y, at = t[others], values[others], t[inner][:, None, None]
    # Lagrange's formula: factors (at - x_j) / (x_i - x_j) over all j but i.
    same = torch.eye(4, dtype=torch.bool)
    factors = (at - x[:, None, :]) / (x[:, :, None] - x[:, None, :]).masked_fill(same, 1.0)
    return (factors.masked_fill(same, 1.0).prod(2) * y).sum(1)


def _to_the_top(judge: Objective, path: Path, line: LossLine, *, tilted: bool) -> LossLine:
    """Two places beside the highest one, ever closer, until it moves no more.

    Args:
        tilted: whether the highest rise is meant, or the highest loss.
    """
    span = (line.losses.max() - line.losses.min()).item()
    while 0 < span < inf:
        heights = line.rises if tilted else line.losses
        top = int(heights.argmax())
        if top in (0, len(line.t) - 1):
            return line
        near = (line.t[[top - 1, top + 1]] + line.t[top]) / 2
        drop = (heights[top] - heights[[top - 1, top + 1]].min()).item()
        if drop <= SETTLED * span or line.t[top] - near[0] < 1e-4:
            return line
        line = _with(line, near, _losses(judge, path, near))
    return line
