"""Norms, running sums and other convolutions of the networks that people have."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.operations.drawing import OPERATIONS, Draw, Function, Shape, Step, last, like, operation


@operation("prelu")
def _(draw, shape):
    return Step(F.prelu, ((draw.choice((1, shape[0])),),))


@operation("lerp")
def _(draw, shape):
    return Step(draw.choice((lambda h, w: torch.lerp(h, w, 0.3), lambda h, w: torch.lerp(w, h, torch.sigmoid(h)))), (shape,))


@operation("logaddexp")
def _(draw, shape):
    return Step(torch.logaddexp, (shape,))


@operation("addcmul")
def _(draw, shape):
    return Step(lambda h, w: torch.addcmul(h, h, w, value=0.5), (shape[-1:],))


@operation("addcdiv")
def _(draw, shape):
    return Step(lambda h, w: torch.addcdiv(h, w, h * h + 1, value=-0.5), (shape[-1:],))


def _along(function: Function, draw: Draw, shape: Shape) -> Step:
    dim = last(draw, shape)
    return Step(lambda h: h - function(h, dim, keepdim=True)[0])


for _name, _function in (("max", torch.max), ("min", torch.min)):
    OPERATIONS[_name + " of two"] = lambda draw, shape, f=_function: Step(f, (shape,))
    OPERATIONS[_name + " along"] = partial(_along, _function)


@operation("norm")
def _(draw, shape):
    p, dim = draw.choice((2, 1, math.inf, 3, 4)), last(draw, shape)
    return Step(lambda h: (h.abs() + 0.1).norm(p, dim, keepdim=True) + h)


@operation("normalize")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: F.normalize(h, dim=dim))


@operation("cosine_similarity")
def _(draw, shape):
    return Step(lambda h, w: F.cosine_similarity(h, w.expand_as(h), dim=-1).unsqueeze(-1) * h, (shape,))


@operation("var")
def _(draw, shape):
    function = draw.choice(
        (
            lambda h: h.var(-1, keepdim=True),
            lambda h: torch.var(h, -1, correction=0, keepdim=True),
            lambda h: h.var(-1, False, True),
        )
    )
    return Step(lambda h: function(h) + h) if shape[-1] > 1 else None


@operation("std")
def _(draw, shape):
    return Step(lambda h: h.std(-1, keepdim=True) + h) if shape[-1] > 1 else None


@operation("rms_norm")
def _(draw, shape):
    eps = draw.choice((None, 1e-2))
    return Step(lambda h, w: F.rms_norm(h, shape[-1:], w, eps), (shape[-1:],))


@operation("instance_norm", 2, 3)
def _(draw, shape):
    mean, var = draw.tensor(shape[0]), draw.tensor(shape[0]).square() + 0.3
    if draw.random() < 0.3:
        return Step(lambda h, w: F.instance_norm(h, like(mean, h), like(var, h), w, w, False), (shape[:1],))
    return Step(lambda h, w: F.instance_norm(h, weight=w, bias=w, eps=1e-2), (shape[:1],)) if math.prod(shape[1:]) > 1 else None


@operation("cumsum")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: torch.cumsum(h, dim) / 2)


@operation("prod")
def _(draw, shape):
    dim = last(draw, shape)
    return Step(lambda h: h.prod(dim, keepdim=True) + h)


@operation("index_add")
def _(draw, shape):
    index = draw.whole(shape[-1], 3)
    return Step(lambda h, w: h.index_add(-1, index, w.expand(*h.shape[:-1], 3), alpha=-0.5), ((3,),))


@operation("scatter_add")
def _(draw, shape):
    index = draw.whole(shape[-1], *shape)
    return Step(lambda h: h.scatter_add(-1, index.expand_as(h), torch.tanh(h)))


@operation("bilinear", 1, 2)
def _(draw, shape):
    return Step(lambda h, w, b: F.bilinear(h, h, w, b), ((3, shape[-1], shape[-1]), (3,)))


@operation("unfold", 3)
def _(draw, shape):
    return Step(lambda h: F.unfold(h, 2, padding=1)) if min(shape[1:]) > 1 else None


@operation("interpolate", 2, 3)
def _(draw, shape):
    mode = draw.choice(("nearest", "linear" if len(shape) == 2 else "bilinear", "nearest-exact", "area"))
    options = {"align_corners": draw.choice((True, False))} if mode in ("linear", "bilinear") else {}
    return Step(partial(F.interpolate, scale_factor=draw.choice((2, 1.5)), mode=mode, **options))


@operation("conv_transpose1d", 2)
def _(draw, shape):
    options = draw.choice(({}, {"stride": 2}, {"stride": 2, "padding": 1, "output_padding": 1}))
    return Step(lambda h, w, b: F.conv_transpose1d(h, w, b, **options), ((shape[0], 3, 2), (3,)))


@operation("conv_transpose2d", 3)
def _(draw, shape):
    groups = draw.choice((1, shape[0]))
    options = draw.choice(({}, {"stride": 2}, {"padding": 1, "dilation": 2}))
    return Step(lambda h, w: F.conv_transpose2d(h, w, groups=groups, **options), ((shape[0], 1, 2, 2),))


def _volume(function: Function, draw: Draw, shape: Shape) -> Step | None:
    return Step(lambda h, w: function(h[:, None], w).flatten(1, 2), ((1, 1, 2, 2, 2),)) if min(shape) > 1 else None


for _name, _function in {
    "conv3d": F.conv3d, "conv_transpose3d": F.conv_transpose3d, "max_pool3d": lambda h, w: F.max_pool3d(h, 2, 1, 1) * w[..., :1, :1, :1],
    "avg_pool3d": lambda h, w: F.avg_pool3d(h, 2, 1) + w[..., :1, :1, :1], "adaptive_avg_pool3d": lambda h, w: F.adaptive_avg_pool3d(h, (1, 2, 2)) * w[..., :1, :1, :1],
}.items():  # fmt: skip
    operation(_name, 3)(partial(_volume, _function))


@operation("adaptive_max_pool1d", 2)
def _(draw, shape):
    return Step(partial(F.adaptive_max_pool1d, output_size=draw.choice((1, 2, 3))))


@operation("adaptive_max_pool2d", 3)
def _(draw, shape):
    return Step(partial(F.adaptive_max_pool2d, output_size=draw.choice((1, (2, 1), (None, 2)))))


@operation("weight_norm", 1)
def _(draw, shape):
    return Step(lambda h, v, g: F.linear(h, torch._weight_norm(v, g, 0)), ((4, shape[0]), (4, 1)))


@operation("lstm projected", 2)
def _(draw, shape):
    def function(h: Tensor, *weights: Tensor) -> Tensor:
        h0, c0 = torch.zeros(1, len(h), 2, dtype=h.dtype), torch.zeros(1, len(h), 3, dtype=h.dtype)
        return torch._VF.lstm(h, (h0, c0), list(weights), True, 1, 0.0, False, False, True)[0]

    return Step(function, ((12, shape[1]), (12, 2), (12,), (12,), (2, 3)))
