"""Losses that can be enclosed, with targets."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.operations.drawing import Draw

Loss = Callable[[Tensor, Tensor], Tensor]


def losses_of(draw: Draw, classes: int) -> dict[str, tuple[Loss, Tensor]]:
    """Losses with targets for two samples."""
    labels, reals, weight = draw.whole(classes, 2), draw.tensor(2, classes).double(), draw.tensor(classes).abs().double()
    shares = torch.softmax(reals, 1)
    return {
        "cross_entropy": (F.cross_entropy, labels), "smooth": (lambda o, t: F.cross_entropy(o, t, label_smoothing=0.2), labels),
        "shares": (F.cross_entropy, shares), "weighted": (lambda o, t: F.cross_entropy(o, t, weight=weight, reduction="none").mean(), labels),
        "ignored": (lambda o, t: F.cross_entropy(o, t, ignore_index=0, reduction="none").mean(), labels),
        "mse": (F.mse_loss, reals), "l1": (F.l1_loss, reals), "huber": (lambda o, t: F.huber_loss(o, t, delta=0.4), reals),
        "smooth_l1": (lambda o, t: F.smooth_l1_loss(o, t, beta=0.3), reals), "bce": (F.binary_cross_entropy_with_logits, shares),
        "bce weighted": (lambda o, t: F.binary_cross_entropy_with_logits(o, t, pos_weight=weight), shares),
        "legacy": (lambda o, t: F.mse_loss(o, t, size_average=False) / len(t), reals),
        "nll": (lambda o, t: F.nll_loss(F.log_softmax(o, 1), t), labels), "written out": (lambda o, t: ((o - t) ** 2).sum(1).mean(), reals),
        "kl": (lambda o, t: F.kl_div(F.log_softmax(o, 1), t, reduction="batchmean"), shares), "kl mean": (lambda o, t: F.kl_div(o, t), shares),
        "bce of shares": (lambda o, t: F.binary_cross_entropy(0.01 + 0.98 * o.sigmoid(), t), shares),
        "error rate": (lambda o, t: (o.argmax(1) != t).double().mean(), labels), "count": (lambda o, t: (o.argmax(1) == t).sum() / len(t), labels),
        "scaled": (lambda o, t: 0.5 * F.cross_entropy(o, t) - 0.1 * o.tanh().mean(), labels), "mean": (lambda o, t: o.mean(), labels),
    }  # fmt: skip
