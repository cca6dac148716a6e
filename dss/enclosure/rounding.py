"""What float64 arithmetic may lose, so that every bound holds for real numbers.

The model of arithmetic (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., 2002, eq. 2.4 and 3.4):
`fl(a op b) = (a op b)(1 + d) + s` with |d| <= u = 2^-53 and |s| <= `TINY` for underflow, and a sum of n products in any
order, with or without fused operations, is off by at most gamma_n times the sum of their absolute values.
Elementary functions (exp, log, tanh, erf, ...) are taken to be off by at most `ULPS` units in the last place.
"""

import math
import os

import torch
from torch import Tensor

UNIT = 2.0**-53
"""Unit roundoff u of float64."""

UNIT32 = 2.0**-24
"""Unit roundoff u of float32."""

TINY = 1e-290
"""More than all the underflow of a formula with fewer than 1e15 operations, flushed to zero or not."""

ULPS = 8
"""Assumed error of torch's elementary functions on float64, in units in the last place."""

ELEMENTWISE = 64 * UNIT
"""Relative error of an elementwise formula of at most 16 operations and 2 elementary functions, with room to spare."""


WIDE = 1 + 1e-12
"""Covers the rounding of errors, which are sums of at most 4,000 terms >= 0, and of what is needed to few digits only."""


TINY32 = 1e-36
"""More than underflow takes from a number when it becomes a float32, or from a product of two."""


def gamma(terms: int, unit: float = UNIT) -> float:
    """Relative error `n u / (1 - n u)` of a sum of `terms` products in any order, and of four operations before or after it."""
    lost = (terms + 8) * unit
    return lost / (1 - lost) if lost < 1 else math.inf


def is_plain_float32(device: torch.device) -> bool:
    """Whether torch's float32 products and convolutions on the device are sums of products in float32: neither split into
    shorter numbers nor transformed, which would break `gamma`."""
    if device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    if os.environ.get("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT").upper() != "STRICT":
        return False
    if not hasattr(torch.backends.mkldnn, "conv"):  # before torch 2.9
        return torch.get_float32_matmul_precision() == "highest"
    backends = torch.backends, torch.backends.mkldnn, torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul
    return {backend.fp32_precision for backend in backends} <= {"none", "ieee"}


def raised(error: Tensor, magnitude: Tensor, relative: float = ELEMENTWISE) -> Tensor:
    """`error` after rounding: raised by `relative` of itself and of the `magnitude` of what was computed."""
    lost = (relative * (1 + relative)) * magnitude + TINY
    return torch.add(lost, error, alpha=1 + 2 * relative)


def largest(part: Tensor) -> Tensor:
    """The largest absolute value as one number; NaN if there is one."""
    # Several times as fast as the maximum norm or the maximum of a copy.
    return torch.maximum(part.amax(), -part.amin()) if part.numel() else part.new_zeros(())
