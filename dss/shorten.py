"""From a path to a geodesic of its level set: what is left of the length belongs to the landscape, not to the search."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import pi

import torch
from torch import Tensor

from dss.certificate import Certificate, certify
from dss.errors import InputError
from dss.finder import Problem
from dss.objective import Objective
from dss.path import Path
from dss.taut import Solver, Taut, tighten

# How far other starts are bent away from the path, in distances of the ends.
BOW = 0.25
# Beads are inserted, and doubled, only while there are at most this many.
MOST_BEADS = 100


@dataclass(frozen=True)
class Shortening:
    """How a path is shortened.

    Attributes:
        solver: of the pulls.
        cells: places per segment that are held below the threshold from the start.
        rounds: pulls at one number of beads.
        beads: fewest intermediate beads to start with; a longer string is thinned out to these first.
        doublings: of the number of beads, at most.
        tolerance: the length has converged when doubling the beads changes it by less than this share.
        n_starts: the path itself, and bent copies of it; the shortest result is kept.
        prune: remove beads that are not needed.
        points: cells of the grid on which a segment is judged.
    """

    solver: Solver = field(default_factory=Solver)
    cells: int = 3
    rounds: int = 5
    beads: int = 6
    doublings: int = 4
    tolerance: float = 0.01
    n_starts: int = 1
    prune: bool = True
    points: int = 20

    def __post_init__(self):
        if min(self.cells, self.rounds, self.beads, self.n_starts, self.tolerance) <= 0 or self.doublings < 0:
            raise InputError(f"cells, rounds, beads, n_starts and tolerance are positive, doublings not negative, got {self}")


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
        stationarity: norm of the Lagrangian's gradient relative to the energy's; 0 at a geodesic. Of the last subsample
            where the data are subsampled, and then far from 0 by its noise.
        boundary_share: share of the path's length at which the loss is within 2 % of the threshold's size of it.
        starts: final normalized length from every start, the path given first; it counts where a start failed.
    """

    path: Path
    certificate: Certificate
    length_before: float
    lengths: tuple[tuple[int, float], ...]
    change: float | None
    converged: bool
    stationarity: float
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
            "lengths_by_start": list(self.starts),
        }


def shorten(
    objective: Objective,
    path: Path,
    *,
    threshold: float,
    judge: Objective | None = None,
    options: Shortening = Shortening(),
    seed: int = 0,
) -> Shortened:
    """Pull a path tight inside its level set.

    All inner beads move together: least energy subject to the threshold, by an augmented Lagrangian (see `dss.taut`).
    Beads are doubled until the length stops changing. A string counts only if it passes the same certificate as
    any other path, so the result is never longer than `path` and never above the threshold.

    Args:
        objective: gradients come from it.
        path: a path whose certificate passes.
        threshold: L0.
        judge: the loss that must stay below; the objective itself by default. It needs no gradient.
        options: limits and tolerances.
        seed: of subsamples and other starts.

    Raises:
        InputError: the path does not pass at this threshold, or its ends cannot be used.
    """
    problem = Problem.of(objective, path.beads[0], path.beads[-1], threshold=threshold, judge=judge, seed=seed)
    return shorten_within(problem, path, options)


def shorten_within(problem: Problem, path: Path, options: Shortening = Shortening()) -> Shortened:
    """`shorten` for a problem validated already; evaluations count in its tally.

    Raises:
        InputError: the path does not pass.
    """
    given = certify(problem.judge, path, threshold=problem.threshold, points=options.points)
    if not given.passed:
        raise InputError(f"only a path that passes can be shortened, but {given.reason}; find one first")
    runs = [_shortened(problem, path, start, number, options) for number, start in _starts(problem, path, options)]
    best = min(runs, key=lambda run: run.path.normalized_length)
    certificate = certify(problem.judge, best.path, threshold=problem.threshold, points=options.points)
    return Shortened(
        path=best.path,
        certificate=certificate,
        length_before=path.normalized_length,
        lengths=tuple(best.lengths),
        change=best.change,
        converged=best.change is not None and best.change < options.tolerance,
        stationarity=best.stationarity,
        boundary_share=boundary_share(problem.judge, best.path, problem.threshold, points=options.points),
        starts=tuple(run.path.normalized_length for run in runs),
    )


def prune(judge: Objective, path: Path, *, threshold: float, points: int = 20) -> Path:
    """Remove every intermediate bead without which the path still passes; it only gets shorter.

    Beads that deviate least from the line between their neighbours are tried first.
    """
    kept = list(range(len(path)))
    for index in sorted(range(1, len(path) - 1), key=lambda i: _detour(path.beads[i - 1 : i + 2])):
        place = kept.index(index)
        bridge = Path(path.beads[[kept[place - 1], kept[place + 1]]])
        if certify(judge, bridge, threshold=threshold, points=2 * points).passed:
            kept.remove(index)
    return Path(path.beads[kept])


def boundary_share(judge: Objective, path: Path, threshold: float, *, points: int = 20, share: float = 0.02) -> float:
    """Share of the path's length at which the loss is within `share` of the threshold's size of the threshold."""
    t = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    near = []
    for segment in range(len(path) - 1):
        losses = judge(path.points(torch.full((points,), segment), t)).detach().double().cpu()
        near.append((losses >= threshold - share * (abs(threshold) or 1.0)).double().mean())
    lengths = path.segment_lengths().cpu()
    return (torch.stack(near) @ lengths / lengths.sum()).item()


@dataclass
class _Run:
    """The best string from one start so far."""

    path: Path
    lengths: list[tuple[int, float]]
    change: float | None = None
    stationarity: float = float("nan")


def _starts(problem: Problem, path: Path, options: Shortening) -> Iterator[tuple[int, Path]]:
    """The path, thinned out, and copies of it bent by half a sine wave in random directions."""
    first = path if path.intermediate_beads <= options.beads else path.resample(options.beads + 2)
    yield 0, first
    arc = (pi * first.arc_lengths()).sin().to(first.beads)[:, None]
    for number in range(1, options.n_starts):
        direction = torch.randn(path.beads.shape[1], generator=problem.generator("bow", number)).to(path.beads)
        bow = BOW * (problem.end - problem.start).norm() * direction / direction.norm()
        yield number, Path(torch.cat([first.beads[:1], (first.beads + arc * bow)[1:-1], first.beads[-1:]]))


def _shortened(problem: Problem, given: Path, start: Path, number: int, options: Shortening) -> _Run:
    """Tighten, double, tighten, until the length stops changing."""
    run = _Run(given, [])
    if len(start) > 2:
        taut = _tight(problem, _fresh(start, options), options, number)
        if not _note(problem, run, taut, options) and len(given) > len(start):
            # Thinned out too far: the path's own beads can at least do what they did.
            taut = _tight(problem, _fresh(given, options), options, number)
            _note(problem, run, taut, options)
        for _ in range(options.doublings):
            if len(taut.path) > 2 * MOST_BEADS or run.change is not None and run.change < options.tolerance:
                break
            segments = torch.arange(len(taut.path) - 1)
            doubled = taut.insert(segments, torch.full((len(segments),), 0.5, dtype=torch.float64), options.cells)
            taut = _tight(problem, doubled, options, number)
            _note(problem, run, taut, options)
    if options.prune:
        run.path = prune(problem.judge, run.path, threshold=problem.threshold, points=options.points)
    return run


def _fresh(path: Path, options: Shortening) -> Taut:
    return Taut.of(path, cells=options.cells, weight=options.solver.weight)


def _note(problem: Problem, run: _Run, taut: Taut, options: Shortening) -> bool:
    """Keep a string that passes, if it is the shortest; whether it passes."""
    if not certify(problem.judge, taut.path, threshold=problem.threshold, points=options.points).passed:
        return False
    length = taut.path.normalized_length
    if run.lengths:
        run.change = abs(run.lengths[-1][1] - length) / length
    run.lengths.append((taut.path.intermediate_beads, length))
    if length < run.path.normalized_length:
        run.path, run.stationarity = taut.path, taut.stationarity
    return True


def _tight(problem: Problem, taut: Taut, options: Shortening, number: int) -> Taut:
    """Rounds of `tighten` until every segment passes."""
    for _ in range(options.rounds):
        insert = len(taut.path) <= MOST_BEADS
        taut = tighten(
            problem, taut, solver=options.solver, cells=options.cells, points=options.points, insert=insert, key=("shorten", number)
        )
        if (taut.maxima <= problem.threshold).all():
            break
    return taut


def _detour(beads: Tensor) -> float:
    """How much longer the way over the middle of three beads is than the line between the outer ones."""
    a, b, c = beads.double()
    return ((b - a).norm() + (c - b).norm() - (c - a).norm()).item()
