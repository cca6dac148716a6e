"""Losses: convex in the outputs, so their worst case over what is unknown is convex in (tau, q), as ceilings need it."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn._reduction import legacy_get_string

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import sharpened
from dss.enclosure.registry import rule
from dss.enclosure.rounding import above
from dss.enclosure.rules.arithmetic import mean, multiply, total
from dss.enclosure.rules.curves import LOG
from dss.enclosure.rules.kinked import clamp
from dss.enclosure.rules.smooth import apply
from dss.enclosure.value import CORNERS, Enclosure, ceiling, lift, settled


def under(low: Tensor, ceiling: tuple[Tensor, ...]) -> Enclosure:
    """A loss known by its ceiling, and by a lower bound for those who need both sides."""
    high = torch.stack(ceiling).amax(0)
    middle = (high + low) / 2
    size = high.abs() + low.abs()
    return settled(middle, torch.zeros_like(middle), (high - low) / 2, magnitude=size, ceiling=ceiling)


Legacy = tuple[bool | None, bool | None]
"""The old arguments `size_average` and `reduce`, which win over `reduction`."""


def reduced(losses: Enclosure, reduction: str, weight: Tensor | None = None, *, legacy: Legacy = (None, None)) -> Enclosure:
    """Mean (weighted as cross-entropy does it), sum, or neither."""
    if legacy != (None, None):
        reduction = legacy_get_string(*legacy, emit_warning=False)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return total(losses)
    if reduction != "mean":
        raise EnclosureError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return mean(losses) if weight is None else weighted(total(losses), 1 / weight.sum())


def weighted(losses: Enclosure, weight: Tensor) -> Enclosure:
    """Losses times constants >= 0, ceilings too."""
    scaled = multiply(losses, weight)
    sides = torch.stack(ceiling(losses)) * weight
    scaled.ceiling = above(sides, sides.abs()).unbind()
    return scaled


@rule("mse_loss")
def mse_loss(x, target, size_average=None, reduce=None, reduction="mean", weight=None) -> Enclosure:
    """(|c - y + g tau + b q| + r)^2, convex in (tau, q)."""
    return _residual_loss(torch.square, x, target, reduction, weight, (size_average, reduce))


@rule("l1_loss")
def l1_loss(x, target, size_average=None, reduce=None, reduction="mean", weight=None) -> Enclosure:
    """|c - y + g tau + b q| + r, convex in (tau, q)."""
    return _residual_loss(lambda d: d, x, target, reduction, weight, (size_average, reduce))


@rule("huber_loss")
def huber_loss(x, target, reduction="mean", delta=1.0, weight=None) -> Enclosure:
    """Huber's function of |c - y + g tau + b q| + r: convex and increasing there."""
    return _residual_loss(lambda d: F.huber_loss(d, torch.zeros_like(d), reduction="none", delta=delta),
                          x, target, reduction, weight)  # fmt: skip


@rule("smooth_l1_loss")
def smooth_l1_loss(x, target, size_average=None, reduce=None, reduction="mean", beta=1.0) -> Enclosure:
    """Huber's function over beta."""
    return _residual_loss(lambda d: F.smooth_l1_loss(d, torch.zeros_like(d), reduction="none", beta=beta),
                          x, target, reduction, None, (size_average, reduce))  # fmt: skip


def _residual_loss(function, x, target, reduction: str, weight, legacy: Legacy = (None, None)) -> Enclosure:
    """A convex increasing function of the absolute residual."""
    if weight is not None:
        raise EnclosureError("no rule encloses a residual loss with weights; multiply the unreduced loss by them")
    if x.shape != target.shape:
        raise EnclosureError(f"outputs {tuple(x.shape)} and targets {tuple(target.shape)} of one sample have different shapes: "
                             "torch would compare every sample with every other; give both the same shape")  # fmt: skip
    d = sharpened(lift(x) - target)
    size, radius, (low, high) = d.magnitude + d.error, d.radius, d.extent
    ceiling = tuple(above(function(d.at(corner).abs() + radius), function(size)) for corner in CORNERS)
    low = function(torch.maximum(low, -high).clamp(min=0.0) * (1 - 1e-14) - 1e-14 * size)
    return reduced(under(low, ceiling), reduction, legacy=legacy)


@rule("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(x, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None) -> Enclosure:  # fmt: skip
    """(1 - y) softplus(z) + w y softplus(-z): both convex, each at the worst of its error, or, where its factor is negative,
    its tangent at the center at the least of it."""
    x, target, weight, pos_weight = sharpened(lift(x)), *(_given(part) for part in (target, weight, pos_weight))
    if target is None or x.shape != target.shape:
        raise EnclosureError("outputs and targets of one sample have different shapes; give both the same shape")
    positive, negative = target if pos_weight is None else target * pos_weight, 1 - target
    (low, high), size = x.extent, (1 + x.magnitude + x.error) * (1 + positive.abs() + negative.abs())
    terms = [(negative, low, high), (positive, -high, -low)]
    ceiling = tuple(above(_worst(negative, x, corner) + _worst(positive, -x, corner), size) for corner in CORNERS)
    least = [factor * _softplus(torch.where(factor < 0, high, low)) for factor, low, high in terms]
    losses = under(least[0] + least[1] - 1e-13 * size, ceiling)
    if weight is not None:
        losses = losses * weight
    return reduced(losses, reduction, legacy=(size_average, reduce))


def _given(part) -> Tensor | None:
    """Targets and weights in float64, which must be given numbers."""
    if isinstance(part, Enclosure):
        raise EnclosureError("no rule encloses a loss whose targets or weights were computed by the network")
    return None if part is None else part.to(torch.float64)


def _worst(factor: Tensor, z: Enclosure, corner: tuple[float, float]) -> Tensor:
    """The most that `factor` softplus(z) can be at a corner, or that a line above it can be."""
    top = _softplus(z.at(corner) + z.radius)
    tangent = _softplus(z.center) + torch.sigmoid(z.center) * (z.at(corner) - z.center - z.radius)
    return factor * torch.where(factor < 0, tangent, top)


def _softplus(z: Tensor) -> Tensor:
    return torch.logaddexp(z, torch.zeros_like(z))


@rule("kl_div")
def kl_div(x, target, size_average=None, reduce=None, reduction="mean", log_target: bool = False) -> Enclosure:
    """y (log y - x) for given y: affine in x."""
    y, x = _given(target), lift(x)
    if y is None or x.shape != y.shape:
        raise EnclosureError("outputs and targets of one sample have different shapes; give both the same shape")
    y, entropy = (y.exp(), y.exp() * y) if log_target else (y, torch.xlogy(y, y))
    losses = lift(entropy) - x * y
    if reduction == "batchmean" and size_average is None and reduce is None:
        return total(losses) * (1 / x.shape[0])
    return reduced(losses, reduction, legacy=(size_average, reduce))


@rule("binary_cross_entropy")
def binary_cross_entropy(x, target, weight=None, size_average=None, reduce=None, reduction="mean") -> Enclosure:
    """-y log p - (1 - y) log(1 - p), each logarithm at least -100."""
    y, weight, x = _given(target), _given(weight), lift(x)
    if y is None or x.shape != y.shape:
        raise EnclosureError("outputs and targets of one sample have different shapes; give both the same shape")
    losses = clamp(apply(LOG, x), -100.0) * -y - clamp(apply(LOG, 1 - x), -100.0) * (1 - y)
    return reduced(losses if weight is None else losses * weight, reduction, legacy=(size_average, reduce))
