"""BatchNorm's running statistics as a function of the parameters: recomputed for every point, differentiably."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from dss.base.errors import InputError
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples, Slices

Norms = dict[str, _BatchNorm]
KINDS = ("running_mean", "running_var", "num_batches_tracked")
"""Buffers in which a BatchNorm layer keeps its statistics."""


def tracked_norms(model: nn.Module) -> Norms:
    """The BatchNorm layers that keep running statistics, by name.

    Only those that do what torch's own do: a subclass with a forward of its own, or one that stays in eval however it is
    told (a frozen BatchNorm), keeps the statistics that it has.
    """
    layers = ((name, m) for name, m in model.named_modules() if isinstance(m, _BatchNorm) and _is_plain(m))
    return {name: m for name, m in layers if m.running_mean is not None}


def _is_plain(module: _BatchNorm) -> bool:
    if {"forward", "train", "eval"} & vars(module).keys():
        return False
    kind = type(module)
    return kind.forward in (_BatchNorm.forward, SyncBatchNorm.forward) and kind.train is nn.Module.train


def is_of(norms: Norms, buffer: str) -> bool:
    """Whether a buffer is the running mean or variance of one of the layers."""
    layer, _, kind = buffer.rpartition(".")
    return layer in norms and kind in KINDS[:2]


def make_differentiable(norms: Norms) -> None:
    """Let gradients flow into the running statistics, which torch's own kernel refuses."""
    for norm in norms.values():
        object.__setattr__(norm, "forward", partial(_normalise, norm, norm.forward))


def _normalise(norm: _BatchNorm, forward: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    mean, var = norm.running_mean, norm.running_var
    if norm.training or mean is None or var is None or not mean.requires_grad:
        return forward(input)
    scale = (var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -mean * scale
    shift = shift if norm.bias is None else norm.bias + shift
    along = (1, -1) + (1,) * (input.ndim - 2)
    return input * scale.view(along) + shift.view(along)


@contextmanager
def batch_mode(norms: Norms) -> Iterator[None]:
    """Let the layers normalise by the batch they see."""
    for norm in norms.values():
        norm.train()
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "BatchNorm cannot take statistics of a single value per channel; give at least two samples (batch_size, "
            "calibration data), or buffers='frozen'"
        ) from error
    finally:
        for norm in norms.values():
            norm.eval()


def batch_losses(rows: RowLosses, norms: Norms, parameters: Tensors, samples: Samples) -> Tensor:
    """Losses `(k,)` as in training: every layer normalises by the batch; no running statistic is kept."""
    with batch_mode(norms):
        return rows.loop(parameters, _scratch(rows, parameters), samples)


def batch_loss(rows: RowLosses, norms: Norms, parameters: Tensors, samples: Samples) -> Tensor:
    """The same `()` of one set of parameters."""
    with batch_mode(norms):
        return rows.one(parameters, _scratch(rows, parameters), samples)


def _scratch(rows: RowLosses, parameters: Tensors) -> Tensors:
    """Copies of the constants, for layers in batch mode to write to."""
    like = next(iter(parameters.values()))
    return {name: value.clone() for name, value in rows.constants_like(like).items()}


def capture(rows: RowLosses, norms: Norms, parameters: Tensors, samples: Samples) -> Tensors:
    """Mean and unbiased variance that each layer sees on one chunk, under the names of its buffers.

    A layer that is called several times in one pass takes the mean over its calls, as torch's cumulative average does.
    One row of parameters. The result is on autograd's graph when the parameters are.
    """
    seen: dict[str, list[Tensor]] = {}

    def hook(name: str):
        def look(_module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            x = args[0] if args else named["input"]
            axes = [axis for axis in range(x.ndim) if axis != 1]
            for kind, value in zip(("running_var", "running_mean"), torch.var_mean(x, axes)):
                seen.setdefault(f"{name}.{kind}", []).append(value)

        return look

    handles = [norm.register_forward_pre_hook(hook(name), with_kwargs=True) for name, norm in norms.items()]
    try:
        with batch_mode(norms):
            rows.output(parameters, _scratch(rows, parameters), samples.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: values[0] if len(values) == 1 else torch.stack(values).mean(0) for name, values in seen.items()}


def _averages(norm: _BatchNorm) -> bool:
    """Whether a layer in batch mode keeps what it sees in its buffers."""
    return norm.track_running_stats and norm.num_batches_tracked is not None


def _averaged(rows: RowLosses, norms: Norms, parameters: Tensors, samples: Samples) -> Tensors:
    """The same without a gradient, by the layers' own averages from nothing: torch's kernel has the statistics that it normalises by,
    and to compute them once more takes as long as the convolutions."""
    scratch = _scratch(rows, parameters)
    before = [(norm, norm.momentum) for norm in norms.values()]
    for name, norm in norms.items():
        norm.momentum = None  # the mean over calls
        for kind in KINDS:
            scratch[f"{name}.{kind}"].zero_()
    try:
        with batch_mode(norms):
            rows.output(parameters, scratch, samples.inputs)
    finally:
        for norm, momentum in before:
            norm.momentum = momentum
    return {name: value for name, value in scratch.items() if is_of(norms, name)}


def recalibrated(rows: RowLosses, norms: Norms, parameters: Tensors, parts: Slices) -> Tensors:
    """Running statistics of one row of parameters: the chunks' statistics, averaged by chunk size, without gradient."""
    total: Tensors = {}
    count, own = len(parts.samples), not rows.writes and all(_averages(norm) for norm in norms.values())
    for part in parts:
        for name, value in (_averaged if own else capture)(rows, norms, parameters, part).items():
            total[name] = total.get(name, 0) + value.detach() * (len(part) / count)
    return total


def pull_back(rows: RowLosses, norms: Norms, parts: Slices, parameters: Tensors, cotangents: Tensors) -> list[Tensor]:
    """Gradient with respect to `parameters` through `recalibrated`, chunk by chunk so that one chunk is in memory."""
    leaves, count = list(parameters.values()), len(parts.samples)
    total = [torch.zeros_like(leaf) for leaf in leaves]
    for part in parts:
        with rows.kept():
            # Statistics of the data itself, before any parameter, have no gradient.
            seen = {name: value for name, value in capture(rows, norms, parameters, part).items() if value.requires_grad}
            if not seen:
                continue
            scaled = [cotangents[name] * (len(part) / count) for name in seen]
            found = torch.autograd.grad(list(seen.values()), leaves, scaled, allow_unused=True)
        for sum_, gradient in zip(total, found, strict=True):
            if gradient is not None:
                sum_ += gradient
    return total
