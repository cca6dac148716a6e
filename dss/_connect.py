"""From two ends to a certified answer: validate once, drive a finder, certify what it proposes."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from dss._version import __version__
from dss.base.errors import InputError
from dss.base.path import Path
from dss.certificates.bracket import Bracket
from dss.certificates.certificate import Certificate, certify
from dss.finders import GreedyString
from dss.finders.finder import Finder, Status, Step
from dss.geodesic.shortening import Progress, Shortened, Shortening, shorten_within
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Recalled, Tally
from dss.problem import Problem

PROVE = ("auto", "always", "never")
# The shortest time that an automatic proof gets, however fast the search was.
PROOF_SECONDS = 10.0


@dataclass(frozen=True, eq=False)
class Connection:
    """The answer: a path, what is known of it, and what it cost.

    Attributes:
        path: the string found, or as far as the search came.
        certificate: `certify`'s word on it; nothing else decides `connected`.
        status: how the search ended.
        problem: the question.
        linear: the certificate of the straight line, for comparison.
        finder: the finder's name.
        rounds, steps: of the search.
        seconds: of this process, search and certificate.
        tally: evaluations by the search and the certificate, in samples.
        shortened: how the path was shortened, if it was.
    """

    path: Path
    certificate: Certificate
    status: Status
    problem: Problem
    linear: Certificate
    finder: str
    rounds: int
    steps: int
    seconds: float
    tally: Tally = field(default_factory=Tally)
    shortened: Shortened | None = None

    @property
    def connected(self) -> bool:
        """Whether the path's certificate passed. False never means "disconnected": a search that fails proves nothing."""
        return self.certificate.passed

    @property
    def summary(self) -> dict[str, object]:
        """The key figures as JSON values, under the names that run folders use."""
        certificate = self.certificate
        return {
            "status": "connected" if self.connected else self.status.value,
            "reason": certificate.reason if self.connected else f"{self.status.sentence}; {certificate.reason}",
            "connected": self.connected,
            "proven": certificate.proven,
            "threshold": self.problem.threshold,
            "max_loss": certificate.max_loss,
            "upper_bound": certificate.upper,
            "normalized_length": self.path.normalized_length,
            "intermediate_beads": self.path.intermediate_beads,
            "linear_barrier": self.linear.max_loss,
            "loss_start": self.problem.loss_start,
            "loss_end": self.problem.loss_end,
            "objective": self.problem.objective.description,
            "judge": self.problem.judge.description,
            "finder": self.finder,
            "rounds": self.rounds,
            "gradient_steps": self.steps,
            "seed": self.problem.seed,
            "seconds": self.seconds,
            **asdict(self.tally),
            "resolution": certificate.resolution,
            "versions": versions(),
            **({} if self.shortened is None else {"shortened": self.shortened.summary}),
        }


def connect(
    objective: Objective,
    start: Tensor,
    end: Tensor,
    *,
    threshold: float,
    judge: Objective | None = None,
    finder: Finder | None = None,
    shorten: bool | Shortening = False,
    seed: int = 0,
    points: int = 20,
    prove: Literal["auto", "always", "never"] = "auto",
) -> Connection:
    """Search for a path between two points along which the judged loss stays at or below a threshold.

    Args:
        objective: gradients come from it.
        start, end: points `(p,)`; see `ParameterSpace.flatten`.
        threshold: L0.
        judge: the loss that must stay below; the objective itself by default. It needs no gradient.
        finder: the algorithm; greedy dynamic string sampling by default.
        shorten: pull the path tight inside its level set before it is certified; True or options (`dss.Shortening`).
        seed: of every random choice; the same seed gives the same result.
        points: cells of the certificate's first grid on every segment.
        prove: "auto" tries a proof for as long as the search took (ten seconds at least), "always" without a limit
            of time; a judge that cannot be enclosed is sampled, and the certificate says so.

    Returns:
        The connection. A search that fails is not an error: `connected` is False, and the partial path is there.

    Raises:
        InputError: the ends cannot be used, or lie above the threshold.
    """
    began = time.monotonic()
    finder = finder or GreedyString()
    problem = Problem.of(objective, start, end, threshold=threshold, judge=judge, seed=seed)
    for step in finder.steps(problem):
        last = step
    return conclude(problem, finder, last, shorten=shorten, points=points, prove=prove, began=began)


def conclude(
    problem: Problem,
    finder: Finder,
    step: Step,
    *,
    shorten: bool | Shortening = False,
    points: int = 20,
    prove: Literal["auto", "always", "never"] = "auto",
    began: float | None = None,
    watch: Callable[[Bracket], object] | None = None,
    starts: Sequence[Path] = (),
    watch_shortening: Callable[[Progress], object] | None = None,
) -> Connection:
    """Shorten if asked, and certify the path of a search's last step.

    Args:
        shorten, points, prove: as for `connect`.
        began: `time.monotonic()` when the search began, for the seconds reported.
        watch: shown every bracket of the proof, for progress.
        starts: other strings between the same ends from which shortening starts too.
        watch_shortening: shown every round of the shortening, for progress.

    Raises:
        InputError: an unknown way to prove, or a start with other ends.
    """
    if prove not in PROVE:
        raise InputError(f"prove must be one of {', '.join(PROVE)}, got {prove!r}")
    began = time.monotonic() if began is None else began
    shortened = _shortened(problem, step, shorten, starts, watch_shortening)
    if shortened is not None:
        step = replace(step, path=shortened.path)
    searched = time.monotonic() - began
    judge = Recalled(problem.judge)
    linear = certify(judge, problem.straight, threshold=problem.threshold, points=points)
    certificate = certify(
        judge,
        step.path,
        threshold=problem.threshold,
        points=points,
        # A search that failed has a point above the threshold: there is nothing to prove.
        prove=prove != "never" and step.status is Status.FOUND,
        max_seconds=max(searched, PROOF_SECONDS) if prove == "auto" else None,
        watch=watch,
    )
    return Connection(
        path=step.path,
        certificate=certificate,
        status=step.status,
        problem=problem,
        linear=linear,
        finder=finder.name,
        rounds=step.round,
        steps=step.steps,
        seconds=time.monotonic() - began,
        tally=Tally(**asdict(problem.tally)),
        shortened=shortened,
    )


def _shortened(
    problem: Problem,
    step: Step,
    shorten: bool | Shortening,
    starts: Sequence[Path],
    watch: Callable[[Progress], object] | None,
) -> Shortened | None:
    """What shortening makes of the path, if it is asked for and the path passes its certificate."""
    if shorten is False or step.status is not Status.FOUND:
        return None
    if not certify(Recalled(problem.judge), step.path, threshold=problem.threshold).passed:
        return None
    options = Shortening() if shorten is True else shorten
    return shorten_within(problem, step.path, options, starts=starts, watch=watch)


def versions() -> dict[str, str]:
    """What produced a result."""
    return {"dss": __version__, "torch": torch.__version__, "python": platform.python_version()}
