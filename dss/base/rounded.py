"""Proved figures in few digits: rounded outward, so that what is printed is still proved."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import isfinite

DIGITS = 6


def above(value: float, digits: int = DIGITS) -> str:
    """An upper bound in so many significant digits."""
    return _rounded(value, digits, ROUND_CEILING)


def below(value: float, digits: int = DIGITS) -> str:
    """A lower bound in so many significant digits."""
    return _rounded(value, digits, ROUND_FLOOR)


def at_most(value: float, limit: float) -> str:
    """`value <= limit` in six digits, or in as many as it takes to be true as it stands there."""
    for digits in range(DIGITS, 17):
        bound, level = above(value, digits), f"{limit:.{digits}g}"
        if float(bound) <= float(level):
            return f"{bound} <= {level}"
    return f"{value!r} <= {limit!r}"


def _rounded(value: float, digits: int, way: str) -> str:
    if not isfinite(value) or value == 0:
        return f"{value:g}"
    exact = Decimal(value)
    found = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), rounding=way)
    return format(found.normalize(), "f" if -5 < exact.adjusted() < 7 else "e")
