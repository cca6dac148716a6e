"""The straight line: connected exactly when the level set is convex along it."""

from dataclasses import dataclass, replace

import torch

from dss.certificates.sampling import sample_segments
from dss.finders.finder import Finder, Limits, Status, Step
from dss.problem import Problem


@dataclass(frozen=True)
class StraightLine(Finder):
    """Judge the straight line between the ends and propose it, whatever it is worth.

    Attributes:
        points: cells of the grid on the line.
        limits: of the search; it takes one round.
    """

    points: int = 20
    limits: Limits = Limits()

    def advance(self, problem: Problem, step: Step) -> Step:
        peaks = sample_segments(problem.judge, step.path, torch.arange(1), points=self.points)
        return replace(step, maxima=peaks.losses, status=Status.FOUND if peaks.losses <= problem.threshold else Status.STALLED)
