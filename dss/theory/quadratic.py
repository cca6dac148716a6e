"""Networks with quadratic activation, f(x) = sum_j (w_j.x)^2 = x'(W'W) x, beside the convex problem that they hide.

    min over W of mean((f - y)^2) + penalty |W|^2    and    min over M >= 0 of mean((x'M x - y)^2) + penalty tr M

have the same value once W has enough rows: |W|^2 = tr W'W. Du & Lee (2018): with m(m + 1)/2 > n rows, or m >= d, every local
minimum of the first is global, so that gradient descent has nowhere else to end.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError


@dataclass(frozen=True, eq=False)
class QuadraticOptimum:
    """The convex optimum, enclosed from both sides.

    Attributes:
        matrix: M `(d, d)`, positive semidefinite.
        value: its objective.
        lower: what no M is below, by a feasible point of the dual problem; in floating point, not enclosed.
    """

    matrix: Tensor
    value: float
    lower: float


def quadratic_loss(x: Tensor, y: Tensor, rows: Tensor, penalty: float) -> Tensor:
    """mean((sum_j (w_j.x)^2 - y)^2) + penalty |W|^2 for rows W `(..., m, d)`: `(...)`."""
    outputs = (x @ rows.transpose(-1, -2)).square().sum(-1)
    return (outputs - y).square().mean(-1) + penalty * rows.square().sum((-1, -2))


def quadratic_optimum(
    x: Tensor, y: Tensor, penalty: float, *, tolerance: float = 1e-9, max_steps: int = 100_000
) -> QuadraticOptimum:
    """Solve the convex problem by accelerated proximal gradients (eigenvalues are shrunk and cut at zero).

    Args:
        x: inputs `(n, d)`.
        y: targets `(n,)`.
        penalty: of the trace, above 0.
        tolerance: of value - lower, relative to mean(y^2), at which it stops.
        max_steps: at most; `lower` says how far it got.

    Raises:
        InputError: shapes that do not fit, or a penalty of zero or less.

    Source: Lee 2019, "Better Result for Quadratic Activation" (Du & Lee 2018); Beck & Teboulle 2009 for the method.
    """
    if x.ndim != 2 or y.shape != x.shape[:1] or not penalty > 0:
        raise InputError(
            f"inputs (n, d), targets (n,) and a penalty above 0 are needed, got {tuple(x.shape)}, {tuple(y.shape)}, {penalty}"
        )
    x, y = x.detach().double(), y.detach().double()
    products = torch.einsum("ni,nj->nij", x, x).flatten(1)
    rate = len(y) / (2 * torch.linalg.matrix_norm(products, ord=2).item() ** 2)
    matrix = ahead = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    momentum, best = 1.0, QuadraticOptimum(matrix, y.square().mean().item(), 0.0)
    for k in range(max_steps):
        gradient = (products.T @ (products @ ahead.flatten() - y)).view_as(matrix) * (2 / len(y))
        new = _shrunk(ahead - rate * gradient, rate * penalty)
        if ((ahead - new) * (new - matrix)).sum() > 0:  # it overshot: start the momentum anew (O'Donoghue & Candes 2015)
            momentum, ahead = 1.0, new
        else:
            later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead, momentum = new + (momentum - 1) / later * (new - matrix), later
        matrix = new
        if k % 20 == 0:
            best = _better(best, _bounded(x, y, products, matrix, penalty))
            if best.value - best.lower <= tolerance * y.square().mean().item():
                break
    return best


def _shrunk(matrix: Tensor, by: float) -> Tensor:
    """Eigenvalues lowered, and cut at zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * (values - by).clamp_min(0)) @ vectors.T


def _bounded(x: Tensor, y: Tensor, products: Tensor, matrix: Tensor, penalty: float) -> QuadraticOptimum:
    """Value of a matrix, and the dual's value for multiples of its residuals.

    The dual is max over v of -n/4 |v|^2 - v.y with penalty I + sum_i v_i x_i x_i' >= 0.
    """
    residual = products @ matrix.flatten() - y
    v, n = residual * (2 / len(y)), len(y)
    least = torch.linalg.eigvalsh((x * v[:, None]).T @ x)[0].item()
    most = penalty / -least if least < 0 else float("inf")
    square, slope = n / 4 * (v @ v).item(), -(v @ y).item()
    scale = min(max(slope / (2 * square), 0.0), most) if square > 0 else 0.0
    value = residual.square().mean().item() + penalty * matrix.trace().item()
    return QuadraticOptimum(matrix, value, scale * slope - scale**2 * square)


def _better(first: QuadraticOptimum, second: QuadraticOptimum) -> QuadraticOptimum:
    """The lower matrix, with the higher of both lower sides."""
    matrix, value = min((first, second), key=lambda o: o.value).matrix, min(first.value, second.value)
    return QuadraticOptimum(matrix, value, max(first.lower, second.lower))
