"""Two-layer linear networks with ridge: a circle on which product and norm are convex combinations of the ends'."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.theory.linear import LinearPath, Matrices, checked, distinct, error, product


def ridge_path(
    x: Tensor, y: Tensor, start: Sequence[Tensor], end: Sequence[Tensor], *, ridge: float, arcs: int = 8
) -> LinearPath:
    """A polygon between two-layer linear networks for mean squared error plus ridge / 2 times the squared norm of all weights.

    Both ends drop what does not reach the outputs, which no norm regrets. The first then turns its hidden units into free
    ones, and from there along a circle into the second's: product and squared norm are convex combinations of the ends' all
    the while. On the chords of the circle both shrink by at most sin^2(pi / (4 arcs)).

    Args:
        x, y: `(n, in)` and `(n, out)`.
        start, end: W_1 `(m, in)` and W_2 `(out, m)`, with m >= 3 min(in, out).
        ridge: weight of the penalty, >= 0.
        arcs: chords of each quarter circle.

    Returns:
        The corners, and as `bound` the largest that the penalised loss can be on the whole polygon.

    Raises:
        InputError: other shapes, fewer hidden units, a negative ridge, or no arcs.

    Source: Freeman & Bruna 2017, proposition 2.2 for K = 2 with ridge; the circle is our own.
    """
    first, second = checked(start, end)
    x, y = x.double(), y.double()
    rank, width = min(first[0].shape[1], first[-1].shape[0]), first[0].shape[0]
    if len(first) != 2 or width < 3 * rank or ridge < 0 or arcs < 1:
        raise InputError(
            f"two layers with at least 3 min(in, out) = {3 * rank} hidden units, ridge >= 0 and arcs >= 1 are needed, got "
            f"{len(first)} layers, {width} units, ridge {ridge}, arcs {arcs}"
        )
    one, other = (_projected(matrices) for matrices in (first, second))
    frames = [torch.linalg.svd(side[0])[0][:, :rank] for side in (one, other)]
    free = torch.linalg.svd(torch.cat(frames, 1), full_matrices=True)[0][:, 2 * rank : 3 * rank]
    turned = [free @ frames[0].T @ one[0], one[1] @ frames[0] @ free.T]
    corners = [first, [first[0], one[1]], *_circle(one, turned, arcs), *_circle(turned, other, arcs)[1:]]
    corners += [[second[0], other[1]], second]

    def penalised(matrices: Sequence[Tensor]) -> float:
        return error(product(matrices), x, y) + ridge / 2 * sum(w.square().sum().item() for w in matrices)

    most = max(penalised(first), penalised(second))
    shrunk = torch.sin(torch.tensor(torch.pi / (4 * arcs), dtype=torch.float64)).square().item()
    bound = most + shrunk * max(0.0, y.square().mean().item() - most)
    return LinearPath(tuple(tuple(corner) for corner in distinct(corners)), bound)


def _projected(matrices: Matrices) -> Matrices:
    """Without what the other matrix does not read or reach; the product stays."""
    below, above = matrices
    above = above @ below @ torch.linalg.pinv(below)
    return [torch.linalg.pinv(above) @ above @ below, above]


def _circle(one: Matrices, other: Matrices, arcs: int) -> list[Matrices]:
    """Corners on the quarter circle between networks whose hidden units are orthogonal."""
    angles = torch.linspace(0, torch.pi / 2, arcs + 1, dtype=torch.float64)
    inner = [[a.cos() * u + a.sin() * v for u, v in zip(one, other)] for a in angles[1:-1]]
    return [one, *inner, other]
