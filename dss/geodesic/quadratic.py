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
    """The minimum `(m,)` of `x' matrix x / 2 - linear' x` with 0 <= x <= bound, by coordinate descent.

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
        largest = 0.0
        for i in range(len(x)):
            new = min(max(x[i] - slope[i] / diagonal[i], 0.0), bound)
            moved = new - x[i]
            if moved:
                slope += moved * k[i]
                x[i] = new
                largest = max(largest, moved * moved * diagonal[i])
        if largest <= 1e-16:
            break
    return torch.from_numpy(x)


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.reshape(-1), b.reshape(-1)).item()
