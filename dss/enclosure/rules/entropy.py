"""Cross-entropy and the error rate of a classifier."""

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import sharpened
from dss.enclosure.passes import note_refusal
from dss.enclosure.registry import name_of, rule
from dss.enclosure.rounding import ELEMENTWISE, above, gamma
from dss.enclosure.rules.losses import reduced, under, weighted
from dss.enclosure.standin import StandIn
from dss.enclosure.value import CORNERS, METADATA, Enclosure, lift

TOGETHER = 2**10
"""Differences of logits that are taken at all corners at once; of more, six times as many would be too large."""


@rule("cross_entropy")
def cross_entropy(x, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                  label_smoothing=0.0) -> Enclosure:  # fmt: skip
    """log sum_j exp(z_j - z_y) of the differences of logits, each as large as its unknowns make it.

    Targets with a share q_k for each class: sum_k q_k log sum_j exp(z_j - z_k), each term at its own worst case: where
    q_k < 0 the tangent at the center, which lies below the convex function, at the least that its unknowns make it.
    """
    weight, legacy = _class_weights(weight, target), (size_average, reduce)
    x = lift(x).movedim(0 if x.dim() == 1 else 1, -1)
    if target.is_floating_point():
        shares = target.to(torch.float64).movedim(0 if target.dim() == 1 else 1, -1)
        return reduced(_shared(x, _smoothed(shares, label_smoothing), weight), reduction, legacy=legacy)
    counted = target != ignore_index
    label = torch.where(counted, target, 0)
    share = counted.to(torch.float64) if weight is None else weight[label] * counted
    if label_smoothing:
        labels = torch.nn.functional.one_hot(label, x.shape[-1]).to(torch.float64)
        losses = weighted(_shared(x, _smoothed(labels, label_smoothing), weight), counted.to(torch.float64))
    else:
        losses = weighted(_labelled(x, label), share)
    return reduced(losses, reduction, share, legacy=legacy)


@rule("nll_loss")
def nll_loss(x, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean") -> Enclosure:
    """-x at the label, weighted: affine."""
    weight, x = _class_weights(weight, target), lift(x)
    counted = target != ignore_index
    label = torch.where(counted, target, 0)
    share = counted.to(torch.float64) if weight is None else weight[label] * counted
    at = 0 if x.dim() == 1 else 1
    losses = -x.gather(at, label.unsqueeze(at)).squeeze(at) * share
    return reduced(losses, reduction, share, legacy=(size_average, reduce))


def _class_weights(weight, target) -> Tensor | None:
    """Class weights in float64; they and the targets must be given numbers."""
    if isinstance(weight, Enclosure) or isinstance(target, Enclosure):
        raise EnclosureError("no rule encloses a loss whose targets or class weights were computed by the network")
    if weight is not None and bool((weight < 0).any()):
        raise EnclosureError("class weights must not be negative: the weighted loss would not be convex")
    return None if weight is None else weight.to(torch.float64)


def _smoothed(shares: Tensor, smoothing: float) -> Tensor:
    return shares * (1 - smoothing) + smoothing / shares.shape[-1]


def _labelled(x: Enclosure, label: Tensor) -> Enclosure:
    """The loss of each sample; `x` has its classes last."""
    index, classes = label.unsqueeze(-1), x.shape[-1]
    # The label's difference to itself is zero, and need not be traced back.
    others = (index + torch.arange(1, classes, device=index.device)) % classes
    gap = sharpened(x.gather(-1, others) - x.gather(-1, index))

    def entropy(gap: Tensor) -> Tensor:
        return torch.logsumexp(torch.cat([gap, gap.new_zeros(()).expand(*gap.shape[:-1], 1)], -1), -1)

    slack = _slack(x)
    if gap.center.numel() <= TOGETHER:
        tops = entropy(gap.corners + gap.radius)
    else:
        tops = torch.stack([entropy(gap.at(corner) + gap.radius) for corner in CORNERS])
    ceiling = above(tops + slack, slack).unbind()
    return under((entropy(gap.extent[0]) - slack).clamp(min=0.0), ceiling)


def _slack(x: Enclosure) -> Tensor:
    """What differences of logits and a sum of exponentials may lose, absolutely."""
    size = 1 + 2 * (x.magnitude + x.error).amax(-1)
    return (gamma(x.center.shape[-1]) + ELEMENTWISE) * size


def _shared(x: Enclosure, shares: Tensor, weight: Tensor | None) -> Enclosure:
    """The loss of each sample whose target is a share for each class."""
    shares = shares if weight is None else shares * weight
    same, flipped = torch.eye(x.center.shape[-1], dtype=torch.bool, device=x.center.device), shares < 0
    gap = sharpened(x.unsqueeze(-2) - x.unsqueeze(-1))

    def entropy(gap: Tensor) -> Tensor:
        return torch.logsumexp(gap.masked_fill(same, 0.0), -1)

    def loss(high: Tensor, low: Tensor) -> Tensor:
        return (torch.where(flipped, low, high) * shares).sum(-1)

    bottom, odds, radius = entropy(gap.center), torch.softmax(gap.center, -1), gap.radius.masked_fill(same, 0.0)
    tops = (entropy(gap.at(corner) + radius) for corner in CORNERS)
    tangents = (bottom + (odds * (gap.at(corner) - gap.center - radius)).sum(-1) for corner in CORNERS)
    slack = _slack(x) * shares.abs().sum(-1) * (1 + x.center.shape[-1])
    ceiling = tuple(above(loss(*pair) + slack, slack) for pair in zip(tops, tangents))
    least = loss(*map(entropy, gap.extent)) - slack
    return under(torch.where(flipped.any(-1), least, least.clamp(min=0.0)), ceiling)


class Choice(torch.Tensor):
    """The index of the largest logit, as far as it is known: it can only be compared with labels."""

    logits: Enclosure

    @staticmethod
    def __new__(cls, logits: Enclosure, shape: tuple[int, ...] | None = None):
        shape = tuple(logits.center.shape[:-1]) if shape is None else shape
        self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.int64, device=logits.device)
        self.logits = logits
        return self

    def kept(self, dim: int) -> "Choice":
        """With a dimension of one entry in place of that of the logits."""
        shape = list(self.shape)
        shape.insert(dim % (len(shape) + 1), 1)
        return Choice(self.logits, tuple(shape))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name, kwargs = name_of(func), kwargs or {}
        if name in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if name in ("eq", "__eq__", "ne", "__ne__") and len(args) == 2:
            choice, label = args if isinstance(args[0], Choice) else args[::-1]
            if (
                type(label) is Tensor
                and not label.is_floating_point()
                and label.shape == choice.shape == choice.logits.shape[:-1]
            ):
                wrong = _wrong(choice.logits, label.clone())
                return StandIn(wrong if "n" in name else 1 - wrong, torch.bool)
        raise note_refusal(cls._refusal(name))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise note_refusal(cls._refusal(str(func)))

    @staticmethod
    def _refusal(name: str) -> EnclosureError:
        return EnclosureError(f"no rule encloses '{name}' of an argmax; compare it with the labels (== or !=)")


@rule("argmax")
def argmax(x, dim=None, keepdim: bool = False) -> Choice:
    """The classifier's answer."""
    if dim is None or keepdim:
        raise EnclosureError("argmax is enclosed along one dimension, without keepdim: output.argmax(1)")
    return Choice(lift(x).movedim(dim, -1))


def _wrong(x: Enclosure, label: Tensor) -> Enclosure:
    """1 where the label is not the largest logit: 0 only if it is proved to be, by a margin on the whole cell."""
    index, slack = label.unsqueeze(-1), _slack(x)
    low, high = (part.scatter(-1, index, -torch.inf).amax(-1) for part in sharpened(x - x.gather(-1, index)).extent)
    most, least = (~(high + slack < 0)).to(torch.float64), (low - slack > 0).to(torch.float64)
    return under(least, (most,) * len(CORNERS))
