"""How far points lie above the level a string is held under, with the gradient of each: the string's constraints."""

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.objective import Objective
from dss.problem import Problem


@dataclass(frozen=True)
class Level:
    """The level that a string is held under, and the unit in which violations of it are measured.

    Attributes:
        problem: its judge says what a point's loss is.
        aim: the highest judged loss wanted.
        scale: see `Problem.scale`.
    """

    problem: Problem
    aim: float
    scale: float

    @classmethod
    def of(cls, problem: Problem, margin: float) -> "Level":
        """The level a share `margin` of the threshold's size below it."""
        return cls(problem, problem.threshold - margin * problem.scale, problem.scale)

    def violations(self, points: Tensor) -> Tensor:
        """Judged losses above the aim, in units of the threshold `(m,)` float64, on the CPU; negative below."""
        with torch.no_grad():
            return (self.problem.judge(points.detach()).double().cpu() - self.aim) / self.scale


class ConstraintFunction:
    """Relative violations and their gradients: the judge's own, or the objective's corrected by the judge.

    The judge's own gradients are used where it has any and reads at most `samples` samples. Else the objective's
    losses L model it: `v_0 + slope (L(x) - L(x_0)) / scale`, exact at the points `x_0` where the judge was asked. An
    objective with more samples is read as one fixed subsample of that many.

    Attributes:
        exact: whether the values are the judge's everywhere.
        subsampled: whether the gradients are those of a subsample.
    """

    def __init__(self, level: Level, points: Tensor, values: Tensor, *, samples: int, key: tuple):
        problem = level.problem
        self.level, self.values, self.start = level, values, torch.zeros_like(values)
        small = problem.judge.samples <= samples
        self.exact = small and (problem.judge is problem.objective or has_gradient(problem.judge, problem.start))
        self.subsampled = not self.exact and problem.objective.samples > samples
        batches = ceil(samples / problem.objective.batch_samples) if self.subsampled else 0
        # The same generators at every call: one fixed subsample.
        self.generators = [lambda i=i: problem.generator(*key, i) for i in range(batches)]
        self.factor = 1 / level.scale
        if not self.exact:
            with torch.no_grad():
                self.start = self._losses(points.detach())
            self.factor = _ratio_of_spreads(values, self.start)

    @property
    def apart(self) -> bool:
        """Whether points are evaluated one by one anyway."""
        problem = self.level.problem
        return (problem.judge if self.exact else problem.objective).evaluates_apart

    def __call__(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Relative violations `(k,)` float64 on the CPU and their gradients `(k, p)` at points `(k, p)`, those numbered `which` `(k,)`."""
        points = points.detach().requires_grad_()
        losses = self._losses(points)
        (gradients,) = torch.autograd.grad(losses.sum(), points)
        losses = losses.detach()
        if self.exact:
            return (losses - self.level.aim) / self.level.scale, gradients / self.level.scale
        return self.values[which] + self.factor * (losses - self.start[which]), self.factor * gradients

    def _losses(self, points: Tensor) -> Tensor:
        problem = self.level.problem
        if self.exact:
            return problem.judge(points).double().cpu()
        if not self.generators:
            return problem.objective(points).double().cpu()
        parts = [problem.objective.estimate(points, generator()) for generator in self.generators]
        return torch.stack(parts).mean(0).double().cpu()


def has_gradient(judge: Objective, point: Tensor) -> bool:
    """Whether a judge tells a gradient at a point `(p,)`: an error rate does not."""
    points = point[None].detach().clone().requires_grad_()
    try:
        losses = judge(points)
    except InputError:
        return False
    if not losses.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(losses.sum(), points, materialize_grads=True)
    return bool((gradient != 0).any())


def _ratio_of_spreads(judged: Tensor, own: Tensor) -> float:
    """How many units of `judged` one unit of `own` is worth; 1 where neither moves."""
    spreads = [(values.max() - values.min()).item() for values in (judged, own)]
    return spreads[0] / spreads[1] if min(spreads) > 0 else 1.0
