"""The search that shortens while it looks: all beads at once, from the straight line, as little stretched as possible."""

from dataclasses import dataclass, field, replace

import torch

from dss.base.errors import InputError
from dss.base.path import Path
from dss.certificates.sampling import sample_segments
from dss.finders.curve import PolygonalChain
from dss.finders.descent import Descent, descend
from dss.finders.finder import Finder, Limits, Status, Step
from dss.finders.greedy import GreedyString
from dss.geodesic.constraint_points import Places
from dss.geodesic.sqp import Solver
from dss.geodesic.tightening import Taut, tighten
from dss.problem import Problem

# The first string leaves the straight line by this share of the distance: on the line itself symmetry can hide the way.
NUDGE = 1e-3


@dataclass(frozen=True)
class GeodesicString(Finder):
    """Pull a few beads tight below the threshold; hand what resists to greedy insertion.

    The first beads leave the straight line by a few minibatch steps on the mean loss along their string, as a polygonal
    chain does: second-order steps would crawl there, where the loss is far above the threshold. A round then pulls the
    string (see `dss.geodesic.tightening`), judges its segments, and holds it at the peaks that failed. Segments that fail again and
    again get a bead. After `patience` rounds, greedy dynamic string sampling goes on from there.

    Attributes:
        beads: intermediate beads of the first string.
        warmup: minibatch steps of the first string.
        cells: places per segment that are held below the threshold.
        patience: rounds before greedy insertion takes over, and as many before it begins anew at the straight line.
        points: cells of the grid on which a segment is judged.
        solver: of the pulls.
        descent: how the first string and greedy insertion train beads.
        limits: what ends the search.
    """

    beads: int = 2
    warmup: int = 100
    cells: int = 2
    patience: int = 8
    points: int = 20
    solver: Solver = field(default_factory=lambda: Solver(margin=0.1, tolerance=0.08, settle=1.0))
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits()

    def __post_init__(self):
        if min(self.beads, self.cells) < 1 or min(self.patience, self.warmup) < 0:
            raise InputError(f"beads and cells are at least 1, patience and warmup at least 0, got {self}")

    def advance(self, problem: Problem, step: Step) -> Step:
        """Judge what there is, then pull, then insert greedily."""
        if not step.memory:
            return self._first(problem, step)
        if step.memory["pulls"] < self.patience:
            return self._pulled(problem, step)
        greedy = GreedyString(points=self.points, descent=self.descent, limits=self.limits)
        if step.round == 1 + 2 * self.patience:
            # The string pulled so far has slipped over a ridge that insertion cannot mend.
            step = replace(step, path=problem.straight, maxima=torch.full((1,), torch.nan, dtype=torch.float64))
        return greedy.advance(problem, self._repaired(problem, step, greedy.target(problem.threshold)))

    def _first(self, problem: Problem, step: Step) -> Step:
        """Judge the path the search starts from; a straight line gets its beads."""
        every = torch.arange(len(step.path) - 1)
        maxima = sample_segments(problem.judge, step.path, every, points=self.points, threshold=problem.threshold).losses
        if (maxima <= problem.threshold).all():
            return replace(step, maxima=maxima, status=Status.FOUND)
        if len(step.path) > 2:
            return self._step(step, Taut.of(step.path, cells=self.cells))
        return self._step(step, replace(Taut.of(self._beaded(problem), cells=self.cells), steps=self.warmup))

    def _beaded(self, problem: Problem) -> Path:
        """Equidistant beads on the straight line, nudged and trained off it."""
        inner = min(self.beads, self.limits.beads or self.beads)
        beads = problem.straight.resample(2 + inner).beads
        noise = torch.randn(beads[1:-1].shape, generator=problem.generator("geodesic nudge")).to(beads)
        nudge = NUDGE * (problem.end - problem.start).norm() * noise / noise.norm(dim=1, keepdim=True)
        path = Path(torch.cat([beads[:1], beads[1:-1] + nudge, beads[-1:]]))
        if not self.warmup:
            return path
        return PolygonalChain(cycle=self.warmup, descent=self.descent).trained(problem, path, inner, round=0)

    def _pulled(self, problem: Problem, step: Step) -> Step:
        memory, path = step.memory, step.path
        places, pulls = Places.from_json(memory["places"]), memory["pulls"]
        room = self.limits.beads is None or path.intermediate_beads + len(path) - 1 <= self.limits.beads
        taut = tighten(
            problem,
            Taut(path, places, step.maxima, round=pulls, steps=step.steps),
            solver=self.solver,
            cells=self.cells,
            points=self.points,
            insert=room,
            key=("geodesic",),
        )
        passed = (taut.maxima <= problem.threshold).all() and not len(_high(problem, taut.path))
        return self._step(step, taut, Status.FOUND if passed else Status.SEARCHING)

    def _repaired(self, problem: Problem, step: Step, target: float) -> Step:
        """The string with beads above the threshold trained: greedy insertion takes for granted that beads are below."""
        high = _high(problem, step.path)
        if not len(high):
            return step
        beads, maxima = step.path.beads.clone(), step.maxima.clone()
        generator = problem.generator("geodesic repair", step.round)
        trained = descend(problem.objective, problem.judge, beads[high], target, options=self.descent, generator=generator)
        beads[high], maxima[high - 1], maxima[high] = trained.points, torch.nan, torch.nan
        return replace(step, path=Path(beads), maxima=maxima, steps=step.steps + trained.steps)

    def _step(self, step: Step, taut: Taut, status: Status = Status.SEARCHING) -> Step:
        memory = {"places": taut.places.as_json(), "pulls": taut.round}
        return replace(step, path=taut.path, maxima=taut.maxima, status=status, steps=taut.steps, memory=memory)


def _high(problem: Problem, path: Path) -> torch.Tensor:
    """Which beads lie above the threshold, `(k,)`: a judge with kinks can peak at a bead and pass on both sides of it."""
    with torch.no_grad():
        losses = problem.judge(path.beads).double().cpu()
    return torch.nonzero(losses > problem.threshold)[:, 0]
