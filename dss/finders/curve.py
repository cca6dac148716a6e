"""Curves of low expected loss (Garipov et al. 2018): a Bezier curve, and a polygonal chain."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from math import comb
from typing import ClassVar

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.certificates.progressive import ProgressiveJudge
from dss.finders.descent import Descent
from dss.finders.finder import Finder, Step
from dss.problem import Problem


@renamed(points="grid", places="draws")
@dataclass(frozen=True)
class Curve(Finder):
    """Train the inner control points of a curve on the loss at uniformly drawn places (Garipov et al. 2018, eq. 2).

    The curve is judged every `cycle` steps as the string of its sampled points, so that it can stop as early as any
    other finder: by looks at few places and samples, then by all of them (`ProgressiveJudge.verdict`). The optimizer starts
    anew after each judgement.

    Attributes:
        bends: inner control points.
        draws: places on the curve, drawn at each step; the paper draws one.
        cycle: steps between two judgements.
        grid: intervals of the grid on which a segment is tested.
        descent: the optimizer and the clipping of gradients; its limit on steps is not used.
        limits: what ends the search.
    """

    bends: int = 1
    draws: int = 1
    cycle: int = 100
    grid: int = 20
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits(rounds=100)

    def __post_init__(self):
        if min(self.bends, self.draws, self.cycle) < 1:
            raise InputError(f"bends, draws and cycle are at least 1, got {self.bends}, {self.draws} and {self.cycle}")

    @abstractmethod
    def basis(self, t: Tensor, bends: int) -> Tensor:
        """Weights `(m, bends + 2)` of the control points at places t `(m,)` in [0, 1]."""

    @abstractmethod
    def knots(self, bends: int) -> Tensor:
        """ConstraintPoints `(n,)` of the beads that stand for the curve, 0 and 1 included."""

    def advance(self, problem: Problem, step: Step) -> Step:
        """Judge the straight line first; then train for a cycle and judge the curve."""
        bends = min(self.bends, self.limits.beads or self.bends)
        path, gradient_steps = step.path, step.gradient_steps
        if step.round:
            path = self.trained(problem, step.path, bends, round=step.round)
            gradient_steps += self.cycle * self.draws
        look = ProgressiveJudge(problem.judge, problem.threshold, problem.scale)
        maxima, place = look.verdict(path, self.grid, tuple(step.memory["failed"]) if "failed" in step.memory else None)
        status, memory = (Status.FOUND, {}) if place is None else (Status.SEARCHING, {"failed": list(place)})
        return replace(step, path=path, maxima=maxima, status=status, gradient_steps=gradient_steps, memory=memory)

    def trained(self, problem: Problem, path: Path, bends: int, *, round: int) -> Path:
        """The curve that `path` stands for after one more cycle, its `round`-th: it has random numbers of its own."""
        generator = problem.generator("curve", round)
        ends = torch.stack([problem.start, problem.end])
        inner = self._control(path, bends)[1:-1].clone().requires_grad_()
        optimizer = self.descent.optimizer([inner])
        for _ in range(self.cycle):
            t = torch.rand(self.draws, generator=generator, dtype=torch.float64)
            points = self.basis(t, bends).to(inner) @ torch.cat([ends[:1], inner, ends[1:]])
            (inner.grad,) = torch.autograd.grad(problem.objective.estimate(points, generator).mean(), inner)
            if self.descent.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_([inner], self.descent.clip_norm)
            optimizer.step()
        control = torch.cat([ends[:1], inner.detach(), ends[1:]])
        beads = self.basis(self.knots(bends), bends).to(control) @ control
        beads[0], beads[-1] = ends
        return Path(beads)

    def _control(self, path: Path, bends: int) -> Tensor:
        """The control points `(bends + 2, p)`, read back off the beads, so that a step says all."""
        if len(path) == 2:
            return path.resample(bends + 2).beads
        weights = torch.linalg.pinv(self.basis(self.knots(bends), bends)).to(path.beads)
        return weights @ path.beads


@renamed(points="grid", places="draws")
@dataclass(frozen=True)
class BezierCurve(Curve):
    """A Bezier curve, by default quadratic (Garipov et al. 2018, eq. 4).

    Attributes:
        segments: of the string that stands for the curve, as far as the limit on beads allows.
    """

    name: ClassVar[str] = "curve"
    segments: int = 8

    def basis(self, t: Tensor, bends: int) -> Tensor:
        degree = bends + 1
        terms = [comb(degree, i) * (1 - t) ** (degree - i) * t**i for i in range(degree + 1)]
        return torch.stack(terms, dim=1)

    def knots(self, bends: int) -> Tensor:
        most = self.segments if self.limits.beads is None else min(self.segments, self.limits.beads + 1)
        return torch.linspace(0, 1, max(most, bends + 1) + 1, dtype=torch.float64)


@renamed(points="grid", places="draws")
@dataclass(frozen=True)
class PolygonalChain(Curve):
    """A polygonal chain, by default of two segments (Garipov et al. 2018, eq. 3): its bends are its beads."""

    name: ClassVar[str] = "chain"

    def basis(self, t: Tensor, bends: int) -> Tensor:
        return (1 - (t[:, None] * (bends + 1) - torch.arange(bends + 2)).abs()).clamp_min(0)

    def knots(self, bends: int) -> Tensor:
        return torch.linspace(0, 1, bends + 2, dtype=torch.float64)
