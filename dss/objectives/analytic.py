"""Analytic objectives whose minima, saddles and geodesics are known: where every algorithm is tested first."""

from dataclasses import dataclass, field
from math import acos, cos, pi, sin, sqrt

import torch
from torch import Tensor

from dss.objectives.objective import Objective


class MuellerBrown(Objective):
    """The two-dimensional standard of saddle searches (Mueller & Brown 1979, Theor. Chim. Acta 53, 75).

    The two deepest minima are joined over two saddles with a shallow minimum between; the higher one is the barrier.
    """

    description = "Mueller-Brown potential"
    minima = ((-0.558223634633, 1.441725841804), (0.623499404931, 0.028037758529), (-0.050010822998, 0.466694104872))
    minimum_values = (-146.699517209954, -108.166724123685, -80.767818129651)
    saddles = ((-0.822001558732, 0.624312802815), (0.212486582001, 0.292988325108))
    saddle_values = (-40.664843509, -72.248940115)

    amplitude = (-200.0, -100.0, -170.0, 15.0)
    xx, xy, yy = (-1.0, -1.0, -6.5, 0.7), (0.0, 0.0, 11.0, 0.6), (-10.0, -10.0, -6.5, 0.7)
    x0, y0 = (1.0, 0.0, -0.5, -1.0), (0.0, 0.5, 1.5, 1.0)

    def __call__(self, points: Tensor) -> Tensor:
        x, y = points.double().unbind(-1)
        terms = zip(self.amplitude, self.xx, self.xy, self.yy, self.x0, self.y0, strict=True)
        wells = [
            amplitude * torch.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + c * (y - y0) ** 2)
            for amplitude, a, b, c, x0, y0 in terms
        ]
        return wells[0] + wells[1] + wells[2] + wells[3]


@dataclass(frozen=True)
class Quadratic(Objective):
    """A convex bowl, sum of curvature_i x_i^2: every level set is convex, every geodesic straight."""

    curvature: tuple[float, ...] = (1.0, 1.0)
    description: str = field(default="convex bowl", init=False)

    def __call__(self, points: Tensor) -> Tensor:
        return points.double().square() @ points.new_tensor(self.curvature, dtype=torch.float64)


class DoubleWell(Objective):
    """(x^2 - 1)^2 + y^2: minima at (-1, 0) and (1, 0), the saddle of height exactly 1 at the origin."""

    description = "double well"
    minima = ((-1.0, 0.0), (1.0, 0.0))
    saddle, saddle_value = (0.0, 0.0), 1.0

    def __call__(self, points: Tensor) -> Tensor:
        x, y = points.double().unbind(-1)
        return (x.square() - 1).square() + y.square()


class Ring(Objective):
    """(|x| - 1)^2 in the plane: the level set at L0 < 1 is an annulus with inner radius 1 - sqrt(L0).

    Between opposite points at radius 1 the geodesic hugs the inner circle: two tangents and an arc.
    """

    description = "ring"
    minima = ((-1.0, 0.0), (1.0, 0.0))

    def __call__(self, points: Tensor) -> Tensor:
        return (points.double().norm(dim=-1) - 1).square()

    @staticmethod
    def at(angle: float) -> Tensor:
        """The minimum `(2,)` at an angle in radians."""
        return torch.tensor([cos(angle), sin(angle)], dtype=torch.float64)

    @staticmethod
    def geodesic_length(threshold: float, *, angle: float = pi) -> float:
        """The normalized length of the shortest path inside {L <= threshold < 1} between minima `angle` <= pi apart."""
        inner = 1 - threshold**0.5
        if angle <= 2 * acos(inner):
            return 1.0
        return (sqrt(1 - inner**2) + inner * (angle / 2 - acos(inner))) / sin(angle / 2)


class BentValley(Objective):
    """An L-shaped valley: min(x^2 + relu(-y)^2, y^2 + relu(-x)^2), zero on the two positive half-axes.

    The level set at L0 is all within w = sqrt(L0) of the two arms. Its inner corner is the point (w, w), so
    between points far out on the arms the geodesic is two straight pieces that meet there.
    """

    description = "L-shaped valley"
    minima = ((0.0, 1.0), (1.0, 0.0))

    def __call__(self, points: Tensor) -> Tensor:
        x, y = points.double().unbind(-1)
        return torch.minimum(x.square() + (-y).relu().square(), y.square() + (-x).relu().square())

    @staticmethod
    def geodesic_length(threshold: float) -> float:
        """The normalized length of the shortest path between the two minima inside {L <= threshold < 1/4}."""
        inner = sqrt(threshold)
        return sqrt(2 * (inner**2 + (1 - inner) ** 2))
