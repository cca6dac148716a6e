"""A proven path as soon as there can be one: written down where that is possible, else searched."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.certificates.convexity import prove_by_convexity
from dss.finders.bend import BendString
from dss.finders.convex import ConvexPath
from dss.finders.finder import Finder, Step
from dss.problem import Problem


@dataclass(frozen=True)
class FastestPath(Finder):
    """Write a path down, and search only where there is none whose corners prove it.

    The first round is a `ConvexPath`'s. Its path is the answer if it is proved to stay below the threshold: a fraction of a
    second, no step of descent, and long. Where the network cannot be taken apart, the loss is not convex in the outputs or a
    corner lies too high, `BendString` searches from the straight line, as it would have alone.

    Attributes:
        written: how the path is written down.
        search: takes over; it gets this finder's grid and limits.
        grid: intervals of the grid on which a segment is judged.
        limits: of the search, the first round included.
    """

    name: ClassVar[str] = "fastest"
    written: ConvexPath = ConvexPath()
    search: BendString = field(default_factory=BendString)
    grid: int = 20
    limits: Limits = Limits()

    def advance(self, problem: Problem, step: Step) -> Step:
        if "search" in step.memory:
            return self._searched(problem, step)
        try:
            found = self.written.advance(problem, step)
            # Recalled, so that the certificate proves nothing twice; which losses are in memory decides nothing of a bound.
            proved = found.status is Status.FOUND and prove_by_convexity(problem.recalled, found.path).upper <= problem.threshold
        except InputError:  # what cannot be taken apart or proved so is no error of the user's, who asked for any path
            proved = False
        return found if proved else replace(self.search.begin(problem), memory={"search": {}})

    def ended(self, step: Step, status: Status) -> Step:
        """A limit ends the search as it would have alone."""
        return (
            self._ours(step, self.search.ended(self._its(step), status))
            if "search" in step.memory
            else replace(step, status=status)
        )

    def proposer(self, step: Step) -> str:
        """Which of the two has this path."""
        return self.search.name if "search" in step.memory else self.written.name

    def _searched(self, problem: Problem, step: Step) -> Step:
        search = replace(self.search, grid=self.grid, limits=self.limits)
        return self._ours(step, search.advance(problem, self._its(step)))

    def _its(self, step: Step) -> Step:
        """The search's own step: its rounds are counted from its first, so that it draws what it draws alone."""
        return replace(step, round=step.round - 1, memory=step.memory["search"])

    def _ours(self, step: Step, after: Step) -> Step:
        return replace(after, round=step.round, memory={"search": after.memory})
