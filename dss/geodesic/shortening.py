"""From a path to a geodesic of its level set: what is left of the length belongs to the landscape, not to the search."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, pi

import torch

from dss.base.errors import InputError
from dss.base.limits import Limits, Spent, Status
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.base.renamed import renamed
from dss.certificates.certificate import Certificate, certify
from dss.certificates.sampling import evaluate
from dss.geodesic.pruning import prune
from dss.geodesic.sqp import SequentialQP
from dss.geodesic.tightening import TightString, exchange_step
from dss.objectives.objective import Objective
from dss.problem import Problem

# How far other starts are bent away from the path, and the straight line from itself, in distances of the ends.
BOW, NUDGE = 0.25, 1e-3
# Beads are inserted, and doubled, only while there are at most this many.
MOST_BEADS = 100
# Rounds are limited at each number of beads (`Shortening.rounds`); a budget may limit them all together.
UNLIMITED = Limits(rounds=None, beads=None)


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


@dataclass(frozen=True, eq=False)
class Shortened:
    """A shortened path and how far to trust its length.

    Attributes:
        path: never longer than the path given, and its certificate passed.
        certificate: of the path.
        length_before: normalized length of the path given.
        lengths: (intermediate beads, normalized length) of every string tried that passed, in order, of the best start.
        change: share by which the last doubling of the beads changed the length; None if no two strings passed.
        converged: whether `change` is below the tolerance.
        stationarity: share of the energy's gradient that no multipliers at the level balance, at the end of the last
            solve before pruning; 0 at a geodesic. None where gradients were those of a subsample, which has a geodesic of
            its own, and where no string was shorter than the path given.
        boundary_share: share of the path's length at which the loss is within 2 % of the threshold's size of it.
        starts: final normalized length from every start: the path given, the `starts` given, the others; infinity
            where a start led to no path.
        stopped: why it ended early, in words; None where it did not.
    """

    path: Path
    certificate: Certificate
    length_before: float
    lengths: tuple[tuple[int, float], ...]
    change: float | None
    converged: bool
    stationarity: float | None
    boundary_share: float
    starts: tuple[float, ...]
    stopped: str | None = None

    @property
    def summary(self) -> dict[str, object]:
        """The key figures as JSON values."""
        return {
            "normalized_length_before": self.length_before,
            "normalized_length": self.path.normalized_length,
            "intermediate_beads": self.path.intermediate_beads,
            "lengths_by_beads": [list(pair) for pair in self.lengths],
            "change_by_doubling": self.change,
            "converged": self.converged,
            "stationarity": self.stationarity,
            "boundary_share": self.boundary_share,
            "lengths_by_start": [length if length < inf else None for length in self.starts],
            "stopped": self.stopped,
        }


def shorten(
    objective: Objective,
    path: Path,
    *,
    threshold: float,
    judge: Objective | None = None,
    starts: Sequence[Path] = (),
    options: Shortening = Shortening(),
    seed: int = 0,
    limits: Limits = UNLIMITED,
    progress: ProgressMeter | None = None,
) -> Shortened:
    """Pull a path tight inside its level set.

    All inner beads move together: least energy subject to the threshold (see `dss.geodesic.sqp`). Beads are doubled until
    the length stops changing. A string counts only if it passes the same certificate as any other path, so the result is
    never longer than `path` and never above the threshold.

    Args:
        objective: gradients come from it where the judge has none.
        path: a path whose certificate passes.
        threshold: L0.
        judge: the loss that must stay below; the objective itself by default. It needs no gradient.
        starts: other strings between the same ends to start from, of other finders or seeds; they need not pass.
        options: how.
        seed: of subsamples and bent starts.
        limits: when one is reached, the shortest string so far is the result.
        progress: shown every round.

    Raises:
        InputError: the path does not pass at this threshold, its ends cannot be used, or a start has others.
    """
    problem = Problem.of(objective, path.beads[0], path.beads[-1], threshold=threshold, judge=judge, seed=seed)
    return shorten_within(problem, path, options, starts=starts, limits=limits, progress=progress)


def shorten_within(
    problem: Problem,
    path: Path,
    options: Shortening = Shortening(),
    *,
    starts: Sequence[Path] = (),
    limits: Limits = UNLIMITED,
    progress: ProgressMeter | None = None,
) -> Shortened:
    """`shorten` for a problem validated already; evaluations count in its tally.

    Raises:
        InputError: the path does not pass, or a start has other ends.
    """
    began = time.monotonic()
    given = _certified(problem, path, options)
    if not given.passed:
        raise InputError(f"only a path that passes can be shortened, but {given.reason}; find one first")
    _check_starts(path, starts)
    strings = [path, *starts, *_own_starts(problem, path, options)]
    with (progress or ProgressMeter()).stage("shorten", "rounds") as meter:
        work = _Work(problem, options, limits, meter, len(strings))
        runs = [_Run(path)]  # what passed already is kept, whatever happens
        with problem.limited(limits, began=began):
            try:
                for number, start in enumerate(strings):
                    runs.append(_Run(start if _certified(problem, start, options).passed else None))
                    _shorten_from(work, runs[-1], start, number)
            except Spent as spent:
                work.stopped = spent.status.sentence
    return _result(work, path, runs)


def _result(work: "_Work", path: Path, runs: list["_Run"]) -> Shortened:
    """The best of all starts; `runs` begins with the path that was given, which is no start."""
    problem, options = work.problem, work.options
    best = min(runs[1:] or runs, key=lambda run: run.length)
    best = best if best.path is not None else runs[0]
    assert best.path is not None
    return Shortened(
        path=best.path,
        certificate=_certified(problem, best.path, options),
        length_before=path.normalized_length,
        lengths=tuple(best.lengths),
        change=best.change,
        converged=best.change is not None and best.change < options.tolerance,
        stationarity=best.stationarity,
        boundary_share=boundary_share(problem.recalled, best.path, problem.threshold, grid=options.grid),
        starts=tuple(run.length for run in runs[1:]),
        stopped=work.stopped,
    )


def boundary_share(judge: Objective, path: Path, threshold: float, *, grid: int = 20, share: float = 0.02) -> float:
    """Share of the path's length at which the loss is within `share` of the threshold's size of the threshold.

    By the trapezoidal rule on the grid of the certificate.
    """
    t = (torch.arange(grid + 1, dtype=torch.float64) / grid).expand(len(path) - 1, -1)
    segments = torch.arange(len(path) - 1)[:, None].expand_as(t)
    near = (evaluate(judge, path, segments, t) >= threshold - share * (abs(threshold) or 1.0)).double()
    lengths = path.segment_lengths().cpu()
    return (((near[:, :-1] + near[:, 1:]) / 2).mean(1) @ lengths / lengths.sum()).item()


@dataclass
class _Work:
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
class _Run:
    """The best string from one start so far; None before one passed."""

    path: Path | None = None
    lengths: list[tuple[int, float]] = field(default_factory=list)
    change: float | None = None
    stationarity: float | None = None

    @property
    def length(self) -> float:
        """Normalized length; infinity before a string passed."""
        return inf if self.path is None else self.path.normalized_length


def _certified(problem: Problem, path: Path, options: Shortening) -> Certificate:
    """The path's certificate, from the search's own evaluations where it can."""
    return certify(problem.recalled, path, threshold=problem.threshold, grid=options.grid)


def _check_starts(path: Path, starts: Sequence[Path]) -> None:
    for number, start in enumerate(starts):
        if start.beads.shape[1:] != path.beads.shape[1:] or not torch.equal(start.beads[[0, -1]], path.beads[[0, -1]]):
            raise InputError(f"every start must have the ends of the path to be shortened; start {number} has others")


def _own_starts(problem: Problem, path: Path, options: Shortening) -> Iterator[Path]:
    """The straight line, bent a little, and copies of the path bent by half a sine wave in random directions."""
    first = _thinned(path, options)
    line = problem.straight.resample(max(len(first), 3))
    for number in range(1, options.n_starts):
        base, bow = (line, NUDGE) if number == 1 else (first, BOW)
        direction = torch.randn(path.beads.shape[1], generator=problem.generator("bow", number)).to(path.beads)
        bend = bow * (problem.end - problem.start).norm() * direction / direction.norm()
        arc = (pi * base.arc_lengths()).sin().to(path.beads)[:, None]
        yield Path(torch.cat([base.beads[:1], (base.beads + arc * bend)[1:-1], base.beads[-1:]]))


def _thinned(path: Path, options: Shortening) -> Path:
    return path if path.intermediate_beads <= options.beads else path.resample(options.beads + 2)


def _shorten_from(work: _Work, run: _Run, start: Path, number: int) -> None:
    """Tighten, double, tighten, until the length stops changing; the best string is kept in `run` as soon as it is found."""
    problem, options = work.problem, work.options
    if len(start) > 2:
        string = _tight(work, TightString.of(_thinned(start, options), options.constraint_points), number)
        if not _note(problem, run, string, options) and len(start) > len(_thinned(start, options)):
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


def _note(problem: Problem, run: _Run, string: TightString, options: Shortening) -> bool:
    """Keep a string that passes, if it is the shortest; whether it passes."""
    if not _certified(problem, string.path, options).passed:
        return False
    length = string.path.normalized_length
    if run.lengths:
        run.change = abs(run.lengths[-1][1] - length) / length
    run.lengths.append((string.path.intermediate_beads, length))
    if length < run.length:
        run.path, run.stationarity = string.path, string.stationarity
    return True


def _tight(work: _Work, string: TightString, number: int) -> TightString:
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
