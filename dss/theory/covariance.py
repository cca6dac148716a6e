"""How close two rectified units are to one linear unit: proposition 2.3 of Freeman & Bruna (2017), both sides.

With unit vectors w and w' at an angle a, their unit bisector m, and <w, w'>_Z = E[relu(w.X) relu(w'.X)],

    cos(a/2)^2 |m|_Z^2 - gap <= <w, w'>_Z <= cos(a/2)^2 |m|_Z^2.

Let u = m.X, v the coordinate across m in the plane of w and w', c = cos(a/2), s = sin(a/2). Where both units are active the
product is c^2 u^2 - s^2 v^2. So the gap is c^2 E[u^2; u > 0, not both] + s^2 E[v^2; both]. Where u > 0 and one unit is silent,
c u <= s |v|, hence u^2 <= s^2 (u^2 + v^2); and E[u^2 + v^2] <= 2 |S|, E[v^2] <= |S| with S = E[X X'], uncentred. This gives
`sharper`, |S| (sin(a)^2 / 2 + (1 - cos a) / 2). The formula (7) of the text that we have is lost; `paper`,
2 |S| ((1 - cos a) / 2 + sin(a)^2), is the published paper's as we remember it, and follows from ours.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dss.base.errors import InputError


@dataclass(frozen=True)
class Linearisation:
    """Two rectified units beside their bisector.

    Attributes:
        covariance: <w, w'>_Z over the samples.
        upper: the upper side, cos(a/2)^2 |m|_Z^2.
        sharper: the most by which the covariance lies below it, by our bound.
        paper: the same by the paper's.
        angle: a, in radians.
    """

    covariance: float
    upper: float
    sharper: float
    paper: float
    angle: float

    @property
    def gap(self) -> float:
        """How far the covariance lies below the upper side."""
        return self.upper - self.covariance


def linearisation(x: Tensor, first: Tensor, second: Tensor) -> Linearisation:
    """Both sides of proposition 2.3 for the distribution of some samples, which is exact for the samples themselves.

    Args:
        x: samples `(n, d)`; they need not be centred.
        first, second: directions `(d,)` of two units; their lengths do not matter.

    Raises:
        InputError: shapes that do not fit, or a direction of length zero.

    Source: Freeman & Bruna 2017, proposition 2.3 and appendix B.3; `sharper` is ours.
    """
    if x.ndim != 2 or not len(x) or first.shape != x.shape[1:] or second.shape != x.shape[1:]:
        raise InputError(
            f"samples (n, d) and two directions (d,) are needed, got {tuple(x.shape)}, {tuple(first.shape)}, {tuple(second.shape)}"
        )
    x, w, other = x.double(), _unit(first), _unit(second)
    angle = _angle(w, other)
    between = w + other
    # Opposite directions have no bisector, but then its factor is zero.
    bisector = between / between.norm().clamp_min(torch.finfo(torch.float64).tiny)
    active = torch.relu(x @ torch.stack([w, other, bisector], 1))
    upper = math.cos(angle / 2) ** 2 * active[:, 2].square().mean().item()
    largest = torch.linalg.matrix_norm(x.T @ x / len(x), ord=2).item()
    half, sine = (1 - math.cos(angle)) / 2, math.sin(angle) ** 2
    covariance = (active[:, 0] * active[:, 1]).mean().item()
    return Linearisation(covariance, upper, largest * (sine / 2 + half), 2 * largest * (half + sine), angle)


def gaussian_covariance(first: Tensor, second: Tensor) -> float:
    """E[relu(w.X) relu(w'.X)] for standard Gaussian X: the arc-cosine kernel |w||w'| (sin a + (pi - a) cos a) / (2 pi).

    Args:
        first, second: w and w', `(d,)`, of any length but zero.

    Raises:
        InputError: a direction of length zero.

    Source: Cho & Saul 2009, order one.
    """
    a = _angle(_unit(first), _unit(second))
    scale = (first.double().norm() * second.double().norm()).item()
    return scale * (math.sin(a) + (math.pi - a) * math.cos(a)) / (2 * math.pi)


def _unit(direction: Tensor) -> Tensor:
    norm = direction.double().norm()
    if not norm > 0 or not norm.isfinite():
        raise InputError("a direction needs a finite length above zero")
    return direction.double() / norm


def _angle(first: Tensor, second: Tensor) -> float:
    """Between unit vectors; the arc cosine would lose half of the digits near 0 and pi."""
    return 2 * math.atan2((first - second).norm().item(), (first + second).norm().item())
