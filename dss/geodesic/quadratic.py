"""Quadratic models with linear constraints, seen through inner products only: the steps of `dss.geodesic.sqp`."""

from dataclasses import dataclass, field

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


def box_qp(matrix: Tensor, linear: Tensor, bound: float, start: Tensor) -> Tensor:
    """The minimum `(m,)` of `x' matrix x / 2 - linear' x` with 0 <= x <= bound.

    Sweeps of coordinate descent find which entries are at their bounds; a Newton step within the face of the others is exact
    once they do (More & Toraldo 1991, Algorithms for bound constrained quadratic programming, section 3). Constraint points
    that lie close together make the matrix singular, where coordinates alone would crawl.

    Args:
        matrix: `(m, m)` float64, positive semi-definite.
        linear: `(m,)` float64.
        bound: upper bound of every entry.
        start: `(m,)` float64, where to start.
    """
    k, x = matrix.numpy(), start.clamp(0, bound).numpy().copy()
    diagonal = numpy.maximum(k.diagonal(), numpy.finfo(float).tiny)
    slope = k @ x - linear.numpy()
    for _ in range(500):
        if _sweep(k, x, slope, diagonal, bound) <= 1e-16:
            break
        _newton_step(k, x, slope, bound)
    return torch.from_numpy(x)


def _sweep(k: numpy.ndarray, x: numpy.ndarray, slope: numpy.ndarray, diagonal: numpy.ndarray, bound: float) -> float:
    """Minimise along every coordinate in turn; the most that one of them gained, twice over."""
    largest = 0.0
    for i in range(len(x)):
        new = min(max(x[i] - slope[i] / diagonal[i], 0.0), bound)
        moved = new - x[i]
        if moved:
            slope += moved * k[i]
            x[i] = new
            largest = max(largest, moved * moved * diagonal[i])
    return largest


def _newton_step(k: numpy.ndarray, x: numpy.ndarray, slope: numpy.ndarray, bound: float) -> None:
    """To the minimum over the entries that are at no bound, or as far towards it as the box allows."""
    free = numpy.flatnonzero((x > 0) & (x < bound))
    if not len(free):
        return
    step = -numpy.linalg.lstsq(k[numpy.ix_(free, free)], slope[free], rcond=None)[0]
    limits = numpy.where(step > 0, bound - x[free], x[free])
    moving = step != 0
    share = min(1.0, (limits[moving] / numpy.abs(step[moving])).min(initial=1.0))
    moved = numpy.clip(x[free] + share * step, 0.0, bound) - x[free]
    x[free] += moved
    slope += k[:, free] @ moved


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.reshape(-1), b.reshape(-1)).item()
