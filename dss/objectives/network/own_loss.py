"""The loss that a model computes itself, as Hugging Face's do when they are given labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.network.batches import KEYS, Target, Tree
from dss.objectives.network.loss import Loss
from dss.objectives.network.samples import Samples

IGNORED = -100
"""Labels that Hugging Face's losses leave out."""


def own_loss(output: Any, batch: Tree) -> Tensor:
    """The model's own loss `()`: `output.loss`, `output["loss"]`, or the first of a tuple.

    Given as the loss of an objective or a task, the model gets the whole batch, labels included. What it averages over is
    found by trying: its samples, their labels that are not -100, or those but for the first of each sample (a causal language
    model predicts the next word).

    Raises:
        InputError: there is no loss in the output.
    """
    found = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if found is None and isinstance(output, (tuple, list)) and output:
        found = output[0]
    if not isinstance(found, Tensor) or found.ndim:
        raise InputError("the model returns no loss of its own (output.loss); does the data hold its labels?")
    return found


def whole_batch(batch: Tree) -> Tree:
    """A target that is all of the batch, which the model is given too."""
    return batch


def target_for(loss: Loss, target: Target) -> Target:
    """The target where the caller gave none: the whole batch for the model's own loss."""
    return whole_batch if loss is own_loss and target is None else target


def readings(loss: Loss) -> list[Loss]:
    """What a loss may be taken for, in the order in which it is tried."""
    return [loss] if loss is not own_loss else [own_loss, _OverLabels(_all_labels), _OverLabels(_but_the_first)]


def _all_labels(labels: Tensor) -> Tensor:
    return labels


def _but_the_first(labels: Tensor) -> Tensor:
    return labels[:, 1:] if labels.ndim > 1 else labels


@dataclass(frozen=True)
class _OverLabels:
    """A model's own loss, taken as the mean over labels that are not ignored: the pair (sum, weight).

    Attributes:
        counted: which of the labels.
    """

    counted: Callable[[Tensor], Tensor]
    __name__ = "own_loss"

    def __call__(self, output: Any, batch: Tree) -> tuple[Tensor, Tensor]:
        count = self._count(batch)
        total = own_loss(output, batch) * count
        return total.where(count > 0, 0.0), count  # the mean over no labels is no number

    def weigh(self, samples: Samples) -> float:
        """The labels of some samples that count."""
        return float(self._count(samples.target))

    def _count(self, batch: Tree) -> Tensor:
        names = [name for name in KEYS if isinstance(batch, dict) and name in batch]
        if not names:
            raise InputError(f"a model's own loss needs a dict with one of {', '.join(KEYS)} as its batch")
        return (self.counted(batch[names[0]]) != IGNORED).sum()
