"""What an evaluation takes: memory for each sample, and whether several points go through one `vmap`."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dss.base.dispatch import DispatchMode
from dss.base.errors import TaskError
from dss.objectives.network.additive import tolerance
from dss.objectives.network.evaluation import gradients_of
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples

# Above this, several rows under one vmap wait for memory longer than a loop over rows does (measured on 2 cores).
FAST_BYTES = 48 * 2**20


def bytes_per_sample(rows: RowLosses, parameters: Tensors, samples: Samples) -> int:
    """Memory that one more sample takes in a forward pass with gradients: what autograd keeps of it."""
    count = min(len(samples), 4)
    one, several = (_saved_bytes(rows, parameters, samples.take(slice(0, n))) for n in (1, 1 + count))
    return max((several - one) // count, 1)


def _saved_bytes(rows: RowLosses, parameters: Tensors, samples: Samples) -> int:
    """Bytes that autograd saves in one forward pass, each storage counted once."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            _kept = _forward(rows, parameters, samples)
    except TaskError:  # torch.func.grad in a forward or a loss allows no such hooks
        with _Results() as results:
            _forward(rows, parameters, samples)
        return results.bytes
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _forward(rows: RowLosses, parameters: Tensors, samples: Samples) -> Any:
    """One pass with gradients; a loss of the whole data may have none for a part of it."""
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    constants = rows.constants_like(next(iter(leaves.values())))
    return rows.output(leaves, constants, samples.inputs) if rows.loss.whole else rows.one(leaves, constants, samples)


class _Results(DispatchMode):
    """Counts the bytes of whatever operations return."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.bytes += sum(x.nbytes for x in tree_leaves(found) if isinstance(x, Tensor))
        return found


def can_batch(rows: RowLosses, parameters: Tensors, samples: Samples) -> bool:
    """Whether `vmap` has a rule for every operation, and computes what a loop does, with its gradient.

    Not asked where two rows of parameters alone fill fast memory: a loop is no slower then.
    """
    if 2 * sum(value.nbytes for value in parameters.values()) > FAST_BYTES:
        return False
    stacked = {name: torch.stack([value, 1.1 * value]) for name, value in parameters.items()}
    constants = rows.constants_like(next(iter(stacked.values())))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop")  # torch's loop in place of a rule
            found, expected = (_with_gradient(rows, how, stacked, constants, samples) for how in (rows.batch, rows.loop))
    except Exception:  # no batching rule, or control flow that depends on values: the caller's code may raise anything
        return False
    share = tolerance(rows.precision(found[0].dtype))
    return all(torch.allclose(a, b, rtol=share, atol=share * _size(b), equal_nan=True) for a, b in zip(found, expected))


def _with_gradient(
    rows: RowLosses, losses: Callable[..., Tensor], stacked: Tensors, constants: Tensors, samples: Samples
) -> list[Tensor]:
    """Losses `(k,)` and, if they have one, their gradient: some operations have a batching rule without it."""
    leaves = {name: value.detach().requires_grad_(rows.can_differentiate) for name, value in stacked.items()}
    found = losses(leaves, constants, samples)
    return [found.detach(), *(gradients_of(found.sum(), list(leaves.values())) if rows.can_differentiate else ())]


def _size(x: Tensor) -> float:
    """The largest finite absolute value."""
    return x.abs().nan_to_num(nan=0.0, posinf=0.0).max().item() if x.numel() else 0.0
