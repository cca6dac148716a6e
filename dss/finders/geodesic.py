"""The search that shortens while it looks: all beads at once, from the straight line, as little stretched as possible."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import torch

from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.renamed import renamed
from dss.certificates.sampling import sample_segments
from dss.finders.curve import PolygonalChain
from dss.finders.descent import Descent, descend
from dss.finders.finder import Finder, Step
from dss.finders.greedy import GreedyString
from dss.geodesic.constraint_points import ConstraintPoints
from dss.geodesic.sqp import SequentialQP
from dss.geodesic.tightening import TightString, exchange_step
from dss.problem import Problem

F = TypeVar("F", PolygonalChain, GreedyString)

# The first string leaves the straight line by this share of the distance: on the line itself symmetry can hide the way.
NUDGE = 1e-3


@renamed(points="grid", cells="constraint_points")
@dataclass(frozen=True)
class GeodesicString(Finder):
    """Pull a few beads tight below the threshold; hand what resists to greedy insertion.

    The first beads leave the straight line by a few minibatch steps on the mean loss along their string, as a polygonal
    chain does: second-order steps would crawl there, where the loss is far above the threshold. A round then pulls the
    string (see `dss.geodesic.tightening`), judges its segments, and holds it at the peaks that failed. Segments that fail again and
    again get a bead. After `patience` rounds, greedy dynamic string sampling goes on from there.

    Attributes:
        beads: intermediate beads of the first string.
        constraint_points: per segment, held below the threshold.
        patience: rounds before the fallback takes over, and as many before it begins anew at the straight line.
        grid: intervals of the grid on which a segment is judged.
        solver: of the quadratic programs.
        first: how the first beads leave the straight line: one cycle of a polygonal chain; None leaves them out.
        fallback: greedy insertion, for what resists; it gets this finder's grid and limits.
        descent: how both helpers train beads; None leaves each its own.
        limits: what ends the search.
    """

    name: ClassVar[str] = "geodesic"
    beads: int = 2
    constraint_points: int = 2
    patience: int = 8
    grid: int = 20
    solver: SequentialQP = field(default_factory=lambda: SequentialQP(margin=0.1, tolerance=0.08, settle=1.0))
    first: PolygonalChain | None = PolygonalChain(cycle=100)
    fallback: GreedyString = GreedyString()
    descent: Descent | None = None
    limits: Limits = Limits()

    def __post_init__(self):
        if min(self.beads, self.constraint_points) < 1 or self.patience < 0:
            raise InputError(f"beads and constraint_points are at least 1, patience at least 0, got {self}")

    def advance(self, problem: Problem, step: Step) -> Step:
        """Judge what there is, then pull, then insert greedily."""
        if not step.memory:
            return self._first(problem, step)
        if step.memory["pulls"] < self.patience:
            return self._pulled(problem, step)
        greedy = self._trained_as_told(replace(self.fallback, grid=self.grid, limits=self.limits))
        if step.round == 1 + 2 * self.patience:
            # The string pulled so far has slipped over a ridge that insertion cannot mend.
            step = replace(
                Step.unjudged(problem.straight), round=step.round, gradient_steps=step.gradient_steps, memory=step.memory
            )
        return greedy.advance(problem, self._repaired(problem, step, greedy))

    def _first(self, problem: Problem, step: Step) -> Step:
        """Judge the path the search starts from; a straight line gets its beads."""
        maxima = sample_segments(problem.judge, step.path, grid=self.grid, threshold=problem.threshold).losses
        if (maxima <= problem.threshold).all():
            return replace(step, maxima=maxima, status=Status.FOUND)
        if len(step.path) > 2:
            return self._step(step, TightString.of(step.path, self.constraint_points))
        warmup = self.first.cycle if self.first else 0
        return self._step(step, replace(TightString.of(self._beaded(problem), self.constraint_points), gradient_steps=warmup))

    def _beaded(self, problem: Problem) -> Path:
        """Equidistant beads on the straight line, nudged and trained off it."""
        inner = min(self.beads, self.limits.beads or self.beads)
        beads = problem.straight.resample(2 + inner).beads
        noise = torch.randn(beads[1:-1].shape, generator=problem.generator("geodesic nudge")).to(beads)
        nudge = NUDGE * (problem.end - problem.start).norm() * noise / noise.norm(dim=1, keepdim=True)
        path = Path(torch.cat([beads[:1], beads[1:-1] + nudge, beads[-1:]]))
        return path if self.first is None else self._trained_as_told(self.first).trained(problem, path, inner, round=0)

    def _trained_as_told(self, helper: F) -> F:
        return helper if self.descent is None else replace(helper, descent=self.descent)

    def _pulled(self, problem: Problem, step: Step) -> Step:
        memory, path = step.memory, step.path
        held, rounds = ConstraintPoints.from_json(memory["places"]), memory["pulls"]
        room = self.limits.room(path.intermediate_beads) >= len(path) - 1
        tight = exchange_step(
            problem,
            TightString(path, held, step.maxima, round=rounds, gradient_steps=step.gradient_steps),
            solver=self.solver,
            constraint_points=self.constraint_points,
            grid=self.grid,
            insert=room,
            key=("geodesic",),
        )
        passed = (tight.maxima <= problem.threshold).all() and not len(_high(problem, tight.path))
        return self._step(step, tight, Status.FOUND if passed else Status.SEARCHING)

    def _repaired(self, problem: Problem, step: Step, greedy: GreedyString) -> Step:
        """The string with beads above the threshold trained: greedy insertion takes for granted that beads are below."""
        high = _high(problem, step.path)
        if not len(high):
            return step
        beads, maxima = step.path.beads.clone(), step.maxima.clone()
        generator, target = problem.generator("geodesic repair", step.round), greedy.target.below(problem.threshold)
        trained = descend(problem.objective, problem.judge, beads[high], target, options=greedy.descent, generator=generator)
        beads[high], maxima[high - 1], maxima[high] = trained.points, torch.nan, torch.nan
        return replace(step, path=Path(beads), maxima=maxima, gradient_steps=step.gradient_steps + trained.gradient_steps)

    def _step(self, step: Step, tight: TightString, status: Status = Status.SEARCHING) -> Step:
        memory = {"places": tight.held.as_json(), "pulls": tight.round}
        return replace(
            step, path=tight.path, maxima=tight.maxima, status=status, gradient_steps=tight.gradient_steps, memory=memory
        )


def _high(problem: Problem, path: Path) -> torch.Tensor:
    """Which beads lie above the threshold, `(k,)`: a judge with kinks can peak at a bead and pass on both sides of it."""
    with torch.no_grad():
        losses = problem.judge(path.beads).double().cpu()
    return torch.nonzero(losses > problem.threshold)[:, 0]
