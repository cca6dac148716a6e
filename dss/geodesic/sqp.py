"""Pull a string tight: the least stretched polygon between two ends whose losses stay at or below a level.

Beads minimise the energy `(n-1) sum |x_{i+1} - x_i|^2 / |a - b|^2` (1 for the straight line, the squared normalized
length for equally spaced beads) subject to `L <= level` at chosen places of the string, by sequential quadratic
programming (Nocedal & Wright 2006, chapter 18). Losses of different points are independent, so every place's own
gradient is known and the constraints are linearised one by one; an L-BFGS model carries the curvature of the
Lagrangian; the dual problem has one unknown per place. It takes about a third of the gradients that an augmented
Lagrangian with L-BFGS inside takes to the same string.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.base.path import Path
from dss.geodesic.constraint_points import Places
from dss.geodesic.constraints import Level, Violations
from dss.geodesic.quadratic import Curvature, box_minimum
from dss.problem import Problem

# Places farther below their aim than this share of the threshold's size are not watched during one solve.
WATCHED = 0.3
# No bead moves farther in one step than this share of the distance of the ends: models are local.
MOVE = 0.05
# The curvature of the energy in our coordinates, the least that the Lagrangian is taken to have.
ENERGY_SCALE = 2.0
# Largest force at first, in energy per relative violation; it doubles while places press against it.
FIRST_CAP = 2.0
# A place within this many margins of the level may carry a force when the string is judged stationary.
ACTIVE = 2e-3


@dataclass(frozen=True)
class Solver:
    """How a string is pulled tight.

    Attributes:
        iterations: steps of one solve, at most.
        updates: solves, each with a model corrected by the judge; one is enough where the judge has gradients.
        history: pairs of vectors L-BFGS remembers.
        margin: how far below the threshold the places are aimed, as a share of its size.
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
class Pulled:
    """A string pulled tight.

    Attributes:
        path: the string.
        violation: the largest one left at its places, relative to the threshold.
        stationarity: see `Stationarity`; None where gradients were those of a subsample, which has its own geodesic.
        calls: gradients of the whole string.
    """

    path: Path
    violation: float
    stationarity: float | None
    calls: int


def pull(problem: Problem, path: Path, places: Places, *, solver: Solver, key: tuple) -> Pulled:
    """Pull a string tight while its places stay below the problem's threshold.

    Args:
        problem: its objective gives gradients where its judge has none.
        path: where to start; three beads at least.
        places: where the level is to be kept.
        solver: limits.
        key: of the random subsamples.
    """
    level = Level.of(problem, solver.margin)
    string = String(path)
    over, length, calls = level.violations(string.points(places)), string.length(), 0
    for _ in range(solver.updates):
        watched = torch.nonzero((over > -WATCHED) | (over == over.max()))[:, 0]
        few = places.take(watched)
        violations = Violations(level, string.points(few), over[watched], samples=solver.samples, key=key)
        program = _Program(string, few, violations, solver)
        program.solve()
        calls += program.calls
        over = level.violations(string.points(places))
        length, shrunk = string.length(), abs(length - string.length())
        outside = torch.ones(len(over), dtype=torch.bool)
        outside[watched] = False
        unseen = (over[outside] > solver.tolerance).any()
        settled = violations.exact or (over.max() <= solver.tolerance and shrunk <= solver.settle * length)
        if settled and not unseen:
            break
    stationarity = None if violations.subsampled else program.stationarity()
    return Pulled(string.path(), over.max().item(), stationarity, calls)


class String:
    """Beads in coordinates `y` `(n - 2, p)` in which the energy is 1 + |y|^2."""

    def __init__(self, path: Path):
        beads, inner = path.beads, len(path) - 2
        self.ends = beads[[0, -1]]
        self.distance = (beads[-1].double() - beads[0].double()).norm().item()
        neighbours = torch.diag(torch.ones(inner - 1, dtype=torch.float64), 1)
        factor = torch.linalg.cholesky(2 * torch.eye(inner, dtype=torch.float64) - neighbours - neighbours.T)
        root = (inner + 1) ** 0.5 / self.distance
        self.to_beads = (torch.linalg.inv(factor).T / root).to(beads)
        share = torch.linspace(0, 1, inner + 2, dtype=torch.float64)[1:-1, None].to(beads)
        self.line = torch.lerp(beads[0], beads[-1], share)
        self.y = (factor.T * root).to(beads) @ (beads[1:-1] - self.line)

    def beads(self) -> Tensor:
        return torch.cat([self.ends[:1], self.line + self.to_beads @ self.y, self.ends[1:]])

    def path(self) -> Path:
        return Path(self.beads())

    def length(self) -> float:
        """Normalized length."""
        return self.path().normalized_length

    def points(self, places: Places) -> Tensor:
        """The places' points `(m, p)`."""
        return self.path().points(places.segments, places.t)

    def weights(self, places: Places) -> Tensor:
        """How the places' points `(m, p)` follow the coordinates: `weights (m, n - 2) @ y`, up to a constant."""
        rows = torch.zeros(len(self.to_beads) + 2, len(self.to_beads), dtype=self.y.dtype, device=self.y.device)
        rows[1:-1] = self.to_beads
        segments = places.segments.to(self.y.device)
        return torch.lerp(rows[segments], rows[segments + 1], places.t.to(rows)[:, None])

    def largest_move(self, direction: Tensor) -> float:
        """How far the bead that moves farthest goes with a step in the coordinates, in distances of the ends."""
        return (self.to_beads @ direction).norm(dim=1).max().item() / self.distance


class _Program:
    """Least `|y|^2` with every violation at most 0, by sequential quadratic programming.

    Vectors of the string's size are `y`, the curvature's pairs and one gradient per place; the constraint's gradient in
    the coordinates, `weights[i]` times `gradients[i]`, is never formed. The merit function is the exact L1 penalty
    (Han 1977; Powell 1978).
    """

    def __init__(self, string: String, places: Places, violations: Violations, solver: Solver):
        self.string, self.places, self.violations, self.solver = string, places, violations, solver
        self.weights = string.weights(places)
        self.curvature = Curvature(ENERGY_SCALE, ENERGY_SCALE, solver.history)
        self.forces = torch.zeros(len(places.t), dtype=torch.float64)
        self.penalties = torch.zeros_like(self.forces)
        self.cap = FIRST_CAP
        self.calls = 0
        self.values, self.gradients = self._evaluate()

    def solve(self) -> None:
        """Step until the string is tight and its violations are within the tolerance, or no step helps."""
        for _ in range(self.solver.iterations):
            direction, predicted = self._direction()
            within = self.values.max() <= self.solver.tolerance
            if within and -predicted <= 2 * self.solver.settle * (1 + self._energy()):
                break
            pressed = not within and (self.forces >= self.cap).any()
            if not self._search(direction, predicted):
                if not self.curvature.steps:
                    break
                self.curvature = Curvature(ENERGY_SCALE, ENERGY_SCALE, self.solver.history)
            self.cap *= 2 if pressed else 1

    def stationarity(self) -> float:
        """The part of the energy's gradient that no forces at the level can balance; 0 at a geodesic."""
        held = torch.nonzero(self.values >= -self.solver.margin - ACTIVE)[:, 0]
        gram = self._gram([])
        inner, pull = gram[1:, 1:][held][:, held], 2 * gram[0, 1:][held]
        forces = box_minimum(inner, -pull, float("inf"), torch.zeros(len(held), dtype=torch.float64))
        total = 4 * gram[0, 0]
        left = total + 2 * forces @ pull + forces @ inner @ forces
        # On the straight line there is nothing to balance but rounding.
        return (left.clamp_min(0) / total).sqrt().item() if total > 1e-9 else 0.0

    def _evaluate(self) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.violations(self.string.points(self.places))

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
        """The quadratic program's step and the merit's slope along it; sets forces and penalties."""
        pairs, m = [*self.curvature.steps, *self.curvature.changes], len(self.weights)
        gram = self._gram(pairs)
        vectors = torch.zeros(len(gram), m + 1, dtype=torch.float64)
        vectors[range(m + 1), range(m + 1)] = 1.0
        vectors[0, 0] = 2.0
        solved = self.curvature.inverse(gram, vectors)
        matrix = gram[1 : m + 1] @ solved[:, 1:]
        linear = self.values - gram[1 : m + 1] @ solved[:, 0]
        self.forces = box_minimum((matrix + matrix.T) / 2, linear, self.cap, self.forces)
        self.penalties = torch.maximum(1.1 * self.forces, (self.penalties + self.forces) / 2)
        step = -(solved[:, 0] + solved[:, 1:] @ self.forces)
        change = gram[1 : m + 1] @ step
        slope = 2 * gram[0] @ step + self.penalties @ ((self.values + change).relu() - self.values.relu())
        return self._combined(step, pairs), slope.item()

    def _combined(self, coefficients: Tensor, pairs: list[Tensor]) -> Tensor:
        """The vector `(n - 2, p)` with these coefficients."""
        c, m = coefficients.to(self.string.y), len(self.weights)
        vector = c[0] * self.string.y + self._pressed(c[1 : m + 1])
        for share, pair in zip(c[m + 1 :], pairs, strict=True):
            vector += share * pair
        return vector

    def _pressed(self, forces: Tensor) -> Tensor:
        """The constraints' gradients `(n - 2, p)`, summed with forces `(m,)`."""
        return self.weights.T @ (forces.to(self.gradients)[:, None] * self.gradients)

    def _search(self, direction: Tensor, slope: float) -> bool:
        """Go along the direction as far as the merit falls, learn the curvature on the way; whether it fell."""
        y, values, gradients, merit = self.string.y, self.values, self.gradients, self._merit()
        share = min(1.0, MOVE / max(self.string.largest_move(direction), 1e-30))
        before = self._pressed(self.forces)
        for _ in range(8):
            self.string.y = y + share * direction
            self.values, self.gradients = self._evaluate()
            risen = self._merit() - merit
            if risen <= 1e-4 * share * slope:
                break
            wanted = -slope * share**2 / (2 * (risen - share * slope))
            share = min(max(wanted, 0.1 * share), 0.5 * share)
        step = self.string.y - y
        self.curvature.add(step, 2 * step + self._pressed(self.forces) - before)
        if risen < 0:
            return True
        self.string.y, self.values, self.gradients = y, values, gradients
        return False
