"""Smooth functions of one variable, to first order with the exact range of the second derivative.

Taylor at the center: s(c + d) = s(c) + s'(c) d + s''(x) d^2 / 2, d = g tau + E, d^2 in [0, r^2] and r = |g| + e. With
s'' in [low, high] on the range (0 included, as d may vanish) the center moves by (high + low) r^2 / 4, the slope is
s'(c) g and the error |s'(c)| e + (high - low) r^2 / 4. Where r is large, the bare range of s is the better enclosure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dss.enclosure.rounding import UNIT, raised
from dss.enclosure.value import Enclosure, lift, rule, settled

_WIDE = 1 + 1e-12
"""Second derivatives are needed to three digits; this covers whatever their evaluation loses."""


@dataclass(frozen=True)
class Curve:
    """A smooth function with what Taylor needs.

    Attributes:
        value, slope: s and s', elementwise.
        bend: s''.
        turns: `(place, value)` of every extremum of s'' inside the domain; s'' is monotone between them.
        scale: sup |s''|, or None where s'' is unbounded and evaluated to relative accuracy.
        span: the bare range `(low, high)` of s over an interval `(l, u)`, or None.
        positive: whether the domain is x > 0; elsewhere nothing is known.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    bend: Callable[[Tensor], Tensor]
    turns: Sequence[tuple[float, float]] = ()
    scale: float | None = None
    span: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    positive: bool = False


def bends(curve: Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The range of s'' on [low, high], widened to contain 0: its values at the ends and at the turns between."""
    first, second = curve.bend(low), curve.bend(high)
    least, most = torch.minimum(first, second), torch.maximum(first, second)
    for place, value in curve.turns:
        inside = (low <= place + 1e-6) & (high >= place - 1e-6)
        least = torch.where(inside, least.clamp(max=value), least)
        most = torch.where(inside, most.clamp(min=value), most)
    slack = 1e-12 * curve.scale if curve.scale is not None else 0.0
    return (least * _WIDE - slack).clamp(max=0.0), (most * _WIDE + slack).clamp(min=0.0)


def apply(curve: Curve, x) -> Enclosure:
    """Enclose s(x)."""
    x = lift(x)
    center, reach = x.center, x.reach * _WIDE
    margin = 4 * UNIT * (center.abs() + reach)
    low, high = center - reach - margin, center + reach + margin
    if curve.positive:
        low = torch.where(low > 0, low, math.nan)
    least, most = bends(curve, low, high)
    value, steep, square = curve.value(center), curve.slope(center), reach * reach / 4
    up, down = most * square, least * square
    magnitude = value.abs() + steep.abs() * x.reach + up - down
    if curve.scale is not None:
        magnitude = magnitude + 1 + center.abs()
    linear = settled(value + (up + down), steep * x.slope, steep.abs() * x.error + (up - down), magnitude)
    return linear if curve.span is None else nearer(linear, ranged(*curve.span(low, high)))


def ranged(low: Tensor, high: Tensor) -> Enclosure:
    """Anything between `low` and `high`, which were computed by elementary functions."""
    return settled((low + high) / 2, torch.zeros_like(low), (high - low) / 2, low.abs() + high.abs() + 1)


def nearer(one: Enclosure, other: Enclosure) -> Enclosure:
    """Entry by entry the enclosure with the smaller error. Both hold, so a NaN, which knows nothing, may lose."""
    choose = one.error <= other.error
    parts = ("center", "slope", "error")
    return Enclosure(*(torch.where(choose, getattr(one, part), getattr(other, part)) for part in parts))


def rising(function: Callable[[Tensor], Tensor]) -> Callable:
    """The range of an increasing function."""
    return lambda low, high: (function(low), function(high))


def valley(function: Callable[[Tensor], Tensor], place: float, depth: float) -> Callable:
    """The range of a function that falls to `depth` at `place` and rises after it."""

    def span(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        first, second = function(low), function(high)
        inside = (low <= place + 1e-6) & (high >= place - 1e-6)
        least = torch.minimum(first, second)
        return torch.where(inside, least.clamp(max=depth), least), torch.maximum(first, second)

    return span


def _sigmoid_slope(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * torch.sigmoid(-x)


def _sigmoid_bend(x: Tensor) -> Tensor:
    return _sigmoid_slope(x) * (torch.sigmoid(-x) - torch.sigmoid(x))


def _tanh_slope(x: Tensor) -> Tensor:
    return 4 * _sigmoid_slope(2 * x)


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _normal(x: Tensor) -> Tensor:
    return torch.special.erfc(-x / math.sqrt(2)) / 2


def _gelu(x: Tensor) -> Tensor:
    return x * _normal(x)


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


SIGMOID = Curve(
    torch.sigmoid, _sigmoid_slope, _sigmoid_bend,
    turns=((-1.3169578969, 0.0962250450), (1.3169578969, -0.0962250450)), scale=0.1, span=rising(torch.sigmoid),
)  # fmt: skip
TANH = Curve(
    torch.tanh, _tanh_slope, lambda x: -2 * torch.tanh(x) * _tanh_slope(x),
    turns=((-0.6584789485, 0.7698003590), (0.6584789485, -0.7698003590)), scale=0.8, span=rising(torch.tanh),
)  # fmt: skip
GELU = Curve(
    _gelu, lambda x: _normal(x) + x * _density(x), lambda x: _density(x) * (2 - x * x),
    turns=((0.0, 0.7978845609), (-2.0, -0.1079819331), (2.0, -0.1079819331)), scale=0.8,
    span=valley(_gelu, -0.7517915246, -0.1699712076),
)  # fmt: skip
SILU = Curve(
    _silu, lambda x: torch.sigmoid(x) + x * _sigmoid_slope(x), lambda x: 2 * _sigmoid_slope(x) + x * _sigmoid_bend(x),
    turns=((0.0, 0.5000000001), (-3.4358409935, -0.0369143733), (3.4358409935, -0.0369143733)), scale=0.5,
    span=valley(_silu, -1.2784645427, -0.2784645429),
)  # fmt: skip
SOFTPLUS = Curve(
    lambda x: torch.logaddexp(x, torch.zeros_like(x)), torch.sigmoid, _sigmoid_slope, turns=((0.0, 0.2500000001),),
    scale=0.25, span=rising(lambda x: torch.logaddexp(x, torch.zeros_like(x))),
)  # fmt: skip
ERF = Curve(
    torch.erf, lambda x: torch.exp(-x * x) * (2 / math.sqrt(math.pi)),
    lambda x: -2 * x * torch.exp(-x * x) * (2 / math.sqrt(math.pi)),
    turns=((-0.7071067812, 0.9678828982), (0.7071067812, -0.9678828982)), scale=1.0, span=rising(torch.erf),
)  # fmt: skip
EXP = Curve(torch.exp, torch.exp, torch.exp)
LOG = Curve(torch.log, torch.reciprocal, lambda x: -1 / (x * x), positive=True)
SQRT = Curve(torch.sqrt, lambda x: torch.rsqrt(x) / 2, lambda x: -torch.rsqrt(x) / (4 * x), positive=True)
RSQRT = Curve(
    torch.rsqrt, lambda x: -torch.rsqrt(x) / (2 * x), lambda x: torch.rsqrt(x) * 0.75 / (x * x), positive=True
)
INVERSE = Curve(torch.reciprocal, lambda x: -1 / (x * x), lambda x: 2 / (x * x * x), positive=True)


def power_curve(a: float) -> Curve:
    """x^a for x > 0."""
    return Curve(lambda x: x**a, lambda x: a * x ** (a - 1), lambda x: a * (a - 1) * x ** (a - 2), positive=True)


for _name, _curve in {"sigmoid": SIGMOID, "tanh": TANH, "silu": SILU, "erf": ERF, "log": LOG, "sqrt": SQRT,
                      "rsqrt": RSQRT}.items():  # fmt: skip
    rule(_name)(partial(apply, _curve))


@rule("exp")
def exp(x) -> Enclosure:
    """Taylor; a ceiling passes through, as exp is increasing and convex."""
    result = apply(EXP, x)
    if lift(x).ceiling is not None:
        result.ceiling = tuple(raised(side.exp(), side.exp()) for side in x.ceiling)
    return result


@rule("reciprocal")
def reciprocal(x) -> Enclosure:
    """1/x by its sign: sign * (1 / (sign * x)), so that the argument is positive or nothing is known."""
    x = lift(x)
    sign = torch.where(x.center < 0, -1.0, 1.0)
    result = apply(INVERSE, Enclosure(x.center * sign, x.slope * sign, x.error))
    return Enclosure(result.center * sign, result.slope * sign, result.error)


@rule("gelu")
def gelu(x, approximate: str = "none") -> Enclosure:
    """x Phi(x); the tanh form through the rules of its parts."""
    if approximate == "none":
        return apply(GELU, x)
    inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
    return x * (torch.tanh(inner) + 1) * 0.5


@rule("softplus")
def softplus(x, beta: float = 1.0, threshold: float = 20.0) -> Enclosure:
    """log(1 + exp(beta x)) / beta; torch's line above the threshold lies at most exp(-threshold) / beta below."""
    z = x * beta
    result = apply(SOFTPLUS, z) * (1 / beta)
    bent = z.center + z.reach > threshold
    return Enclosure(result.center, result.slope, result.error + bent * (1.001 * math.exp(-threshold) / abs(beta)))


@rule("logsigmoid", "log_sigmoid")
def log_sigmoid(x) -> Enclosure:
    """-softplus(-x)."""
    return -apply(SOFTPLUS, -x)
