"""What every finder shares: the immutable step, the outcome, and the one loop that drives them all."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor

from dss.base.path import Path
from dss.problem import Problem


class Status(Enum):
    """How a search stands; `sentence` says it in words."""

    SEARCHING = "searching"
    FOUND = "found"
    STALLED = "stalled"
    ROUNDS = "out of rounds"
    BEADS = "out of beads"
    STEPS = "out of steps"
    SECONDS = "out of time"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Status.SEARCHING: "the search has not ended",
    Status.FOUND: "every segment passed the finder's own test",
    Status.STALLED: "a bead could not be trained to its target within its steps",
    Status.ROUNDS: "the limit on rounds was reached first",
    Status.BEADS: "the limit on intermediate beads was reached first",
    Status.STEPS: "the limit on gradient steps was reached first",
    Status.SECONDS: "the limit on seconds was reached first",
}


@dataclass(frozen=True)
class Limits:
    """What ends a search that does not succeed; None is no limit. A limit in seconds gives up reproducibility.

    Attributes:
        rounds: calls of `Finder.advance`.
        beads: intermediate beads.
        steps: gradient steps of all beads together.
        seconds: of this process's search, looked at between rounds.
    """

    rounds: int | None = 40
    beads: int | None = 200
    steps: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One state of a search; with the problem it determines the next, so a search resumes from any step.

    Attributes:
        path: the string so far.
        maxima: `(n - 1,)` float64, each segment's largest judged loss as last sampled; NaN where not judged yet.
        status: SEARCHING, or why the search ended.
        round: calls of `advance` so far.
        steps: gradient steps of all beads together so far.
        memory: what else a finder must remember, as JSON values.
    """

    path: Path
    maxima: Tensor
    status: Status = Status.SEARCHING
    round: int = 0
    steps: int = 0
    memory: dict = field(default_factory=dict)

    @property
    def max_loss(self) -> float:
        """The largest loss seen on the segments judged so far; NaN if none was."""
        seen = self.maxima[~self.maxima.isnan()]
        return seen.max().item() if len(seen) else float("nan")


class Finder(ABC):
    """An algorithm that proposes paths. Subclasses are frozen dataclasses that hold hyperparameters only.

    No finder calls itself successful: FOUND means that its own test passed, and `certify` judges what it returns.
    """

    limits: Limits

    @property
    def name(self) -> str:
        """The finder's name on the command line and in summaries."""
        return type(self).__name__

    def begin(self, problem: Problem) -> Step:
        """The first step: by default the straight line, not judged yet."""
        return Step(problem.straight, torch.full((1,), torch.nan, dtype=torch.float64))

    @abstractmethod
    def advance(self, problem: Problem, step: Step) -> Step:
        """The next step: a function of the problem and `step` alone, one round of work. It counts the round itself
        no further than `replace`: the driver sets `round`.
        """

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
            exceeded = self._exceeded(step, time.monotonic() - started)
            if exceeded is not None:
                step = replace(step, status=exceeded)
            else:
                step = replace(self.advance(problem, step), round=step.round + 1)
            yield step

    def _exceeded(self, step: Step, seconds: float) -> Status | None:
        limits = self.limits
        checks = {
            Status.ROUNDS: (step.round, limits.rounds),
            Status.BEADS: (step.path.intermediate_beads, limits.beads),
            Status.STEPS: (step.steps, limits.steps),
            Status.SECONDS: (seconds, limits.seconds),
        }
        return next((status for status, (spent, limit) in checks.items() if limit is not None and spent >= limit), None)
