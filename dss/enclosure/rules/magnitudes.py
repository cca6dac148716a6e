"""Norms, variances and what is divided by them; products and extrema along dimensions."""

import math

import torch

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import refined
from dss.enclosure.registry import rule
from dss.enclosure.rules.arithmetic import dims_of, mean, multiply, power, total
from dss.enclosure.rules.curves import RSQRT, SQRT, power_curve
from dss.enclosure.rules.entropy import Choice
from dss.enclosure.rules.kinked import absolute, amax, amin, clamp, maximum, minimum
from dss.enclosure.rules.normal import batch_norm, normalized
from dss.enclosure.rules.smooth import apply, root
from dss.enclosure.value import Enclosure, lift


@rule("norm", "linalg_vector_norm", "linalg_norm")
def norm(x, p: float | str | None = 2, dim=None, keepdim: bool = False, dtype=None, ord=None) -> Enclosure:
    """Of the entries as one vector, or along dimensions: 1, 2, infinity, or another p > 0 of entries that are not zero."""
    x, p = lift(x), ord if ord is not None else 2 if p in (None, "fro") else p
    if not isinstance(p, (int, float)) or p <= 0:
        raise EnclosureError(f"no rule encloses a norm with p={p!r}; positive numbers have one")
    if p == math.inf:
        return amax(absolute(x), dim if dim is not None else (), keepdim)
    if p == 1:
        return total(absolute(x), dim, keepdim)
    if p == 2:
        return root(SQRT, total(x * x, dim, keepdim))
    powers = _powers(x, p)
    return root(power_curve(1 / p), total(powers, dim, keepdim))


def _powers(x: Enclosure, p: float) -> Enclosure:
    """|x|^p: by products where p is whole, and entries may be zero."""
    if p != int(p):
        return apply(power_curve(p), absolute(x))
    return multiply(absolute(x), power(x, p - 1)) if p % 2 else power(x, p)


@rule("normalize")
def normalize(x, p=2.0, dim=1, eps: float = 1e-12) -> Enclosure:
    """x over its norm, or over eps if that is more."""
    return lift(x) / clamp(norm(x, p, dim, True), eps)


@rule("cosine_similarity")
def cosine_similarity(x1, x2, dim: int = 1, eps: float = 1e-8) -> Enclosure:
    """The product of both after `normalize`."""
    return total(normalize(x1, 2, dim, eps) * normalize(x2, 2, dim, eps), dim)


@rule("var")
def variance(x, dim=None, unbiased: bool | None = None, keepdim: bool = False, *, correction: int | None = None) -> Enclosure:
    """sum (x - mean)^2 / (n - correction)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    correction = correction if correction is not None else 1 if unbiased is None else int(unbiased)
    x, dims = lift(x), dims_of(x, dim)
    free = math.prod(x.shape[d] for d in dims) - correction
    if free <= 0:
        raise EnclosureError("the variance of so few entries is not a number")
    d = x - mean(x, dims, True)
    return total(d * d, dims, keepdim) * (1 / free)


@rule("std")
def deviation(x, dim=None, unbiased: bool | None = None, keepdim: bool = False, *, correction: int | None = None) -> Enclosure:
    """The root of the variance."""
    return root(SQRT, variance(x, dim, unbiased, keepdim, correction=correction))


@rule("var_mean")
def variance_and_mean(x, dim=None, unbiased=None, keepdim=False, *, correction=None) -> tuple[Enclosure, Enclosure]:
    """Both."""
    dims = None if isinstance(dim, bool) else dim
    return variance(x, dim, unbiased, keepdim, correction=correction), mean(lift(x), dims, keepdim)


@rule("std_mean")
def deviation_and_mean(x, dim=None, unbiased=None, keepdim=False, *, correction=None) -> tuple[Enclosure, Enclosure]:
    """Both."""
    dims = None if isinstance(dim, bool) else dim
    return deviation(x, dim, unbiased, keepdim, correction=correction), mean(lift(x), dims, keepdim)


@rule("pairwise_distance")
def pairwise_distance(x1, x2, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Enclosure:
    """The norm of x - y + eps."""
    return norm(lift(x1) - x2 + eps, p, -1, keepdim)


@rule("rms_norm")
def rms_norm(x, normalized_shape, weight=None, eps: float | None = None) -> Enclosure:
    """x / sqrt(mean(x^2) + eps) w over the last dimensions; no eps is that of the dtype, which the caller knows."""
    if eps is None:
        raise EnclosureError("no rule encloses rms_norm without eps")
    x = refined(lift(x))
    y = x * apply(RSQRT, mean(x * x, tuple(range(-len(normalized_shape), 0)), True) + eps, counts=2)
    return y if weight is None else y * weight


@rule("instance_norm")
def instance_norm(x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5) -> Enclosure:  # fmt: skip
    """Every channel of a sample by its own mean and variance, or by stored ones."""
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    x = lift(x)
    y = normalized(x, tuple(range(2, x.dim())), eps)
    if weight is not None:
        y = y * lift(weight).reshape(-1, *[1] * (x.dim() - 2))
    return y if bias is None else y + lift(bias).reshape(-1, *[1] * (x.dim() - 2))


@rule("prod")
def product(x, dim: int | None = None, keepdim: bool = False, *, dtype=None) -> Enclosure:
    """As a tournament of pairs."""
    x = lift(x) if dim is not None else lift(x).reshape(-1)
    dim = 0 if dim is None else dim
    while (count := x.shape[dim]) > 1:
        half = count // 2
        pairs = multiply(x.narrow(dim, 0, half), x.narrow(dim, half, half))
        x = multiply_last(pairs, x, dim, count) if count % 2 else pairs
    return x if keepdim else x.squeeze(dim)


def multiply_last(pairs: Enclosure, x: Enclosure, dim: int, count: int) -> Enclosure:
    """The pairs, of which the first is multiplied by the entry that was left over."""
    first = multiply(pairs.narrow(dim, 0, 1), x.narrow(dim, count - 1, 1))
    rest = pairs.narrow(dim, 1, count // 2 - 1)
    return torch.cat([first, rest], dim) if count > 3 else first  # pyright: ignore[reportReturnType] - by the rule of cat


@rule("max")
def largest_of(x, other=None, keepdim: bool = False, *, dim: int | None = None):
    """Of all entries, of two tensors, or along a dimension, with the index as far as it is known."""
    return _extremum(x, other, keepdim, dim, of_two=maximum, along=amax, kind=torch.return_types.max, sign=1)


@rule("min")
def least_of(x, other=None, keepdim: bool = False, *, dim: int | None = None):
    """Of all entries, of two tensors, or along a dimension, with the index as far as it is known."""
    return _extremum(x, other, keepdim, dim, of_two=minimum, along=amin, kind=torch.return_types.min, sign=-1)


def _extremum(x, other, keepdim: bool, dim: int | None, *, of_two, along, kind, sign: int):
    if isinstance(other, torch.Tensor):
        return of_two(x, other)
    dim = other if dim is None else dim
    if dim is None:
        return along(x)
    places = Choice(lift(x).movedim(dim, -1) * sign)
    return kind((along(x, dim, keepdim), places.kept(dim) if keepdim else places))


@rule("_weight_norm")
def weight_norm(v, g, dim: int = 0) -> Enclosure:
    """g v / |v|, a norm for each entry of a dimension."""
    v = lift(v)
    dims = tuple(d for d in range(v.dim()) if d != dim % v.dim()) if dim != -1 else None
    return v * (lift(g) / norm(v, 2, dims, True))
