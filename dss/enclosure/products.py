"""Linear maps whose weight and input both move: linear, convolution, matmul, einsum, embedding."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.rounding import ELEMENTWISE, gamma, largest, raised
from dss.enclosure.value import Enclosure, lift, rule
from dss.errors import EnclosureError


def bilinear(function: Callable[[Tensor, Tensor], Tensor], x, y, bias=0.0, *, terms: int) -> Enclosure:
    """f(x, y) + bias, where every entry of f is a sum of at most `terms` products of an entry of x and one of y.

    (c + g tau + E)(c' + g' tau + E'): the center is f(c, c') + f(g, g') / 2 because tau^2 lies in [0, 1], the slope
    f(g, c') + f(c, g'), the error |f(g, g')| / 2 + f(e, |c'| + |g'|) + f(|c| + |g| + e, e'), as f sums products.
    """
    x, y, bias = lift(x), lift(y), lift(bias)
    center, slope = function(x.center, y.center) + bias.center, bias.slope
    error = _spread(function, x, y, terms) + bias.error
    if not x.still:
        slope = slope + function(x.slope, y.center)
    if not y.still:
        slope = slope + function(x.center, y.slope)
    if not (x.still or y.still):
        bend = function(x.slope, y.slope)
        center, error = torch.add(center, bend, alpha=0.5), torch.add(error, bend.abs(), alpha=0.5)
    size = largest(center) + largest(slope) + largest(bias.center)
    return Enclosure(center, slope, raised(error, size, gamma(terms) + ELEMENTWISE))


def _spread(function: Callable, x: Enclosure, y: Enclosure, terms: int) -> Tensor:
    """The error that comes in, f(e, Y) + f(X + e, e'), and gamma f(X, Y) for the rounding of center and slope.

    An error that is one number for a whole tensor (rounding of the weights) is bounded by the largest entry it meets.
    """
    most, other, lost = (largest(x.center) + largest(x.slope), largest(y.center) + largest(y.slope), gamma(terms))
    if x.error.dim() == 0 and y.error.dim() == 0:
        return terms * (x.error * other + (most + x.error) * (y.error + lost * other))
    if x.error.dim() == 0:
        return function(x.magnitude + x.error, y.error + lost * y.magnitude) + terms * x.error * other
    spread = function(torch.add(x.error, x.magnitude, alpha=lost), y.magnitude)
    if y.error.dim() == 0:
        return spread + terms * y.error * (most + largest(x.error))
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
    return Enclosure(*(part if part.dim() == 0 else F.embedding(indices, part)
                       for part in (weight.center, weight.slope, weight.error)))  # fmt: skip


class _Convolution(torch.autograd.Function):
    """A convolution that under `vmap` loops over the cells: in float64 twice as fast as a grouped one."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, dims: int, options: tuple) -> Tensor:
        return (F.conv1d, F.conv2d)[dims - 1](x, weight, None, *options)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def vmap(info, in_dims, x: Tensor, weight: Tensor, dims: int, options: tuple):
        rows = (part.movedim(at, 0) if at is not None else [part] * info.batch_size
                for part, at in zip((x, weight), in_dims))  # fmt: skip
        return torch.stack([_Convolution.forward(a, b, dims, options) for a, b in zip(*rows)]), 0


def _convolution(dims: int, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Enclosure:
    """A sum over the window and the channels of a group; padding with zeros adds exact terms."""
    options = (stride, padding, dilation, groups)

    def function(a: Tensor, b: Tensor) -> Tensor:
        return _Convolution.apply(a, b, dims, options)

    bias = 0.0 if bias is None else lift(bias).reshape(-1, *[1] * dims)
    return bilinear(function, x, weight, bias, terms=math.prod(weight.shape[1:]))


@rule("conv1d")
def conv1d(x, weight, *args, **options) -> Enclosure:
    """Cross-correlation along one dimension."""
    return _convolution(1, x, weight, *args, **options)


@rule("conv2d")
def conv2d(x, weight, *args, **options) -> Enclosure:
    """Cross-correlation along two dimensions."""
    return _convolution(2, x, weight, *args, **options)
