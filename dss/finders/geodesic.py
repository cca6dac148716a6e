"""The search that shortens while it looks: all beads at once, from the straight line, as little stretched as possible."""

from dataclasses import dataclass, field, replace

import torch

from dss.certificate import sample_segments
from dss.descent import Descent
from dss.errors import InputError
from dss.finder import Finder, Limits, Problem, Status, Step
from dss.finders.greedy import GreedyString
from dss.path import Path
from dss.places import Places
from dss.pull import Solver
from dss.taut import Taut, tighten

# The first string leaves the straight line by this share of the distance: on the line itself symmetry can hide the way.
NUDGE = 1e-3


@dataclass(frozen=True)
class GeodesicString(Finder):
    """Pull a few beads tight below the threshold, from the straight line; hand what resists to greedy insertion.

    A round pulls the string (see `dss.taut`), judges its segments, and holds it at the peaks that failed. Segments that
    fail again and again get a bead. After `patience` rounds, greedy dynamic string sampling goes on from there.

    Attributes:
        beads: intermediate beads of the first string.
        cells: places per segment that are held below the threshold.
        patience: rounds before greedy insertion takes over.
        points: cells of the grid on which a segment is judged.
        solver: of the pulls.
        descent: how greedy insertion trains beads.
        limits: what ends the search.
    """

    beads: int = 2
    cells: int = 2
    patience: int = 8
    points: int = 20
    solver: Solver = field(default_factory=lambda: Solver(settle=5e-3))
    descent: Descent = field(default_factory=Descent)
    limits: Limits = Limits()

    def __post_init__(self):
        if min(self.beads, self.cells) < 1 or self.patience < 0:
            raise InputError(f"beads and cells are at least 1, patience at least 0, got {self}")

    def advance(self, problem: Problem, step: Step) -> Step:
        """Judge what there is, then pull, then insert greedily."""
        if not step.memory:
            return self._first(problem, step)
        if step.memory["pulls"] >= self.patience:
            return GreedyString(points=self.points, descent=self.descent, limits=self.limits).advance(problem, step)
        return self._pulled(problem, step)

    def _first(self, problem: Problem, step: Step) -> Step:
        """Judge the path the search starts from; a straight line gets its beads."""
        every = torch.arange(len(step.path) - 1)
        maxima = sample_segments(problem.judge, step.path, every, points=self.points, threshold=problem.threshold).losses
        if (maxima <= problem.threshold).all():
            return replace(step, maxima=maxima, status=Status.FOUND)
        path = step.path if len(step.path) > 2 else self._beaded(problem)
        return self._step(step, Taut.of(path, cells=self.cells))

    def _beaded(self, problem: Problem) -> Path:
        """Equidistant beads on the straight line, nudged off it."""
        beads = problem.straight.resample(2 + min(self.beads, self.limits.beads or self.beads)).beads
        noise = torch.randn(beads[1:-1].shape, generator=problem.generator("geodesic nudge")).to(beads)
        nudge = NUDGE * (problem.end - problem.start).norm() * noise / noise.norm(dim=1, keepdim=True)
        return Path(torch.cat([beads[:1], beads[1:-1] + nudge, beads[-1:]]))

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
        return self._step(step, taut, Status.FOUND if (taut.maxima <= problem.threshold).all() else Status.SEARCHING)

    def _step(self, step: Step, taut: Taut, status: Status = Status.SEARCHING) -> Step:
        memory = {"places": taut.places.as_json(), "pulls": taut.round}
        return replace(step, path=taut.path, maxima=taut.maxima, status=status, steps=taut.steps, memory=memory)
