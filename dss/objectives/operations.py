"""What is known of the operations in a traced graph: which act on each entry alone, which only move entries, which pool."""

from collections.abc import Callable, Mapping
from operator import add, iadd, isub, mul, sub, truediv
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

ENTRYWISE_MODULES = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softsign,
    nn.Hardtanh, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink,
)  # fmt: skip
ENTRYWISE = {
    F.relu, torch.relu, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.tanh, torch.tanh, F.sigmoid,
    torch.sigmoid, F.softplus, F.softsign, F.hardtanh, F.relu6, F.hardswish, F.hardsigmoid, F.logsigmoid, torch.sin, torch.cos,
    torch.square, torch.abs, "relu", "relu_", "tanh", "sigmoid", "square", "abs", "sin", "cos",
}  # fmt: skip
IDENTITY_MODULES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
IDENTITIES = {F.dropout, F.dropout2d, F.alpha_dropout, "contiguous"}
POOL_MODULES = (nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
                 nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)  # fmt: skip
POOLS = {F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d,
          F.adaptive_max_pool1d, F.adaptive_max_pool2d, torch.max_pool1d, torch.max_pool2d}  # fmt: skip
MOVES = {torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze,
          "flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze"}  # fmt: skip
SUMS = {add, iadd, sub, isub, torch.add, torch.sub, "add", "add_", "sub"}
MULTIPLES = {mul, truediv, torch.mul, torch.div}
MEANS = {torch.mean, "mean"}
LOG_SOFTMAX = {F.log_softmax, torch.log_softmax, "log_softmax"}
# What may be asked of a tensor without looking at its values.
_QUESTIONS = {"size", "dim", "ndimension"}
_ATTRIBUTES = {"shape", "ndim", "dtype", "device"}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def is_question(node: fx.Node) -> bool:
    """Whether a node asks for a shape and the like, which depends on no value."""
    return node.target in _QUESTIONS or (node.target is getattr and node.args[1] in _ATTRIBUTES)


def is_batched(kind: Any, module: Any, tensor: torch.Tensor) -> bool:
    """Whether the first two axes are samples and channels: pooling takes both for granted only if there are enough axes."""
    name = kind.__name__ if module is None else type(module).__name__
    return tensor.ndim == int(name[-2]) + 2


def is_within_channels(node: fx.Node, tensor: torch.Tensor) -> bool:
    """Whether a mean is taken over places alone."""
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    axes = (axes,) if isinstance(axes, int) else axes
    return isinstance(axes, (tuple, list)) and all(isinstance(a, int) and a % tensor.ndim > 1 for a in axes)


def compute(graph: fx.GraphModule, node: fx.Node, known: Mapping[fx.Node, Any]) -> Any:
    """The value of one node, from those of its arguments."""
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: known[n])  # type: ignore[misc]
    if node.op == "call_module":
        return graph.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if node.op == "get_attr":
        return attribute(graph, str(node.target))
    function: Callable = node.target  # type: ignore[assignment]
    return function(*args, **kwargs)


def attribute(module: nn.Module, name: str) -> Any:
    """What stands under a dotted name."""
    owner, _, last = name.rpartition(".")
    return getattr(module.get_submodule(owner) if owner else module, last)
