"""Normalizations and attention: batch, layer and group norm, softmax, pooled means, dot-product attention."""

import math

import torch
from torch import Tensor
from torch._C._functorch import maybe_current_level, maybe_get_level  # pyright: ignore[reportMissingImports]

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import refined, tracked
from dss.enclosure.passes import count_curve, keeps_third
from dss.enclosure.registry import rule
from dss.enclosure.rounding import WIDE, gamma, largest, raised
from dss.enclosure.rules.arithmetic import dims_of, total_of
from dss.enclosure.rules.curves import EXP, RSQRT
from dss.enclosure.rules.means import averaged
from dss.enclosure.rules.shapes import curved, where
from dss.enclosure.rules.smooth import apply, nearer, ranged
from dss.enclosure.value import Enclosure, lift, settled


@rule("batch_norm")
def batch_norm(x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5) -> Enclosure:
    """(x - mean) / sqrt(var + eps) * w + b with stored statistics: an affine map per channel; or, of weights, with their own."""

    def per_channel(part) -> Enclosure:
        return lift(part).reshape(-1, *[1] * (x.dim() - 2))

    if mean is None and var is None and _is_same_for_samples(lift(x)):  # weights are standardized so
        y = normalized(lift(x), (0, *range(2, x.dim())), eps)
        y = y if weight is None else y * per_channel(weight)
        return y if bias is None else y + per_channel(bias)
    if training or mean is None or var is None:
        raise EnclosureError("batch norm takes its statistics from the batch here; the enclosure needs stored ones: "
                             "freeze them (eval() with track_running_stats, or buffers='frozen')")  # fmt: skip
    scale = apply(RSQRT, lift(var) + eps, counts=0)
    if weight is not None:
        scale = scale * weight
    y = (x - per_channel(mean)) * per_channel(scale)
    return y if bias is None else y + per_channel(bias)


def _is_same_for_samples(x: Enclosure) -> bool:
    """Whether it is made of parameters alone: samples go through `vmap`, within that of the cells."""
    level, parts = maybe_current_level(), (x.center, x.slope, x.error, x.bend, x.twist)
    return level is not None and all(maybe_get_level(part) < level for part in parts if part is not None)


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
    places = torch.arange(x.shape[1], device=x.device)
    apart = places - places[:, None]
    band = ((apart >= -(size // 2)) & (apart <= (size - 1) // 2)).double() / size

    def near(part: Tensor) -> Tensor:
        # A product with a band matrix: several times as fast as a pool across channels.
        return (band.to(part.dtype) @ part.flatten(2)).view(part.shape)

    return x / (averaged(x * x, near, size) * alpha + k) ** beta


def normalized(x: Enclosure, dims: tuple[int, ...], eps: float) -> Enclosure:
    """d / sqrt(mean(d^2) + eps) with d = x - mean(x), by the rules of its parts.

    Each entry is at most sqrt(n) in absolute value, whatever x: the bare range where x is hardly known.
    """
    x = refined(x)
    d = x - x.mean(dims, keepdim=True)
    y = d * apply(RSQRT, (d * d).mean(dims, keepdim=True) + eps, counts=2)
    most = torch.full_like(y.center, math.sqrt(math.prod(x.shape[dim] for dim in dims)))
    return nearer(y, ranged(-most, most))


FAR = 1000.0
"""What lies so much lower than the largest entry takes part in a sum of exponentials with less than 1e-290 of it."""


@rule("softmax", "special_softmax")
def softmax(x, dim: int | None = None, _stacklevel=3, dtype=None) -> Enclosure:
    """The shares of exponentials, of which entries that are shut out (-inf, -1e9) have none."""
    x = lift(x)
    return shares(without_far(x, _usual(x, dim))[1], _usual(x, dim))


def shares(x: Enclosure, dim: int) -> Enclosure:
    """exp(x - logsumexp(x)); or, where x is hardly known, the odds: each logit moves by at most R from what all have in
    common, so p changes by a factor of at most exp(2 R)."""
    x = refined(x)
    p = torch.softmax(x.center, dim)
    growth = torch.exp(2 * _relative(x, p, dim)[1].amax(dim, True))
    return nearer(apply(EXP, x - _logsumexp(x, dim, True)), ranged(p / growth, torch.clamp(p * growth, max=1.0)))


def without_far(x: Enclosure, dim: int) -> tuple[Tensor, Enclosure]:
    """Which entries are not far below the largest, and the tensor with those that are, -inf too, replaced by such that are
    `FAR` below it and move as the others do: the sum of exponentials differs by less than is allowed for underflow, and no rounding is as large as they were."""
    if not x.dim():
        return torch.ones_like(x.center, dtype=torch.bool), x
    low, high = x.extent
    top = low.amax(dim, True)
    near = ~(high < top - FAR)  # what is not known takes part
    p = torch.softmax(x.center, dim)
    drift = torch.where(near, p * x.slope, 0.0).sum(dim, True).clamp(-FAR / 10, FAR / 10)
    zero = x.center.new_zeros(())
    away = Enclosure((top - FAR).expand(x.center.shape), drift.expand(x.center.shape), zero)
    inner = where(near, x, away)
    inner.ragged = False
    return near, inner


def _usual(x: Enclosure, dim: int | None) -> int:
    """The dimension that torch's softmax takes where it is not told (with a warning)."""
    return (0 if x.dim() in (0, 1, 3) else 1) if dim is None else dim


@rule("logsumexp", "special_logsumexp")
def logsumexp(x, dim, keepdim: bool = False) -> Enclosure:
    """Over several dimensions: over all of them as one."""
    x, dims = lift(x), dims_of(x, dim)
    if len(dims) == 1 or not x.dim():
        dim = dims[0] if dims else 0
        return _logsumexp(without_far(x, dim)[1], dim, keepdim)
    result = _logsumexp(x.movedim(dims, tuple(range(-len(dims), 0))).flatten(-len(dims)), -1, False)
    return result.reshape([1 if d in dims else size for d, size in enumerate(x.shape)]) if keepdim else result


def _logsumexp(x: Enclosure, dim: int, keepdim: bool) -> Enclosure:
    """Taylor with p = softmax(c): log sum exp(c + d) = log sum exp(c) + p.d + Var_q(d) / 2 for a q on the way.

    The variance ignores a displacement common to all, so d counts from p.g tau: |d| <= r <= R, and the odds of q are
    within exp(2 R) of those of p. With d = g tau + w, |w| <= v, Var_p(d) is tau^2 Var_p(g) up to sum p v (2 |g| + v),
    and Var_q(d) differs from it by (exp(2 R) - 1) sum p r^2 at most. Where that is more, Var_q(d) lies in
    [0, min(exp(2 R) sum p r^2, R^2)].
    """
    p = torch.softmax(x.center, dim)

    def fold(part: Tensor) -> Tensor:
        return (p * part).sum(dim, keepdim)

    count_curve(2)
    own, reach, rest = _relative(x, p, dim)
    most, square = reach.amax(dim, keepdim), fold(reach * reach)
    tilt, lost = fold(own * own), fold(rest * (2 * own.abs() + rest)) + torch.expm1(2 * most) * square
    whole = torch.minimum(torch.exp(2 * most) * square, most * most)
    split = lost < whole / 2
    bent = torch.where(split, tilt, whole) / 4
    bend, twist = curved(fold, x)
    bend = total_of(torch.where(split, bent, 0.0), bend)
    value, rounding = torch.logsumexp(x.center, dim, keepdim), gamma(x.center.shape[dim])
    magnitude = x.magnitude.amax(dim, keepdim) + most + 1
    carried = fold(x.error)
    error = carried + torch.where(split, lost / 2, bent)
    error = raised(error, value.abs() + magnitude + whole, rounding)
    result = settled(value + bent, fold(x.slope), error, bend, twist, magnitude=magnitude)
    if keeps_third():
        result = nearer(_cubic_logsumexp(x, p, dim, keepdim, value.abs() + magnitude), result)  # both carry the same errors
    return tracked(result, carried, (x,), lambda weight: (p.to(weight.dtype) * (weight if keepdim else weight.unsqueeze(dim)),))


def _cubic_logsumexp(x: Enclosure, p: Tensor, dim: int, keepdim: bool, magnitude: Tensor) -> Enclosure:
    """The same to third order, with Var_p(d) = tau^2 Var_p(g) + 2 tau q Cov_p(g, b) and the third moment tau^3 k(g) of d, up to what
    their other parts can make of them. The fourth derivative along d lies between -2 Var_q(d)^2 and the fourth central moment,
    which is at most 16 E_q r^4 <= 16 exp(2 R) E_p r^4.
    """

    def fold(part: Tensor, keepdim: bool = keepdim) -> Tensor:
        return (p * part).sum(dim, keepdim)

    own, reach, rest = _relative(x, p, dim)
    most, loose, spare = reach.amax(dim, keepdim), x.radius * WIDE, rest + fold(rest, True)
    turn = torch.zeros_like(own) if x.bend is None else x.bend - fold(x.bend, True)
    square = fold(turn * turn + 2 * (own.abs() + turn.abs()) * loose + loose * loose)
    cube = fold(spare * (3 * own * own + 3 * own.abs() * spare + spare * spare))
    fourth = torch.exp(2 * most) * fold(reach**4) * (16 / 24)
    bent, turned, tripled = fold(own * own) / 4, fold(own * turn) / 2, fold(own**3) / 24
    error = raised(fold(x.error) + square / 2 + cube / 6 + fourth, magnitude + most * most + most**3, gamma(p.shape[dim]))
    bend, twist = map(total_of, (bent, turned + tripled), curved(fold, x))
    center = torch.logsumexp(x.center, dim, keepdim) + bent
    return settled(center, fold(x.slope) + turned + 3 * tripled, error, bend, twist, magnitude=magnitude)


def _relative(x: Enclosure, p: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Displacements from the mean one: slope, reach, and what of the reach is not the slope."""
    own = x.slope - (p * x.slope).sum(dim, True)
    rest = (x.curvature + x.radius).expand(x.center.shape) * WIDE
    return own, own.abs() + rest + gamma(p.shape[dim]) * largest(x.slope), rest


@rule("log_softmax", "special_log_softmax")
def log_softmax(x, dim: int | None = None, _stacklevel=3, dtype=None) -> Enclosure:
    """x - logsumexp(x); -inf stays what it is, and what is far below lends the rest none of its rounding."""
    x = lift(x)
    dim = _usual(x, dim)
    near, inner = without_far(x, dim)
    total = _logsumexp(inner, dim, True)
    shut = x.center == -math.inf
    outer = where(shut, lift(-math.inf), where(shut, lift(0.0), x) - total)
    return where(near, inner - total, outer)


@rule("softmin")
def softmin(x, dim: int | None = None, _stacklevel=3, dtype=None) -> Enclosure:
    """softmax(-x)."""
    return softmax(-lift(x), dim)
