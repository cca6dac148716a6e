"""The straight line: connected exactly when the level set is convex along it."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dss.base.limits import Limits, Status
from dss.base.renamed import renamed
from dss.certificates.sampling import sample_segments
from dss.finders.finder import Finder, Step
from dss.problem import Problem


@renamed(points="grid")
@dataclass(frozen=True)
class StraightLine(Finder):
    """Judge the straight line between the ends and propose it, whatever it is worth.

    Attributes:
        grid: intervals of the grid on the line.
        limits: of the search; it takes one round.
    """

    name: ClassVar[str] = "straight"
    grid: int = 20
    limits: Limits = Limits()

    def advance(self, problem: Problem, step: Step) -> Step:
        peaks = sample_segments(problem.judge, step.path, grid=self.grid)
        return replace(step, maxima=peaks.losses, status=Status.FOUND if peaks.losses <= problem.threshold else Status.STALLED)
