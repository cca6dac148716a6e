"""Losses of many parameter rows of one model: under `vmap`, or one row after the other."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from dss.objectives.network.data import Samples

Loss = Callable[[Tensor, Tensor], Tensor]
Tensors = dict[str, Tensor]


class RowLosses:
    """The mean loss of samples for each row of parameters; the caller's model is copied and never touched.

    Attributes:
        template: the copy, in `eval()`; parameters and buffers are passed in at every call.
        buffers: the model's own buffers.
        can_batch: whether the model has all the batching rules that `vmap` needs.
        channels_last: whether images are best given in channels-last order.
    """

    def __init__(self, model: nn.Module, loss: Loss):
        self.template = copy.deepcopy(model).eval().requires_grad_(False)
        self.loss = loss
        self.buffers: Tensors = dict(self.template.named_buffers())
        modules = list(self.template.modules())
        self.channels_last = any(isinstance(m, nn.Conv2d) for m in modules)
        self.can_batch = not any(isinstance(m, nn.RNNBase) for m in modules)

    def buffers_like(self, points: Tensor) -> Tensors:
        """The model's own buffers in the dtype and on the device of `points`."""
        return {
            name: b.to(points.device, points.dtype) if b.is_floating_point() else b.to(points.device)
            for name, b in self.buffers.items()
        }

    def one(self, parameters: Tensors, buffers: Tensors, samples: Samples) -> Tensor:
        """The loss `()` of one set of parameters, all of them: a missing one would silently be the template's."""
        with _plain_attention():
            output = functional_call(self.template, (parameters, buffers), samples.inputs)
            return self.loss(output, samples.target)

    def batch(self, parameters: Tensors, buffers: Tensors, samples: Samples) -> Tensor:
        """Losses `(k,)` of parameters stacked along the first axis, through one `vmap`; buffers are shared."""
        return vmap(lambda row: self.one(row, buffers, samples))(parameters)

    def loop(self, parameters: Tensors, buffers: Tensors, samples: Samples) -> Tensor:
        """The same, one row after the other."""
        count = len(next(iter(parameters.values())))
        rows = ({name: value[i] for name, value in parameters.items()} for i in range(count))
        return torch.stack([self.one(row, buffers, samples) for row in rows])

    def probe_batching(self, parameters: Tensors, samples: Samples) -> None:
        """Give up `vmap` for good if the model lacks a batching rule; parameters as for `batch`."""
        if self.can_batch:
            try:
                self.batch(parameters, self.buffers, samples)
            except (RuntimeError, ValueError):  # no batching rule, or control flow that depends on values
                self.can_batch = False


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention without its fused kernels: they have no batching rule, and round differently with gradients."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
