"""Every row of a batch is computed by the rank that owns it: so any finder runs on several ranks, and no finder knows.

Of k beads or places a rank evaluates about k / ranks and adds what it found to what the others did.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dss.base.limits import Budget
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Counted, Wrapped
from dss.problem import Problem


class Shared(Wrapped):
    """`objective`, whose rows are computed by several ranks: every rank must ask for the same rows at the same time."""

    def __call__(self, points: Tensor) -> Tensor:
        return _shared(points, self.objective)

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        # Every rank draws the same minibatch, because each evaluates at least one row.
        return _shared(points, lambda own: self.objective.estimate(own, generator))

    def plain(self, points: Tensor) -> Tensor:
        return _together(points, self.objective.plain)

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        own, _ = _share(len(starts))
        return _gathered(len(starts), self.objective.enclose(starts[own], ends[own], lower[own], upper[own]))


def shared(objective: Objective) -> Objective:
    """The objective with its rows shared by all ranks; itself where there is one alone."""
    return Shared(objective) if dist.is_initialized() else objective


def alone(problem: Problem, budget: Budget | None = None) -> Problem:
    """The same question, whose evaluations this rank makes without the others; the work goes on being counted in one tally.

    Args:
        budget: asked instead of the question's own, if there is one.
    """
    if not dist.is_initialized():
        return problem
    budget = problem.budget if budget is None else budget
    objective = _unshared(problem.objective, budget)
    judge = objective if problem.judge is problem.objective else _unshared(problem.judge, budget)
    return replace(problem, objective=objective, judge=judge, budget=budget)


def _unshared(counted: Counted, budget: Budget) -> Counted:
    """The objective that is shared, counted in the same tally, with the losses that were seen in memory."""
    shared = counted.objective
    assert isinstance(shared, Shared)
    alone = Counted(shared.objective, counted.tally, budget)
    alone.known = counted.known
    return alone


def pooled(problem: Problem) -> None:
    """Let the first rank know the judged losses that the others have seen: for the certificate, which it makes alone."""
    if dist.is_initialized():
        held: list[dict] = [{}] * dist.get_world_size()
        dist.gather_object(problem.judge.known, held if dist.get_rank() == 0 else None)
        for known in held:
            problem.judge.known.update(known)


def _shared(points: Tensor, evaluate: Callable[[Tensor], Tensor]) -> Tensor:
    """Losses `(k,)`, with gradients where they are asked for."""
    if points.requires_grad and torch.is_grad_enabled():
        return _SharedRows.apply(points, evaluate)
    return _together(points, evaluate)


def _together(points: Tensor, evaluate: Callable[[Tensor], Tensor]) -> Tensor:
    own, _ = _share(len(points))
    return _gathered(len(points), evaluate(points[own]).detach())


class _SharedRows(torch.autograd.Function):
    """Losses of rows and their gradients, each found by its owner."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, evaluate: Callable[[Tensor], Tensor]) -> Tensor:
        index, _ = _share(len(points))
        own = points.detach()[index].requires_grad_()
        with torch.enable_grad():
            losses = evaluate(own)
            (gradient,) = torch.autograd.grad(losses.sum(), own)
        ctx.save_for_backward(_gathered(len(points), gradient))
        return _gathered(len(points), losses.detach())

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return cotangents[0].to(gradient)[:, None] * gradient, None


def _share(rows: int) -> tuple[Tensor, int]:
    """The rows that this rank evaluates, and how many of them count: a rank without rows evaluates the first for nothing."""
    own = torch.arange(rows).tensor_split(dist.get_world_size())[dist.get_rank()]
    return (own, len(own)) if len(own) else (torch.zeros(1, dtype=torch.long), 0)


def _gathered(rows: int, own: Tensor) -> Tensor:
    """All rows `(k, ...)` from every rank's own; sums with zeros are exact."""
    index, count = _share(rows)
    every = own.new_zeros(rows, *own.shape[1:])
    every[index[:count].to(own.device)] = own[:count]
    dist.all_reduce(every)
    return every
