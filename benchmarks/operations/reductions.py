"""Sums, extrema, pools and norms."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.operations.drawing import OPERATIONS, Draw, Function, Shape, Step, last, like, operation


@operation("sum")
def _(draw, shape):
    dim = draw.choice((last(draw, shape), tuple(range(1, len(shape) + 1))))
    return Step(lambda h: h.sum(dim, keepdim=True) / 2 + h)


@operation("mean")
def _(draw, shape):
    dim = last(draw, shape)
    return (
        Step(lambda h: h.mean(dim, keepdim=True) - h)
        if draw.random() < 0.5 or len(shape) < 2
        else Step(lambda h: torch.mean(h, dim))
    )


def _largest(function: Function, draw: Draw, shape: Shape) -> Step:
    dim, keep = last(draw, shape), draw.random() < 0.7 or len(shape) == 1
    dim = draw.choice((dim, tuple(range(1, len(shape) + 1)) if keep else dim))
    return Step(lambda h: function(h, dim, keep))


for _function in (torch.amax, torch.amin):
    OPERATIONS[_function.__name__] = partial(_largest, _function)


@operation("logsumexp")
def _(draw, shape):
    dim = draw.choice((last(draw, shape), (-1, 1) if len(shape) > 1 else 1))
    return Step(lambda h: torch.logsumexp(h, dim, True) - h)


for _name, _function in (
    ("softmax", torch.softmax),
    ("F.softmax", F.softmax),
    ("log_softmax", F.log_softmax),
    ("softmin", F.softmin),
):
    OPERATIONS[_name] = lambda draw, shape, f=_function: Step(partial(f, dim=last(draw, shape)))


for _name, _function in (("maximum", torch.maximum), ("minimum", torch.minimum)):
    OPERATIONS[_name] = lambda draw, shape, f=_function: Step(f, (draw.choice((shape, shape[-1:])),))


@operation("max_pool1d", 2)
def _(draw, shape):
    options = draw.choice(
        ({"kernel_size": 2}, {"kernel_size": 3, "stride": 1, "padding": 1}, {"kernel_size": 2, "stride": 3, "ceil_mode": True})
    )
    return Step(partial(F.max_pool1d, **options)) if shape[-1] > 2 else None


@operation("max_pool2d", 3)
def _(draw, shape):
    options = draw.choice(({"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 2},
                           {"kernel_size": (1, 2), "stride": (2, 1), "ceil_mode": True}, {"kernel_size": 2, "padding": 1}))  # fmt: skip
    return Step(partial(F.max_pool2d, **options)) if min(shape[1:]) > 2 else None


@operation("avg_pool1d", 2)
def _(draw, shape):
    return Step(
        partial(
            F.avg_pool1d,
            kernel_size=2,
            stride=draw.choice((1, 2)),
            padding=draw.choice((0, 1)),
            count_include_pad=draw.random() < 0.5,
        )
    )


@operation("avg_pool2d", 3)
def _(draw, shape):
    options = draw.choice(({"kernel_size": 2}, {"kernel_size": (2, 1), "stride": 1, "padding": (1, 0), "count_include_pad": False},
                           {"kernel_size": 2, "ceil_mode": True}, {"kernel_size": 2, "divisor_override": 3}))  # fmt: skip
    return Step(partial(F.avg_pool2d, **options)) if min(shape[1:]) > 1 else None


@operation("adaptive_avg_pool1d", 2)
def _(draw, shape):
    return Step(partial(F.adaptive_avg_pool1d, output_size=draw.choice((1, 2, 3))))


@operation("adaptive_avg_pool2d", 3)
def _(draw, shape):
    return Step(partial(F.adaptive_avg_pool2d, output_size=draw.choice((1, (2, 1), (None, 2), 3))))


@operation("batch_norm", 1, 2, 3)
def _(draw, shape):
    mean, var = draw.tensor(shape[0]), draw.tensor(shape[0]).square() + 0.3
    return Step(lambda h, w, b: F.batch_norm(h, like(mean, h), like(var, h), w, b, False, 0.1, 1e-3), (shape[:1], shape[:1]))


@operation("layer_norm")
def _(draw, shape):
    dims = shape[-draw.randrange(1, len(shape) + 1) :]
    return Step(lambda h, w, b: F.layer_norm(h, dims, w, b, 1e-2), (dims, dims))


@operation("group_norm", 2, 3)
def _(draw, shape):
    groups = draw.choice((1, shape[0])) if shape[-1] > 1 else 1
    return Step(lambda h, w: F.group_norm(h, groups, w, None, 1e-2), (shape[:1],)) if math.prod(shape) > 1 else None


@operation("local_response_norm", 2, 3)
def _(draw, shape):
    return Step(partial(F.local_response_norm, size=draw.choice((1, 2, 3)), alpha=0.5))
