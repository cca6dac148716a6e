"""What values are as functions of a network's outputs, constant, affine, convex or concave; and what torch's losses are."""

from enum import Enum
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from dss.objectives.network.torch_losses import TorchLoss


class Curvature(Enum):
    """What a value is, as a function of the outputs."""

    CONSTANT = "constant"
    AFFINE = "affine"
    CONVEX = "convex"
    CONCAVE = "concave"
    UNKNOWN = "unknown"

    @property
    def is_convex(self) -> bool:
        """Whether it is known to be convex."""
        return self in (Curvature.CONSTANT, Curvature.AFFINE, Curvature.CONVEX)

    def __neg__(self) -> "Curvature":
        return {Curvature.CONVEX: Curvature.CONCAVE, Curvature.CONCAVE: Curvature.CONVEX}.get(self, self)

    def __add__(self, other: "Curvature") -> "Curvature":
        kinds = {self, other} - {Curvature.CONSTANT}
        if len(kinds) == 2:
            kinds -= {Curvature.AFFINE}
        return Curvature.CONSTANT if not kinds else kinds.pop() if len(kinds) == 1 else Curvature.UNKNOWN


CONSTANT, AFFINE, CONVEX, CONCAVE, UNKNOWN = Curvature

# torch's losses that are convex in affine outputs, with the options that they may have; signs are checked beside.
_OPTIONS: dict[str, set[str]] = {
    "cross_entropy": {"weight", "ignore_index", "label_smoothing"},
    "nll_loss": {"weight", "ignore_index"},
    "mse_loss": set(),
    "l1_loss": set(),
    "smooth_l1_loss": {"beta"},
    "huber_loss": {"delta"},
    "binary_cross_entropy_with_logits": {"weight", "pos_weight"},
    "kl_div": set(),
    "poisson_nll_loss": {"full"},
    "soft_margin_loss": set(),
    "hinge_embedding_loss": {"margin"},
    "multi_margin_loss": {"p", "margin", "weight"},
    "multilabel_margin_loss": set(),
    "multilabel_soft_margin_loss": {"weight"},
}
# Non-increasing in outputs that may also be concave, such as log-probabilities.
_OF_LOG_PROBABILITIES = {"nll_loss", "kl_div"}
LOSSES = {getattr(F, name): name for name in _OPTIONS}


def cause_against(loss: TorchLoss, target: Any, outputs: Curvature) -> str | None:
    """Why one of torch's losses is not known to be convex; None if it is."""
    options = loss.options
    strange = sorted(options.keys() - _OPTIONS.get(loss.name, set()))
    if loss.name not in _OPTIONS:
        return f"known are {', '.join(sorted(_OPTIONS))}"
    if strange:
        return f"with {', '.join(strange)} nothing is known"
    if outputs is not AFFINE and not (outputs is CONCAVE and loss.name in _OF_LOG_PROBABILITIES):
        return f"its input is {outputs.value} in the outputs of the last layer"
    if any(_is_negative(options.get(name)) for name in ("weight", "pos_weight")):
        return "it has negative weights"
    if not 0 <= options.get("label_smoothing", 0.0) <= 1:
        return "label_smoothing lies outside [0, 1]"
    return _cause_in_targets(loss, target)


def _cause_in_targets(loss: TorchLoss, target: Any) -> str | None:
    """What targets may spoil."""
    probabilities = loss.name == "kl_div" or (loss.name == "cross_entropy" and target.is_floating_point())
    if probabilities and _is_negative(target):
        return "a target is a negative probability"
    if "pos_weight" in loss.options and (_is_negative(target) or _is_negative(1 - target)):
        return "with pos_weight, targets must lie in [0, 1]"
    return None


def _is_negative(value: Any) -> bool:
    """Whether some of it is below zero, or not a number."""
    return isinstance(value, Tensor) and not bool((value >= 0).all())
