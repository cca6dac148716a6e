"""Linear maps whose weight and input both move: linear, matmul, einsum, embedding."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.rounding import ELEMENTWISE, WIDE, gamma, largest, raised
from dss.enclosure.shapes import per_row, rearranged
from dss.enclosure.signs import total, wide
from dss.enclosure.value import Enclosure, lift, rule
from dss.errors import EnclosureError


def bilinear(function: Callable[[Tensor, Tensor], Tensor], x, y, bias=0.0, *, terms: int) -> Enclosure:
    """f(x, y) + bias, where every entry of f is a sum of at most `terms` products of an entry of x and one of y.

    With q = 2 tau^2 - 1, so that tau^2 = (1 + q) / 2, the product of (c + g tau + b q + s + E) and (c' + g' tau + ...)
    has the center f(c, c') + f(g, g') / 2, the slope f(g, c') + f(c, g'), the bend f(b, c') + f(c, b') + f(g, g') / 2
    and the signs f(s, c') + f(c, s'). What is left is of third order, and an error.
    """
    x, y, bias = lift(x), lift(y), lift(bias)
    center, slope, bend = function(x.center, y.center) + bias.center, bias.slope, bias.bend
    if not x.still:
        slope = slope + function(x.slope, y.center)
    if not y.still:
        slope = slope + function(x.center, y.slope)
    if not (x.still or y.still):
        half = function(x.slope, y.slope) / 2
        center, bend = center + half, _sum(bend, half)
    if x.bend is not None:
        bend = _sum(bend, function(x.bend, y.center))
    if y.bend is not None:
        bend = _sum(bend, function(x.center, y.bend))
    signs = total(per_row(lambda row: function(row, y.center), x.signs),
                  per_row(lambda row: function(x.center, row), y.signs))  # fmt: skip
    error = _spread(function, x, y, terms) + _third_order(function, x, y) + bias.error
    result = Enclosure(center, slope, error, bend, total(signs, wide(bias.signs, center.dim())))
    error = raised(error, result.most + largest(bias.center), gamma(terms) + ELEMENTWISE)
    result.error = error if error.dim() == 0 else error.expand(center.shape)
    return result


def _sum(one: Tensor | None, other: Tensor) -> Tensor:
    return other if one is None else one + other


def _third_order(function: Callable, x: Enclosure, y: Enclosure) -> Tensor:
    """|f(g, b') + f(b, g')| + f(|b|, |b'|) + f(|s|, |s'|) + sum_k |f(s_k, g')| + |f(s_k, b')| + |f(g, s'_k)| + |f(b, s'_k)|.

    Each unknown's products with what moves keep their signs until they are summed, which is less than f(|s|, |g'|).
    """
    error, tilted = x.center.new_zeros(()), []
    if x.bend is not None and not y.still:
        tilted.append(function(x.bend, y.slope))
    if y.bend is not None and not x.still:
        tilted.append(function(x.slope, y.bend))
    if tilted:
        error = sum(tilted).abs()
    if x.bend is not None and y.bend is not None:
        error = error + function(x.curvature, y.curvature)
    if x.signs is not None and y.signs is not None:
        error = error + function(x.shared, y.shared)
    for drift in _drifts(y):
        error = error + _total(per_row(lambda row: function(row, drift), x.signs))
    for drift in _drifts(x):
        error = error + _total(per_row(lambda row: function(drift, row), y.signs))
    return error


def _drifts(x: Enclosure) -> list[Tensor]:
    """What moves with tau."""
    return [part for part, none in ((x.slope, x.still), (x.bend, x.bend is None)) if not none]


def _total(rows: Tensor | None) -> Tensor | float:
    """`sum_k |rows[k]|`."""
    return 0.0 if rows is None else rows.abs().sum(0) * WIDE


def _spread(function: Callable, x: Enclosure, y: Enclosure, terms: int) -> Tensor:
    """The error that comes in, f(e, Y) + f(X + e, e'), and gamma f(X, Y) for the rounding of all parts.

    An error that is one number for a whole tensor (rounding of the weights) is bounded by the largest entry it meets.
    """
    lost = gamma(terms)
    if x.error.dim() == 0 and y.error.dim() == 0:
        return terms * (x.error * y.most + (x.most + x.error) * (y.error + lost * y.most))
    if x.error.dim() == 0:
        return function(x.magnitude + x.error, y.error + lost * y.magnitude) + terms * x.error * y.most
    spread = function(x.error + lost * x.most, y.magnitude.expand(y.center.shape))
    if y.error.dim() == 0:
        return spread + terms * y.error * (x.most + largest(x.error))
    return spread + function(x.magnitude + x.error, y.error)


@rule("linear")
def linear(x, weight, bias=None) -> Enclosure:
    """x W^T + b."""
    return bilinear(F.linear, x, weight, 0.0 if bias is None else bias, terms=weight.shape[-1])


@rule("matmul", "mm", "bmm", "mv", "dot", "__matmul__")
def matmul(x, y) -> Enclosure:
    """The product of two matrices, or of batches of them."""
    return bilinear(torch.matmul, x, y, terms=x.shape[-1])


@rule("__rmatmul__")
def reversed_matmul(x, y) -> Enclosure:
    """y x."""
    return matmul(y, x)


@rule("addmm", "baddbmm")
def add_matmul(bias, x, y, *, beta=1, alpha=1) -> Enclosure:
    """beta b + alpha x y."""
    return lift(bias) * beta + matmul(x, y) * alpha


@rule("einsum")
def einsum(equation: str, *operands) -> Enclosure:
    """A contraction of two tensors, from left to right where there are more, or a rearrangement of one."""
    tensors = operands[0] if isinstance(operands[0], (tuple, list)) else operands
    if len(tensors) > 2 or "..." in equation or "->" not in equation:
        raise EnclosureError(f"no rule encloses einsum({equation!r}) of {len(tensors)} tensors; "
                             "write it as contractions of two with explicit indices and an arrow")  # fmt: skip
    tensors = [lift(tensor) for tensor in tensors] + [lift(1.0)] * (2 - len(tensors))
    inputs, output = equation.replace(" ", "").split("->")
    sizes = {}
    for labels, tensor in zip(inputs.split(","), tensors):
        sizes.update(zip(labels, tensor.shape))
    terms = math.prod(size for label, size in sizes.items() if label not in output)
    if "," in inputs:
        return bilinear(lambda a, b: torch.einsum(equation, a, b), *tensors, terms=terms)
    return bilinear(lambda a, b: torch.einsum(equation, a) * b, *tensors, terms=terms)


@rule("embedding")
def embedding(indices, weight, *_args, max_norm=None, **_options) -> Enclosure:
    """Rows of the table: nothing is computed, so nothing is lost."""
    if max_norm is not None:
        raise EnclosureError("no rule encloses an embedding with max_norm: it changes its table; train without it")
    return rearranged(lambda table: F.embedding(indices, table), lift(weight))
