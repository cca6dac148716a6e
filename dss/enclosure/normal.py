"""Normalizations and attention: batch, layer and group norm, softmax, pooled means, dot-product attention."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.rounding import gamma, raised
from dss.enclosure.smooth import RSQRT, apply, nearer, ranged
from dss.enclosure.value import Enclosure, lift, rule, settled
from dss.errors import EnclosureError


@rule("batch_norm")
def batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5) -> Enclosure:
    """(x - mean) / sqrt(var + eps) * w + b with stored statistics: an affine map per channel."""
    if training or mean is None or var is None:
        raise EnclosureError("batch norm takes its statistics from the batch here; the enclosure needs stored ones: "
                             "freeze them (eval() with track_running_stats, or buffers='frozen')")  # fmt: skip

    def per_channel(part) -> Enclosure:
        return lift(part).reshape(-1, *[1] * (x.dim() - 2))

    scale = apply(RSQRT, lift(var) + eps)
    if weight is not None:
        scale = scale * weight
    y = (x - per_channel(mean)) * per_channel(scale)
    return y if bias is None else y + per_channel(bias)


@rule("layer_norm")
def layer_norm(x, normalized_shape, weight=None, bias=None, eps: float = 1e-5) -> Enclosure:
    """(x - mean) / sqrt(var + eps) * w + b over the last dimensions."""
    y = normalized(x, tuple(range(-len(normalized_shape), 0)), eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


@rule("group_norm")
def group_norm(x, num_groups: int, weight=None, bias=None, eps: float = 1e-5) -> Enclosure:
    """(x - mean) / sqrt(var + eps) over the channels of a group and all places, then per channel * w + b."""
    shape = tuple(x.shape)
    y = normalized(x.reshape(shape[0], num_groups, -1), (-1,), eps).reshape(shape)
    if weight is not None:
        y = y * lift(weight).reshape(-1, *[1] * (len(shape) - 2))
    return y if bias is None else y + lift(bias).reshape(-1, *[1] * (len(shape) - 2))


@rule("local_response_norm")
def local_response_norm(x, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Enclosure:
    """x / (k + alpha mean of x^2 over `size` neighbouring channels)^beta, zeros beyond the outer channels."""
    around = (0, 0) * (x.dim() - 2) + (size // 2, (size - 1) // 2)

    def near(part: Tensor) -> Tensor:
        return F.pad(part, around).unfold(1, size, 1).mean(-1)

    return x / (_averaged(x * x, near, size) * alpha + k) ** beta


def normalized(x: Enclosure, dims: tuple[int, ...], eps: float) -> Enclosure:
    """d / sqrt(mean(d^2) + eps) with d = x - mean(x), by the rules of its parts.

    Each entry is at most sqrt(n) in absolute value, whatever x: the bare range where x is hardly known.
    """
    d = x - x.mean(dims, keepdim=True)
    y = d * apply(RSQRT, (d * d).mean(dims, keepdim=True) + eps)
    most = torch.full_like(y.center, math.sqrt(math.prod(x.shape[dim] for dim in dims)))
    return nearer(y, ranged(-most, most))


@rule("softmax")
def softmax(x, dim: int = -1, _stacklevel=3, dtype=None) -> Enclosure:
    """Taylor at the center with p = softmax(c): the slope is p (g - p.g), the remainder by the second derivative.

    A displacement common to all logits changes nothing, so d counts from p.g tau. With |d| <= r <= R, p'' [d, d] =
    q ((d - q.d)^2 - Var_q d) for a q on the way, which is at most exp(2 R) p; half of it lies between -q Var / 2 and
    q (r + q.r)^2 / 2. To first order E moves entry i by p_i ((1 - p_i) e_i + sum p_j e_j over the others).
    """
    x = lift(x)
    center, slope, error = (part.expand(x.center.shape) for part in (x.center, x.slope, x.error))
    p = torch.softmax(center, dim)
    own = slope - (p * slope).sum(dim, True)
    reach, spread = own.abs() + error, (p * error).sum(dim, True)
    most = reach.amax(dim, True)
    growth = torch.exp(2 * most)
    average = torch.minimum(growth * (p * reach).sum(dim, True), most)
    variance = torch.minimum(growth * (p * reach * reach).sum(dim, True), most * most)
    weight = torch.clamp(growth * p, max=1.0) / 4
    up, down = weight * (reach + average) ** 2, weight * variance
    error = p * ((1 - 2 * p).clamp(min=0.0) * error + spread) + up + down
    scale = 1 + center.abs() + x.slope.abs() + most
    error = raised(error, p * scale, gamma(center.shape[dim]))
    taylor = settled(p + (up - down), p * own, error, p * scale + up + down)
    return nearer(taylor, _between_extremes(p, growth))


def _between_extremes(p: Tensor, growth: Tensor) -> Enclosure:
    """Each logit moves by at most R, so odds, and with them p, change by a factor of at most exp(2 R)."""
    return ranged(p / growth, torch.clamp(p * growth, max=1.0))


@rule("logsumexp")
def logsumexp(x, dim: int = -1, keepdim: bool = False) -> Enclosure:
    """Taylor: the gradient is p = softmax(c) and the second derivative the variance of d under some q on the way.

    The variance ignores a displacement common to all, so d counts from p.g tau; it lies between 0 and both R^2 and
    exp(2 R) sum p r^2.
    """
    x = lift(x)
    dim = dim[0] if isinstance(dim, (tuple, list)) else dim
    slope, error = (part.expand(x.center.shape) for part in (x.slope, x.error))
    p = torch.softmax(x.center, dim)
    tilt = (p * slope).sum(dim, True)
    reach = (slope - tilt).abs() + error
    most = reach.amax(dim, keepdim)
    variance = torch.minimum(torch.exp(2 * most) * (p * reach * reach).sum(dim, keepdim), most * most) / 4
    value, lost = torch.logsumexp(x.center, dim, keepdim), gamma(x.center.shape[dim])
    magnitude = x.magnitude.amax(dim, keepdim) + most + 1
    error = raised((p * error).sum(dim, keepdim) + variance, value.abs() + magnitude, lost)
    return settled(value + variance, tilt if keepdim else tilt.squeeze(dim), error, magnitude)


@rule("log_softmax")
def log_softmax(x, dim: int = -1, _stacklevel=3, dtype=None) -> Enclosure:
    """x - logsumexp(x)."""
    return x - logsumexp(x, dim, True)


@rule("avg_pool2d")
def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of a window, component by component."""
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _averaged(x, lambda part: F.avg_pool2d(part, *options), _size(kernel_size))


@rule("avg_pool1d")
def avg_pool1d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True) -> Enclosure:
    """The mean of a window, component by component."""
    options = (kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _averaged(x, lambda part: F.avg_pool1d(part, *options), _size(kernel_size))


@rule("adaptive_avg_pool2d")
def adaptive_avg_pool2d(x, output_size) -> Enclosure:
    """Means over windows that depend on the shape."""
    return _averaged(x, lambda part: F.adaptive_avg_pool2d(part, output_size), math.prod(x.shape[-2:]))


@rule("adaptive_avg_pool1d")
def adaptive_avg_pool1d(x, output_size) -> Enclosure:
    """Means over windows that depend on the shape."""
    return _averaged(x, lambda part: F.adaptive_avg_pool1d(part, output_size), x.shape[-1])


def _size(kernel) -> int:
    return math.prod(kernel) if isinstance(kernel, (tuple, list)) else kernel * kernel


def _averaged(x: Enclosure, pool, terms: int) -> Enclosure:
    """A mean with weights >= 0 of each component."""
    center, slope, error, large = (pool(part.expand(x.center.shape)) for part in
                                   (x.center, x.slope, x.error, x.magnitude))  # fmt: skip
    return Enclosure(center, slope, raised(error, large, gamma(terms)))
