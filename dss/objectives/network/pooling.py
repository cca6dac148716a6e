"""Max-pooling of small windows as maxima of strided slices: the same values in a third of the time, without a gradient.

torch's own kernel also finds where each maximum lies, which only a gradient needs.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d
from torch.overrides import TorchFunctionMode

# Wider windows have more slices than one pass of torch's kernel is worth.
WIDEST = 3


class SlicedPooling(TorchFunctionMode):
    """Within it, `max_pool2d` of plain tensors with small windows and without padding is taken by slices."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.max_pool2d, max_pool2d) or kwargs.get("return_indices"):
            return func(*args, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name != "return_indices"}
        return _pooled(torch.max_pool2d, *args, **kwargs)


def _pooled(
    kernel: Callable,
    input: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
) -> Tensor:
    window = _pair(kernel_size)
    pace = window if stride is None or stride == () or stride == [] else _pair(stride)
    plain = (
        type(input) is Tensor
        and not input.requires_grad
        and _pair(padding) == (0, 0)
        and _pair(dilation) == (1, 1)
        and not ceil_mode
    )
    counts = [(size - wide) // step + 1 for size, wide, step in zip(input.shape[-2:], window, pace, strict=True)]
    if not plain or max(window) > WIDEST or min(counts) < 1:
        return kernel(input, kernel_size, stride, padding, dilation, ceil_mode)
    # Rows first: they are whole stretches of memory.
    for dim, wide, step, count in zip((-2, -1), window, pace, counts, strict=True):
        input = reduce(torch.maximum, (_every(input, dim, first, step, count) for first in range(wide)))
    return input


def _every(x: Tensor, dim: int, first: int, step: int, count: int) -> Tensor:
    """`count` rows or columns of `x`, `step` apart."""
    some = slice(first, first + step * (count - 1) + 1, step)
    return x[..., some, :] if dim == -2 else x[..., some]


def _pair(value: Any) -> tuple[int, int]:
    """A size given as one number, or as one or two in a sequence."""
    if isinstance(value, int):
        return value, value
    return tuple(value) * 2 if len(value) == 1 else tuple(value)
