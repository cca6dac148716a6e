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


# Added to the diagonal of a face's matrix, relative to its largest entry: constraints that repeat one another make it singular.
RIDGE = 1e-14
# A slope that so many roundings of its terms could make is none.
ROUNDINGS = 64 * numpy.finfo(float).eps


def box_qp(matrix: Tensor, linear: Tensor, bound: float, start: Tensor) -> Tensor:
    """The minimum `(m,)` of `x' matrix x / 2 - linear' x` with 0 <= x <= bound.

    An active-set method: to the minimum of the face that `start` lies in, by Newton steps; then off every bound that pushes
    inwards, one coordinate after the other, and so on (More & Toraldo 1991, Algorithms for bound constrained quadratic
    programming, section 3, whose gradient projection the coordinates take over). Every part lowers the value, so no face
    comes twice. Consecutive programs of `dss.geodesic.sqp` differ little: the last multipliers as `start` leave few faces.

    Args:
        matrix: `(m, m)` float64, positive semi-definite up to rounding.
        linear: `(m,)` float64; in the matrix's range where the bound is infinite.
        bound: upper bound of every entry.
        start: `(m,)` float64, where to start.

    Returns:
        The minimum; NaN where the problem is not finite.
    """
    k, right, x = matrix.numpy(), linear.numpy(), start.clamp(0, bound).numpy().copy()
    size = numpy.abs(k)
    if not (numpy.isfinite(size).all() and numpy.isfinite(right).all()):
        return torch.full_like(start, torch.nan)
    for _ in range(100 + 10 * len(x)):
        slope, noise = _minimise_face(k, right, size, x, bound)
        pushed = numpy.flatnonzero(((x == 0) & (slope < -noise)) | ((x == bound) & (slope > noise)))
        if not len(pushed):
            break
        _release(k, x, slope, pushed, bound)
    return torch.from_numpy(x)


def _minimise_face(
    k: numpy.ndarray, right: numpy.ndarray, size: numpy.ndarray, x: numpy.ndarray, bound: float
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Move to the minimum over the entries at no bound, fewer with every bound met; the slope there, and its rounding."""
    for _ in range(50 + 2 * len(x)):
        slope = k @ x - right
        noise = ROUNDINGS * (size @ x + numpy.abs(right))
        free = numpy.flatnonzero((x > 0) & (x < bound))
        if (numpy.abs(slope[free]) <= noise[free]).all():
            break
        moved = _newton_step(k[numpy.ix_(free, free)], x[free], slope[free], bound)
        if not moved.any():
            break
        x[free] += moved
    return slope, noise


def _newton_step(within: numpy.ndarray, x: numpy.ndarray, slope: numpy.ndarray, bound: float) -> numpy.ndarray:
    """A Newton step cut off at the box, which meets many bounds at once; if that does not lower the value, as far as the first one."""
    step = -_solved(within, slope)
    moved = numpy.clip(x + step, 0.0, bound) - x
    gain = slope @ moved
    if gain + moved @ within @ moved / 2 <= 1e-4 * gain < 0:
        return moved
    limits, moving = numpy.where(step > 0, bound - x, x), step != 0
    shares = limits[moving] / numpy.abs(step[moving])
    return numpy.clip(x + min(1.0, shares.min(initial=1.0)) * step, 0.0, bound) - x


def _solved(within: numpy.ndarray, slope: numpy.ndarray) -> numpy.ndarray:
    """`within^-1 slope`, with a ridge that makes the factorisation possible: steps with a ridge end at the same minimum, a proximal
    point at a time, and where slope is left in a direction without curvature they lead far along it, to a bound."""
    matrix, right = torch.from_numpy(within), torch.from_numpy(slope)[:, None]
    ridge = RIDGE * max(within.diagonal().max(), numpy.finfo(float).tiny / RIDGE)
    while True:
        factor, failed = torch.linalg.cholesky_ex(matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype))
        if not failed:
            return torch.cholesky_solve(right, factor)[:, 0].numpy()
        ridge *= 100


def _release(k: numpy.ndarray, x: numpy.ndarray, slope: numpy.ndarray, pushed: numpy.ndarray, bound: float) -> None:
    """Minimise along one coordinate after the other."""
    for i in pushed:
        new = min(max(x[i] - slope[i] / max(k[i, i], numpy.finfo(float).tiny), 0.0), bound)
        slope += (new - x[i]) * k[i]
        x[i] = new


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.reshape(-1), b.reshape(-1)).item()
