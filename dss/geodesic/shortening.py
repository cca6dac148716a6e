"""From a path to a geodesic of its level set: what is left of the length belongs to the landscape, not to the search."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import pi

import torch

from dss.base.errors import InputError
from dss.base.path import Path
from dss.certificates.certificate import Certificate, certify
from dss.geodesic.pruning import prune
from dss.geodesic.sqp import Solver
from dss.geodesic.tightening import Taut, tighten
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Recalled
from dss.problem import Problem

# How far other starts are bent away from the path, and the straight line from itself, in distances of the ends.
BOW, NUDGE = 0.25, 1e-3
# Beads are inserted, and doubled, only while there are at most this many.
MOST_BEADS = 100


@dataclass(frozen=True)
class Shortening:
    """How a path is shortened.

    Attributes:
        solver: of the pulls.
        cells: places per segment that are held below the threshold from the start.
        rounds: pulls at one number of beads.
        beads: intermediate beads to start with; a longer string is thinned out to these first.
        doublings: of the number of beads, at most.
        tolerance: the length has converged when doubling the beads changes it by less than this share.
        n_starts: the path itself, then the straight line, then copies of the path bent in random directions; the
            shortest result is kept.
        prune: remove beads that are not needed.
        points: cells of the grid on which a segment is judged.
    """

    solver: Solver = field(default_factory=Solver)
    cells: int = 2
    rounds: int = 5
    beads: int = 4
    doublings: int = 4
    tolerance: float = 0.005
    n_starts: int = 1
    prune: bool = True
    points: int = 20

    def __post_init__(self):
        if min(self.cells, self.rounds, self.beads, self.n_starts, self.tolerance) <= 0 or self.doublings < 0:
            raise InputError(f"cells, rounds, beads, n_starts, tolerance are positive, doublings not negative, got {self}")


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
        stationarity: share of the energy's gradient that no forces at the level balance, at the end of the last pull
            before pruning; 0 at a geodesic. None where gradients were those of a subsample, which has a geodesic of
            its own, and where no string was shorter than the path given.
        boundary_share: share of the path's length at which the loss is within 2 % of the threshold's size of it.
        starts: final normalized length from every start: the path given, the `starts` given, the others; infinity
            where a start led to no path.
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
            "lengths_by_start": [length if length < float("inf") else None for length in self.starts],
        }


@dataclass(frozen=True)
class Progress:
    """One round of a shortening: which start of how many, and the string's intermediate beads and normalized length."""

    start: int
    starts: int
    beads: int
    length: float


Watch = Callable[[Progress], object]


def shorten(
    objective: Objective,
    path: Path,
    *,
    threshold: float,
    judge: Objective | None = None,
    starts: Sequence[Path] = (),
    options: Shortening = Shortening(),
    seed: int = 0,
) -> Shortened:
    """Pull a path tight inside its level set.

    All inner beads move together: least energy subject to the threshold (see `dss.geodesic.sqp`). Beads are doubled until the
    length stops changing. A string counts only if it passes the same certificate as any other path, so the result is
    never longer than `path` and never above the threshold.

    Args:
        objective: gradients come from it where the judge has none.
        path: a path whose certificate passes.
        threshold: L0.
        judge: the loss that must stay below; the objective itself by default. It needs no gradient.
        starts: other strings between the same ends to start from, of other finders or seeds; they need not pass.
        options: limits and tolerances.
        seed: of subsamples and bent starts.

    Raises:
        InputError: the path does not pass at this threshold, its ends cannot be used, or a start has others.
    """
    problem = Problem.of(objective, path.beads[0], path.beads[-1], threshold=threshold, judge=judge, seed=seed)
    return shorten_within(problem, path, options, starts=starts)


def shorten_within(
    problem: Problem,
    path: Path,
    options: Shortening = Shortening(),
    *,
    starts: Sequence[Path] = (),
    watch: Watch | None = None,
) -> Shortened:
    """`shorten` for a problem validated already; evaluations count in its tally.

    Args:
        watch: shown every round, for progress.

    Raises:
        InputError: the path does not pass, or a start has other ends.
    """
    given = _certified(problem, path, options)
    if not given.passed:
        raise InputError(f"only a path that passes can be shortened, but {given.reason}; find one first")
    _check_starts(path, starts)
    strings = [path, *starts, *_own_starts(problem, path, options)]
    runs = []
    for number, start in enumerate(strings):
        show = partial(_show, watch, number, len(strings))
        runs.append(_shortened(problem, start, options, ("shorten", number), show))
    best = min(runs, key=lambda run: run.length)
    return Shortened(
        path=best.path,
        certificate=_certified(problem, best.path, options),
        length_before=path.normalized_length,
        lengths=tuple(best.lengths),
        change=best.change,
        converged=best.change is not None and best.change < options.tolerance,
        stationarity=best.stationarity,
        boundary_share=boundary_share(Recalled(problem.judge), best.path, problem.threshold, points=options.points),
        starts=tuple(run.length for run in runs),
    )


def boundary_share(judge: Objective, path: Path, threshold: float, *, points: int = 20, share: float = 0.02) -> float:
    """Share of the path's length at which the loss is within `share` of the threshold's size of the threshold.

    By the trapezoidal rule on the grid of the certificate.
    """
    t = torch.arange(points + 1, dtype=torch.float64) / points
    near = []
    for segment in range(len(path) - 1):
        losses = judge(path.points(torch.full_like(t, segment, dtype=torch.long), t)).detach().double().cpu()
        inside = (losses >= threshold - share * (abs(threshold) or 1.0)).double()
        near.append((inside[:-1] + inside[1:]).mean() / 2)
    lengths = path.segment_lengths().cpu()
    return (torch.stack(near) @ lengths / lengths.sum()).item()


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
        return float("inf") if self.path is None else self.path.normalized_length


def _show(watch: Watch | None, start: int, starts: int, path: Path) -> None:
    if watch is not None:
        watch(Progress(start, starts, path.intermediate_beads, path.normalized_length))


def _certified(problem: Problem, path: Path, options: Shortening) -> Certificate:
    """The path's certificate, from the search's own looks where it can."""
    return certify(Recalled(problem.judge), path, threshold=problem.threshold, points=options.points)


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


def _shortened(problem: Problem, start: Path, options: Shortening, key: tuple, show: Callable[[Path], None]) -> _Run:
    """Tighten, double, tighten, until the length stops changing."""
    run = _Run(start if _certified(problem, start, options).passed else None)
    if len(start) > 2:
        taut = _tight(problem, Taut.of(_thinned(start, options), cells=options.cells), options, key, show)
        if not _note(problem, run, taut, options) and len(start) > len(_thinned(start, options)):
            # Thinned out too far: the path's own beads can at least do what they did.
            taut = _tight(problem, Taut.of(start, cells=options.cells), options, key, show)
            _note(problem, run, taut, options)
        for _ in range(options.doublings):
            if len(taut.path) > MOST_BEADS or (run.change is not None and run.change < options.tolerance):
                break
            segments = torch.arange(len(taut.path) - 1)
            doubled = taut.insert(segments, torch.full((len(segments),), 0.5, dtype=torch.float64), options.cells)
            taut = _tight(problem, doubled, options, key, show)
            _note(problem, run, taut, options)
    if options.prune and run.path is not None:
        run.path = prune(Recalled(problem.judge), run.path, threshold=problem.threshold, points=options.points)
    return run


def _note(problem: Problem, run: _Run, taut: Taut, options: Shortening) -> bool:
    """Keep a string that passes, if it is the shortest; whether it passes."""
    if not _certified(problem, taut.path, options).passed:
        return False
    length = taut.path.normalized_length
    if run.lengths:
        run.change = abs(run.lengths[-1][1] - length) / length
    run.lengths.append((taut.path.intermediate_beads, length))
    if length < run.length:
        run.path, run.stationarity = taut.path, taut.stationarity
    return True


def _tight(problem: Problem, taut: Taut, options: Shortening, key: tuple, show: Callable[[Path], None]) -> Taut:
    """Rounds of `tighten` until every segment passes."""
    for _ in range(options.rounds):
        insert = len(taut.path) <= MOST_BEADS
        taut = tighten(problem, taut, solver=options.solver, cells=options.cells, points=options.points, insert=insert, key=key)
        show(taut.path)
        if (taut.maxima <= problem.threshold).all():
            break
    return taut
