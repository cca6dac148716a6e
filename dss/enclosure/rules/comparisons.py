"""Comparisons of what moves, and what is built of them: 1, 0, or either where a cell holds places of both kinds.

Nothing is branched on: a mask chooses entry by entry (`where`, `masked_fill`, a product), and an entry that may go either way is
enclosed with both.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.passes import note_kink
from dss.enclosure.registry import rule
from dss.enclosure.rounding import UNIT
from dss.enclosure.rules.arithmetic import multiply, subtract
from dss.enclosure.rules.shapes import sides, where
from dss.enclosure.rules.smooth import ranged
from dss.enclosure.value import Enclosure, lift


def indicator(sure: Tensor, never: Tensor) -> Enclosure:
    """1, 0, or anything between."""
    note_kink()
    known = torch.where(sure, 1.0, torch.where(never, 0.0, 0.5)).to(torch.float64)
    return Enclosure(known, known.new_zeros(()), torch.where(sure | never, 0.0, 0.5).to(torch.float64))


def _bounds(x: Enclosure) -> tuple[Tensor, Tensor]:
    """The least and the largest value, with the rounding of `extent`."""
    low, high = x.extent
    margin = 32 * UNIT * (low.abs() + high.abs())
    return low - margin, high + margin


@rule("gt", "greater", "__gt__")
def greater(x, y) -> Enclosure:
    """x > y."""
    low, high = _bounds(subtract(lift(x), y))
    return indicator(low > 0, high <= 0)


@rule("ge", "greater_equal", "__ge__")
def greater_equal(x, y) -> Enclosure:
    """x >= y."""
    low, high = _bounds(subtract(lift(x), y))
    return indicator(low >= 0, high < 0)


@rule("lt", "less", "__lt__")
def less(x, y) -> Enclosure:
    """x < y."""
    return greater(y, x)


@rule("le", "less_equal", "__le__")
def less_equal(x, y) -> Enclosure:
    """x <= y."""
    return greater_equal(y, x)


@rule("logical_not", "bitwise_not", "__invert__")
def logical_not(x) -> Enclosure:
    """1 - x."""
    sure, never = sides(x)
    return indicator(never, sure)


@rule("logical_and", "bitwise_and", "__and__", "__rand__")
def logical_and(x, y) -> Enclosure:
    """Both."""
    (one, not_one), (other, not_other) = sides(x), sides(y)
    return indicator(one & other, not_one | not_other)


@rule("logical_or", "bitwise_or", "__or__", "__ror__")
def logical_or(x, y) -> Enclosure:
    """One of them or both."""
    (one, not_one), (other, not_other) = sides(x), sides(y)
    return indicator(one | other, not_one & not_other)


@rule("sign", "sgn")
def sign(x) -> Enclosure:
    """1, 0 or -1."""
    low, high = _bounds(lift(x))
    return _between(torch.sign(low), torch.sign(high))


@rule("heaviside")
def heaviside(x, values) -> Enclosure:
    """0 below zero, 1 above, and a given number at zero."""
    low, high = _bounds(lift(x))
    at_zero = lift(values)
    if not at_zero.exact:
        raise EnclosureError("no rule encloses heaviside with a value at zero that depends on the parameters")
    least, most = at_zero.center.clamp(max=0.0), at_zero.center.clamp(min=1.0)
    return _between(torch.where(low > 0, 1.0, least), torch.where(high < 0, 0.0, most))


def _between(low: Tensor, high: Tensor) -> Enclosure:
    """A whole number where both sides are the same one."""
    note_kink()
    loose = ranged(low, high)
    return where(low == high, lift(low.to(torch.float64)), loose)


def _stairs(step: Callable[[Tensor], Tensor], x, *, decimals: int = 0) -> Enclosure:
    """A function that is constant between jumps and never falls."""
    if decimals:
        raise EnclosureError("no rule encloses round with decimals; round whole numbers")
    low, high = _bounds(lift(x))
    return _between(step(low), step(high))


for _name, _step in {
    "round": torch.round,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
    "fix": torch.trunc,
}.items():
    rule(_name)(partial(_stairs, _step))


@rule("frac")
def fraction(x) -> Enclosure:
    """x - trunc(x)."""
    return subtract(lift(x), _stairs(torch.trunc, x))


@rule("remainder", "__mod__")
def remainder(x, divisor) -> Enclosure:
    """x - d floor(x / d) for a number d."""
    return _left(torch.floor, x, divisor)


@rule("fmod")
def fmod(x, divisor) -> Enclosure:
    """x - d trunc(x / d) for a number d."""
    return _left(torch.trunc, x, divisor)


def _left(step: Callable[[Tensor], Tensor], x, divisor) -> Enclosure:
    if not isinstance(divisor, (int, float)) or divisor == 0:
        raise EnclosureError(f"no rule encloses a remainder of {divisor!r}; that of a number other than 0 has one")
    x = lift(x)
    return subtract(x, multiply(_stairs(step, x / divisor), divisor))
