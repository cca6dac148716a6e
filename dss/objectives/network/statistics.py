"""BatchNorm's running statistics as a function of the parameters: recomputed for every point, differentiably."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dss.objectives.network.data import Samples
from dss.objectives.network.rows import RowLosses, Tensors


def tracked_norms(model: nn.Module) -> dict[str, nn.Module]:
    """The BatchNorm layers that keep running statistics, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm) and m.running_mean is not None}


def make_differentiable(norms: dict[str, nn.Module]) -> None:
    """Let gradients flow into the running statistics, which torch's own kernel refuses."""
    for norm in norms.values():
        norm.forward = partial(_normalise, norm, norm.forward)


def _normalise(norm: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if norm.training or not norm.running_mean.requires_grad:
        return forward(x)
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
    along = (1, -1) + (1,) * (x.ndim - 2)
    return x * scale.view(along) + shift.view(along)


@contextmanager
def batch_mode(norms: dict[str, nn.Module]) -> Iterator[None]:
    """Let the layers normalise by the batch they see."""
    for norm in norms.values():
        norm.train()
    try:
        yield
    finally:
        for norm in norms.values():
            norm.eval()


def batch_losses(rows: RowLosses, norms: dict[str, nn.Module], parameters: Tensors, samples: Samples) -> Tensor:
    """Losses `(k,)` as in training: every layer normalises by the batch; no running statistic is kept."""
    scratch = _scratch(rows, parameters)
    with batch_mode(norms):
        return rows.loop(parameters, scratch, samples)


def _scratch(rows: RowLosses, parameters: Tensors) -> Tensors:
    """Copies of the buffers, for layers in batch mode to write to."""
    like = next(iter(parameters.values()))
    return {name: buffer.clone() for name, buffer in rows.buffers_like(like).items()}


def capture(rows: RowLosses, norms: dict[str, nn.Module], parameters: Tensors, samples: Samples) -> Tensors:
    """Mean and unbiased variance that each layer sees on one chunk, under the names of its buffers.

    One row of parameters. The result is on autograd's graph when the parameters are.
    """
    seen: Tensors = {}

    def hook(name: str):
        def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
            seen[f"{name}.running_var"], seen[f"{name}.running_mean"] = torch.var_mean(inputs[0], axes)

        return look

    handles = [norm.register_forward_pre_hook(hook(name)) for name, norm in norms.items()]
    scratch = _scratch(rows, parameters)
    try:
        with batch_mode(norms):
            rows.one(parameters, scratch, samples)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def recalibrated(rows: RowLosses, norms: dict[str, nn.Module], parameters: Tensors, samples: Samples, chunk: int) -> Tensors:
    """Running statistics of one row of parameters: the chunks' statistics, averaged by chunk size, without gradient."""
    total: Tensors = {}
    with torch.no_grad():
        for part in samples.chunks(chunk):
            for name, value in capture(rows, norms, parameters, part).items():
                total[name] = total.get(name, 0) + value * (len(part) / len(samples))
    return total


def pull_back(
    rows: RowLosses,
    norms: dict[str, nn.Module],
    parameters: Tensors,
    samples: Samples,
    chunk: int,
    cotangents: Tensors,
) -> list[Tensor]:
    """Gradient with respect to `parameters` through `recalibrated`, chunk by chunk so that one chunk is in memory."""
    leaves = list(parameters.values())
    total = [torch.zeros_like(leaf) for leaf in leaves]
    for part in samples.chunks(chunk):
        seen = capture(rows, norms, parameters, part)
        scaled = [cotangents[name] * (len(part) / len(samples)) for name in seen]
        found = torch.autograd.grad(list(seen.values()), leaves, scaled, allow_unused=True)
        for sum_, gradient in zip(total, found, strict=True):
            if gradient is not None:
                sum_ += gradient
    return total
