"""Sums, products and quotients of moving tensors."""

import math

from torch import Tensor

from dss.enclosure.rounding import gamma, largest, raised
from dss.enclosure.smooth import apply, power_curve, reciprocal
from dss.enclosure.value import Enclosure, lift, rule, settled
from dss.errors import EnclosureError


@rule("add", "__radd__", "__add__")
def add(x, y, *, alpha=1) -> Enclosure:
    """Centers, slopes and errors add; two convex functions above the terms add to one above the sum."""
    if alpha != 1:
        y = multiply(y, alpha)
    moves = any(isinstance(z, Enclosure) and z.dim() == 0 for z in (x, y))
    x, y = lift(x), lift(y)
    center, slope = x.center + y.center, x.slope + y.slope
    # The slope of a moving scalar is one number, which for a larger tensor would mean that it stands still.
    slope = slope.expand(center.shape) if moves else slope
    added = settled(center, slope, x.error + y.error)
    added.ceiling = _sum_of_ceilings(x, y)
    return added


def _sum_of_ceilings(x: Enclosure, y: Enclosure) -> tuple[Tensor, Tensor] | None:
    """An enclosure without a ceiling has the affine one, center +- slope + error."""
    if x.ceiling is None and y.ceiling is None:
        return None
    return tuple(raised(a + b, a.abs() + b.abs()) for a, b in zip(ceiling(x), ceiling(y)))


def ceiling(x: Enclosure) -> tuple[Tensor, Tensor]:
    """Values at tau = -1 and +1 of a function convex in tau above `x`."""
    if x.ceiling is not None:
        return x.ceiling
    return tuple(raised(x.center + sign * x.slope + x.error, x.magnitude) for sign in (-1, 1))


@rule("sub", "subtract", "__sub__")
def subtract(x, y, *, alpha=1) -> Enclosure:
    """x + (-y)."""
    return add(x, negative(multiply(y, alpha) if alpha != 1 else y))


@rule("rsub", "__rsub__")
def reversed_subtract(x, y, *, alpha=1) -> Enclosure:
    """y - x."""
    return subtract(y, x, alpha=alpha)


@rule("neg", "negative", "__neg__")
def negative(x) -> Enclosure:
    """Exact: the error is symmetric."""
    x = lift(x)
    return Enclosure(-x.center, -x.slope, x.error)


@rule("mul", "multiply", "__mul__", "__rmul__")
def multiply(x, y) -> Enclosure:
    """(c + g tau + E)(c' + g' tau + E') = cc' + (cg' + gc') tau + gg' tau^2 + ..., and tau^2 lies in [0, 1].

    So the center is cc' + gg'/2 and the error |gg'|/2 + (|c| + |g|) e' + e (|c'| + |g'| + e'). A ceiling survives a
    constant factor >= 0.
    """
    if isinstance(x, (int, float)):
        x, y = y, x
    if isinstance(y, (int, float)):
        return _scaled(x, y)
    x, y = lift(x), lift(y)
    bend, large, other = x.slope * y.slope / 2, x.magnitude, y.magnitude
    error = large * y.error + x.error * (other + y.error) + bend.abs()
    slope = x.center * y.slope + x.slope * y.center
    size = (largest(x.center) + largest(x.slope)) * (largest(y.center) + largest(y.slope))
    return settled(x.center * y.center + bend, slope, error, size)


def _scaled(x: Enclosure, factor: float) -> Enclosure:
    """Times a number, which is taken as the float64 it is."""
    size = abs(factor)
    scaled = settled(x.center * factor, x.slope * factor, x.error * size)
    if x.ceiling is not None and factor >= 0:
        scaled.ceiling = tuple(raised(side * factor, side.abs() * factor) for side in x.ceiling)
    return scaled


@rule("div", "divide", "true_divide", "__truediv__", "__div__")
def divide(x, y, *, rounding_mode=None) -> Enclosure:
    """x times the reciprocal of y; a divisor that may be zero gives an infinite error."""
    if rounding_mode is not None:
        raise EnclosureError(f"no rule encloses a division with rounding_mode={rounding_mode!r}; use the true one")
    if isinstance(y, (int, float)) and y != 0:
        return _scaled(x, 1 / y)
    return multiply(x, reciprocal(y))


@rule("__rdiv__", "__rtruediv__")
def reversed_divide(x, y) -> Enclosure:
    """y / x."""
    return divide(y, x)


@rule("square")
def square(x) -> Enclosure:
    """(c + g tau + E)^2 = c^2 + 2 c g tau + g^2 tau^2 + ..., by the rule of the product."""
    return multiply(x, x)


@rule("pow", "__pow__")
def power(x, exponent) -> Enclosure:
    """Whole powers by products, negative ones by the reciprocal, others of a positive base by Taylor."""
    if not isinstance(exponent, (int, float)) or not isinstance(x, Enclosure) or exponent == 0:
        raise EnclosureError(f"no rule encloses a power with exponent {exponent!r}; constants other than 0 have one")
    if exponent < 0:
        return reciprocal(power(x, -exponent))
    if exponent != int(exponent):
        return apply(power_curve(exponent), x)
    result = x
    for _ in range(int(exponent) - 1):
        result = multiply(result, x)
    return result


@rule("sum")
def total(x, dim=None, keepdim=False, *, dtype=None) -> Enclosure:
    """Sums of centers, slopes, errors and ceilings, with the rounding of the sum."""
    return _summed(x, dim, keepdim, mean=False)


@rule("mean")
def mean(x, dim=None, keepdim=False, *, dtype=None) -> Enclosure:
    """The sum over the number of terms: taken over data, this comes before the maximum over tau."""
    return _summed(x, dim, keepdim, mean=True)


def _summed(x: Enclosure, dim, keepdim: bool, *, mean: bool) -> Enclosure:
    dims = tuple(range(x.center.dim())) if dim is None else dim
    shape = x.center.shape

    def fold(part: Tensor) -> Tensor:
        part = part.expand(shape)
        if not shape:
            return part
        return part.mean(dims, keepdim) if mean else part.sum(dims, keepdim)

    terms = math.prod(shape) if dim is None else math.prod(shape[d] for d in ([dim] if isinstance(dim, int) else dim))
    lost, center, slope = gamma(terms), fold(x.center), fold(x.slope)
    folded = Enclosure(center, slope, raised(fold(x.error), fold(x.magnitude), lost))
    if x.ceiling is not None:
        folded.ceiling = tuple(raised(fold(side), fold(side.abs()), lost) for side in x.ceiling)
    return folded
