"""torch's own losses as ratios of sums: which divides by what under `reduction='mean'`, by the documentation of torch.

Recognised are the modules of `torch.nn`, the functions of `torch.nn.functional`, and a `functools.partial` of one with
keyword arguments. Cross-entropy and NLL of class labels divide by the weights of the labels that are not ignored; all
others by the number of samples or entries, which all samples have the same number of.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn._reduction import legacy_get_string

from dss.base.errors import InputError
from dss.objectives.network.loss import Loss, SampleLoss
from dss.objectives.network.samples import Samples

_LABELLED = ("cross_entropy", "nll_loss")
_ENTRYWISE = (
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "kl_div", "poisson_nll_loss", "soft_margin_loss", "hinge_embedding_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
)  # fmt: skip
_FUNCTIONS = {getattr(F, name): name for name in (*_LABELLED, *_ENTRYWISE, "multi_margin_loss")}
_MODULES: dict[type[nn.Module], str] = {
    nn.CrossEntropyLoss: "cross_entropy",
    nn.NLLLoss: "nll_loss",
    nn.MSELoss: "mse_loss",
    nn.L1Loss: "l1_loss",
    nn.SmoothL1Loss: "smooth_l1_loss",
    nn.HuberLoss: "huber_loss",
    nn.BCELoss: "binary_cross_entropy",
    nn.BCEWithLogitsLoss: "binary_cross_entropy_with_logits",
    nn.KLDivLoss: "kl_div",
    nn.PoissonNLLLoss: "poisson_nll_loss",
    nn.SoftMarginLoss: "soft_margin_loss",
    nn.HingeEmbeddingLoss: "hinge_embedding_loss",
    nn.MultiLabelMarginLoss: "multilabel_margin_loss",
    nn.MultiLabelSoftMarginLoss: "multilabel_soft_margin_loss",
    nn.MultiMarginLoss: "multi_margin_loss",
}


@dataclass(frozen=True, eq=False)
class TorchLoss:
    """One of torch's losses with its options; called as the user's own, but for options in the dtype of the output.

    Attributes:
        name: in `torch.nn.functional`.
        options: its keyword arguments that differ from torch's defaults, without `reduction`.
    """

    name: str
    options: dict[str, Any]
    reduction: str = "mean"

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        self._check_shapes(output, target)
        function, options = getattr(F, self.name), self.options
        if any(isinstance(value, Tensor) for value in options.values()):
            options = {name: _like(value, output) for name, value in options.items()}
        # What is left at its default is not said: bounds are known for fewer arguments than torch has.
        return function(output, target, **options, **({} if self.reduction == "mean" else {"reduction": self.reduction}))

    def as_sums(self, samples: Samples) -> SampleLoss:
        """This loss of a data set, reduced in any way but "none", as sums over its samples."""
        target = samples.target
        if self.reduction == "sum":
            # Every sample weighs 1/n, so that a part of the data stands for all of it.
            whole = len(samples)
            return SampleLoss(self, False, lambda some: len(some) / whole, partial(_sum_for, self, whole), known=True)
        total = replace(self, reduction="sum")
        if self.name in _LABELLED and not target.is_floating_point() and self._is_uneven(target):
            return SampleLoss(total, False, lambda some: self._weight(some.target), self, known=True)
        if self.name == "kl_div" and self.reduction == "mean":  # torch warns of it at every call
            return SampleLoss(total, False, lambda some: float(some.target.numel()), partial(_mean_of, total), known=True)
        return SampleLoss(self, True, len, self, known=True)

    @property
    def _ignored(self) -> int:
        return self.options.get("ignore_index", -100)

    def _is_uneven(self, target: Tensor) -> bool:
        """Whether samples weigh differently."""
        return "weight" in self.options or bool((target == self._ignored).any())

    def _weight(self, target: Tensor) -> float:
        """The weights of the labels that are not ignored, added up in float64."""
        labels, weight = target[target != self._ignored], self.options.get("weight")
        if not isinstance(weight, Tensor):
            return float(labels.numel())
        return float(weight.detach().to(labels.device, torch.float64)[labels].sum())

    def _check_shapes(self, output: Tensor, target: Tensor) -> None:
        """Refuse what broadcasting would mix between samples."""
        if self.name in _ENTRYWISE and output.shape != target.shape:
            raise InputError(
                f"{self.name} needs an output and a target of one shape, got {tuple(output.shape)} and {tuple(target.shape)}: "
                "broadcasting would pair samples with each other's targets; reshape one of them, or, if that is meant, "
                "give whole=True"
            )
        for name, value in self.options.items():
            if isinstance(value, Tensor) and value.ndim >= output.ndim and value.ndim and len(value) != 1:
                raise InputError(
                    f"{name} of shape {tuple(value.shape)} weighs single samples, which belong to the data: put it beside the "
                    "targets, and return the pair (sum, weight) from a loss of your own"
                )


def recognised(loss: Loss) -> TorchLoss | None:
    """One of torch's losses, however it was said; None if it is another callable."""
    if isinstance(loss, nn.Module):
        return _of_module(loss)
    options = {}
    if isinstance(loss, partial):
        if loss.args:
            return None
        loss, options = loss.func, dict(loss.keywords)
    if not _is_listed(loss):
        return None
    return _with_options(_FUNCTIONS[loss], options)


def _is_listed(loss: Callable) -> bool:
    try:
        return loss in _FUNCTIONS
    except TypeError:  # a callable object that cannot be a key
        return False


def _of_module(loss: nn.Module) -> TorchLoss | None:
    """A module with torch's own forward; a subclass with another one, or hooks, is a callable like any."""
    kind = next((kind for kind in _MODULES if isinstance(loss, kind)), None)
    if kind is None or type(loss).forward is not kind.forward or "forward" in vars(loss):
        return None
    if type(loss).__call__ is not nn.Module.__call__ or loss._forward_hooks or loss._forward_pre_hooks:
        return None
    name = _MODULES[kind]
    return _with_options(name, {key: getattr(loss, key) for key in _defaults(name) if hasattr(loss, key)})


def _defaults(name: str) -> dict[str, object]:
    """Options of a function and their defaults."""
    return {key: p.default for key, p in list(signature(getattr(F, name)).parameters.items())[2:]}


def _with_options(name: str, options: dict[str, Any]) -> TorchLoss | None:
    """Options in their modern spelling, those left at their defaults dropped."""
    defaults, options = _defaults(name), dict(options)
    if not options.keys() <= defaults.keys():
        return None
    old = options.pop("size_average", None), options.pop("reduce", None)
    reduction = options.pop("reduction", "mean")
    if old != (None, None):
        reduction = legacy_get_string(*old, emit_warning=False)
    kept = {key: value for key, value in options.items() if isinstance(value, Tensor) or value != defaults[key]}
    return TorchLoss(name, kept, str(reduction))


def _like(value: object, output: Tensor) -> object:
    """Class weights follow the dtype of the points, as data and buffers do."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().to(output.device, output.dtype)
    return value


def _sum_for(loss: TorchLoss, samples: int, output: Tensor, target: Tensor) -> Tensor:
    """The sum over some samples that stand for so many."""
    return loss(output, target) * (samples / len(target))


def _mean_of(loss: TorchLoss, output: Tensor, target: Tensor) -> Tensor:
    """A sum over entries as their mean."""
    return loss(output, target) / target.numel()
