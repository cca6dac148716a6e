"""Smooth functions of one variable, to second order with the exact range of the second derivative.

Taylor at the center c: s(c + d) = s(c) + s'(c) d + s''(c) d^2 / 2 + (s''(x) - s''(c)) d^2 / 2 with x on the way. Of
d = g tau + w, where |w| <= v, the part g^2 tau^2 = g^2 (1 + q) / 2 of d^2 is kept and at most 2 |g| v + v^2 is not.
The last term is of third order: with s'' in [low, high] on the range and d^2 in [0, r^2] its bounds are known. Where r
is large, the bare range of s is the better enclosure.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dss.enclosure.adjoint import through, tracked
from dss.enclosure.passes import count_curve, keeps_third
from dss.enclosure.registry import rule
from dss.enclosure.rounding import UNIT, WIDE, raised
from dss.enclosure.value import PARTS, Enclosure, lift, settled

Span = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Curve:
    """A smooth function with what Taylor needs.

    Attributes:
        value, slope: s and s', elementwise.
        bend: s''.
        turns: `(place, value)` of every extremum of s'' inside the domain; s'' is monotone between them.
        scale: sup |s''|, or None where s'' is unbounded and evaluated to relative accuracy.
        third: the third derivative, or None where s'' jumps.
        third_turns: `(place, value)` of every extremum of it inside the domain.
        third_range: its range over an interval, where those cannot be named.
        bend_range: the range of s'' over an interval `(l, u)`, where `turns` cannot name its extrema.
        span: the bare range `(low, high)` of s over an interval `(l, u)`, or None.
        positive: whether the domain is x > 0; elsewhere nothing is known.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    bend: Callable[[Tensor], Tensor]
    turns: Sequence[tuple[float, float]] = ()
    scale: float | None = None
    span: Span | None = None
    positive: bool = False
    bend_range: Span | None = None
    third: Callable[[Tensor], Tensor] | None = None
    third_turns: Sequence[tuple[float, float]] = ()
    third_range: Span | None = None


def bends(curve: Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The range of s'' on [low, high]."""
    if curve.bend_range is not None:
        return curve.bend_range(low, high)
    return _between(curve.bend, curve.turns, curve.scale, low, high)


def thirds(curve: Curve, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The range of the third derivative on [low, high]."""
    if curve.third_range is not None:
        return curve.third_range(low, high)
    assert curve.third is not None
    # Of no curve here is it larger than thrice the second derivative.
    return _between(curve.third, curve.third_turns, None if curve.scale is None else 3 * curve.scale, low, high)


def _between(function: Callable[[Tensor], Tensor], turns: Sequence[tuple[float, float]], scale: float | None, low: Tensor,
             high: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The values of a function at the ends and at the turns between, widened by its rounding."""
    first, second = function(low), function(high)
    least, most = torch.minimum(first, second), torch.maximum(first, second)
    for place, value in turns:
        inside = (low <= place + 1e-6) & (high >= place - 1e-6)
        least = torch.where(inside, least.clamp(max=value), least)
        most = torch.where(inside, most.clamp(min=value), most)
    slack = 1e-12 * scale if scale is not None else 0.0
    return least - (1e-12 * least.abs() + slack), most + (1e-12 * most.abs() + slack)


def apply(curve: Curve, x, *, counts: int = 1) -> Enclosure:
    """Enclose s(x). It counts among the smooth functions of the network: not where what it is taken of does not move, twice where
    what it gives multiplies what moves, too."""
    x = lift(x)
    low, high = x.extent
    margin = 8 * UNIT * (x.center.abs() + low.abs() + high.abs())
    low, high = low - margin, high + margin
    if curve.positive:
        low = torch.where(low > 0, low, math.nan)
    count_curve(counts)
    cubic, steep = keeps_third() and curve.third is not None, curve.slope(x.center)
    result = (_cubic if cubic else _taylor)(curve, x, low, high)
    result = through(result, x, lambda error: steep.abs() * error, lambda weight: steep.to(weight.dtype) * weight)
    return result if curve.span is None else nearer(result, ranged(*curve.span(low, high)))


def _taylor(curve: Curve, x: Enclosure, low: Tensor, high: Tensor) -> Enclosure:
    value, steep, curved = (part(x.center) for part in (curve.value, curve.slope, curve.bend))
    least, most = bends(curve, low, high)
    tilt, rest, reach = x.slope.abs(), (x.curvature + x.radius) * WIDE, torch.maximum(high - x.center, x.center - low)
    lost, square = rest * (2 * tilt + rest), reach * reach
    # What is not tilt may be so large that d^2 is known best as a number in [0, r^2].
    split = 2 * lost < square
    bent = curved * torch.where(split, tilt * tilt, square) / 4
    up, down = (most - curved).clamp(min=0.0) * square / 4, (least - curved).clamp(max=0.0) * square / 4
    error = steep.abs() * x.error + torch.where(split, curved.abs() * lost / 2, bent.abs()) + (up - down)
    bend = torch.where(split, bent, 0.0)
    bend = bend if x.bend is None else bend + steep * x.bend
    twist = None if x.twist is None else steep * x.twist
    magnitude = value.abs() + steep.abs() * reach + bent.abs() + up - down
    if curve.scale is not None:
        magnitude = magnitude + 1 + x.center.abs()
    return settled(value + bent + (up + down), steep * x.slope, error, bend, twist, magnitude=magnitude)


def _cubic(curve: Curve, x: Enclosure, low: Tensor, high: Tensor) -> Enclosure:
    """The same to third order: with d = g tau + b q + w, d^2 = g^2 (1 + q) / 2 + g b (tau + T) and d^3 = g^3 (3 tau + T) / 4, where
    T = 4 tau^3 - 3 tau, up to 2 |g| z + B^2 and 3 g^2 B + 3 |g| B^2 + B^3 with |w| <= z and B = |b| + z."""
    assert curve.third is not None
    value, steep, half, sixth = curve.value(x.center), curve.slope(x.center), curve.bend(x.center) / 2, curve.third(x.center) / 6
    tilt, rest, reach = x.slope.abs(), x.radius * WIDE, torch.maximum(high - x.center, x.center - low)
    more = (x.curvature + rest) * WIDE
    square, cube = 2 * tilt * rest + more * more, more * (3 * tilt * (tilt + more) + more * more)
    least, most = thirds(curve, low, high)
    swing = torch.maximum(most / 6 - sixth, sixth - least / 6) * reach**3
    bent, turned, tripled = half * x.slope * x.slope / 2, half.new_zeros(()), sixth * x.slope**3 / 4
    bend = bent
    if x.bend is not None:
        turned, bend = half * x.slope * x.bend, bent + steep * x.bend
    error = steep.abs() * x.error + half.abs() * square + sixth.abs() * cube + swing
    magnitude = value.abs() + reach * (steep.abs() + reach * (half.abs() + reach * sixth.abs())) + swing
    if curve.scale is not None:
        magnitude = magnitude + 1 + x.center.abs() + reach * reach * (1 + reach)
    twist = turned + tripled
    twist = twist if x.twist is None else twist + steep * x.twist
    return settled(value + bent, steep * x.slope + turned + 3 * tripled, error, bend, twist, magnitude=magnitude)


def ranged(low: Tensor, high: Tensor) -> Enclosure:
    """Anything between `low` and `high`, which were computed by elementary functions."""
    size = low.abs() + high.abs() + 1
    return settled((low + high) / 2, torch.zeros_like(low), (high - low) / 2, magnitude=size)


def nearer(one: Enclosure, other: Enclosure) -> Enclosure:
    """Entry by entry the enclosure that is known better. Both hold, so a NaN, which knows nothing, may lose."""
    choose = one.curvature + one.radius <= other.curvature + other.radius
    parts = []
    for name in PARTS:
        first, second = (getattr(x, name) for x in (one, other))
        if first is None and second is None:
            parts.append(None)
        else:
            parts.append(torch.where(choose, 0.0 if first is None else first, 0.0 if second is None else second))

    def chosen(part: Tensor) -> Tensor:
        return torch.where(choose, part, 0.0)

    return through(Enclosure(*parts), one, chosen, chosen, terms=0)


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


def _sigmoid_third(x: Tensor) -> Tensor:
    return _sigmoid_slope(x) * (1 - 6 * _sigmoid_slope(x))


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
    third=_sigmoid_third, third_turns=((0.0, -0.125), (-2.2924316696, 0.0416666667), (2.2924316696, 0.0416666667)),
)  # fmt: skip
TANH = Curve(
    torch.tanh, _tanh_slope, lambda x: -2 * torch.tanh(x) * _tanh_slope(x),
    turns=((-0.6584789485, 0.7698003590), (0.6584789485, -0.7698003590)), scale=0.8, span=rising(torch.tanh),
    third=lambda x: 2 * _tanh_slope(x) * (2 - 3 * _tanh_slope(x)), third_turns=((0.0, -2.0), (-1.1462158348, 0.6666666667), (1.1462158348, 0.6666666667)),
)  # fmt: skip
GELU = Curve(
    _gelu, lambda x: _normal(x) + x * _density(x), lambda x: _density(x) * (2 - x * x),
    turns=((0.0, 0.7978845609), (-2.0, -0.1079819331), (2.0, -0.1079819331)), scale=0.8,
    span=valley(_gelu, -0.7517915246, -0.1699712076), third=lambda x: x * (x * x - 4) * _density(x),
    third_turns=((-2.524337799, -0.0987416587), (-0.79228699139, 0.7787696351), (0.79228699139, -0.7787696351), (2.524337799, 0.0987416587)),
)  # fmt: skip
SILU = Curve(
    _silu, lambda x: torch.sigmoid(x) + x * _sigmoid_slope(x), lambda x: 2 * _sigmoid_slope(x) + x * _sigmoid_bend(x),
    turns=((0.0, 0.5000000001), (-3.4358409935, -0.0369143733), (3.4358409935, -0.0369143733)), scale=0.5,
    span=valley(_silu, -1.2784645427, -0.2784645429), third=lambda x: 3 * _sigmoid_bend(x) + x * _sigmoid_third(x),
    third_turns=((-4.4292351006, -0.0138622977), (-1.0319582418, 0.3081815159), (1.0319582418, -0.3081815159), (4.4292351006, 0.0138622977)),
)  # fmt: skip
SOFTPLUS = Curve(
    lambda x: torch.logaddexp(x, torch.zeros_like(x)), torch.sigmoid, _sigmoid_slope, turns=((0.0, 0.2500000001),),
    scale=0.25, span=rising(lambda x: torch.logaddexp(x, torch.zeros_like(x))), third=_sigmoid_bend, third_turns=SIGMOID.turns,
)  # fmt: skip
ERF = Curve(
    torch.erf, lambda x: torch.exp(-x * x) * (2 / math.sqrt(math.pi)),
    lambda x: -2 * x * torch.exp(-x * x) * (2 / math.sqrt(math.pi)),
    turns=((-0.7071067812, 0.9678828982), (0.7071067812, -0.9678828982)), scale=1.0, span=rising(torch.erf),
    third=lambda x: torch.exp(-x * x) * (8 * x * x - 4) / math.sqrt(math.pi), third_turns=((-1.2247448714, 1.0071016971), (0.0, -2.2567583343), (1.2247448714, 1.0071016971)),
)  # fmt: skip


def _range_of_cosine(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Its values at the ends, and 1 or -1 where the interval holds a whole or half turn, a little widened."""
    first, second = torch.cos(low), torch.cos(high)
    margin = 1e-9 + 1e-12 * torch.maximum(low.abs(), high.abs())

    def holds(place: float) -> Tensor:
        turn = 2 * math.pi
        return torch.floor((high + margin - place) / turn) >= torch.ceil((low - margin - place) / turn)

    least = torch.where(holds(math.pi), -1.0, torch.minimum(first, second))
    most = torch.where(holds(0.0), 1.0, torch.maximum(first, second))
    return least - 1e-12 - margin * 1e-3, most + 1e-12 + margin * 1e-3


COSINE = Curve(
    torch.cos, lambda x: -torch.sin(x), lambda x: -torch.cos(x), scale=1.0, span=_range_of_cosine,
    bend_range=lambda low, high: _range_of_cosine(low + math.pi, high + math.pi),
    third=torch.sin, third_range=lambda low, high: _range_of_cosine(low - math.pi / 2, high - math.pi / 2),
)  # fmt: skip
EXP = Curve(torch.exp, torch.exp, torch.exp, third=torch.exp)
LOG = Curve(torch.log, torch.reciprocal, lambda x: -1 / (x * x), positive=True, third=lambda x: 2 / (x * x * x))
SQRT = Curve(torch.sqrt, lambda x: torch.rsqrt(x) / 2, lambda x: -torch.rsqrt(x) / (4 * x), positive=True,
             third=lambda x: torch.rsqrt(x) * 0.375 / (x * x))  # fmt: skip
RSQRT = Curve(torch.rsqrt, lambda x: -torch.rsqrt(x) / (2 * x), lambda x: torch.rsqrt(x) * 0.75 / (x * x), positive=True,
              third=lambda x: torch.rsqrt(x) * -1.875 / (x * x * x))  # fmt: skip
INVERSE = Curve(torch.reciprocal, lambda x: -1 / (x * x), lambda x: 2 / (x * x * x), positive=True,
                third=lambda x: -6 / (x * x * x * x))  # fmt: skip


def power_curve(a: float) -> Curve:
    """x^a for x > 0."""
    return Curve(lambda x: x**a, lambda x: a * x ** (a - 1), lambda x: a * (a - 1) * x ** (a - 2), positive=True,
                 third=lambda x: a * (a - 1) * (a - 2) * x ** (a - 3))  # fmt: skip


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
    return _turned(apply(INVERSE, _turned(x, sign)), sign)


def _turned(x: Enclosure, sign: Tensor) -> Enclosure:
    """Times -1 or 1, exactly."""
    bend, twist = (None if part is None else part * sign for part in (x.bend, x.twist))
    result = Enclosure(x.center * sign, x.slope * sign, x.error, bend, twist)
    return tracked(result, None, (x,), lambda weight: (weight * sign.to(weight.dtype),), terms=0)


@rule("gelu")
def gelu(x, approximate: str = "none") -> Enclosure:
    """x Phi(x); the tanh form through the rules of its parts."""
    if approximate == "none":
        return apply(GELU, x)
    inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
    return x * (torch.tanh(inner) + 1) * 0.5


@rule("logsigmoid", "log_sigmoid")
def log_sigmoid(x) -> Enclosure:
    """-softplus(-x)."""
    return -apply(SOFTPLUS, -x)
