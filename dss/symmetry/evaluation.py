"""A network run in float64, so that what permuted units change can be told from rounding."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from dss.base.dispatch import DispatchMode
from dss.base.errors import InputError
from dss.objectives.network.copies import quiet_copy

_NARROW = (torch.float16, torch.bfloat16, torch.float32)


class InDouble(DispatchMode):
    """Every operation in float64: layers that compute in float32, whatever they are given, would hide small changes.

    Attributes:
        calls: operations carried out so far: the number of the one that `see` looks at.
    """

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in _NARROW:
            kwargs["dtype"] = torch.float64
        result = func(*args, **kwargs)
        self.see(func, args, kwargs, result)
        # torch detaches what somebody still holds on to: whether it does depends on who watches, so it does not count.
        self.calls += func is not torch.ops.aten.detach.default
        return result

    def see(self, func, args: tuple, kwargs: dict, result: object) -> None:
        """Look at an operation that was carried out."""


@dataclass(frozen=True, eq=False)
class Network:
    """A copy of a model in `eval()` and float64, with inputs: a function of its state alone."""

    model: nn.Module
    args: tuple
    kwargs: Mapping[str, object]

    @classmethod
    def of(cls, model: nn.Module, inputs: object) -> "Network":
        """Inputs are one tensor, a tuple of positional arguments, or a mapping of named ones.

        Raises:
            InputError: the model cannot be run on them.
        """
        network = cls(quiet_copy(model).cpu().double(), *_arguments(inputs))
        try:
            network.outputs(network.state)
        except Exception as error:  # whatever the user's forward raises is the user's
            raise InputError(
                f"the model fails on the inputs given, in float64: {type(error).__name__}: {error}; "
                "give inputs as for model(*inputs), and let the model follow the dtype of its parameters"
            ) from error
        return network

    @property
    def state(self) -> dict[str, Tensor]:
        """The model's own parameters, tied ones once, and buffers, in float64."""
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def on(self, inputs: object) -> "Network":
        """The same network on other inputs."""
        return Network(self.model, *_arguments(inputs))

    def outputs(self, state: Mapping[str, Tensor], mode: InDouble | None = None, *, gradients: bool = False) -> list[Tensor]:
        """All tensors that the model returns at a state, in the order of its structure; watched by `mode`.

        The model gets copies, for it may write to what it is given, all in float64; of tied parameters the one that all are.
        """
        own = [name for name, _ in (*self.model.named_parameters(), *self.model.named_buffers()) if name in state]
        fresh = {name: state[name] if gradients else _double(state[name]).clone() for name in own}
        return self.copied().run(fresh, mode or InDouble(), gradients=gradients)

    def copied(self) -> "Network":
        """The same network with copies of its inputs."""
        args, kwargs = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, (self.args, dict(self.kwargs)))
        return Network(self.model, args, kwargs)

    def run(self, state: Mapping[str, Tensor], mode: InDouble, *, gradients: bool = False) -> list[Tensor]:
        """The same as `outputs`, on the very tensors given."""
        with torch.set_grad_enabled(gradients), plain_kernels(), mode:
            return tensors_in(functional_call(self.model, dict(state), self.args, dict(self.kwargs)))


def tensors_in(tree: object) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _arguments(inputs: object) -> tuple[tuple, dict[str, object]]:
    inputs = tree_map(_double, inputs)
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,), {}


def _double(leaf: Any) -> Any:
    return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def difference(outputs: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference between two lists of outputs, relative to the largest output."""
    worst = 0.0
    for x, y in zip(outputs, others, strict=True):
        if x.shape != y.shape:
            return float("inf")
        x, y = x.double(), y.double()
        scale = x[x.isfinite()].abs().max().item() if x.isfinite().any() else 1.0
        # Masks may be infinite on both sides: what is equal does not differ.
        off = torch.where((x == y) | (x.isnan() & y.isnan()), 0, (x - y).abs())
        worst = max(worst, off.nan_to_num(torch.inf).max().item() / max(scale, 1e-300)) if off.numel() else worst
    return worst


@contextmanager
def plain_kernels() -> Iterator[None]:
    """No fused kernels, which would hide the operations inside attention; float64 unless told otherwise."""
    fast, dtype = torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype()
    torch.backends.mha.set_fastpath_enabled(False)
    torch.set_default_dtype(torch.float64)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_default_dtype(dtype)
