"""What the loss of a data set is: a ratio of sums over its samples, sum_i s_i / sum_i w_i.

The weights w_i depend on targets alone, so the denominator is one number for a data set, whatever the parameters. Sums
can be taken in chunks, drawn from in minibatches and bounded sample by sample; the ratio is always that of the whole data:

    mean over samples            s_i = loss of sample i           w_i = 1
    class weights c              s_i = c[y_i] loss of sample i    w_i = c[y_i]
    tokens, some of them padding s_i = sum over its real tokens   w_i = their number
    sum over samples             s_i = loss of sample i           w_i = 1/n

A callable that the user wrote says which by what it returns: a number is the mean over the samples it was given, a vector
`(n,)` holds the losses of n samples, of which the mean is taken, and a pair is (sum s_i, sum w_i). What torch's own losses
return is known (`torch_losses`). A loss that is no such ratio (a maximum, a contrastive loss, Dice) is evaluated in one
piece, if it is said to be one of the `whole` data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dss.base.errors import EnclosureError, InputError
from dss.objectives.network.batches import Tree
from dss.objectives.network.samples import Samples

Loss = Callable[..., Any]
"""`loss(output, target)`: the mean `()` over the samples of axis 0, their losses `(n,)`, or the pair (sum, weight) of
tensors."""


@dataclass(frozen=True, eq=False)
class SampleLoss:
    """A loss as sums over samples.

    Attributes:
        value: `(output, target) -> ()`, of some samples: the mean of their s_i if `averaged`, else the sum.
        averaged: which of the two. A mean is not turned into a sum on the way, which would round once more.
        weigh: the sum of the w_i of some samples.
        plain: `(output, target) -> ()`, of all samples: the ratio itself, by one call of what the caller gave.
        whole: whether it can be taken of all samples at once only; s and w are then the loss itself and 1.
        known: whether it is a ratio of sums by what torch documents, and need not be tried.
    """

    value: Callable[..., Tensor]
    averaged: bool
    weigh: Callable[[Samples], float]
    plain: Callable[..., Tensor]
    whole: bool = False
    known: bool = False

    def factor(self, samples: int) -> int:
        """What `value` of so many samples is multiplied by to be a sum."""
        return samples if self.averaged else 1


def read_by_result(loss: Loss, found: object, samples: int, weights: Callable[[Samples], float]) -> SampleLoss:
    """A callable as sums over samples, by what it returned for so many.

    Args:
        weights: how to find the sum of w_i, if it returns pairs.

    Raises:
        InputError: it returned none of the three.
    """
    if is_pair(found):
        _check_pair(found, samples)
        return SampleLoss(partial(_numerator, loss), False, weights, partial(as_number, loss))
    if isinstance(found, Tensor) and found.shape == (samples,) and found.is_floating_point():
        return SampleLoss(partial(_mean_of_vector, loss), True, len, partial(as_number, loss))
    if not isinstance(found, Tensor) or found.ndim or not found.is_floating_point():
        raise InputError(
            "the loss must be a floating-point scalar, the mean over samples (or their losses (n,), or the pair "
            f"(sum, weight)); got {_describe(found)} for {samples} samples; use reduction='mean' or average it"
        )
    return SampleLoss(loss, True, len, loss)


def read_whole(loss: Loss) -> SampleLoss:
    """A callable as a loss of all samples at once: a scalar, or a pair that stands for its quotient."""
    return SampleLoss(partial(_quotient, loss), False, lambda samples: 1.0, partial(as_number, loss), whole=True)


def is_pair(found: object) -> TypeGuard[tuple[Any, Any]]:
    """Whether a loss returned (sum, weight)."""
    return isinstance(found, (tuple, list)) and len(found) == 2


def _check_pair(found: tuple[Any, Any], samples: int) -> None:
    total, weight = found
    sizes = ((), (samples,))
    if not isinstance(total, Tensor) or total.shape not in sizes or not total.is_floating_point():
        raise InputError(f"a pair (sum, weight) must begin with the sum over samples, got {_describe(total)}")
    if not isinstance(weight, (int, float)) and not (isinstance(weight, Tensor) and weight.shape in sizes):
        raise InputError(f"a pair (sum, weight) must end with the sum of weights, a number, got {_describe(weight)}")


def weight_of(found: tuple[Any, Any]) -> float:
    """The sum of weights in a pair, in float64."""
    weight = found[1]
    return float(weight.detach().double().sum()) if isinstance(weight, Tensor) else float(weight)


def _numerator(loss: Loss, output: object, target: Tree) -> Tensor:
    """The first of a pair."""
    total, weight = loss(output, target)
    if _is_bound(weight):
        raise EnclosureError("the weight of the loss was computed from the model's output; it must depend on targets alone")
    return total.sum() if total.ndim else total


def _mean_of_vector(loss: Loss, output: object, target: Tree) -> Tensor:
    """The mean of the losses of single samples."""
    losses = loss(output, target)
    count = len(tree_leaves(target)[0])
    if losses.shape != (count,):
        raise _refusal(losses)(f"the loss returned {_describe(losses)} for {count} samples; ({count},) is expected")
    return losses.mean()


def _quotient(loss: Loss, output: object, target: Tree) -> Tensor:
    """The loss of all samples."""
    found = loss(output, target)
    found = found[0] / found[1] if is_pair(found) else found
    if not isinstance(found, Tensor) or found.ndim or not found.is_floating_point():
        raise _refusal(found)(
            f"a loss of the whole data must be one floating-point number, got {_describe(found)}; reduce it to a scalar"
        )
    return found


def _refusal(found: object) -> type[InputError]:
    """What a wrong result is refused as: of bounds, a proof alone is refused."""
    return EnclosureError if _is_bound(found) else InputError


def _is_bound(value: object) -> bool:
    """Whether a value stands for what a tensor may be on a cell: bounds come as tensors of another class."""
    return isinstance(value, Tensor) and type(value) not in (Tensor, nn.Parameter)


def as_number(loss: Loss, output: object, target: Tree) -> Tensor:
    """The loss `()` of one batch, as a training script has it: a pair's quotient, a vector's mean."""
    found = loss(output, target)
    found = found[0].sum() / weight_of(found) if is_pair(found) else found
    return found.mean() if found.ndim else found


def name_of(loss: Loss) -> str:
    """What a loss is called."""
    plain = getattr(loss, "func", loss)
    return getattr(plain, "__name__", type(plain).__name__)


def check_weight(total: float) -> float:
    """The sum of all weights, which divides.

    Raises:
        InputError: it is not positive and finite.
    """
    if not 0 < total < torch.inf:
        raise InputError(
            f"the weights of the samples add up to {total:g}; a loss needs a positive one (is every target ignored or masked?)"
        )
    return total


def _describe(value: object) -> str:
    return f"shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
