"""What an evaluation takes: memory for each sample, and whether several points go through one `vmap`."""

import warnings

import torch
from torch import Tensor

from dss.objectives.network.additive import tolerance
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples


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

    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    constants = rows.constants_like(next(iter(leaves.values())))
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # A loss of the whole data may have none for a part of it.
        _kept = rows.output(leaves, constants, samples.inputs) if rows.loss.whole else rows.one(leaves, constants, samples)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def can_batch(rows: RowLosses, parameters: Tensors, samples: Samples) -> bool:
    """Whether `vmap` has a rule for every operation, and computes what a loop does."""
    stacked = {name: torch.stack([value, 1.1 * value]) for name, value in parameters.items()}
    constants = rows.constants_like(next(iter(stacked.values())))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop")  # torch's loop in place of a rule
            found, expected = rows.batch(stacked, constants, samples), rows.loop(stacked, constants, samples)
    except (RuntimeError, ValueError, UserWarning):  # no batching rule, or control flow that depends on values
        return False
    share = tolerance(found.dtype)
    return torch.allclose(found, expected, rtol=share, atol=share * 1e-2, equal_nan=True)
