"""Sums and means with fixed weights >= 0: pools, interpolation, running sums, sums at given places."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import tracked, transposed
from dss.enclosure.registry import rule
from dss.enclosure.rounding import gamma, raised
from dss.enclosure.rules.arithmetic import add, multiply
from dss.enclosure.rules.products import matmul
from dss.enclosure.rules.shapes import curved
from dss.enclosure.value import Enclosure, lift

PLACES = 4096
"""Roundings that stand for those of an interpolation's weights, which torch computes from places of up to so many pixels."""


MOST_WEIGHTS = 2**22
"""Entries of the matrix of an interpolation or a transform."""


@rule("avg_pool2d")
def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of a window, component by component."""
    if divisor_override is not None and divisor_override < 0:
        raise EnclosureError("no rule encloses a mean with a negative divisor")
    stride = stride if stride is not None else kernel_size
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return averaged(x, lambda part: F.avg_pool2d(part, *options), _size(kernel_size, 2))


@rule("avg_pool1d")
def avg_pool1d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True) -> Enclosure:
    """The mean of a window, component by component."""
    options = (kernel_size, stride if stride is not None else kernel_size, padding, ceil_mode, count_include_pad)
    return averaged(x, lambda part: F.avg_pool1d(part, *options), _size(kernel_size, 1))


@rule("avg_pool3d")
def avg_pool3d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of a window, component by component."""
    if divisor_override is not None and divisor_override < 0:
        raise EnclosureError("no rule encloses a mean with a negative divisor")
    stride = stride if stride is not None else kernel_size
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return averaged(x, lambda part: F.avg_pool3d(part, *options), _size(kernel_size, 3))


@rule("adaptive_avg_pool3d")
def adaptive_avg_pool3d(x, output_size) -> Enclosure:
    """Means over windows that depend on the shape."""
    return averaged(
        x, lambda part: F.adaptive_avg_pool3d(part, output_size), math.prod(x.shape[-3:]), fan=math.prod(x.shape[-3:]) * 64
    )


@rule("adaptive_avg_pool2d")
def adaptive_avg_pool2d(x, output_size) -> Enclosure:
    """Means over windows that depend on the shape."""
    return averaged(x, lambda part: F.adaptive_avg_pool2d(part, output_size), math.prod(x.shape[-2:]), fan=_fan(x, output_size))


@rule("adaptive_avg_pool1d")
def adaptive_avg_pool1d(x, output_size) -> Enclosure:
    """Means over windows that depend on the shape."""
    return averaged(x, lambda part: F.adaptive_avg_pool1d(part, output_size), x.shape[-1], fan=_fan(x, output_size))


def _fan(x: Enclosure, output_size) -> int:
    """In how many windows of an adaptive pool an entry may be."""
    outputs = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    return math.prod(size or x.shape[i - len(outputs)] for i, size in enumerate(outputs))


def _size(kernel, dims: int) -> int:
    """Entries of a window."""
    each = tuple(kernel) if isinstance(kernel, (tuple, list)) else (kernel,)
    return math.prod(each if len(each) == dims else each * dims)


def averaged(x: Enclosure, pool, terms: int, *, fan: int | None = None) -> Enclosure:
    """A mean with weights >= 0 of each component: of `terms` entries, and each in `fan` means at most, or `terms` too."""
    center, slope, error, large = (pool(part.expand(x.center.shape)) for part in
                                   (x.center, x.slope, x.error, x.magnitude))  # fmt: skip
    result = Enclosure(center, slope, raised(error, large, gamma(terms)), *curved(pool, x))
    return tracked(result, error, (x,), transposed(pool, x.center), terms=fan or terms)


@rule("interpolate")
def interpolate(x, size=None, scale_factor=None, mode: str = "nearest", align_corners=None, recompute_scale_factor=None,
                antialias: bool = False) -> Enclosure:  # fmt: skip
    """Copies, or means of neighbours, or, where weights may be negative, a product with the matrix of the weights."""
    options = (size, scale_factor, mode, align_corners, recompute_scale_factor)
    if mode == "bicubic" or antialias:
        return _weighed(x, *options, antialias)
    return averaged(x, lambda part: F.interpolate(part, *options), PLACES)


def _weighed(x: Enclosure, *options) -> Enclosure:
    """The product with the matrix of an interpolation's weights, which are polynomials of degree 3 in places that are off by as
    many roundings as they have pixels."""
    image = x.shape[2:]
    weights = F.interpolate(torch.eye(image.numel(), dtype=torch.float64, device=x.device).view(-1, 1, *image), *options)
    return product_with(x.flatten(2), weights.flatten(1)).unflatten(-1, weights.shape[2:])


def product_with(x: Enclosure, weights: Tensor) -> Enclosure:
    """The product with a matrix of weights that torch computed, by fewer roundings each than stand for places."""
    if weights.numel() > MOST_WEIGHTS:
        raise EnclosureError(f"no rule encloses a product with so many weights: {' x '.join(map(str, weights.shape))}")
    return matmul(x, Enclosure(weights, weights.new_zeros(()), 4 * gamma(PLACES) * weights.abs().amax()))


@rule("cumsum")
def cumsum(x, dim: int, *, dtype=None) -> Enclosure:
    """Sums of the first entries."""
    return averaged(x, lambda part: part.cumsum(dim), x.shape[dim] if x.dim() else 1)


@rule("index_add")
def index_add(x, dim: int, index, source, *, alpha=1) -> Enclosure:
    """Rows added at given places."""
    zeros = torch.zeros_like(lift(x).center)
    return add(
        x, averaged(multiply(lift(source), alpha), lambda part: zeros.to(part.dtype).index_add(dim, index, part), index.numel())
    )


@rule("scatter_add")
def scatter_add(x, dim: int, index, src) -> Enclosure:
    """Entries added at given places."""
    zeros = torch.zeros_like(lift(x).center)
    return add(x, averaged(lift(src), lambda part: zeros.to(part.dtype).scatter_add(dim, index, part), index.numel()))


@rule("fold")
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1) -> Enclosure:
    """Sums of overlapping windows."""
    options = (output_size, kernel_size, dilation, padding, stride)
    return averaged(x, lambda part: F.fold(part, *options), _size(kernel_size, 2), fan=1)
