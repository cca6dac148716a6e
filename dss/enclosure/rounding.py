"""What float64 arithmetic may lose, so that every bound holds for real numbers.

The model of arithmetic (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., 2002, eq. 2.4 and 3.4):
`fl(a op b) = (a op b)(1 + d) + s` with |d| <= u = 2^-53 and |s| <= `TINY` for underflow, and a sum of n products in any
order, with or without fused operations, is off by at most gamma_n times the sum of their absolute values.
Elementary functions (exp, log, tanh, erf, ...) are taken to be off by at most `ULPS` units in the last place.
"""

import torch
from torch import Tensor

UNIT = 2.0**-53
"""Unit roundoff u of float64."""

TINY = 1e-290
"""More than all the underflow of a formula with fewer than 1e15 operations, flushed to zero or not."""

ULPS = 8
"""Assumed error of torch's elementary functions on float64, in units in the last place."""

ELEMENTWISE = 64 * UNIT
"""Relative error of an elementwise formula of at most 16 operations and 2 elementary functions, with room to spare."""


WIDE = 1 + 1e-12
"""Covers the rounding of errors, which are sums of at most 4,000 terms >= 0, and of what is needed to few digits only."""


def gamma(terms: int) -> float:
    """Relative error `n u / (1 - n u)` of a sum of `terms` products in any order, and of four operations after it."""
    lost = (terms + 8) * UNIT
    return lost / (1 - lost)


def raised(error: Tensor, magnitude: Tensor, relative: float = ELEMENTWISE) -> Tensor:
    """`error` after rounding: raised by `relative` of itself and of the `magnitude` of what was computed."""
    lost = (relative * (1 + relative)) * magnitude + TINY
    return torch.add(lost, error, alpha=1 + 2 * relative)


def largest(part: Tensor) -> Tensor:
    """The largest absolute value as one number; NaN if there is one."""
    # Several times as fast as the maximum norm or the maximum of a copy.
    return torch.maximum(part.amax(), -part.amin()) if part.numel() else part.new_zeros(())
