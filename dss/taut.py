"""The taut string: the least stretched polygon between two ends whose losses stay at or below a level.

Beads minimise the energy `(n-1) sum |x_{i+1} - x_i|^2 / |a - b|^2` (1 for the straight line, the squared normalized
length for equally spaced beads) subject to `L <= level` at chosen places of the string. The constraints are kept by an
augmented Lagrangian (Hestenes 1969; Powell 1969; Rockafellar 1973 for inequalities): unlike a plain penalty it meets
them without a weight that grows without bound, which would ruin the conditioning of the inner problems. Those are
solved by L-BFGS with strong Wolfe line searches, in coordinates in which the energy is the squared norm.
"""

from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor

from dss.certificate import Peaks, sample_segments
from dss.errors import InputError
from dss.finder import Problem
from dss.path import Path
from dss.places import Places

# Places farther below their aim than this share of the threshold's size are not watched until the next update.
WATCHED = 0.3
# A weight beyond this only ruins the conditioning.
MOST_WEIGHT = 1e6


@dataclass(frozen=True)
class Solver:
    """How a string is pulled tight.

    Attributes:
        iterations: of L-BFGS between two updates of the multipliers.
        updates: of the multipliers, at most.
        weight: of a squared violation at first; it grows fourfold while violations do not halve.
        history: pairs of vectors L-BFGS remembers.
        margin: how far below the threshold the places are aimed, as a share of its size.
        tolerance: largest violation of that aim left, as a share of the threshold's size.
        settle: go on after that until the length changes by less than this share from update to update; None stops
            at the first string that fits.
        samples: data that one inner problem reads; objectives with more are subsampled anew at every update.
    """

    iterations: int = 25
    updates: int = 12
    weight: float = 10.0
    history: int = 10
    margin: float = 0.004
    tolerance: float = 0.002
    settle: float | None = 5e-4
    samples: int = 512

    def __post_init__(self):
        if min(self.iterations, self.updates, self.history, self.samples) < 1:
            raise InputError(f"iterations, updates, history and samples are at least 1, got {self}")
        if self.weight <= 0 or not 0 <= self.tolerance <= self.margin < 1:
            raise InputError(f"weight is positive and 0 <= tolerance <= margin < 1, got {self}")


@dataclass(frozen=True, eq=False)
class Pulled:
    """A string pulled tight: `violation` is the largest one left, `stationarity` the gradient's norm (both relative).

    `calls` counts gradients of the whole string.
    """

    path: Path
    places: Places
    weight: float
    violation: float
    stationarity: float
    calls: int


def pull(problem: Problem, path: Path, places: Places, *, solver: Solver, weight: float, key: tuple) -> Pulled:
    """Pull a string tight while its places stay below the problem's threshold.

    Args:
        problem: its objective gives gradients, its judge corrects the objective's values at every update.
        path: where to start; three beads at least.
        places: where the level is to be kept, with the forces known so far.
        solver: limits.
        weight: of a squared violation.
        key: of the random subsamples.
    """
    string = _String(path, problem.start, problem.end)
    scale = abs(problem.threshold) or 1.0
    aim = problem.threshold - solver.margin * scale
    over = (_judged(problem, string.points(places)) - aim) / scale
    before, length, calls = float("inf"), string.length(), 0
    for update in range(solver.updates):
        # What lies far below and is not held costs nothing until the next update.
        watched = torch.nonzero((over > -WATCHED) | (places.multipliers > 0) | (over == over.max()))[:, 0]
        few = places.take(watched)
        surrogate = _Surrogate(problem, solver, string.points(few).detach(), over[watched], scale, (*key, update))
        lagrangian = _Lagrangian(string, surrogate, few, weight, len(over))
        calls += lagrangian.minimise(solver)
        over = (_judged(problem, string.points(places)) - aim) / scale
        worst = over.max().item()
        places = replace(places, multipliers=(places.multipliers + weight * over).relu())
        length, shrunk = string.length(), abs(length - string.length())
        if worst <= solver.tolerance and (solver.settle is None or shrunk <= solver.settle * length):
            break
        weight = weight if worst < max(before / 2, solver.tolerance) else min(4 * weight, MOST_WEIGHT)
        before = worst
    return Pulled(string.path(), places, weight, worst, lagrangian.gradient_norm(), calls)


def _judged(problem: Problem, points: Tensor) -> Tensor:
    """Judged losses `(m,)` in float64, on the CPU, without gradient."""
    with torch.no_grad():
        return problem.judge(points.detach()).double().cpu()


class _Surrogate:
    """The judge's relative violations, modelled by the objective's losses L: `v_0 + slope (L(x) - L(x_0)) / scale`.

    Exact at the points `x_0` where it was made, and everywhere if the objective is the judge and not subsampled.
    """

    def __init__(self, problem: Problem, solver: Solver, points: Tensor, over: Tensor, scale: float, key: tuple):
        self.objective, self.scale, self.over = problem.objective, scale, over
        whole = self.objective.samples <= solver.samples
        batches = 0 if whole else ceil(solver.samples / self.objective.batch_samples)
        # The same generators at every call: one fixed subsample.
        self.generators = [lambda i=i: problem.generator(*key, i) for i in range(batches)]
        with torch.no_grad():
            self.before = self._losses(points)
        self.slope = 1.0 if problem.judge is self.objective else _ratio_of_spreads(over * scale, self.before)

    def __call__(self, points: Tensor) -> Tensor:
        """Relative violations `(m,)` of the aim, float64, negative below; differentiable."""
        return self.over + self.slope * (self._losses(points) - self.before) / self.scale

    def _losses(self, points: Tensor) -> Tensor:
        if not self.generators:
            return self.objective(points).double().cpu()
        parts = [self.objective.estimate(points, generator()) for generator in self.generators]
        return torch.stack(parts).mean(0).double().cpu()


def _ratio_of_spreads(judged: Tensor, own: Tensor) -> float:
    """How many units of the judge one unit of the objective is worth; 1 where neither moves."""
    spreads = [(values.max() - values.min()).item() for values in (judged, own)]
    return spreads[0] / spreads[1] if min(spreads) > 0 else 1.0


class _String:
    """Beads in coordinates `y` in which the energy is 1 + |y|^2."""

    def __init__(self, path: Path, start: Tensor, end: Tensor):
        self.ends = torch.stack([start, end])
        inner, beads = len(path) - 2, path.beads
        distance = (end.double() - start.double()).norm().item()
        neighbours = torch.diag(torch.ones(inner - 1, dtype=torch.float64), 1)
        factor = torch.linalg.cholesky(2 * torch.eye(inner, dtype=torch.float64) - neighbours - neighbours.T)
        root = (inner + 1) ** 0.5 / distance
        self.to_beads = (torch.linalg.inv(factor).T / root).to(beads)
        share = torch.linspace(0, 1, inner + 2, dtype=torch.float64)[1:-1, None].to(beads)
        self.line = torch.lerp(start, end, share)
        self.y = ((factor.T * root).to(beads) @ (beads[1:-1] - self.line)).requires_grad_()

    def beads(self) -> Tensor:
        return torch.cat([self.ends[:1], self.line + self.to_beads @ self.y, self.ends[1:]])

    def path(self) -> Path:
        return Path(self.beads().detach())

    def length(self) -> float:
        """Normalized length."""
        return self.path().normalized_length

    def points(self, places: Places) -> Tensor:
        """The places' points `(m, p)`, differentiable."""
        beads, segments = self.beads(), places.segments.to(self.y.device)
        return torch.lerp(beads[segments], beads[segments + 1], places.t.to(beads)[:, None])


@dataclass(frozen=True, eq=False)
class _Lagrangian:
    """Energy and the augmented Lagrangian's terms of some places, averaged over `count` places."""

    string: _String
    surrogate: _Surrogate
    places: Places
    weight: float
    count: int

    def __call__(self) -> Tensor:
        violations = self.surrogate(self.string.points(self.places))
        force = (self.places.multipliers + self.weight * violations).relu()
        return self.string.y.double().square().sum().cpu() + force.square().sum() / (2 * self.weight * self.count)

    def minimise(self, solver: Solver) -> int:
        """Descend; the number of gradients it took."""
        optimizer = torch.optim.LBFGS(
            [self.string.y], max_iter=solver.iterations, history_size=solver.history, line_search_fn="strong_wolfe",
            tolerance_grad=1e-6, tolerance_change=1e-9,
        )  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            value = self()
            value.backward()
            return value.detach()

        optimizer.step(closure)
        return optimizer.state[self.string.y]["func_evals"]

    def gradient_norm(self) -> float:
        """Norm of the gradient relative to the energy's own: 0 where the string is stationary."""
        (gradient,) = torch.autograd.grad(self(), self.string.y)
        return (gradient.norm() / (2 * self.string.y.detach().norm()).clamp_min(1e-12)).item()


@dataclass(frozen=True, eq=False)
class Taut:
    """A string between two rounds of `tighten`.

    Attributes:
        path, places: the string and where it is held.
        weight: of a squared violation.
        maxima: `(n - 1,)` float64, each segment's largest judged loss; NaN before the first round and where a bead
            was inserted since.
        stationarity: norm of the Lagrangian's gradient relative to the energy's.
        round: rounds so far.
        steps: gradient steps of all beads together so far.
    """

    path: Path
    places: Places
    weight: float
    maxima: Tensor
    stationarity: float = float("nan")
    round: int = 0
    steps: int = 0

    @classmethod
    def of(cls, path: Path, *, cells: int, weight: float) -> "Taut":
        """A string of three beads or more before its first round."""
        unknown = torch.full((len(path) - 1,), torch.nan, dtype=torch.float64)
        return cls(path, Places.grid(len(path) - 1, cells), weight, unknown)

    def insert(self, segments: Tensor, t: Tensor, cells: int) -> "Taut":
        """The same curve with beads inserted at places `t` of `segments`, `(m,)` both; forces carried over."""
        path = self.path.insert(segments, self.path.points(segments, t))
        beads = torch.cat([torch.arange(len(self.path), dtype=torch.float64), segments + t]).sort().values
        places = self.places.carried(beads, cells)
        return replace(self, path=path, places=places, maxima=after_insertion(self.maxima, segments))


def tighten(problem: Problem, taut: Taut, *, solver: Solver, cells: int, points: int, insert: bool, key: tuple) -> Taut:
    """Pull once, judge every segment, and hold the string where it failed.

    A segment that fails gets a place at its peak; if it has two such places already, or has failed beside one in the
    third round, a bead instead (`insert`).

    Args:
        problem: objective, judge and threshold.
        taut: the string so far.
        solver: of the pull.
        cells: places per segment of a new grid.
        points: cells of the grid on which a segment is judged.
        insert: whether beads may be inserted.
        key: of the random subsamples.
    """
    pulled = pull(problem, taut.path, taut.places, solver=solver, weight=taut.weight, key=(*key, taut.round))
    path, places = pulled.path, pulled.places
    every = torch.arange(len(path) - 1)
    peaks = _peaks(problem, path, points)
    maxima, failed = peaks.losses, peaks.losses > problem.threshold
    near = places.near(peaks.t)
    stuck = failed & ((places.count(len(every)) >= cells + 2) | (near & (taut.round >= 2)))
    steps = taut.steps + pulled.calls * path.intermediate_beads
    taut = Taut(path, places, pulled.weight, maxima, pulled.stationarity, taut.round + 1, steps)
    if insert and stuck.any():
        return taut.insert(every[stuck], peaks.t[stuck], cells)
    new = failed & ~near
    return replace(taut, places=places.add(every[new], peaks.t[new]))


def _peaks(problem: Problem, path: Path, points: int) -> Peaks:
    """Every segment's peak: a few looks settle that a segment fails, only one that seems to pass gets them all."""
    every = torch.arange(len(path) - 1)
    peaks = sample_segments(problem.judge, path, every, points=4, threshold=problem.threshold, refine=False)
    rest = torch.nonzero(peaks.losses <= problem.threshold)[:, 0]
    if len(rest):
        fine = sample_segments(problem.judge, path, rest, points=points, threshold=problem.threshold)
        peaks.losses[rest], peaks.t[rest] = fine.losses, fine.t
    return peaks


def after_insertion(maxima: Tensor, segments: Tensor) -> Tensor:
    """Segment maxima `(n - 1,)` after one insertion in each of `segments`: both halves are not judged yet."""
    counts = torch.ones_like(maxima, dtype=torch.long)
    counts[segments] = 2
    maxima = maxima.clone()
    maxima[segments] = torch.nan
    return maxima.repeat_interleave(counts)
