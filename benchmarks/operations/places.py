"""Writes to given places and into fresh memory, sums of chosen rows, running products, complex pairs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.operations.drawing import OPERATIONS, Step, last, like, operation, several

several({"trace": lambda h: h[..., :1] * torch.stack([torch.trace(row) for row in h]).view(-1, 1, 1), "cumprod 1": lambda h: torch.cumprod(h, 1) / 2,
         "bicubic": lambda h: F.interpolate(h[:, None], size=(3, 2), mode="bicubic")[:, 0],
         "antialias": lambda h: F.interpolate(h[:, None], scale_factor=0.6, mode="bilinear", antialias=True)[:, 0]}, 2)  # fmt: skip
several({"bicubic images": lambda h: F.interpolate(h, scale_factor=1.3, mode="bicubic", align_corners=True),
         "block_diag": lambda h: torch.stack([torch.block_diag(*row) for row in h[:, :2, :1, :2]])}, 3)  # fmt: skip
several({"diff": lambda h: torch.diff(h, dim=-1, prepend=h[..., :1] * 2), "index_fill": lambda h: h.index_fill(-1, torch.tensor([0]), 0.3),
         "select_scatter": lambda h: torch.select_scatter(h, h[..., 0].tanh(), -1, h.shape[-1] - 1),
         "slice_scatter": lambda h: torch.slice_scatter(h, h[..., ::2] * 2, -1, 0, None, 2)})  # fmt: skip


@operation("scatter")
def _(draw, shape):
    index, number = draw.whole(shape[-1], 1), draw.random() < 0.3
    return Step(lambda h: h.scatter(-1, index.expand(*h.shape[:-1], 1), 0.4 if number else h.tanh()))


@operation("scatter_reduce")
def _(draw, shape):
    index = draw.whole(shape[-1], *shape)
    reduce, include = draw.choice(("sum", "mean", "amax", "amin")), draw.random() < 0.5
    return Step(lambda h: h.scatter_reduce(-1, index.expand_as(h), torch.sigmoid(h), reduce, include_self=include))


@operation("index_put", 1)
def _(draw, shape):
    index, added = draw.whole(shape[0], 2), draw.random() < 0.5
    return Step(
        lambda h, w: torch.stack([row.index_put((index[: 1 + added],), w[: 1 + added], accumulate=added) for row in h]), ((2,),)
    )


@operation("index_copy")
def _(draw, shape):
    return (
        Step(lambda h, w: h.index_copy(-1, torch.tensor([shape[-1] - 1, 0]), w.expand(*h.shape[:-1], 2)), ((2,),))
        if shape[-1] > 1
        else None
    )


@operation("embedding_bag", 1)
def _(draw, shape):
    index, mode = draw.whole(4, 1, 5), draw.choice(("sum", "mean", "max"))
    padding = draw.choice((None, 1)) if mode != "max" else None
    return Step(lambda h, w: h + F.embedding_bag(index.expand(len(h), 5), w, mode=mode, padding_idx=padding), ((4, shape[0]),))


@operation("cumprod")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: torch.cumprod(h.tanh(), dim))


@operation("complex")
def _(draw, shape):
    angles, conjugate = draw.tensor(shape[-1] // 2), draw.random() < 0.5

    def rotary(h: Tensor) -> Tensor:
        pairs = torch.view_as_complex(h.reshape(*h.shape[:-1], -1, 2))
        turned = pairs * torch.polar(torch.ones_like(like(angles, h)), like(angles, h))
        turned = turned + (pairs.conj() if conjugate else pairs) * turned
        return torch.view_as_real(turned).flatten(-2)

    return Step(rotary) if shape[-1] % 2 == 0 else None


@operation("complex numbers")
def _(draw, shape):
    turn, which = torch.polar(draw.tensor(shape[-1]), draw.tensor(shape[-1])), draw.randrange(4)

    def turned(h: Tensor) -> Tensor:
        own = turn.to(torch.complex128) if h.dtype == torch.float64 else turn
        pairs = (h * own, own - h, (1 + 2j) * torch.complex(h, h * h), torch.polar(h.tanh(), h) / (h * h + 1))[which]
        return torch.view_as_real(pairs + 1j).sum(-1)

    return Step(turned)


def _fresh(h: Tensor) -> Tensor:
    rows = torch.zeros(len(h), *h.shape[1:], dtype=h.dtype)
    rows[..., 1:] = h[..., :-1]
    rows[..., :1] = 0.25
    whole = torch.empty(h.shape, dtype=h.dtype)
    whole[:] = h * 2
    return rows + whole.tanh_()


OPERATIONS["write: fresh memory"] = lambda draw, shape: Step(_fresh)
