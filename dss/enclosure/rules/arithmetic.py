"""Sums, products and quotients of moving tensors."""

import math
from functools import reduce
from itertools import zip_longest

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import is_number, tracked, transposed
from dss.enclosure.registry import rule
from dss.enclosure.rounding import UNIT, above, gamma, raised
from dss.enclosure.rules.curves import EXP, LOG, power_curve
from dss.enclosure.rules.products import bilinear
from dss.enclosure.rules.shapes import OUTLYING, curved, has_outliers, is_constant, where
from dss.enclosure.rules.smooth import apply, reciprocal, whole_power
from dss.enclosure.value import Enclosure, ceiling, lift, settled


@rule("add", "__radd__", "__add__")
def add(x, y, *, alpha=1) -> Enclosure:
    """Centers, slopes and errors add; two convex functions above the terms add to one above the sum."""
    if alpha != 1:
        y = multiply(y, alpha)
    moves = any(isinstance(z, Enclosure) and z.dim() == 0 for z in (x, y))
    x, y = lift(x), lift(y)
    return _added(x, y, moves=moves)


def _of_constant(center: Tensor, *parts: Enclosure) -> Tensor | None:
    """The magnitude of what is one operation on constants: of each entry alone, zeros are exact."""
    return center.abs() if all(map(is_constant, parts)) else None


def _may_be_mask(x: Enclosure) -> bool:
    """Whether entries may be shut out by it: seen of constants, and assumed of those that differ between samples."""
    return has_outliers(x) or (x.dim() > 0 and x.fixed and not is_constant(x))


def _apiece(result: Enclosure, *parts: Enclosure) -> Tensor:
    """Magnitudes, entry by entry; what was infinite is not rounded."""
    infinite = reduce(torch.logical_or, (part.center.isinf() for part in parts))
    return torch.where(infinite, 0.0, result.amount) + result.sway


def _added(x: Enclosure, y: Enclosure, *, moves: bool = False) -> Enclosure:
    center, slope = x.center + y.center, x.slope + y.slope
    # The slope of a moving scalar is one number, which for a larger tensor would mean that it stands still.
    slope = slope.expand(center.shape) if moves else slope
    bend, twist = total_of(x.bend, y.bend), total_of(x.twist, y.twist)
    ragged, error, magnitude = _may_be_mask(x) or _may_be_mask(y), x.error + y.error, _of_constant(center, x, y)
    if ragged:
        magnitude = _apiece(Enclosure(center, slope, error, bend, twist), x, y)
    result = settled(center, slope, error, bend, twist, magnitude=magnitude, ceiling=_sum_of_ceilings(x, y))
    result.ragged = ragged
    sources = tuple(z for z in (x, y) if not is_number(z))
    shapes = [z.center.shape for z in sources]
    carried = reduce(torch.add, (z.error for z in sources), center.new_zeros(()))
    return tracked(result, carried, sources,
                   lambda weight: [weight.sum_to_size(shape) for shape in shapes], terms=_copies(x, y), mixes=0)  # fmt: skip


def total_of(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two parts; None is zero."""
    return one if other is None else other if one is None else one + other


def _copies(x: Enclosure, y: Enclosure) -> int:
    """How often an entry of one of the two is repeated to fit the other."""
    # torch.broadcast_shapes would import a compiler.
    sizes = zip_longest(x.center.shape[::-1], y.center.shape[::-1], fillvalue=1)
    whole = math.prod(max(pair) for pair in sizes)
    return whole // max(1, min(x.center.numel(), y.center.numel()))


def _sum_of_ceilings(x: Enclosure, y: Enclosure) -> tuple[Tensor, ...] | None:
    """An enclosure without a ceiling has its own largest values, which are affine."""
    if x.ceiling is None and y.ceiling is None:
        return None
    return tuple(above(a + b, a.abs() + b.abs()) for a, b in zip(ceiling(x), ceiling(y)))


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
    """Exact: what is unknown is symmetric."""
    x = lift(x)
    if x.exact:
        return lift(-x.center)
    result = Enclosure(-x.center, -x.slope, x.error, *curved(torch.neg, x))
    result.ragged = x.ragged
    return tracked(result, None, (x,), lambda weight: (-weight,), terms=0, mixes=0)


@rule("mul", "multiply", "__mul__", "__rmul__")
def multiply(x, y) -> Enclosure:
    """The product, entry by entry; a ceiling survives a constant factor >= 0."""
    if isinstance(x, (int, float)):
        x, y = y, x
    if isinstance(y, (int, float)):
        return _scaled(lift(x), y)
    x, y = lift(x), lift(y)
    if x.ragged or y.ragged:
        return _apart(x, y) if x.ragged else _apart(y, x)
    result = bilinear(torch.mul, x, y, terms=1, fan=_copies(x, y), mixes=0,
                      back=lambda weight, other: (weight * other).sum_to_size(x.center.shape))  # fmt: skip
    return _below(_below(result, x, y, y.center), y, x, x.center)


def _below(result: Enclosure, x: Enclosure, constant: Enclosure, factor: Tensor) -> Enclosure:
    """`result`, which is x times a factor, under the ceiling of x where that is a constant >= 0."""
    if x.ceiling is not None and constant.exact:
        sides = (side * factor for side in x.ceiling)
        pairs = zip(sides, ceiling(result), strict=True)
        result.ceiling = tuple(torch.where(factor >= 0, above(side, side.abs()), own) for side, own in pairs)
    return result


def _apart(x: Enclosure, y: Enclosure) -> Enclosure:
    """The product where x is small, where it is large, and where it is infinite: there it is so if y is surely positive."""
    near, infinite = x.amount <= OUTLYING, x.center.isinf() & (x.error < math.inf)
    inner, outer = where(near, x, 0.0), where(near | infinite, 0.0, x)
    inner.ragged = outer.ragged = False
    low = y.extent[0]
    shut = torch.where(low > 32 * UNIT * (y.amount + y.sway + y.error), x.center, math.nan)
    result = where(
        near, multiply(inner, y), where(infinite, Enclosure(shut, shut.new_zeros(()), shut.new_zeros(())), multiply(outer, y))
    )
    result.ragged = True
    return result


def _scaled(x: Enclosure, factor: float) -> Enclosure:
    """Times a number, which is taken as the float64 it is."""
    carried = x.error * abs(factor)
    center, slope, more = x.center * factor, x.slope * factor, curved(lambda part: part * factor, x)
    ragged, magnitude = x.ragged or abs(factor) > OUTLYING, _of_constant(center, x)
    if ragged:
        magnitude = _apiece(Enclosure(center, slope, carried, *more), x)
    scaled = settled(center, slope, carried, *more, magnitude=magnitude)
    scaled.ragged = ragged
    tracked(scaled, carried, (x,), lambda weight: (weight * factor,), mixes=0)
    if x.ceiling is not None and factor >= 0:
        scaled.ceiling = tuple(above(side * factor, side.abs() * factor) for side in x.ceiling)
    return scaled


@rule("div", "divide", "true_divide", "__truediv__", "__div__")
def divide(x, y, *, rounding_mode=None) -> Enclosure:
    """x times the reciprocal of y; a divisor that may be zero gives an infinite error."""
    if rounding_mode is not None:
        raise EnclosureError(f"no rule encloses a division with rounding_mode={rounding_mode!r}; use the true one")
    if isinstance(y, (int, float)) and y != 0:
        return _scaled(x, 1 / y)
    x, y = lift(x), lift(y)
    return _below(multiply(x, reciprocal(y)), x, y, 1 / y.center)


@rule("__rdiv__", "__rtruediv__")
def reversed_divide(x, y) -> Enclosure:
    """y / x."""
    return divide(y, x)


@rule("square")
def square(x) -> Enclosure:
    """By the rule of the product."""
    return multiply(x, x)


@rule("pow", "__pow__")
def power(x, exponent) -> Enclosure:
    """Whole powers by products, negative ones and those of a positive base by Taylor, exponents that differ or move by exp(y log x)."""
    if isinstance(exponent, Tensor) and not isinstance(exponent, Enclosure) and exponent.dim() == 0:
        exponent = exponent.item()
    if isinstance(exponent, Tensor):
        return apply(EXP, multiply(exponent, apply(LOG, x)))
    if not isinstance(exponent, (int, float)) or not isinstance(x, Enclosure) or exponent == 0:
        raise EnclosureError(f"no rule encloses a power with exponent {exponent!r}; constants other than 0 have one")
    if exponent != int(exponent):
        return apply(power_curve(exponent), x)
    if exponent < 0:
        return whole_power(power_curve(exponent), x, odd=bool(exponent % 2))
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


def dims_of(x: Enclosure, dim) -> tuple[int, ...]:
    """Dimensions as torch counts them, as numbers >= 0; None and () are all of them."""
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    return tuple(d % max(1, x.dim()) for d in dims) or tuple(range(x.dim()))


def _summed(x: Enclosure, dim, keepdim: bool, *, mean: bool) -> Enclosure:
    dims, shape = dims_of(x, dim), x.center.shape

    def over(part: Tensor) -> Tensor:
        if not shape:
            return part
        return part.mean(dims, keepdim) if mean else part.sum(dims, keepdim)

    def fold(part: Tensor) -> Tensor:
        return over(part.expand(shape))

    lost = gamma(math.prod(shape[d] for d in dims) if shape else 1)
    carried = fold(x.error)
    folded = Enclosure(fold(x.center), fold(x.slope), raised(carried, fold(x.magnitude), lost), *curved(fold, x))
    tracked(folded, carried, (x,), transposed(fold, x.center), mixes=0)
    if x.ceiling is not None:
        sides = torch.stack([side.expand(shape) for side in x.ceiling], -1)  # dimensions keep their numbers
        folded.ceiling = above(over(sides), over(sides.abs()), lost).unbind(-1)
    return folded
