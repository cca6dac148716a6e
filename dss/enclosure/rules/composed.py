"""Functions that are made of others by a formula: angles, powers, distances, pools by a norm."""

import math
from functools import partial, reduce

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.registry import rule
from dss.enclosure.rules.activations import ARCTAN, logaddexp
from dss.enclosure.rules.arithmetic import divide, mean, multiply, power, subtract, total
from dss.enclosure.rules.curves import COSINE, ERF, EXP, LOG, RSQRT, SQRT, Curve, power_curve, rising
from dss.enclosure.rules.kinked import amax, amin, maximum, minimum
from dss.enclosure.rules.magnitudes import norm
from dss.enclosure.rules.means import avg_pool1d, avg_pool2d, cumsum
from dss.enclosure.rules.products import matmul
from dss.enclosure.rules.shapes import joined, where
from dss.enclosure.rules.smooth import apply, root
from dss.enclosure.value import Enclosure, lift

ARSINH = Curve(
    torch.asinh, lambda x: 1 / torch.sqrt(1 + x * x), lambda x: -x * (1 + x * x) ** -1.5,
    turns=((-0.7071067812, 0.3849001795), (0.7071067812, -0.3849001795)), scale=0.4, span=rising(torch.asinh),
    third=lambda x: (2 * x * x - 1) * (1 + x * x) ** -2.5,
    third_turns=((-1.2247448714, 0.2023857703), (0.0, -1.0), (1.2247448714, 0.2023857703)),
)  # fmt: skip

rule("asinh", "arcsinh")(partial(apply, ARSINH))
rule("fmax")(maximum)
rule("fmin")(minimum)
rule("float_power")(power)
# No entry is NaN.
rule("nansum")(total)
rule("nanmean")(mean)


@rule("tan")
def tan(x) -> Enclosure:
    """sin(x) / cos(x), where the cosine is not 0."""
    return divide(apply(COSINE, lift(x) - math.pi / 2), apply(COSINE, x))


@rule("asin", "arcsin")
def asin(x) -> Enclosure:
    """arctan(x / sqrt(1 - x^2)) inside (-1, 1)."""
    x = lift(x)
    return apply(ARCTAN, multiply(x, apply(RSQRT, 1 - x * x)))


@rule("acos", "arccos")
def acos(x) -> Enclosure:
    """pi/2 - arcsin(x)."""
    return math.pi / 2 - asin(x)


@rule("acosh", "arccosh")
def acosh(x) -> Enclosure:
    """log(x + sqrt(x^2 - 1)) above 1."""
    x = lift(x)
    return apply(LOG, x + apply(SQRT, x * x - 1))


@rule("atanh", "arctanh")
def atanh(x) -> Enclosure:
    """(log(1 + x) - log(1 - x)) / 2 inside (-1, 1)."""
    x = lift(x)
    return (apply(LOG, 1 + x) - apply(LOG, 1 - x)) * 0.5


@rule("hypot")
def hypot(x, y) -> Enclosure:
    """sqrt(x^2 + y^2)."""
    return root(SQRT, multiply(lift(x), x) + multiply(lift(y), y))


@rule("atan2", "arctan2")
def atan2(input, other) -> Enclosure:
    """2 arctan(y / (sqrt(x^2 + y^2) + x)) of y and x: half of an angle at the center is that at the circle. Not on the negative half-line, where it jumps."""
    y, x = lift(input), lift(other)
    return apply(ARCTAN, divide(y, hypot(x, y) + x)) * 2


@rule("special_ndtr")
def normal_distribution(x) -> Enclosure:
    """(1 + erf(x / sqrt(2))) / 2."""
    return (apply(ERF, lift(x) * math.sqrt(0.5)) + 1) * 0.5


@rule("xlogy", "special_xlogy")
def xlogy(x, y) -> Enclosure:
    """x log(y) for y > 0."""
    return multiply(lift(x), apply(LOG, y))


@rule("special_xlog1py")
def xlog1py(x, y) -> Enclosure:
    """x log(1 + y) for y > -1."""
    return xlogy(x, lift(y) + 1)


@rule("special_entr")
def entropy_of(x) -> Enclosure:
    """-x log(x) for x > 0."""
    return -xlogy(x, x)


@rule("ldexp")
def ldexp(x, other) -> Enclosure:
    """x 2^y."""
    if isinstance(other, Enclosure):
        return multiply(x, apply(EXP, other * math.log(2)))
    return multiply(x, torch.ldexp(torch.ones((), dtype=torch.float64), other))


@rule("nan_to_num")
def nan_to_num(x, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Enclosure:
    """x itself where it is finite; nothing is known where it is not."""
    x = lift(x)
    return where(x.center.isfinite(), x, lift(math.nan))


@rule("aminmax")
def aminmax(x, *, dim: int | None = None, keepdim: bool = False):
    """Both extrema."""
    along = () if dim is None else dim
    return torch.return_types.aminmax((amin(x, along, keepdim), amax(x, along, keepdim)))


@rule("logcumsumexp")
def logcumsumexp(x, dim: int) -> Enclosure:
    """log(exp(x_1) + ... + exp(x_k)) for every k, one after the other."""
    parts = [x.narrow(dim, i, 1) for i in range(x.shape[dim])]
    sums = parts[:1]
    for part in parts[1:]:
        sums.append(logaddexp(sums[-1], part))
    return joined(torch.cat, sums, dim)


@rule("trapz", "trapezoid")
def trapezoid(y, x=None, *, dx: float = 1.0, dim: int = -1) -> Enclosure:
    """The sum of the areas under the lines between entries."""
    return total(_areas(y, x, dx, dim), dim)


@rule("cumulative_trapezoid")
def cumulative_trapezoid(y, x=None, *, dx: float = 1.0, dim: int = -1) -> Enclosure:
    """Its sums so far."""
    return cumsum(_areas(y, x, dx, dim), dim)


def _areas(y, x, dx: float, dim: int) -> Enclosure:
    if x is not None:
        raise EnclosureError("no rule encloses an integral over given places; use one with dx")
    y = lift(y)
    count = y.shape[dim] - 1
    return (y.narrow(dim, 0, count) + y.narrow(dim, 1, count)) * (dx / 2)


@rule("linalg_matrix_norm")
def matrix_norm(x, ord="fro", dim=(-2, -1), keepdim: bool = False, *, dtype=None) -> Enclosure:
    """Frobenius', or the largest or least sum of absolute values of rows (inf) or columns (1)."""
    if ord == "fro":
        return norm(x, 2, dim, keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        raise EnclosureError(f"no rule encloses a norm of matrices with ord={ord!r}; 'fro', 1, -1, inf and -inf have one")
    row, column = (d % x.dim() for d in dim)
    summed, over = (row, column) if abs(ord) == 1 else (column, row)
    sums = norm(x, 1, summed, True)
    extreme = (amax if ord > 0 else amin)(sums, over, True)
    return extreme if keepdim else extreme.squeeze((row, column))


@rule("linalg_matrix_power", "matrix_power")
def matrix_power(x, n: int) -> Enclosure:
    """A product of n > 0 copies."""
    if n < 1:
        raise EnclosureError(f"no rule encloses the power {n} of a matrix; positive ones have one")
    return reduce(matmul, [lift(x)] * n)


@rule("dist")
def distance(x, y, p: float = 2) -> Enclosure:
    """The norm of x - y."""
    return norm(subtract(x, y), p)


@rule("cdist")
def cdist(x1, x2, p: float = 2.0, compute_mode: str | None = None) -> Enclosure:
    """The norm of every row of the one less every row of the other."""
    return norm(subtract(lift(x1).unsqueeze(-2), lift(x2).unsqueeze(-3)), p, -1)


def _lp_pool(pool, dims: int, x, norm_type: float, kernel_size, stride=None, ceil_mode: bool = False) -> Enclosure:
    """The p-th root of the sum of p-th powers in a window; as torch has it, of the entries themselves, not of their sizes."""
    each = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * dims
    sums = pool(power(lift(x), norm_type), kernel_size, stride, 0, ceil_mode) * math.prod(each)
    return sums if norm_type == 1 else apply(power_curve(1 / norm_type), sums)


rule("lp_pool1d")(partial(_lp_pool, avg_pool1d, 1))
rule("lp_pool2d")(partial(_lp_pool, avg_pool2d, 2))


@rule("cov")
def covariance(x, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Enclosure:
    """Of the rows: sums of products of what is left without their means, over n - correction."""
    if fweights is not None or aweights is not None or x.dim() != 2 or x.shape[1] <= correction:
        raise EnclosureError("no rule encloses this covariance; that of the rows of a matrix, without weights, has one")
    d = subtract(x, mean(x, 1, True))
    return matmul(d, d.transpose(0, 1)) * (1 / (x.shape[1] - correction))
