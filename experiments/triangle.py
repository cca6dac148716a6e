"""The counterexample of appendix E made exact: three points, a network that fits them, and paths that nearly reach the bound."""

from itertools import permutations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

import dss
from models.paper import TriangleNet

ANGLES = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64).deg2rad()
X = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
Y = X[[1, 2, 0]]
SWAP = (1, 0, 2)
DATA = "the vertices x1, x2, x3 of an equilateral triangle on the unit circle, mapped to x2, x3, x1"


def objective() -> dss.NetworkObjective:
    """The mean squared error over the six entries of y."""
    return dss.NetworkObjective(TriangleNet().double(), mse_loss, (X, Y), description=f"mean squared error, {DATA}")


def point(w: Tensor, v: Tensor) -> Tensor:
    """A parameter point `(12,)` from the units' inner weights w `(3, 2)` and outer weights v `(3, 2)`."""
    return torch.cat([w.reshape(-1), v.T.reshape(-1)])


def units(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Inner and outer weights `(3, 2)`, a unit a row: the inverse of `point`."""
    return theta[:6].view(3, 2), theta[6:].view(2, 3).T


def perfect() -> Tensor:
    """Parameters of loss 0: unit j looks along x_j, where it sees no other point, and answers y_j."""
    return point(X, Y)


def permuted(theta: Tensor, order: tuple[int, ...]) -> Tensor:
    """The same function with its hidden units in another order."""
    w, v = units(theta)
    return point(w[list(order)], v[list(order)])


def rescaled(theta: Tensor, factors: Tensor) -> Tensor:
    """The same function with unit j's inner weights times `factors[j]` > 0 and its outer weights divided by it."""
    w, v = units(theta)
    return point(w * factors[:, None], v / factors[:, None])


def aligned(theta: Tensor, target: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """`theta` with its units in the order that brings it closest to `target`, and that order: all six are tried."""
    order = min(permutations(range(3)), key=lambda p: (permuted(theta, p) - target).norm().item())
    return permuted(theta, order), order


def pinched_path(width: float, beads: int) -> dss.Path:
    """From `perfect` to its swapped copy with a barrier near 1/12: two units close in on a vertex while outer weights grow.

    Unit 2 and unit 3 turn to within `width` radians of where they would see x1 alone, with loss 0 all the way. The
    outer weights then move to the best fit that does without unit 1, whose loss is 1/12 up to the order of `width`.
    Unit 1, idle, goes past unit 2 to x2. Outer weights go back to a perfect fit, and units 2 and 3 turn to x1 and x3.

    Args:
        width: of the pinch, in radians, in (0, 0.5).
        beads: of each turn, spaced so that outer weights grow by equal factors.
    """
    away = torch.logspace(0, 1, beads, base=width, dtype=torch.float64)
    second, third = torch.deg2rad(torch.tensor([120.0, 420.0], dtype=torch.float64))
    near = torch.stack(
        [torch.full_like(away, ANGLES[0].item()), second + (ANGLES[1] - second) * away, third - (third - ANGLES[2]) * away], 1
    )
    path = [_fitted(angles) for angles in near]
    w, v = units(path[-1])
    v = torch.zeros_like(v)
    v[1:] = torch.linalg.lstsq((X @ w.T).relu()[:, 1:], Y).solution
    idle = point(w, v)
    moved = near[-1].clone()
    moved[0] = ANGLES[1]
    passed = _directions(moved)
    path += [idle, point(passed, v), _fitted(moved)]
    back = near.flip(0).clone()
    back[:, 0] = ANGLES[1]
    # Unit 2 started from x2 and ends at x1, from which it is `width` away at the pinch.
    back[:, 1] = ANGLES[0] + (near[-1, 1] - ANGLES[0]) * torch.linspace(1, 0, beads, dtype=torch.float64)
    path += [_fitted(angles) for angles in back[1:]]
    return dss.Path(torch.stack(path))


def _directions(angles: Tensor) -> Tensor:
    return torch.stack([angles.cos(), angles.sin()], 1)


def _fitted(angles: Tensor) -> Tensor:
    """Loss 0: units looking along these angles, and the outer weights that fit."""
    w = _directions(angles)
    return point(w, torch.linalg.solve((X @ w.T).relu(), Y))
