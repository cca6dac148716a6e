"""Linear maps whose weight and input both move: linear, matmul, einsum, embedding."""

import math
from collections.abc import Callable
from functools import partial
from string import ascii_letters
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import is_number, tracked, transposed
from dss.enclosure.passes import keeps_third
from dss.enclosure.registry import rule
from dss.enclosure.rounding import ELEMENTWISE, TINY32, UNIT32, gamma, largest, raised
from dss.enclosure.rules.shapes import rearranged
from dss.enclosure.value import Enclosure, lift

Product = Callable[[Tensor, Tensor], Tensor]


class Rough(NamedTuple):
    """f in float32: itself, and a bound on f(a, b) for a, b >= 0, which may take few steps and have fewer entries."""

    function: Product
    most: Product


def bilinear(function: Product, x, y, bias=None, *, terms: int, fan: int | None = None, rough: Rough | None = None,
             back: Product | None = None, mixes: int | None = None) -> Enclosure:  # fmt: skip
    """f(x, y) + bias, where every entry of f is a sum of at most `terms` products of an entry of x and one of y.

    With T_n for Chebyshev's polynomials of tau (1, tau, 2 tau^2 - 1, 4 tau^3 - 3 tau), T_m T_n = (T_{m+n} + T_{|m-n|}) / 2. So the
    product of two sums of them is one, of which what is beyond the order that is kept is an error, |T_n| <= 1. Of the errors,
    f(E, c') + f(c, E') is linear.

    Args:
        fan: in how many entries of f an entry of x or y takes part at most; all by default.
        rough: how all but the center are computed in float32, where the error of y is one number: what it loses belongs to
            parts that are small.
        back: from weights of f(x, y) and y to weights of x; torch finds it otherwise.
        mixes: how many of the last dimensions it mixes; all by default (`tracked`).
    """
    x, y, bias = lift(x), lift(y), lift(0.0 if bias is None else bias)
    rough = rough if is_number(y) else None
    small = function if rough is None else rough.function
    sums = {0: function(x.center, y.center) + bias.center, 1: bias.slope, 2: bias.bend, 3: bias.twist}
    _multiplied(sums, small, x, y)
    center, slope, bend, twist = (sums.pop(order) for order in range(4))
    carried, error = _spread(function, rough, x, y, terms)
    for beyond in sums.values():
        error = error + beyond.abs()
    if twist is not None and not keeps_third():
        twist, error = None, error + twist.abs()
    error = carried + error + bias.error
    result = Enclosure(center, slope, error, bend, twist)
    error = raised(error, result.most + largest(bias.center), gamma(terms) + ELEMENTWISE)
    result.error = error if error.dim() == 0 else error.expand(center.shape)
    # A bias that is an activation, which is rare, is a source of errors of its own.
    sources = tuple(z for z in (x, y) if not is_number(z))
    # What is carried may have been rounded up by `unit`, as weights are when they are traced back.
    return tracked(
        result, carried, sources, partial(_pull, function, back, x, y), terms=(fan or center.numel()) + 4 * terms, mixes=mixes
    )


def _multiplied(sums: dict[int, Tensor | None], function: Product, x: Enclosure, y: Enclosure) -> None:
    """Add to `sums`, by order, the products of all parts but those of the centers with each other."""

    def add(order: int, part: Tensor) -> None:
        known = sums.get(order)
        sums[order] = part if known is None else known + part

    ones, others = _moving(x), _moving(y)
    for order, part in ones.items():
        add(order, function(part, y.center))
    for order, part in others.items():
        add(order, function(x.center, part))
    for n, other in others.items():
        other = other / 2  # exact, and mostly weights, which are the same for all samples
        for m, one in ones.items():
            half = function(one, other)
            add(m + n, half)
            add(abs(m - n), half)


def _moving(x: Enclosure) -> dict[int, Tensor]:
    """What moves with tau, by the order of its polynomial."""
    parts = {1: None if x.still else x.slope, 2: x.bend, 3: x.twist}
    return {order: part for order, part in parts.items() if part is not None}


def _pull(function: Product, back: Product | None, x: Enclosure, y: Enclosure, weight: Tensor) -> tuple[Tensor, ...]:
    """Weights of f(x, y) taken back to those of x and y that have errors of their own."""
    one, other = x.center.to(weight.dtype), y.center.to(weight.dtype)
    parts = []
    if not is_number(x):
        parts.append(back(weight, other) if back else transposed(lambda a: function(a, other), one)(weight)[0])
    if not is_number(y):
        parts.append(transposed(lambda b: function(one, b), other)(weight)[0])
    return tuple(parts)


def _spread(function: Product, rough: Rough | None, x: Enclosure, y: Enclosure, terms: int) -> tuple[Tensor, Tensor]:
    """The error that comes in: what is linear in it, f(e, |c'|) + f(|c|, e'), and the rest, f(e, Y) + f(X + e, e') with X
    and Y for what moves, and the rounding of all parts.

    An error that is one number for a whole tensor (rounding of the weights) is bounded by the largest entry it meets.
    """
    # Twice: a bias may cancel what it is added to.
    share = 2 * terms * gamma(terms)
    if is_number(y) and not is_number(x):
        # All that is asked of `y` is the same for all samples.
        rest = x.reach * (share * y.most + terms * y.error)
        if rough is None:
            return function(x.error, y.amount), rest + function(x.error, y.sway)
        carried, moved, wide = rough.function(x.error, y.amount), rough.function(x.error, y.sway), 1 + 2 * gamma(terms, UNIT32)
        return carried * wide, (rest + moved) * wide + _roundings(rough, x, y, terms)
    lost = share * x.most * y.most
    if is_number(x) and is_number(y):
        rest = lost + terms * (x.error * y.most + (x.most + x.error) * y.error)
        return x.center.new_zeros(()), rest if rough is None else rest + _roundings(rough, x, y, terms)
    if is_number(x):
        carried = function(x.amount, y.error)
        return carried, lost + function(x.sway + x.error, y.error) + terms * x.error * y.most
    carried = function(x.error, y.amount) + function(x.amount, y.error)
    return carried, lost + function(x.error, y.sway) + function(x.sway + x.error, y.error)


def _roundings(rough: Rough, x: Enclosure, y: Enclosure, terms: int) -> Tensor:
    """gamma (f(X, |c'|) + f(|c| + X, Y)): what float32 loses of all parts but the center, and by underflow."""
    moved = rough.most(x.sway, y.amount) + rough.most(x.magnitude, y.sway)
    return 2 * gamma(terms, UNIT32) * moved + terms * TINY32 * (1 + x.reach) * (1 + y.reach)


@rule("linear")
def linear(x, weight, bias=None) -> Enclosure:
    """x W^T + b."""
    return bilinear(
        F.linear, x, weight, bias, terms=weight.shape[-1], back=torch.matmul, mixes=1 if is_number(lift(weight)) else None
    )


@rule("matmul", "mm", "bmm", "mv", "dot", "vdot", "__matmul__")
def matmul(x, y) -> Enclosure:
    """The product of two matrices, or of batches of them."""
    return bilinear(torch.matmul, x, y, terms=x.shape[-1], mixes=1 if is_number(lift(y)) and y.dim() == 2 else None)


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
    if not isinstance(equation, str):
        raise EnclosureError("no rule encloses einsum with lists of indices; write them as an equation")
    tensors = [lift(x) for x in (operands[0] if isinstance(operands[0], (tuple, list)) else operands)]
    inputs, output = _labels(equation, [x.dim() for x in tensors])
    if len(tensors) == 1:
        return _contracted(inputs, output, tensors[0], lift(1.0))
    while len(tensors) > 2:
        rest = set(output).union(*inputs[2:])
        joint = "".join(sorted(rest & set(inputs[0] + inputs[1])))
        tensors = [_contracted(inputs[:2], joint, *tensors[:2]), *tensors[2:]]
        inputs = [joint, *inputs[2:]]
    return _contracted(inputs, output, *tensors)


def _labels(equation: str, dims: list[int]) -> tuple[list[str], str]:
    """The labels of all operands and of the result, with letters for dots and a result for an equation without one."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs, free = left.split(","), [letter for letter in ascii_letters if letter not in equation]
    dots = [dim - len(labels.replace("...", "")) for labels, dim in zip(inputs, dims, strict=True)]
    letters = "".join(free[: max([count for labels, count in zip(inputs, dots) if "..." in labels], default=0)])
    inputs = [labels.replace("...", letters[len(letters) - count :]) for labels, count in zip(inputs, dots)]
    if not arrow:
        each = "".join(inputs)
        output = letters + "".join(sorted(label for label in set(each) - set(letters) if each.count(label) == 1))
    return inputs, output.replace("...", letters)


def _contracted(inputs: list[str], output: str, x: Enclosure, y: Enclosure) -> Enclosure:
    """The contraction of two tensors; one label is one of the first operand's where the second has none."""
    sizes: dict[str, int] = {}
    for labels, tensor in zip(inputs, (x, y)):
        for label, size in zip(labels, tensor.shape):  # a size of 1 is repeated to fit the other's
            sizes[label] = max(size, sizes.get(label, 1))
    terms = math.prod(size for label, size in sizes.items() if label not in output)
    equation = f"{','.join(inputs)}->{output}"
    if len(inputs) == 2:
        return bilinear(lambda a, b: torch.einsum(equation, a, b), x, y, terms=terms)
    return bilinear(lambda a, b: torch.einsum(equation, a) * b, x, y, terms=terms)


@rule("bilinear")
def bilinear_form(input1, input2, weight, bias=None) -> Enclosure:
    """x^T W_o y + b_o for every output o."""
    form = einsum("...i,oij,...j->...o", input1, weight, input2)
    return form if bias is None else form + bias


@rule("embedding")
def embedding(indices, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
              sparse=False) -> Enclosure:  # fmt: skip
    """Rows of the table: nothing is computed, so nothing is lost; the options but `max_norm` are about gradients."""
    if max_norm is not None:
        raise EnclosureError("no rule encloses an embedding with max_norm: it changes its table; train without it")
    if isinstance(indices, Enclosure):
        raise EnclosureError("no rule encloses torch.embedding; call torch.nn.functional.embedding")
    return rearranged(lambda table: F.embedding(indices, table), lift(weight), copies=indices.numel())
