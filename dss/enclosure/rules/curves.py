"""Smooth functions of one variable: their derivatives, where those turn, and their ranges."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
