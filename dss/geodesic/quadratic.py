"""Quadratic models with linear constraints, seen through inner products only: the steps of `dss.geodesic.sqp`."""

from dataclasses import dataclass, field

import daqp
import numpy
import torch
from torch import Tensor


@dataclass
class LBFGSModel:
    """What L-BFGS knows of a Hessian that is at least `least` times the identity.

    The vectors themselves are large and stay where they are: everything happens in coefficients over a basis whose
    Gram matrix is given (Chen, Wang & Zhou 2014, Large-scale L-BFGS using MapReduce, algorithm 3).

    Attributes:
        least: the smallest curvature there can be.
        scale: the curvature assumed where nothing is known: that along the last step. A larger one, such as
            |change|^2 / (step . change), is safer and crawls: networks' curvatures range over six orders of magnitude.
        history: pairs that are remembered.
        steps, changes: the pairs, each `(n, p)`.
    """

    least: float
    scale: float
    history: int
    steps: list[Tensor] = field(default_factory=list)
    changes: list[Tensor] = field(default_factory=list)

    def add(self, step: Tensor, change: Tensor) -> None:
        """Learn how the gradient changed along a step.

        Across a kink, or where the Lagrangian is concave, the change can point against the step, and the model would stop
        being positive: it is then mixed with the least curvature (damping; Powell 1978, Nocedal & Wright 2006, procedure
        18.2).
        """
        length, product = _dot(step, step), _dot(step, change)
        floor = 0.2 * self.least * length
        if product < floor:
            share = (self.least * length - floor) / (self.least * length - product)
            change = share * change + (1 - share) * self.least * step
            product = _dot(step, change)
        if product > 0:
            self.scale = max(self.least, product / length)
            self.steps = [*self.steps, step][-self.history :]
            self.changes = [*self.changes, change][-self.history :]

    def inverse(self, gram: Tensor, vectors: Tensor) -> Tensor:
        """The inverse Hessian times vectors, `(k, r)` coefficients both: L-BFGS's two loops (Nocedal & Wright 2006,
        algorithm 7.4), in which every inner product is a row of the Gram matrix.

        Args:
            gram: `(k, k)` float64 of the basis, whose last entries are the steps and then the changes.
            vectors: `(k, r)` float64.
        """
        pairs = len(self.steps)
        first = len(gram) - 2 * pairs
        out, parts = vectors.clone(), []
        for j in reversed(range(pairs)):
            step, change = first + j, first + pairs + j
            part = (gram[step] @ out) / gram[step, change]
            out[change] -= part
            parts.append(part)
        out /= self.scale
        for j, part in enumerate(reversed(parts)):
            step, change = first + j, first + pairs + j
            out[step] += part - (gram[change] @ out) / gram[step, change]
        return out


# Ridges for a matrix of diagonal 1 that is not positive definite, until one serves: rounding asks for the first ones.
RIDGES = [10.0**power for power in range(-10, 3)]
# Steps that undo the ridge. More of them would follow directions that rounding alone makes profitable.
PROXIMAL_STEPS = 10
# Diagonal entries below this share of the largest are rounding.
NOTHING = 1e-13
# The solver's infinity, and how far it may leave the box where the solution is of the size 1.
UNBOUNDED, TOLERANCE = 1e30, 1e-12


def box_qp(matrix: Tensor, linear: Tensor, bound: float) -> Tensor:
    """The minimum `(m,)` of `x' matrix x / 2 - linear' x` with 0 <= x <= bound.

    By the dual active-set method of Arnstroem, Bemporad & Axehill 2022 (A dual active-set solver for embedded quadratic programming
    using recursive LDL' updates), which wants a positive definite matrix. Constraints that repeat one another make it singular, and
    rounding makes it indefinite: it then gets a ridge, which proximal steps undo (Rockafellar 1976). A matrix of diagonal 1 goes in.

    Args:
        matrix: `(m, m)` float64, positive semi-definite up to rounding.
        linear: `(m,)` float64; in the matrix's range where the bound is infinite.
        bound: upper bound of every entry.

    Returns:
        The minimum; NaN where the problem is not finite, or so far from convex that no ridge helps.
    """
    k, right = matrix.numpy(), linear.numpy()
    if not (numpy.isfinite(k).all() and numpy.isfinite(right).all()):
        return torch.full_like(linear, torch.nan)
    largest = k.diagonal().max(initial=0.0)
    units = 1 / numpy.sqrt(numpy.maximum(k.diagonal(), NOTHING * largest if largest > 0 else 1.0))
    slopes = units * right
    size = numpy.abs(slopes).max(initial=0.0) or 1.0
    x, sides = _minimum(units[:, None] * k * units, slopes / size, numpy.minimum(bound / (size * units), UNBOUNDED))
    # Entries at a bound are there exactly: callers ask.
    x = numpy.select([sides > 0, sides < 0], [bound, 0.0], (size * units * x).clip(0, bound))
    return torch.from_numpy(x)


def _minimum(k: numpy.ndarray, right: numpy.ndarray, upper: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The minimum over `0 <= x <= upper`, and on which side each entry is held: positive above, negative below, 0 nowhere."""
    x, sides, solved = _solved(k, right, upper)
    if solved:
        return x, sides
    for ridge in RIDGES:
        ridged = k + ridge * numpy.eye(len(right))
        x, sides, solved = _solved(ridged, right, upper)
        if solved:
            break
    else:
        return numpy.full_like(right, numpy.nan), numpy.zeros_like(right)
    for _ in range(PROXIMAL_STEPS):
        last, (x, sides, _) = x, _solved(ridged, right + ridge * x, upper)
        if numpy.abs(x - last).max() <= TOLERANCE * numpy.abs(x).max():
            break
    return x, sides


def _solved(k: numpy.ndarray, right: numpy.ndarray, upper: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, bool]:
    """The solver's minimum, multipliers of the bounds, and whether it holds the matrix for positive definite."""
    none, zeros = numpy.zeros((0, len(right))), numpy.zeros(len(right))
    free = numpy.zeros(len(right), dtype=numpy.int32)
    x, _, flag, more = daqp.solve(k, -right, none, upper, zeros, free, primal_tol=TOLERANCE, eps_prox=0.0)
    return x, more["lam"], flag == 1


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.reshape(-1), b.reshape(-1)).item()
