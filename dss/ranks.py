"""One connection on several ranks: every row of a batch is computed by the rank that owns it.

    torchrun --nproc-per-node 2 -m dss connect a.pt b.pt --task task.py:mine --threshold 0.4 --out run

All ranks run the same search, step by step, from the same seed. Only the evaluations, which cost everything, are shared: of k beads or
places a rank evaluates about k / ranks and adds what it found to what the others did. So any finder works, and no finder knows. What
a rank decides must then depend on nothing but losses: limits in seconds are refused, and one rank alone certifies.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dss.objectives.objective import Objective
from dss.objectives.wrappers import Counted, Wrapped
from dss.problem import Problem


@contextmanager
def joined(device: str) -> Iterator[bool]:
    """Within it, this process belongs to the ranks that `torchrun` started; yields whether there are several.

    Args:
        device: where points lie; NCCL carries what lies on GPUs, gloo the rest.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield False
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield True
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is the rank that writes and speaks; so is a process that is alone."""
    return not dist.is_initialized() or dist.get_rank() == 0


def own_device(device: str) -> str:
    """The device of this rank: of several GPUs on a machine each has one."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" and dist.is_initialized() else device


def from_first(thing: Any) -> Any:
    """What the first rank has, on every rank."""
    if not dist.is_initialized():
        return thing
    held = [thing]
    dist.broadcast_object_list(held, src=0)
    return held[0]


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


def alone(problem: Problem) -> Problem:
    """The same question, whose evaluations this rank makes without the others; the work goes on being counted in one tally."""
    if not dist.is_initialized():
        return problem
    objective, judge = (_unshared(counted) for counted in (problem.objective, problem.judge))
    return replace(problem, objective=objective, judge=objective if problem.judge is problem.objective else judge)


def _unshared(counted: Counted) -> Counted:
    """The objective that is shared, counted in the same tally, with the losses that were seen in memory."""
    shared = counted.objective
    assert isinstance(shared, Shared)
    alone = Counted(shared.objective, counted.tally, counted.budget)
    alone.known = counted.known
    return alone


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
