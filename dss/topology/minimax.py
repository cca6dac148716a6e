"""A search without a threshold of its own: as low a path as can be found, tried from the bottom."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar

import torch

from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.certificates.sampling import sample_segments
from dss.finders import ElasticBand, GeodesicString
from dss.finders.finder import Finder, Step
from dss.problem import Problem

# A level between the failed and the best one: this share of their distance below the best. Searches that fail cost most,
# and each of them rules out all but this share.
STRIDE = 0.25


@dataclass(frozen=True)
class MinimaxString(Finder):
    """Look for a path with the lowest largest loss, down to the problem's threshold.

    The first level tried is the threshold itself: between wide networks it is usually reached at once, and nothing is left to
    do. Where it fails, later levels lie between what failed and the best path so far, from which each search starts. A path
    that misses its level still counts when its largest loss is the lowest seen: a climbing band finds the saddle itself
    (AutoNEB; Draxler et al. 2018).

    A round is one level. The state holds the best path.

    Attributes:
        finders: tried one after the other at every level, until one succeeds.
        tolerance: the search ends when the levels that failed and succeeded are closer than this share of what the straight
            line rises above the threshold, or when a level fails and lowers the best path by less than that.
        grid: intervals of the grid on which a segment is judged.
        limits: of the search; evaluations and seconds are looked at between levels.
    """

    name: ClassVar[str] = "minimax"
    finders: tuple[Finder, ...] = (
        GeodesicString(limits=Limits(rounds=8)),
        ElasticBand(climb=True, limits=Limits(rounds=12)),
    )
    tolerance: float = 1e-3
    grid: int = 20
    limits: Limits = Limits(rounds=20)

    def __post_init__(self):
        if not self.tolerance > 0 or not self.finders:
            raise InputError(f"a positive tolerance and at least one finder are needed, got {self.tolerance} and {self.finders}")

    def advance(self, problem: Problem, step: Step) -> Step:
        """Judge the straight line; then try one level."""
        if not step.memory:
            return self._judged(problem, step, {"failed": None, "straight": None})
        failed, best = step.memory["failed"], step.max_loss
        level = problem.threshold if failed is None else best - STRIDE * (best - failed)
        tried = self._tried(problem, step, level)
        memory = step.memory if tried.max_loss <= level else step.memory | {"failed": level}
        settled = self.tolerance * (step.memory["straight"] - problem.threshold)
        improved = tried if tried.max_loss < best else replace(tried, path=step.path, maxima=step.maxima)
        stuck = tried.max_loss > level and failed is not None and best - improved.max_loss < settled
        close = memory["failed"] is not None and improved.max_loss - memory["failed"] < settled
        reached = improved.max_loss <= problem.threshold
        status = Status.FOUND if reached else Status.STALLED if stuck or close else Status.SEARCHING
        return replace(improved, memory=memory, status=status, round=step.round)

    def _tried(self, problem: Problem, step: Step, level: float) -> Step:
        """The best path of the finders at a level, each from the best path so far."""
        at_level, best = replace(problem, threshold=level), None
        spent = step.gradient_steps
        for finder in self.finders:
            # A search within the search knows nothing of the outer one's deadline unless it is told.
            seconds = problem.budget.deadline - time.monotonic()
            limits = finder.limits if seconds == inf else replace(finder.limits, seconds=seconds)
            end = finder.within(limits).run(at_level, resume=Step.unjudged(step.path))
            spent += end.gradient_steps
            judged = self._judged(problem, end, step.memory)
            best = judged if best is None or judged.max_loss < best.max_loss else best
            if best.max_loss <= level:
                break
        assert best is not None
        return replace(best, gradient_steps=spent)

    def _judged(self, problem: Problem, step: Step, memory: Mapping[str, Any]) -> Step:
        """A step with its path judged anew, beads included: a finder may have looked for other things."""
        inside = sample_segments(problem.judge, step.path, grid=self.grid).losses
        with torch.no_grad():
            beads = problem.judge(step.path.beads).double().cpu()
        maxima = torch.maximum(inside, torch.maximum(beads[:-1], beads[1:]))
        highest = maxima.max().item()
        memory = dict(memory) if memory["straight"] is not None else {"failed": None, "straight": highest}
        status = Status.FOUND if highest <= problem.threshold else Status.SEARCHING
        return Step(step.path, maxima, status, step.round, step.gradient_steps, memory)
