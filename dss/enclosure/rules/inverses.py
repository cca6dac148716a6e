"""Inverses and exponentials of matrices, which parametrizations are made of."""

import math

import torch
from torch import Tensor

from dss.enclosure.registry import rule
from dss.enclosure.rounding import WIDE, raised
from dss.enclosure.rules.arithmetic import add, multiply, subtract
from dss.enclosure.rules.products import matmul
from dss.enclosure.value import Enclosure, lift

HALVINGS = 6
"""exp(A) = exp(A / 2^6)^(2^6)."""

ORDER = 12
"""Terms of the series of exp(A / 2^6)."""


@rule("inverse", "linalg_inv")
def inverse(x) -> Enclosure:
    """With any R near the inverse of the center and F = R A - I: A^-1 = (I - F + F^2) R - F^3 (I + F)^-1 R, of which the last
    is at most f^3 / (1 - f) times the largest entry in a column of R, where f < 1 bounds the row sums of |F|."""
    x = lift(x)
    guess, unit = torch.linalg.inv_ex(x.center)[0], torch.eye(x.shape[-1], dtype=torch.float64, device=x.device)
    off = subtract(matmul(guess, x), unit)
    series = matmul(add(subtract(unit, off), matmul(off, off)), guess)
    norm = _norm(off)
    left = torch.where(norm < 1, norm**3 / (1 - norm), torch.inf)
    return _widened(series, left * guess.abs().amax(-2, keepdim=True) * (1 + 1e-9))


def _norm(x: Enclosure) -> Tensor:
    """The largest row sum of absolute values, rounded up, `(..., 1, 1)`."""
    return ((x.magnitude + x.error).sum(-1).amax(-1) * (WIDE * WIDE))[..., None, None]


def _widened(x: Enclosure, more: Tensor) -> Enclosure:
    """With a larger error, which is its own source from here on."""
    error = (x.error + more).expand(x.center.shape)
    return Enclosure(x.center, x.slope, raised(error, error), x.bend, x.twist)


@rule("linalg_solve")
def solve(a, b, *, left: bool = True) -> Enclosure:
    """A^-1 B, or B A^-1."""
    a, b = lift(a), lift(b)
    if not left:
        return matmul(b, inverse(a))
    vector = b.dim() == 1 or b.shape == a.shape[:-1]
    return matmul(inverse(a), b.unsqueeze(-1)).squeeze(-1) if vector else matmul(inverse(a), b)


@rule("matrix_exp")
def matrix_exp(x) -> Enclosure:
    """The series of a fraction of the matrix, squared again and again. What it leaves out is sum_{k > n} f^k / k!, at most
    f^(n+1) exp(f) / (n+1)! in any row sum, where f bounds the row sums of the fraction."""
    part = lift(x) * 0.5**HALVINGS
    unit = torch.eye(part.shape[-1], dtype=torch.float64, device=part.device)
    series = lift(unit)
    for k in range(ORDER, 0, -1):
        series = add(multiply(matmul(part, series), 1 / k), unit)
    norm = _norm(part)
    result = _widened(series, norm ** (ORDER + 1) * norm.exp() / math.factorial(ORDER + 1) * (1 + 1e-9))
    for _ in range(HALVINGS):
        result = matmul(result, result)
    return result
