"""Arithmetic without rounding on stored floating-point numbers, which are integers times a power of two.

Only signs are asked for, and a matrix times a positive number has the same ones, so the powers of two are dropped.
"""

from fractions import Fraction
from math import inf, nextafter

import numpy as np
from torch import Tensor

MANTISSA = 53
"""Bits of a float64."""


def integers(matrix: Tensor) -> np.ndarray:
    """A real matrix `(r, c)` times a power of two that makes its entries integers, as Python's unbounded ones."""
    mantissa, exponent = np.frexp(matrix.detach().double().cpu().numpy())
    whole = (mantissa * 2.0**MANTISSA).astype(np.int64).astype(object)
    used = exponent[mantissa != 0]
    shift = np.where(mantissa != 0, exponent - (used.min() if used.size else 0), 0).astype(object)
    return whole * 2**shift


def determinant_sign(matrix: np.ndarray) -> int:
    """The sign (-1, 0 or 1) of the determinant of a square matrix of integers, by elimination without fractions.

    Every division is exact (Bareiss 1968), so entries never grow beyond minors of the matrix.
    """
    rows, sign, before = matrix.copy(), 1, 1
    for i in range(len(rows)):
        pivot = next((j for j in range(i, len(rows)) if rows[j, i]), None)
        if pivot is None:
            return 0
        if pivot != i:
            rows[[i, pivot]] = rows[[pivot, i]]
            sign = -sign
        below = slice(i + 1, None)
        rows[below, below] = (rows[below, below] * rows[i, i] - np.outer(rows[below, i], rows[i, below])) // before
        before = rows[i, i]
    return sign if before > 0 else -sign


def rounded_down(value: Fraction) -> float:
    """The largest float64 that is not above a fraction."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else nextafter(nearest, -inf)
