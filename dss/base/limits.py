"""One budget for a search, a shortening and a proof."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from math import inf

from dss.base.renamed import renamed


class Status(Enum):
    """How a search stands; `sentence` says it in words."""

    SEARCHING = "searching"
    FOUND = "found"
    STALLED = "stalled"
    DIVERGED = "diverged"
    ROUNDS = "out of rounds"
    BEADS = "out of beads"
    STEPS = "out of steps"
    EVALUATIONS = "out of evaluations"
    SECONDS = "out of time"
    DISCONNECTED = "proved disconnected"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Status.SEARCHING: "the search has not ended",
    Status.FOUND: "every segment passed the finder's own test",
    Status.STALLED: "a bead could not be trained to its target within its steps",
    Status.DIVERGED: "a bead in training ran off to infinity or to where the loss is no number",
    Status.ROUNDS: "the limit on rounds was reached first",
    Status.BEADS: "the limit on intermediate beads was reached first",
    Status.STEPS: "the limit on gradient steps was reached first",
    Status.EVALUATIONS: "the limit on evaluations was reached first",
    Status.SECONDS: "the limit on seconds was reached first",
    Status.DISCONNECTED: "every path between the ends is proved to rise above the threshold",
}


@renamed(steps="gradient_steps")
@dataclass(frozen=True)
class Limits:
    """What ends work that does not succeed; None is no limit. A limit in seconds gives up reproducibility.

    Attributes:
        rounds: calls of `Finder.advance`.
        beads: intermediate beads.
        gradient_steps: of all beads together.
        evaluations: judged losses of single points, each on the judge's whole data.
        cells: of a proof.
        seconds: of this process, looked at before every evaluation and every cell.
    """

    rounds: int | None = 40
    beads: int | None = 200
    gradient_steps: int | None = None
    evaluations: int | None = None
    cells: int | None = 100_000
    seconds: float | None = None

    def room(self, beads: int) -> int:
        """How many more intermediate beads a string of so many may get."""
        return sys.maxsize if self.beads is None else max(0, self.beads - beads)

    def left(self, began: float) -> "Limits":
        """The same limits, with the seconds that are left of those since `began` (`time.monotonic()`)."""
        if self.seconds is None:
            return self
        return replace(self, seconds=max(0.0, self.seconds - (time.monotonic() - began)))


class Spent(Exception):
    """Raised from within an evaluation when a limit is reached; whoever drives the work catches it and keeps what there is."""

    def __init__(self, status: Status):
        super().__init__(status.sentence)
        self.status = status


class Budget:
    """What is left of the limits: asked before every evaluation, so that none of them is overrun by more than one.

    Loops inside loops would each have to look at the clock, and one that forgets runs on for minutes; an evaluation is
    where all of them meet.

    Attributes:
        deadline: on the clock of `time.monotonic()`; infinite outside `limited`.
        evaluations: that may still be counted; infinite outside `limited`.
        spent: evaluations that were asked for so far.
    """

    def __init__(self) -> None:
        self.deadline = self.evaluations = inf
        self.spent = 0

    @contextmanager
    def limited(self, limits: Limits, *, began: float, evaluations: float) -> Iterator[None]:
        """Within it, an evaluation beyond the limits raises `Spent`.

        Args:
            limits: of the work, which began at `began`.
            evaluations: that were counted before.
        """
        before = self.deadline, self.evaluations
        self.deadline = inf if limits.seconds is None else began + limits.seconds
        self.evaluations = inf if limits.evaluations is None else limits.evaluations - evaluations
        try:
            yield
        finally:
            self.deadline, self.evaluations = before

    def spend(self, evaluations: int) -> None:
        """An evaluation of so many points is about to be made.

        Raises:
            Spent: there is no time, or there are no evaluations, left for it.
        """
        if time.monotonic() >= self.deadline:
            raise Spent(Status.SECONDS)
        if evaluations > self.evaluations:
            raise Spent(Status.EVALUATIONS)
        self.evaluations -= evaluations
        self.spent += evaluations
