"""What only moves entries about."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.operations.drawing import OPERATIONS, Draw, Shape, Step, operation, several

several({
    "reshape": lambda h: h.reshape(len(h), -1), "view": lambda h: h.view(h.shape[0], -1), "unsqueeze": lambda h: h.unsqueeze(1).squeeze(1),
    "reshape_as": lambda h: h.reshape_as(h) + 0, "view_as": lambda h: h.view_as(h), "expand": lambda h: h[:, None].expand(-1, 2, *h.shape[1:]).sum(1),
    "repeat": lambda h: h.repeat(*[1] * (h.dim() - 1), 2), "tile": lambda h: torch.tile(h, (2,)), "flip": lambda h: h.flip(-1),
    "roll": lambda h: torch.roll(h, 1, -1), "select": lambda h: h.select(-1, 0).unsqueeze(-1) + h, "narrow": lambda h: h.narrow(-1, 0, 1) * h,
    "cat": lambda h: torch.cat([h, -h], -1), "stack": lambda h: torch.stack([h, h * 2], -1).sum(-1), "concat": lambda h: torch.concat([h, h], 1),
    "concatenate": lambda h: torch.concatenate((h, h.abs()), dim=-1), "expand_as": lambda h: h[..., :1].expand_as(h) - h,
    "unflatten": lambda h: h.unflatten(1, (1, h.shape[1])).flatten(1, 2), "broadcast_to": lambda h: h[..., :1].broadcast_to(h.shape) + h,
    "repeat_interleave": lambda h: h.repeat_interleave(2, -1), "chunk": lambda h: h.chunk(2, -1)[0], "unbind": lambda h: sum(h.unbind(-1)).unsqueeze(-1) / 2,
    "split": lambda h: torch.split(h, [1, h.shape[-1] - 1], -1)[0] + h, "tensor_split": lambda h: h.tensor_split(2, -1)[0] * 1,
    "permute": lambda h: h.permute(0, *range(h.dim() - 1, 0, -1)), "slice": lambda h: h[..., ::2], "dots": lambda h: h[:, ...] * 1,
})  # fmt: skip


def at(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Register a function of the batch and of four indices into its last dimension."""

    def maker(draw: Draw, shape: Shape) -> Step:
        places = draw.whole(shape[-1], 4)
        return Step(lambda h: function(h, places))

    OPERATIONS[name] = maker


def masked(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Register a function of the batch and of booleans for its last dimension."""

    def maker(draw: Draw, shape: Shape) -> Step:
        mask = draw.mask(shape[-1])
        return Step(lambda h: function(h, mask))

    OPERATIONS[name] = maker


at("getitem", lambda h, places: h[..., places])
at("index_select", lambda h, places: h.index_select(-1, places))
at("gather", lambda h, places: h.gather(-1, places.expand(*h.shape[:-1], 4)))
at("take_along_dim", lambda h, places: torch.take_along_dim(h, places.expand(*h.shape[:-1], 4), -1))
masked("where", lambda h, mask: torch.where(mask, h, 0.5))
masked("where method", lambda h, mask: h.where(mask, -0.5))
masked("where both", lambda h, mask: torch.where(mask, h, -h))
masked("masked_fill", lambda h, mask: h.masked_fill(mask, 2.0))
masked("times a mask", lambda h, mask: h * mask)


@operation("pad")
def _(draw, shape):
    mode, n = draw.choice(("constant", "constant", "reflect", "replicate", "circular")), shape[-1]
    if mode == "constant":
        return Step(partial(F.pad, pad=(1, 2), value=draw.choice((0.0, 0.5))))
    return Step(lambda h: F.pad(h, (1, 0), mode=mode)) if len(shape) == 2 and n > 2 else None
