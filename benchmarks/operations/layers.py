"""Products, convolutions, attention and recurrent layers."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.operations.drawing import Draw, Function, Shape, Step, like, operation


@operation("products")
def _(draw, shape):
    function = draw.choice(
        (torch.add, torch.mul, torch.sub, lambda h, w: h / (w * w + 1), lambda h, w: w / (h * h + 1), lambda h, w: w - h)
    )
    return Step(function, (draw.choice((shape, shape[-1:], ())),))


@operation("linear")
def _(draw, shape):
    m, bias = draw.randrange(2, 9), draw.random() < 0.7
    return Step(F.linear, ((m, shape[-1]), *(((m,),) if bias else ())))


@operation("matmul")
def _(draw, shape):
    function = draw.choice((torch.matmul, lambda h, w: h @ w, lambda h, w: (w.mT @ h.mT).mT)) if len(shape) > 1 else torch.matmul
    return Step(function, ((shape[-1], draw.randrange(2, 7)),))


@operation("constant matmul", 1, 2)
def _(draw, shape):
    constant = draw.tensor(shape[-1], 3)
    return (
        Step(lambda h, w: (like(constant, h).T @ h.mT).mT + w, ((3,),))
        if len(shape) == 2
        else Step(lambda h: h @ like(constant, h))
    )


@operation("bmm", 2)
def _(draw, shape):
    return Step(lambda h: torch.bmm(h, h.transpose(1, 2)))


@operation("addmm", 1)
def _(draw, shape):
    return Step(lambda h, b, w: torch.addmm(b, h, w, beta=0.5, alpha=-1), ((4,), (shape[0], 4)))


@operation("mv", 2)
def _(draw, shape):
    return Step(lambda h, w: torch.stack([torch.mv(row, w) for row in h]), ((shape[1],),))


def _dot(function: Function, draw: Draw, shape: Shape) -> Step:
    return Step(lambda h, w: torch.stack([function(row, w) for row in h])[:, None] * h, (shape,))


for _name, _function in (("dot", torch.dot), ("vdot", torch.vdot)):
    operation(_name, 1)(partial(_dot, _function))


@operation("mm", 1)
def _(draw, shape):
    return Step(torch.mm, ((shape[0], 3),))


@operation("baddbmm", 2)
def _(draw, shape):
    return Step(lambda h, w: torch.baddbmm(h @ h.mT, h, h.mT, beta=0.5, alpha=-0.25) * w, ((),))


@operation("einsum", 2)
def _(draw, shape):
    _, n = shape
    return draw.choice((
        Step(lambda h, w: torch.einsum("btd,de->bte", h, w), ((n, 3),)), Step(lambda h, w: torch.einsum("...d,ed", h, w), ((3, n),)),
        Step(lambda h: torch.einsum("btd->bdt", h)), Step(lambda h: torch.einsum("btd->bd", h)), Step(lambda h: torch.einsum("btd,bsd->bts", h, h)),
        Step(lambda h, w, v: torch.einsum("btd,de,e->bte", h, w, v), ((n, 3), (3,))), Step(lambda h, w: torch.einsum("btd,dd->bt", h, w), ((n, n),)),
        Step(lambda h, w: torch.einsum("b...d,...d->b...", [h, w]), ((n,),)),
    ))  # fmt: skip


@operation("embedding")
def _(draw, shape):
    index = draw.whole(5, *shape)
    return Step(lambda h, table: h + F.embedding(index, table).squeeze(-1), ((5, 1),))


@operation("conv1d", 2)
def _(draw, shape):
    channels, length = shape
    size, groups = min(draw.choice((1, 2, 3)), length), draw.choice((1, channels))
    options = {"padding": draw.choice((0, 1, "same", "valid")), "dilation": draw.choice((1, 1, 2)) if length > 4 else 1}
    stride = {} if options["padding"] == "same" else {"stride": draw.choice((1, 2))}
    return Step(
        lambda h, w, b: F.conv1d(h, w, b, groups=groups, **options, **stride),
        ((channels * 2, channels // groups, size), (channels * 2,)),
    )


@operation("conv2d", 3)
def _(draw, shape):
    channels, *sizes = shape
    window, groups = tuple(min(draw.choice((1, 2, 3)), size) for size in sizes), draw.choice((1, channels))
    options = {"padding": draw.choice((0, 1, (1, 0))), "stride": draw.choice((1, 2, (1, 2)))}
    return Step(
        lambda h, w: F.conv2d(h, w, groups=groups, **options), ((draw.choice((2, 4)) * groups, channels // groups, *window),)
    )


@operation("attention", 2)
def _(draw, shape):
    length, n = shape
    mask = draw.choice(
        (
            None,
            torch.ones(length, length).tril().bool(),
            torch.zeros(length, length).masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf),
        )
    )
    causal = mask is None and draw.random() < 0.3

    def function(h: Tensor, w: Tensor) -> Tensor:
        q, k, v = (h @ w).chunk(3, -1)
        given = mask if mask is None or mask.dtype == torch.bool else like(mask, h)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=given, is_causal=causal)

    return Step(function, ((n, 12),))


@operation("multi_head_attention", 2)
def _(draw, shape):
    length, n = shape
    if n % 2:
        return None
    padding = torch.arange(length) >= max(1, length - 1) if draw.random() < 0.5 else None

    def function(h: Tensor, w: Tensor, b: Tensor, out: Tensor) -> Tensor:
        x = h.transpose(0, 1)
        key = None if padding is None else padding.expand(len(h), length)
        return F.multi_head_attention_forward(
            x, x, x, n, 2, w, b, None, None, False, 0.0, out, None, training=False, key_padding_mask=key
        )[0].transpose(0, 1)

    return Step(function, ((3 * n, n), (3 * n,), (n, n)))


def _recurrent(kind: str, gates: int, cell: Callable, draw: Draw, shape: Shape) -> Step:
    n, width, both = shape[1], 3, draw.random() < 0.3
    each = ((gates * width, n), (gates * width, width), (gates * width,), (gates * width,))

    def function(h: Tensor, *weights: Tensor) -> Tensor:
        start = torch.zeros(2 if both else 1, len(h), width, dtype=h.dtype)
        state = (start, start) if kind == "lstm" else start
        return cell(h, state, list(weights), True, 1, 0.0, False, both, True)[0]

    return Step(function, each * (2 if both else 1))


for _name, _gates in (("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)):
    operation(_name, 2)(partial(_recurrent, _name, _gates, getattr(torch._VF, _name)))


def _cell(kind: str, gates: int, draw: Draw, shape: Shape) -> Step | None:
    n, function = shape[0], getattr(torch._VF, kind)
    if n < 3:
        return None

    def step(h: Tensor, w: Tensor, u: Tensor, b: Tensor) -> Tensor:
        start = torch.tanh(h[:, :3])
        return function(h, (start, start) if kind == "lstm_cell" else start, w, u, b, b)[0 if kind == "lstm_cell" else ...]

    return Step(step, ((gates * 3, n), (gates * 3, 3), (gates * 3,)))


for _name, _gates in (("lstm_cell", 4), ("gru_cell", 3), ("rnn_tanh_cell", 1), ("rnn_relu_cell", 1)):
    operation(_name, 1)(partial(_cell, _name, _gates))
