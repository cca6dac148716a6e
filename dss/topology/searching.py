"""One search of one pair: a path whose largest loss is as low as can be found, and how well that is known."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dss._connect import conclude
from dss._connection import Connection
from dss.base.errors import InputError
from dss.base.limits import Limits, Status
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.certificates.certificate import certify
from dss.certificates.sampling import sample_segments
from dss.finders import StraightLine
from dss.finders.finder import Finder, Step
from dss.objectives.objective import Objective
from dss.problem import Problem
from dss.topology.jobs import Job
from dss.topology.minimax import MinimaxString

# A proof may end this share above the largest loss seen: closer costs more cells and says little more.
SLACK = 0.005


@dataclass(frozen=True)
class Called(Finder):
    """A function as a finder of one round: it gets the problem and returns a path, or something that has one."""

    name: ClassVar[str] = "function"
    function: Callable[[Problem], Any]
    limits: Limits = Limits()

    def advance(self, problem: Problem, step: Step) -> Step:
        found = self.function(problem)
        path = getattr(found, "path", found)
        ends = torch.stack([problem.start, problem.end])
        if not isinstance(path, Path) or path.beads.shape[1:] != ends.shape[1:] or not torch.equal(path.beads[[0, -1]], ends):
            raise InputError(f"a search must return a dss.Path between the problem's ends, got {type(path).__name__}")
        maxima = sample_segments(problem.judge, path, grid=20).losses
        return replace(step, path=path, maxima=maxima, status=Status.FOUND)


Search = Finder | Callable[[Problem], Any]


def as_finder(search: Search | None) -> Finder:
    """What was handed in as a search, as a finder.

    Raises:
        InputError: it is neither a finder nor a function.
    """
    if search is None:
        return MinimaxString()
    if isinstance(search, Finder):
        return search
    if not callable(search):
        raise InputError(f"a search is a finder, or a function from a problem to a path, got {type(search).__name__}")
    return Called(search)


@dataclass(frozen=True, eq=False)
class Searched:
    """What is known of one pair's own path.

    Attributes:
        pair: the two points, i < j.
        path: from i to j.
        seen: the largest loss that was evaluated on it.
        upper: the proved bound, or `seen` where there is no proof.
        proven: whether `upper` is proved for every point of the path.
        goal: the level at which the search would have stopped.
        reason: the certificate's, in words.
        finder: the finder's name; "straight" for a line that needed no search.
        seconds, loss_evaluations, gradient_evaluations: the work; evaluations in samples.
        run: the run folder, where there is one.
    """

    pair: tuple[int, int]
    path: Path = field(repr=False)
    seen: float
    upper: float
    proven: bool
    goal: float
    reason: str
    finder: str
    seconds: float
    loss_evaluations: int
    gradient_evaluations: int
    run: str | None = None

    @classmethod
    def of(cls, connection: Connection, pair: tuple[int, int], goal: float, *, reverse: bool = False) -> "Searched":
        """What a connection between two points says.

        Args:
            reverse: the connection runs from j to i.
        """
        certificate, path = connection.certificate, connection.path
        seen = certificate.max_loss
        return cls(
            pair=pair,
            path=Path(path.beads.flip(0)) if reverse else path,
            seen=seen,
            upper=certificate.upper if certificate.proven and certificate.upper is not None else seen,
            proven=certificate.proven,
            goal=goal,
            reason=certificate.reason,
            finder=connection.finder,
            seconds=connection.seconds,
            loss_evaluations=connection.tally.loss_evaluations,
            gradient_evaluations=connection.tally.gradient_evaluations,
        )

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {name: value for name, value in vars(self).items() if name != "path"} | {"beads": self.path.intermediate_beads}


def conclude_at_maximum(
    problem: Problem,
    finder: Finder,
    step: Step,
    *,
    grid: int = 20,
    prove: Literal["auto", "always", "never"] = "auto",
    began: float | None = None,
    progress: ProgressMeter | None = None,
) -> Connection:
    """Certify a search's path, or the straight line if that is lower, at its own largest loss instead of the threshold.

    Args:
        problem: its threshold is where the search would have stopped.
        finder, step: of the search.
        grid, prove, began, progress: see `dss.conclude`.
    """
    found, line = (certify(problem.recalled, path, threshold=inf, grid=grid) for path in (step.path, problem.straight))
    seen, path = (found, step.path) if found.max_loss < line.max_loss else (line, problem.straight)
    rise = line.max_loss - max(problem.loss_start, problem.loss_end)
    level = seen.max_loss + SLACK * max(abs(seen.max_loss), 1e-3 * rise)
    step = replace(step, path=path, status=Status.FOUND)
    at_level = replace(problem, threshold=level)
    concluded = conclude(at_level, finder, step, grid=grid, prove=prove, began=began, progress=progress)
    certificate = concluded.certificate
    if certificate.max_loss < seen.max_loss:
        # A proof evaluates few places, and seldom the highest.
        certificate = replace(certificate, max_loss=seen.max_loss, segment=seen.segment, t=seen.t)
    return replace(concluded, certificate=certificate)


@dataclass(frozen=True, eq=False)
class SearchOptions:
    """How pairs are searched: the finder, the certificate's grid, and whether to prove."""

    finder: Finder
    grid: int = 20
    prove: Literal["auto", "always", "never"] = "auto"


def search_pair(objective: Objective, judge: Objective | None, ends: Tensor, job: Job, options: SearchOptions) -> Searched:
    """Search one pair in this process.

    Args:
        objective: gradients come from it.
        judge: the loss whose barrier is wanted; None for the objective itself.
        ends: `(2, p)`, in the order of `job.ends`.
    """
    began = time.monotonic()
    problem = Problem.of(objective, ends[0], ends[1], threshold=job.goal, judge=judge, seed=job.seed)
    finder = StraightLine() if job.line else options.finder
    step = finder.run(problem)
    found = conclude_at_maximum(problem, finder, step, grid=options.grid, prove=options.prove, began=began)
    return Searched.of(found, job.pair, job.goal, reverse=job.reverse)
