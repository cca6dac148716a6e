"""From a path to a geodesic of its level set: what is left of the length belongs to the landscape, not to the search."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from functools import partial
from math import inf, pi

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.limits import Limits, Spent
from dss.base.memory import limit, size
from dss.base.path import Path
from dss.base.progress import ProgressMeter
from dss.certificates.certificate import Certificate
from dss.certificates.sampling import evaluate
from dss.geodesic.doubling import Attempt, Shortening, Work, certified, pull_tight, thinned
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Tally
from dss.problem import Problem

# How far other starts are bent away from the path, and the straight line from itself, in distances of the ends.
BOW, NUDGE = 0.25, 1e-3
# Rounds are limited at each number of beads (`Shortening.rounds`); a budget may limit them all together.
UNLIMITED = Limits(rounds=None, beads=None)
# What shortening holds at most, in models: strings of up to seven beads with their gradients and constraints (measured).
MODELS = 90


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


@with_gradients()
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
    executor: Executor | None = None,
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
        executor: any `concurrent.futures.Executor`; every start is a task of its own, with the limits for itself. The path
            does not depend on it.

    Raises:
        InputError: the path does not pass at this threshold, its ends cannot be used, or a start has others.
    """
    problem = Problem.of(objective, path.rows[0], path.rows[-1], threshold=threshold, judge=judge, seed=seed)
    return shorten_within(problem, path, options, starts=starts, limits=limits, progress=progress, executor=executor)


@with_gradients()
def shorten_within(
    problem: Problem,
    path: Path,
    options: Shortening = Shortening(),
    *,
    starts: Sequence[Path] = (),
    limits: Limits = UNLIMITED,
    progress: ProgressMeter | None = None,
    executor: Executor | None = None,
    source: Callable[[], Problem] | None = None,
) -> Shortened:
    """`shorten` for a problem validated already; evaluations count in its tally.

    Args:
        source: yields the same problem in another process, for an executor whose workers cannot be sent this one.

    Raises:
        InputError: the path does not pass, or a start has other ends.
        MemoryError: the machine has no room for the strings of such a network.
    """
    began = time.monotonic()
    check_room(path.rows[0])
    given = certified(problem, path, options)
    if not given.passed:
        raise InputError(f"only a path that passes can be shortened, but {given.reason}; find one first")
    _check_starts(path, starts)
    strings = [path, *starts, *_own_starts(problem, path, options)]
    with (progress or ProgressMeter()).stage("shorten", "rounds" if executor is None else "starts") as meter:
        work = Work(problem, options, limits, meter, len(strings))
        if executor is None:
            found = _here(work, strings, began)
        else:
            found = _elsewhere(work, strings, executor, source or partial(_as_it_is, problem))
    # What passed already is kept, whatever happens.
    return _result(work, path, [Attempt(path), *found])


def _here(work: Work, strings: Sequence[Path], began: float) -> list[Attempt]:
    """One start after the other, as many as the limits leave room for; all share them."""
    problem, found = work.problem, []
    with problem.limited(work.limits, began=began):
        try:
            for number, start in enumerate(strings):
                found.append(Attempt(start if certified(problem, start, work.options).passed else None))
                pull_tight(work, found[-1], start, number)
        except Spent as spent:
            work.stopped = spent.status.sentence
    return found


def _elsewhere(work: Work, strings: Sequence[Path], executor: Executor, source: Callable[[], Problem]) -> list[Attempt]:
    """Every start as a task of its own."""
    tasks = [partial(attempt, source, work.options, work.limits, start, number) for number, start in enumerate(strings)]
    futures = {executor.submit(task): number for number, task in enumerate(tasks)}
    found: dict[int, tuple[Attempt, str | None, Tally]] = {}
    for done, future in enumerate(as_completed(futures), 1):
        found[futures[future]] = future.result()
        work.meter.report(done, f"of {len(strings)}")
    for _, stopped, tally in found.values():
        work.stopped = work.stopped or stopped
        work.problem.tally.restore(work.problem.tally + tally)
    return [found[number][0] for number in range(len(strings))]


def attempt(
    source: Callable[[], Problem], options: Shortening, limits: Limits, start: Path, number: int
) -> tuple[Attempt, str | None, Tally]:
    """What comes of one start, in whatever process this is: the best string, why it stopped early, and the work."""
    problem = source().afresh()
    work = Work(problem, options, limits, ProgressMeter(), 1)
    run = Attempt(start if certified(problem, start, options).passed else None)
    with problem.limited(limits, began=time.monotonic()):
        try:
            pull_tight(work, run, start, number)
        except Spent as spent:
            work.stopped = spent.status.sentence
    return run, work.stopped, problem.tally


def _as_it_is(problem: Problem) -> Problem:
    return problem


def check_room(point: Tensor) -> None:
    """Refuse early what would fail late.

    Raises:
        MemoryError: this process may not take what shortening takes.
    """
    need = MODELS * point.nbytes
    if need > limit():
        raise MemoryError(
            f"shortening a path of {point.numel():,} parameters takes about {size(need)} (its strings with their gradients, {MODELS} "
            f"models), and this process may take {size(limit())}; shorten where there is more memory, or move fewer parameters (only=)"
        )


def _result(work: Work, path: Path, runs: list[Attempt]) -> Shortened:
    """The best of all starts; `runs` begins with the path that was given, which is no start."""
    problem, options = work.problem, work.options
    best = min(runs[1:] or runs, key=lambda run: run.length)
    best = best if best.path is not None else runs[0]
    assert best.path is not None
    return Shortened(
        path=best.path,
        certificate=certified(problem, best.path, options),
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


def _check_starts(path: Path, starts: Sequence[Path]) -> None:
    for number, start in enumerate(starts):
        if start.beads.shape[1:] != path.beads.shape[1:] or not torch.equal(start.beads[[0, -1]], path.beads[[0, -1]]):
            raise InputError(f"every start must have the ends of the path to be shortened; start {number} has others")


def _own_starts(problem: Problem, path: Path, options: Shortening) -> Iterator[Path]:
    """The straight line, bent a little, and copies of the path bent by half a sine wave in random directions."""
    first = thinned(path, options)
    line = problem.straight.resample(max(len(first), 3))
    for number in range(1, options.n_starts):
        base, bow = (line, NUDGE) if number == 1 else (first, BOW)
        direction = torch.randn(path.beads.shape[1], generator=problem.generator("bow", number)).to(path.beads)
        bend = bow * (problem.end - problem.start).norm() * direction / direction.norm()
        arc = (pi * base.arc_lengths()).sin().to(path.beads)[:, None]
        yield Path(torch.cat([base.beads[:1], (base.beads + arc * bend)[1:-1], base.beads[-1:]]))
