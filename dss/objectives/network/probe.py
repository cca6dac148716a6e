"""Questions asked of a model and its loss once, before anything relies on the answers."""

from math import isclose

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.network.data import Samples
from dss.objectives.network.rows import RowLosses, Tensors


def check_judgeable(rows: RowLosses, parameters: Tensors, samples: Samples) -> None:
    """Refuse what is not a fixed function of the parameters, averaged over samples; one row of parameters.

    Raises:
        InputError: the loss is not a scalar, is random, or is not a mean over the samples.
    """
    few = samples.take(slice(0, 8))
    with torch.no_grad():
        first, second = (rows.one(parameters, rows.buffers, few) for _ in range(2))
    if not isinstance(first, Tensor) or first.ndim or not first.is_floating_point():
        raise InputError(
            f"the loss must be a floating-point scalar, the mean over samples; got {_describe(first)}; "
            "use reduction='mean' or average it"
        )
    if not torch.equal(first, second) and not (first.isnan() and second.isnan()):
        raise InputError(
            f"the loss is random: {first.item():.6g} and {second.item():.6g} for the same parameters and data, in eval(); "
            "make dropout and noise depend on self.training"
        )
    _check_mean(rows, parameters, few, first.item())


def _check_mean(rows: RowLosses, parameters: Tensors, samples: Samples, whole: float) -> None:
    """The loss of all must be the weighted mean of the losses of the parts, or chunks could not be added up."""
    if len(samples) < 2:
        return
    cut = len(samples) // 2
    with torch.no_grad():
        parts = [rows.one(parameters, rows.buffers, samples.take(s)).item() for s in (slice(0, cut), slice(cut, None))]
    mean = (parts[0] * cut + parts[1] * (len(samples) - cut)) / len(samples)
    if whole == whole and not isclose(whole, mean, rel_tol=1e-3, abs_tol=1e-5):
        raise InputError(
            f"the loss must be a mean over samples (axis 0): {len(samples)} samples together give {whole:.6g}, "
            f"the mean of two halves is {mean:.6g}; use reduction='mean' without class weights"
        )


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
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _loss = rows.one(leaves, rows.buffers, samples)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _describe(value: object) -> str:
    return f"shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
