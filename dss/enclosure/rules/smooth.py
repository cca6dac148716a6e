"""Smooth functions of one variable, to second order with the exact range of the second derivative, or to third with that of the third.

Taylor at the center c: s(c + d) = s(c) + s'(c) d + s''(c) d^2 / 2 + (s''(x) - s''(c)) d^2 / 2 with x on the way. Of
d = g tau + w, where |w| <= v, the part g^2 tau^2 = g^2 (1 + q) / 2 of d^2 is kept and at most 2 |g| v + v^2 is not.
The last term is of third order: with s'' in [low, high] on the range and d^2 in [0, r^2] its bounds are known. Where r
is large, the bare range of s is the better enclosure.
"""

import math
from functools import partial

import torch
from torch import Tensor

from dss.enclosure.adjoint import through, tracked
from dss.enclosure.passes import count_curve, keeps_third
from dss.enclosure.registry import rule
from dss.enclosure.rounding import UNIT, WIDE, raised
from dss.enclosure.rules.curves import (
    ERF,
    EXP,
    GELU,
    INVERSE,
    LOG,
    RSQRT,
    SIGMOID,
    SILU,
    SOFTPLUS,
    SQRT,
    TANH,
    Curve,
    bends,
    thirds,
)
from dss.enclosure.rules.shapes import where
from dss.enclosure.value import PARTS, Enclosure, lift, settled


def apply(curve: Curve, x, *, counts: int = 1) -> Enclosure:
    """Enclose s(x). It counts among the smooth functions of the network: not where what it is taken of does not move, twice where
    what it gives multiplies what moves, too."""
    x = lift(x)
    if x.ragged:
        return _without_shut(curve, x, counts)
    low, high = x.extent
    margin = 8 * UNIT * (x.center.abs() + low.abs() + high.abs())
    low, high = low - margin, high + margin
    if curve.positive:
        low = torch.where(low > 0, low, math.nan)
    count_curve(counts)
    cubic, steep = keeps_third() and curve.third is not None, curve.slope(x.center)
    result = (_cubic if cubic else _taylor)(curve, x, low, high)
    result = through(result, x, lambda error: steep.abs() * error, lambda weight: steep.to(weight.dtype) * weight, apart=True)
    return result if curve.span is None else nearer(result, ranged(*curve.span(low, high)))


def _without_shut(curve: Curve, x: Enclosure, counts: int) -> Enclosure:
    """Of what a mask shut out (-inf) the limit, exactly, if there is one."""
    shut = (x.center == -math.inf) & (x.error < math.inf)
    inner = where(shut, 0.0, x)
    inner.ragged = False
    limit = curve.value(torch.tensor(-math.inf, dtype=torch.float64, device=x.device))
    return where(shut, lift(limit), apply(curve, inner, counts=counts))


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

    return through(Enclosure(*parts), one, chosen, chosen, terms=0, apart=True)


def root(curve: Curve, x: Enclosure) -> Enclosure:
    """A root of what is a sum of powers, and never negative: where it may vanish, and Taylor knows nothing, from 0 to that of the
    largest value."""
    high = x.extent[1]
    top = curve.value((high + 8 * UNIT * high.abs()).clamp(min=0.0))
    return nearer(apply(curve, x), ranged(torch.zeros_like(top), top))


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
    return whole_power(INVERSE, x, odd=True)


def whole_power(curve: Curve, x, *, odd: bool) -> Enclosure:
    """A whole negative power, `curve` for x > 0, by its sign."""
    x = lift(x)
    sign = torch.where(x.center < 0, -1.0, 1.0)
    result = apply(curve, _turned(x, sign))
    return _turned(result, sign) if odd else result


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
