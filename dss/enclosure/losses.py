"""Losses: convex in the outputs, so their worst case over the error is convex in tau and needs only tau = -1 and +1."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.arithmetic import mean, total
from dss.enclosure.rounding import raised
from dss.enclosure.value import Enclosure, lift, rule, settled
from dss.errors import EnclosureError


def under(low: Tensor, ceiling: tuple[Tensor, Tensor]) -> Enclosure:
    """A loss known by its ceiling, and by a lower bound for those who need both sides."""
    high = torch.maximum(*ceiling)
    middle = (high + low) / 2
    return settled(middle, torch.zeros_like(middle), (high - low) / 2, high.abs() + low.abs(), ceiling=ceiling)


def reduced(losses: Enclosure, reduction: str, weight: Tensor | None = None) -> Enclosure:
    """Mean (weighted as cross-entropy does it), sum, or neither."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return total(losses)
    if reduction != "mean":
        raise EnclosureError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    return mean(losses) if weight is None else total(losses) * (1 / weight.sum().item())


@rule("mse_loss")
def mse_loss(x, target, size_average=None, reduce=None, reduction="mean", weight=None) -> Enclosure:
    """(|c - y + g tau| + e)^2, convex in tau."""
    return _residual_loss(torch.square, x, target, reduction, weight)


@rule("l1_loss")
def l1_loss(x, target, size_average=None, reduce=None, reduction="mean", weight=None) -> Enclosure:
    """|c - y + g tau| + e, convex in tau."""
    return _residual_loss(lambda d: d, x, target, reduction, weight)


@rule("huber_loss")
def huber_loss(x, target, reduction="mean", delta=1.0, weight=None) -> Enclosure:
    """Huber's function of |c - y + g tau| + e: convex and increasing there."""
    return _residual_loss(lambda d: F.huber_loss(d, torch.zeros_like(d), reduction="none", delta=delta),
                          x, target, reduction, weight)  # fmt: skip


@rule("smooth_l1_loss")
def smooth_l1_loss(x, target, size_average=None, reduce=None, reduction="mean", beta=1.0) -> Enclosure:
    """Huber's function over beta."""
    return _residual_loss(lambda d: F.smooth_l1_loss(d, torch.zeros_like(d), reduction="none", beta=beta),
                          x, target, reduction, None)  # fmt: skip


def _residual_loss(function, x, target, reduction: str, weight) -> Enclosure:
    """A convex increasing function of the absolute residual."""
    if weight is not None:
        raise EnclosureError("no rule encloses a residual loss with weights; multiply the unreduced loss by them")
    d = lift(x) - target
    worst = ((d.center + sign * d.slope).abs() + d.error for sign in (-1, 1))
    size = d.magnitude + d.error
    ceiling = tuple(raised(function(part), function(size)) for part in worst)
    low = function((d.center.abs() - d.reach).clamp(min=0.0)) * (1 - 1e-14)
    return reduced(under(low, ceiling), reduction)


@rule("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(x, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None) -> Enclosure:  # fmt: skip
    """(1 - y) softplus(z) + y softplus(-z): both convex, each at the worst of its error; needs 0 <= y <= 1."""
    target = target.to(torch.float64)
    positive = target if pos_weight is None else target * pos_weight
    x, sign = lift(x), (-1, 1)
    up = [_softplus(x.center + s * x.slope + x.error) for s in sign]
    down = [_softplus(-x.center - s * x.slope + x.error) for s in sign]
    lows = _softplus(x.center - x.reach) * (1 - target) + _softplus(-x.center - x.reach) * positive
    size = (1 + x.magnitude + x.error) * (1 + positive)
    ceiling = tuple(raised((1 - target) * a + positive * b, size) for a, b in zip(up, down))
    losses = under(lows - 1e-13 * size, ceiling)
    if bool(((target < 0) | (target > 1)).any()) or (pos_weight is not None and bool((pos_weight < 0).any())):
        raise EnclosureError("binary cross-entropy is enclosed for targets in [0, 1] and pos_weight >= 0 only")
    if weight is not None:
        losses = losses * weight
    return reduced(losses, reduction)


def _softplus(z: Tensor) -> Tensor:
    return torch.logaddexp(z, torch.zeros_like(z))
