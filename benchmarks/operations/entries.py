"""Functions of every entry, with room for their domains."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.operations.drawing import Step, operation, several

several({
    "relu": F.relu, "torch.relu": torch.relu, "abs": torch.abs, "absolute": torch.absolute, "builtin abs": abs,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": F.gelu, "silu": F.silu, "erf": torch.erf, "logsigmoid": F.logsigmoid,
    "gelu tanh": partial(F.gelu, approximate="tanh"), "relu6": F.relu6, "hardtanh": F.hardtanh, "exp": lambda h: torch.exp(h / 2),
    "square": torch.square, "multiply": lambda h: torch.multiply(h, 0.3), "negative": torch.negative, "neg": lambda h: -h,
    "log": lambda h: torch.log(h * h + 0.5), "sqrt": lambda h: (h.abs() + 0.2).sqrt(), "rsqrt": lambda h: torch.rsqrt(h * h + 0.3),
    "reciprocal": lambda h: torch.reciprocal(h * h + 0.5), "rdiv": lambda h: 2 / (h.abs() + 1), "rsub": lambda h: 1 - h,
    "rsub method": lambda h: torch.rsub(h, 0.5), "radd": lambda h: 0.5 + h, "rmul": lambda h: 0.5 * h, "positive": lambda h: +h,
    "subtract": lambda h: torch.subtract(h, 0.25), "divide": lambda h: torch.divide(h, 3), "true_divide": lambda h: torch.true_divide(h, -2),
    "power 3": lambda h: h**3 / 4, "power -2": lambda h: (h.abs() + 1) ** -2, "power 1.5": lambda h: (h * h + 0.1) ** 0.75,
    "detach": lambda h: h.detach(), "clone": lambda h: h.clone(), "contiguous": lambda h: h.contiguous(),
    "dropout": lambda h: F.dropout(h, 0.5, False), "alpha_dropout": lambda h: F.alpha_dropout(h, 0.5, False), "cpu": lambda h: h.cpu(),
    "feature dropout": lambda h: F.feature_alpha_dropout(h, 0.5, False), "flatten": lambda h: h.flatten(1), "ravel": lambda h: h.ravel().view(h.shape),
    "data": lambda h: h.data, "requires_grad_": lambda h: h.requires_grad_(False), "type": lambda h: h.type(h.dtype), "type_as": lambda h: h.type_as(h),
})  # fmt: skip
several({
    "elu": F.elu, "elu 0.5": partial(F.elu, alpha=0.5), "selu": F.selu, "celu": partial(F.celu, alpha=2.0), "mish": F.mish, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "softsign": F.softsign, "tanhshrink": F.tanhshrink, "threshold": lambda h: F.threshold(h, 0.1, 0.1),
    "log1p": lambda h: torch.log1p(h * h), "expm1": lambda h: torch.expm1(h / 2), "sin": torch.sin, "cos": lambda h: torch.cos(2 * h), "atan": torch.atan,
    "arctan": torch.arctan, "exp2": lambda h: torch.exp2(h / 2), "rpow": lambda h: 2 ** (h / 2), "log2": lambda h: torch.log2(h * h + 1), "erfc": torch.erfc,
    "log10": lambda h: torch.log10(h * h + 1), "clamp_min": lambda h: h.clamp_min(-0.2), "clamp_max": lambda h: torch.clamp_max(h, 0.2),
    "elu inplace": lambda h: F.elu(h * 1, inplace=True), "max all": lambda h: h - torch.stack([row.max() for row in h]).view(-1, *[1] * (h.dim() - 1)),
    "min all": lambda h: h - torch.stack([row.min() for row in h]).view(-1, *[1] * (h.dim() - 1)),
})  # fmt: skip
several(
    {
        "tril": lambda h: torch.tril(h),
        "triu": lambda h: h.triu(1),
        "linalg_vector_norm": lambda h: torch.linalg.vector_norm(h, dim=-1),
        "glu": lambda h: F.glu(torch.cat([h, -h], -1)),
    },
    2,
    3,
)
several({"to float32": lambda h: h.to(torch.float32).to(h.dtype), "float": lambda h: h.float().to(h.dtype), "double": lambda h: h.double().to(h.dtype),
         "write after a cast": lambda h: _write_after_cast(h)}, rounds=True)  # fmt: skip
several({"pixel_shuffle": lambda h: F.pixel_shuffle(torch.cat([h] * 4, 1), 2), "dropout2d": lambda h: F.dropout2d(h, 0.5, False),
         "dropout3d": lambda h: F.dropout3d(h[:, :, None], 0.5, False)[:, :, 0]}, 3)  # fmt: skip
several({"T": lambda h: torch.stack([row.T for row in h]), "mT": lambda h: h.mT, "mH": lambda h: h.mH, "adjoint": lambda h: h.adjoint(), "t": lambda h: torch.stack([row.t() for row in h]),
         "diagonal": lambda h: h.diagonal(dim1=1, dim2=2), "swapaxes": lambda h: h.swapaxes(1, 2), "swapdims": lambda h: torch.swapdims(h, -1, -2),
         "dropout1d": lambda h: F.dropout1d(h, 0.5, False), "movedim": lambda h: h.movedim(1, -1), "gpt": lambda h: h.transpose(1, 2).contiguous().view(len(h), -1)}, 2)  # fmt: skip


def _write_after_cast(h: Tensor) -> Tensor:
    k = h.to(torch.float32)
    k.relu_()
    return h - k.to(h.dtype)


@operation("leaky_relu")
def _(draw, shape):
    return Step(partial(F.leaky_relu, negative_slope=draw.choice((0.0, 0.01, 0.3, 1.5, -0.2)), inplace=False))


@operation("clamp")
def _(draw, shape):
    low, high = draw.choice(((-0.5, 0.3), (None, 0.2), (-0.1, None), (0.4, -0.4)))
    function = draw.choice((torch.clamp, torch.clip))
    return Step(lambda h: function(h, low, high))


@operation("softplus")
def _(draw, shape):
    return Step(partial(F.softplus, beta=draw.choice((0.5, 1.0, 3.0)), threshold=draw.choice((20.0, 5.0))))


@operation("scale and shift")
def _(draw, shape):
    factor, shift = draw.uniform(-2, 2), draw.uniform(-1, 1)
    return Step(
        draw.choice(
            (lambda h: h * factor + shift, lambda h: torch.add(h, h, alpha=factor), lambda h: torch.sub(h, shift, alpha=factor))
        )
    )
