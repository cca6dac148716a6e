"""Writes and shared memory, and branches that are the network's own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.operations.drawing import OPERATIONS, Step, several

several({
    "relu_": lambda h: (h * 1.5).relu_(), "inplace=True": lambda h: F.relu(h - 0.1, inplace=True), "nn.ReLU": lambda h: nn.ReLU(inplace=True)(h + 0.1),
    "leaky inplace": lambda h: F.leaky_relu(h * 1, 0.2, True), "hardtanh inplace": lambda h: F.hardtanh(h * 1, -0.4, 0.6, True), "silu inplace": lambda h: F.silu(h + 0, True),
    "dropout inplace": lambda h: F.dropout(h + 0, 0.5, False, True), "torch.relu_": lambda h: torch.relu_(h.clone()),
})  # fmt: skip


def writes(function: Callable[[Tensor], Tensor | None]) -> None:
    """Register a function that writes into a fresh tensor, or is refused."""
    OPERATIONS["write: " + function.__name__.strip("_")] = lambda draw, shape: Step(function)


@writes
def _preactivation(h: Tensor) -> Tensor:
    skip = h.clone()
    return F.relu_(h) - skip


@writes
def _arithmetic(h: Tensor) -> Tensor:
    k = h + 1
    k += h
    k -= 0.5
    k *= h
    k /= 2
    k **= 2
    return k.sub_(0.1).add_(h, alpha=0.3).mul_(0.5).div_(2).neg_()


@writes
def _factor_after_its_product(h: Tensor) -> Tensor:
    u, v = torch.relu(h), torch.tanh(h)
    z = u * v
    v.mul_(0.0)
    u.fill_(0.5)
    return z + v + u


@writes
def _constant_after_its_product(h: Tensor) -> Tensor:
    c = torch.full_like(h[:1], 1.5)
    plain = torch.ones(h.shape[-1], dtype=h.dtype)
    z = torch.relu(h) * c * plain
    c.zero_()
    plain.fill_(7.0)
    return z + c


@writes
def _items(h: Tensor) -> Tensor:
    k = torch.relu(h) + 0
    k[..., 0] = 0.3
    k[:, :1] = h[:, :1] * 2
    return k


@writes
def _scratch(h: Tensor) -> Tensor:
    k = torch.zeros_like(h)
    k[..., 1:] = h[..., :-1]
    k[..., :1].clone().fill_(3.0)
    return k + h.new_ones(h.shape[-1])


@writes
def _copies(h: Tensor) -> Tensor:
    k = h.new_zeros(h.shape)
    return k.copy_(torch.tanh(h)).clamp_(-0.5, 0.5).masked_fill_(torch.arange(h.shape[-1]) == 0, 0.1)


@writes
def _view_of_what_is_gone(h: Tensor) -> Tensor:
    return (h * 2).flatten(1).relu_().view(h.shape)


@writes
def _view_that_is_held(h: Tensor) -> Tensor:
    k = h * 2
    v = k.view(len(h), -1)
    v.relu_()
    return k


@writes
def _part_that_is_held(h: Tensor) -> Tensor:
    k = h * 2
    k[..., 0].relu_()
    return k


@writes
def _detached(h: Tensor) -> Tensor:
    k = h * 2
    k.detach().clamp_(min=0)
    return k


@writes
def _cast_that_is_none(h: Tensor) -> Tensor:
    k = h * 2
    k.to(h.dtype).relu_()
    return k


@writes
def _contiguous(h: Tensor) -> Tensor:
    k = h * 2
    k.contiguous().relu_()
    return k


# Branches that are the network's own.
several({
    "branch on dtype": lambda h: h * 3 if h.dtype == torch.float64 else h, "branch on shape": lambda h: h * 2 if h.shape[-1] > 3 else -h,
    "branch on floating": lambda h: h if h.is_floating_point() else h * 0, "branch on a constant": lambda h: h * 2 if (torch.arange(h.shape[-1]) > 2).any() else h,
    "mask of a constant": lambda h: h.masked_fill(h.new_ones(h.shape[-1]).cumsum(0) > 2, 0.3),
})  # fmt: skip


@writes
def _sums_in_place(h: Tensor) -> Tensor:
    k = torch.zeros_like(h)
    k.index_add_(-1, torch.zeros(h.shape[-1], dtype=torch.long), h)
    return k.scatter_add_(-1, torch.zeros(h.shape, dtype=torch.long), torch.tanh(h)).clamp_min_(-1).sin_()
