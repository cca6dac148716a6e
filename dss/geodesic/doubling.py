"""One string pulled tight: exchange steps at one number of beads, then at twice as many, until its length stays."""

from dataclasses import dataclass, field
from math import inf

import torch

from dss.base.errors import InputError
from dss.base.limits import Limits, Spent, Status
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.base.renamed import renamed
from dss.certificates.certificate import Certificate, certify
from dss.geodesic.pruning import prune
from dss.geodesic.sqp import SequentialQP
from dss.geodesic.tightening import TightString, exchange_step
from dss.problem import Problem

# Beads are inserted, and doubled, only while there are at most this many.
MOST_BEADS = 100


@renamed(points="grid", cells="constraint_points")
@dataclass(frozen=True)
class Shortening:
    """How a path is shortened.

    Attributes:
        solver: of the quadratic programs.
        constraint_points: per segment, held below the threshold from the start.
        rounds: exchange steps at one number of beads.
        beads: intermediate beads to start with; a longer string is thinned out to these first.
        doublings: of the number of beads, at most.
        tolerance: the length has converged when doubling the beads changes it by less than this share.
        n_starts: the path itself, then the straight line, then copies of the path bent in random directions; the
            shortest result is kept.
        prune: remove beads that are not needed.
        grid: intervals of the grid on which a segment is judged.
    """

    solver: SequentialQP = field(default_factory=SequentialQP)
    constraint_points: int = 2
    rounds: int = 5
    beads: int = 4
    doublings: int = 4
    tolerance: float = 0.005
    n_starts: int = 1
    prune: bool = True
    grid: int = 20

    def __post_init__(self):
        if min(self.constraint_points, self.rounds, self.beads, self.n_starts, self.tolerance) <= 0 or self.doublings < 0:
            raise InputError(
                "constraint_points, rounds, beads, n_starts and tolerance are positive, doublings not negative, got " + str(self)
            )


@dataclass
class Work:
    """What all starts of a shortening share: the question, the limits, and where it stands."""

    problem: Problem
    options: Shortening
    limits: Limits
    meter: ProgressMeter
    starts: int
    rounds: int = 0
    gradient_steps: int = 0
    stopped: str | None = None

    def note(self, string: TightString, before: int, start: int) -> None:
        """A round is done, which began at `before` gradient steps."""
        self.rounds += 1
        self.gradient_steps += string.gradient_steps - before
        which = f"start {start + 1} of {self.starts}, " if self.starts > 1 else ""
        self.meter.report(
            self.rounds,
            f"{which}{string.path.intermediate_beads} beads, normalized length {string.path.normalized_length:.4f}",
        )

    def check(self) -> None:
        """Ask whether another round may begin.

        Raises:
            Spent: the limit on rounds or gradient steps is reached.
        """
        spent = {
            Status.ROUNDS: (self.rounds, self.limits.rounds),
            Status.STEPS: (self.gradient_steps, self.limits.gradient_steps),
        }
        for status, (done, limit) in spent.items():
            if limit is not None and done >= limit:
                raise Spent(status)

    def most_beads(self) -> int:
        """Strings with more intermediate beads get no new ones."""
        return MOST_BEADS if self.limits.beads is None else min(MOST_BEADS, self.limits.beads)


@dataclass
class Attempt:
    """The best string from one start so far; None before one passed."""

    path: Path | None = None
    lengths: list[tuple[int, float]] = field(default_factory=list)
    change: float | None = None
    stationarity: float | None = None

    @property
    def length(self) -> float:
        """Normalized length; infinity before a string passed."""
        return inf if self.path is None else self.path.normalized_length


def certified(problem: Problem, path: Path, options: Shortening) -> Certificate:
    """The path's certificate, from the search's own evaluations where it can."""
    return certify(problem.recalled, path, threshold=problem.threshold, grid=options.grid)


def thinned(path: Path, options: Shortening) -> Path:
    return path if path.intermediate_beads <= options.beads else path.resample(options.beads + 2)


def pull_tight(work: Work, run: Attempt, start: Path, number: int) -> None:
    """Tighten, double, tighten, until the length stops changing; the best string is kept in `run` as soon as it is found."""
    problem, options = work.problem, work.options
    if len(start) > 2:
        string = _tight(work, TightString.of(thinned(start, options), options.constraint_points), number)
        if not _note(problem, run, string, options) and len(start) > len(thinned(start, options)):
            # Thinned out too far: the path's own beads can at least do what they did.
            string = _tight(work, TightString.of(start, options.constraint_points), number)
            _note(problem, run, string, options)
        for _ in range(options.doublings):
            if len(string.path) > work.most_beads() or (run.change is not None and run.change < options.tolerance):
                break
            segments = torch.arange(len(string.path) - 1)
            middles = torch.full((len(segments),), 0.5, dtype=torch.float64)
            string = _tight(work, string.insert(segments, middles, options.constraint_points), number)
            _note(problem, run, string, options)
    if options.prune and run.path is not None:
        run.path = prune(problem.recalled, run.path, threshold=problem.threshold, grid=options.grid)


def _note(problem: Problem, run: Attempt, string: TightString, options: Shortening) -> bool:
    """Keep a string that passes, if it is the shortest; whether it passes."""
    # What was seen to fail needs no certificate that says so; NaN is where a bead was inserted since.
    if not (string.maxima <= problem.threshold).all() or not certified(problem, string.path, options).passed:
        return False
    length = string.path.normalized_length
    if run.lengths:
        run.change = abs(run.lengths[-1][1] - length) / length
    run.lengths.append((string.path.intermediate_beads, length))
    if length < run.length:
        run.path, run.stationarity = string.path, string.stationarity
    return True


def _tight(work: Work, string: TightString, number: int) -> TightString:
    """Exchange steps until every segment passes."""
    options = work.options
    for _ in range(options.rounds):
        work.check()
        before, insert = string.gradient_steps, len(string.path) <= work.most_beads()
        string = exchange_step(
            work.problem,
            string,
            solver=options.solver,
            constraint_points=options.constraint_points,
            grid=options.grid,
            insert=insert,
            key=("shorten", number),
        )
        work.note(string, before, number)
        if (string.maxima <= work.problem.threshold).all():
            break
    return string
