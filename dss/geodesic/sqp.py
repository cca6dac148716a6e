"""The least stretched polygon between two ends whose losses stay at or below a level, by sequential quadratic programming.

Beads minimise the energy `(n-1) sum |x_{i+1} - x_i|^2 / |a - b|^2` (1 for the straight line, the squared normalized
length for equally spaced beads) subject to `L <= level` at chosen points of the string (Nocedal & Wright 2006, chapter
18). Losses of different points are independent, so every constraint's own gradient is known and the constraints are
linearised one by one; an L-BFGS model carries the curvature of the Lagrangian; the dual problem has one unknown, the
multiplier, per constraint. It takes about a third of the gradients that an augmented Lagrangian with L-BFGS inside
takes to the same string.
"""

from dataclasses import dataclass
from math import ceil, inf, isfinite, nan

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.path import Path
from dss.geodesic.constraint_points import ConstraintPoints
from dss.geodesic.constraints import ConstraintFunction, Level
from dss.geodesic.quadratic import LBFGSModel, box_qp
from dss.geodesic.string import String
from dss.problem import Problem

# Points farther below their aim than this share of the threshold's size are no constraints of one solve: most of a string
# lies far below the level, and every constraint costs a gradient. They are judged again after the solve.
WATCHED = 0.3
# No bead moves farther in one step than this share of the distance of the ends: models are local.
MOVE = 0.05
# The curvature of the energy in our coordinates, the least that the Lagrangian is taken to have.
ENERGY_SCALE = 2.0
# The multipliers' upper bound at first, in energy per relative violation; it doubles while some of them reach it. Without
# a bound the quadratic program has no solution where linearised constraints contradict one another (Nocedal & Wright 2006,
# section 18.5). Where the bound has grown to the last one they still do, and the solve ends: a judge without gradients,
# such as an error rate, may jump where the objective that stands in for it promises a fall.
FIRST_BOUND, LAST_BOUND = 2.0, 2.0**24
# A constraint this close to its aim may carry a multiplier when the string is judged stationary.
ACTIVE = 2e-3
# Shares of a step that are tried.
TRIALS = 8


@dataclass(frozen=True)
class SequentialQP:
    """How a string is shortened at one number of beads.

    Attributes:
        iterations: steps of one solve, at most.
        updates: solves, each with a model corrected by the judge; one is enough where the judge has gradients.
        history: pairs of vectors L-BFGS remembers.
        margin: how far below the threshold the constraint points are aimed, as a share of its size.
        tolerance: largest violation of that aim left, as a share of the threshold's size.
        settle: a solve ends when its next step promises to shorten the string by less than this share.
        samples: data that one gradient reads at most. The judge's own gradients are used where it has any and reads no
            more than this; otherwise those of the objective, of a fixed subsample if it has more.
    """

    iterations: int = 100
    updates: int = 8
    history: int = 15
    margin: float = 0.004
    tolerance: float = 0.002
    settle: float = 3e-4
    samples: int = 2000

    def __post_init__(self):
        if min(self.iterations, self.updates, self.history, self.samples) < 1:
            raise InputError(f"iterations, updates, history and samples are at least 1, got {self}")
        if self.settle <= 0 or not 0 <= self.tolerance <= self.margin < 1:
            raise InputError(f"settle is positive and 0 <= tolerance <= margin < 1, got {self}")


@dataclass(frozen=True, eq=False)
class SQPResult:
    """A string after one solve.

    Attributes:
        path: the string.
        violation: the largest one left at its constraint points, relative to the threshold.
        stationarity: share of the energy's gradient that no multipliers at the level balance, 0 at a geodesic; None where
            gradients were those of a subsample, which has its own geodesic.
        gradients: how often that of the whole string was computed.
        contradicted: whether it ended because linearised constraints contradicted one another.
    """

    path: Path
    violation: float
    stationarity: float | None
    gradients: int
    contradicted: bool


def minimise(problem: Problem, path: Path, held: ConstraintPoints, *, solver: SequentialQP, key: tuple) -> SQPResult:
    """Shorten a string while it stays below the problem's threshold at its constraint points.

    Args:
        problem: its objective gives gradients where its judge has none.
        path: where to start; three beads at least.
        held: where the level is to be kept.
        solver: limits.
        key: of the random subsamples.
    """
    level = Level.of(problem, solver.margin)
    string = String(path)
    over, length, gradients = level.violations(string.points(held)), string.length(), 0
    for _ in range(solver.updates):
        watched = torch.nonzero((over > -WATCHED) | (over == over.max()))[:, 0]
        few = held.take(watched)
        constraints = ConstraintFunction(level, string.points(few), over[watched], samples=solver.samples, key=key)
        program = _Program(string, few, constraints, solver)
        program.solve()
        gradients += program.evaluations
        over = level.violations(string.points(held))
        length, shrunk = string.length(), abs(length - string.length())
        outside = torch.ones(len(over), dtype=torch.bool)
        outside[watched] = False
        unseen = (over[outside] > solver.tolerance).any()
        settled = constraints.exact or (over.max() <= solver.tolerance and shrunk <= solver.settle * length)
        if program.contradicted or (settled and not unseen):
            break
    stationarity = None if constraints.subsampled else program.stationarity()
    return SQPResult(string.path(), over.max().item(), stationarity, gradients, program.contradicted)


class _Program:
    """Least `|y|^2` with every violation at most 0, by sequential quadratic programming.

    Vectors of the string's size are `y`, the L-BFGS pairs and one gradient per constraint; the constraint's gradient in
    the coordinates, `weights[i]` times `gradients[i]`, is never formed. The merit function is the exact L1 penalty
    (Han 1977; Powell 1978).
    """

    def __init__(self, string: String, held: ConstraintPoints, constraints: ConstraintFunction, solver: SequentialQP):
        self.string, self.held, self.constraints, self.solver = string, held, constraints, solver
        self.weights = string.weights(held)
        self.model = LBFGSModel(ENERGY_SCALE, ENERGY_SCALE, solver.history)
        self.multipliers = torch.zeros(len(held.t), dtype=torch.float64)
        self.penalties = torch.zeros_like(self.multipliers)
        self.bound, self.contradicted = FIRST_BOUND, False
        self.asked, self.seen = 0, torch.zeros_like(self.multipliers)
        self.values, self.gradients, _ = self._evaluate(inf)

    def solve(self) -> None:
        """Step until the string is tight and its violations are within the tolerance, or no step helps."""
        for _ in range(self.solver.iterations):
            direction, predicted = self._direction()
            within = self.values.max() <= self.solver.tolerance
            if within and -predicted <= 2 * self.solver.settle * (1 + self._energy()):
                break
            pressed = not within and (self.multipliers >= self.bound).any()
            self.contradicted = self.bound > LAST_BOUND or not direction.isfinite().all()
            if self.contradicted:
                break
            if not self._search(direction, predicted):
                # The model may be to blame: once more without it, down the steepest descent.
                if not self.model.steps:
                    break
                self.model = LBFGSModel(ENERGY_SCALE, ENERGY_SCALE, self.solver.history)
            self.bound *= 2 if pressed else 1

    def stationarity(self) -> float:
        """The part of the energy's gradient that no multipliers at the level can balance; 0 at a geodesic."""
        active = torch.nonzero(self.values >= -self.solver.margin - ACTIVE)[:, 0]
        gram = self._gram([])
        inner, linear = gram[1:, 1:][active][:, active], 2 * gram[0, 1:][active]
        multipliers = box_qp(inner, -linear, inf)
        total = 4 * gram[0, 0]
        left = total + 2 * multipliers @ linear + multipliers @ inner @ multipliers
        # On the straight line there is nothing to balance but rounding.
        return (left.clamp_min(0) / total).sqrt().item() if total > 1e-9 else 0.0

    @property
    def evaluations(self) -> int:
        """How often the gradients of the whole string were computed, or as many in parts."""
        return ceil(self.asked / len(self.weights))

    def _evaluate(self, most: float) -> tuple[Tensor, Tensor, float]:
        """Values, gradients and the merit; once the merit is seen to exceed `most`, only a lower bound of it, and what was seen."""
        points, merit = self.string.points(self.held), self._energy()
        values, gradients = torch.full_like(self.multipliers, nan), torch.empty_like(points)
        for some in self._in_turn():
            values[some], gradients[some] = self.constraints(points[some], some)
            self.asked, self.seen[some] = self.asked + len(some), values[some]
            merit += (self.penalties[some] @ values[some].relu()).item()
            if merit > most:
                break
        return values, gradients, merit

    def _in_turn(self) -> tuple[Tensor, ...]:
        """The constraints, those first that are likelier to make a step fail; one by one where they are evaluated so, else together."""
        if not self.constraints.apart:
            return (torch.arange(len(self.seen)),)
        return (self.penalties * (self.seen - self.seen.min())).argsort(descending=True, stable=True).split(1)

    def _energy(self) -> float:
        return self.string.y.double().square().sum().item()

    def _merit(self) -> float:
        return self._energy() + (self.penalties @ self.values.relu()).item()

    def _gram(self, pairs: list[Tensor]) -> Tensor:
        """Inner products, float64 on the CPU: the coordinates, the constraints' gradients, the pairs, in this order."""
        vectors, m = torch.stack([self.string.y, *pairs]), len(self.weights)
        flat = vectors.flatten(1)
        cross = ((vectors @ self.gradients.T) * self.weights.T).sum(1)
        constraints = (self.weights @ self.weights.T) * (self.gradients @ self.gradients.T)
        gram = torch.empty(len(flat) + m, len(flat) + m, dtype=torch.float64)
        rest, held = [0, *range(m + 1, len(gram))], list(range(1, m + 1))
        gram[torch.tensor(rest)[:, None], torch.tensor(rest)] = (flat @ flat.T).double().cpu()
        gram[torch.tensor(rest)[:, None], torch.tensor(held)] = cross.double().cpu()
        gram[torch.tensor(held)[:, None], torch.tensor(rest)] = cross.T.double().cpu()
        gram[1 : m + 1, 1 : m + 1] = constraints.double().cpu()
        return gram

    def _direction(self) -> tuple[Tensor, float]:
        """The quadratic program's step and the merit's slope along it; sets multipliers and penalties."""
        pairs, m = [*self.model.steps, *self.model.changes], len(self.weights)
        gram = self._gram(pairs)
        vectors = torch.zeros(len(gram), m + 1, dtype=torch.float64)
        vectors[range(m + 1), range(m + 1)] = 1.0
        vectors[0, 0] = 2.0
        solved = self.model.inverse(gram, vectors)
        matrix = gram[1 : m + 1] @ solved[:, 1:]
        linear = self.values - gram[1 : m + 1] @ solved[:, 0]
        # Rounding must not make the dual problem lopsided: its solver takes it for symmetric.
        self.multipliers = box_qp((matrix + matrix.T) / 2, linear, self.bound)
        # Above the multipliers, so that the direction is one of descent; halved towards them, so that one large multiplier
        # does not make the merit stiff for good (Powell 1978).
        self.penalties = torch.maximum(1.1 * self.multipliers, (self.penalties + self.multipliers) / 2)
        step = -(solved[:, 0] + solved[:, 1:] @ self.multipliers)
        change = gram[1 : m + 1] @ step
        slope = 2 * gram[0] @ step + self.penalties @ ((self.values + change).relu() - self.values.relu())
        return self._combined(step, pairs), slope.item()

    def _combined(self, coefficients: Tensor, pairs: list[Tensor]) -> Tensor:
        """The vector `(n - 2, p)` with these coefficients."""
        c, m = coefficients.to(self.string.y), len(self.weights)
        vector = c[0] * self.string.y + self._weighed(c[1 : m + 1])
        for share, pair in zip(c[m + 1 :], pairs, strict=True):
            vector += share * pair
        return vector

    def _weighed(self, multipliers: Tensor) -> Tensor:
        """The constraints' gradients `(n - 2, p)`, summed with multipliers `(m,)`."""
        return self.weights.T @ (multipliers.to(self.gradients)[:, None] * self.gradients)

    def _search(self, direction: Tensor, slope: float) -> bool:
        """Go along the direction as far as the merit falls, learn the curvature on the way; whether it fell.

        By Armijo's rule; the next share is the minimum of the parabola through what is known, kept between a tenth and a
        half of the last (Nocedal & Wright 2006, section 3.5).
        """
        y, values, gradients, merit = self.string.y, self.values, self.gradients, self._merit()
        share = min(1.0, MOVE / max(self.string.largest_move(direction), 1e-30))
        before = self._weighed(self.multipliers)
        for trial in range(TRIALS):
            self.string.y = y + share * direction
            risen, enough = inf, 1e-4 * share * slope
            if self.string.beads().isfinite().all():
                most = inf if trial == TRIALS - 1 else merit + enough
                self.values, self.gradients, now = self._evaluate(most)
                risen = now - merit
            if risen <= enough:
                break
            if not isfinite(risen):
                # Out of the range of numbers, or where the loss is not one: no parabola goes through that.
                share *= 0.1
                continue
            wanted = -slope * share**2 / (2 * (risen - share * slope))
            share = min(max(wanted, 0.1 * share), 0.5 * share)
        step = self.string.y - y
        if isfinite(risen):
            # True of the function wherever the search ended, so it is learned even if the step is not taken.
            self.model.add(step, 2 * step + self._weighed(self.multipliers) - before)
        if risen < 0:
            return True
        self.string.y, self.values, self.gradients = y, values, gradients
        return False
