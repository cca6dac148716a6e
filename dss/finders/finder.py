"""What every finder shares: the immutable step, and the one loop that drives them all."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path as FilePath
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from dss.base.errors import NotFinite
from dss.base.gradients import with_gradients
from dss.base.limits import Limits, Spent, Status
from dss.base.memory import explained
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.base.renamed import renamed
from dss.problem import Problem


@renamed(steps="gradient_steps")
@dataclass(frozen=True, eq=False)
class Step:
    """One state of a search; with the problem it determines the next, so a search resumes from any step.

    Attributes:
        path: the string so far.
        maxima: `(n - 1,)` float64, each segment's largest judged loss as last sampled; NaN where not judged yet.
        status: SEARCHING, or why the search ended.
        round: calls of `advance` so far.
        gradient_steps: of all beads together so far.
        memory: what else a finder must remember, as JSON values.
    """

    path: Path
    maxima: Tensor
    status: Status = Status.SEARCHING
    round: int = 0
    gradient_steps: int = 0
    memory: dict = field(default_factory=dict)

    @classmethod
    def unjudged(cls, path: Path, **more: Any) -> "Step":
        """A state with this path, no segment of which was judged yet."""
        return cls(path, torch.full((len(path) - 1,), torch.nan, dtype=torch.float64), **more)

    def like(self, point: Tensor) -> "Step":
        """The same state, as it was read from files, on the device of a point."""
        return replace(self, path=self.path.to(point.device))

    @property
    def max_loss(self) -> float:
        """The largest loss seen on the segments judged so far; NaN if none was."""
        seen = self.maxima[~self.maxima.isnan()]
        return seen.max().item() if len(seen) else float("nan")

    def words(self, threshold: float) -> str:
        """How the search stands, for progress."""
        judged = "not judged yet" if isnan(self.max_loss) else f"largest loss {self.max_loss:.4g}"
        return f"{self.path.intermediate_beads} beads, {judged}, threshold {threshold:g}"


class Finder(ABC):
    """An algorithm that proposes paths. Subclasses are frozen dataclasses that hold hyperparameters only.

    No finder calls itself successful: FOUND means that its own test passed, and `certify` judges what it returns.

    Attributes:
        name: the finder's name on the command line and in summaries.
        limits: what ends a search that does not succeed.
    """

    name: ClassVar[str] = "finder"
    limits: Limits

    def within(self, limits: Limits | None) -> "Finder":
        """The same finder with other limits; with its own for None."""
        return self if limits is None else replace(cast(Any, self), limits=limits)

    def begin(self, problem: Problem) -> Step:
        """The first step: by default the straight line, not judged yet."""
        return Step.unjudged(problem.straight)

    @abstractmethod
    def advance(self, problem: Problem, step: Step) -> Step:
        """The next step: a function of the problem and `step` alone, one round of work. It counts the round itself
        no further than `replace`: the driver sets `round`.
        """

    def ended(self, step: Step, status: Status) -> Step:
        """The step at which a limit ends the search, with the status that says so."""
        return replace(step, status=status)

    def proposer(self, step: Step) -> str:
        """The name of the finder whose path a step holds: this one's, unless it is made of several."""
        return self.name

    def steps(self, problem: Problem, resume: Step | None = None) -> Iterator[Step]:
        """Every step of the search, the first included, ending with one whose status is not SEARCHING.

        Args:
            resume: continue after this step instead of from the beginning.
        """
        started = time.monotonic()
        step = resume or self.begin(problem)
        if resume is None:
            yield step
        while step.status is Status.SEARCHING:
            step = self._next(problem, step, started)
            yield step

    @with_gradients()
    def run(
        self,
        problem: Problem,
        *,
        resume: Step | None = None,
        progress: ProgressMeter | None = None,
        beads_on_disk: FilePath | None = None,
    ) -> Step:
        """The last step of the search.

        Args:
            resume: continue after this step instead of from the beginning.
            progress: shown every step.
            beads_on_disk: a folder for beads (see `Path.store`), of which only those in training are in memory then.
        """
        with (progress or ProgressMeter()).stage(self.name, "rounds") as meter:
            step = resume or self.begin(problem)
            for following in self.steps(problem, step):
                step = following
                if beads_on_disk is not None:
                    step.path.store(beads_on_disk)
                meter.report(step.round, step.words(problem.threshold))
        return step

    @with_gradients()
    def _next(self, problem: Problem, step: Step, started: float) -> Step:
        """The step after this one; the same one with another status where a limit is reached first."""
        limits = self.limits
        checks = {
            Status.ROUNDS: (step.round, limits.rounds),
            Status.BEADS: (step.path.intermediate_beads, limits.beads),
            Status.STEPS: (step.gradient_steps, limits.gradient_steps),
        }
        for status, (spent, limit) in checks.items():
            if limit is not None and spent >= limit:
                return self.ended(step, status)
        try:
            with problem.limited(limits, began=started), explained(step.path.size, len(step.path), problem.judge.samples):
                return replace(self.advance(problem, step), round=step.round + 1)
        except NotFinite:
            return replace(step, status=Status.DIVERGED)
        except Spent as spent:
            # In the middle of a round: what it had trained is dropped, so that a step stays a function of the last one.
            return self.ended(step, spent.status)
