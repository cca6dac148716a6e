"""Choices by what moves, and functions that jump."""

import torch

from benchmarks.operations.drawing import Step, like, operation, several


def _overwritten(h):
    k = h * 1
    k[k < 0] = -0.2
    return k


several({
    "where of a mask": lambda h: torch.where(h > 0, h, 0.1 * h), "masked_fill of a mask": lambda h: h.masked_fill(h < 0.1, 0.2), "product of a mask": lambda h: h * (h >= 0),
    "masks together": lambda h: torch.where((h > -1) & (h <= 1) | ~(h < 2), h, 0.5), "masks by name": lambda h: h * torch.logical_not(torch.logical_and(torch.gt(h, 0), torch.logical_or(h.lt(1), h.ge(2)))),
    "other masks by name": lambda h: torch.where(torch.bitwise_and(torch.greater(h, 0), torch.less(h, 1)), h, 0.1) * torch.bitwise_or(torch.greater_equal(h, -1), torch.bitwise_not(torch.less_equal(h, 1))).to(h.dtype) + h * torch.le(h, 0.3),
    "number and mask": lambda h: torch.where(like(torch.tensor(0.2), h) > h, h, -h), "written by a mask": _overwritten, "cast mask": lambda h: h * (h > 0).to(h.dtype),
    "sign": torch.sign, "sgn": lambda h: h * torch.sgn(h), "heaviside": lambda h: torch.heaviside(h, like(torch.tensor(0.5), h)) * h, "round": lambda h: torch.round(h * 2) / 2,
    "floor": torch.floor, "ceil": torch.ceil, "trunc": torch.trunc, "fix": torch.fix, "frac": torch.frac, "remainder": lambda h: torch.remainder(h, 0.7), "percent": lambda h: h % 0.7, "fmod": lambda h: torch.fmod(h, -0.7),
})  # fmt: skip


@operation("greater of two")
def _(draw, shape):
    return Step(lambda h, w: torch.where(h > w, h, 2 * w), (shape,))
