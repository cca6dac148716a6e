"""What float64 arithmetic may lose, so that every bound holds for real numbers.

The model of arithmetic (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., 2002, eq. 2.4 and 3.4):
`fl(a op b) = (a op b)(1 + d) + s` with |d| <= u = 2^-53 and |s| <= `TINY` for underflow, and a sum of n products in any
order, with or without fused operations, is off by at most gamma_n times the sum of their absolute values.
Elementary functions (exp, log, tanh, erf, ...) are taken to be off by at most `ULPS` units in the last place.
"""

import math
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
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
    shorter numbers nor transformed, which would break `gamma`. The settings must say so, and a measurement."""
    if device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return _says_strict(os.environ) and _is_set_plain() and _is_measured_plain()


def _says_strict(environment: Mapping[str, str]) -> bool:
    """Whether no variable asks oneDNN for shorter numbers: it reads ONEDNN_DEFAULT_FPMATH_MODE and, from before its name was
    changed, DNNL_DEFAULT_FPMATH_MODE; older ones read MKLDNN_."""
    asked = (value for name, value in environment.items() if name.upper().endswith("FPMATH_MODE"))
    return all(value.strip().upper() in ("", "STRICT") for value in asked)


def _is_set_plain() -> bool:
    """Whether torch was not told to use shorter numbers."""
    onednn: Any = torch.backends.mkldnn  # torch's own types leave its parts out
    if not hasattr(onednn, "conv"):  # before torch 2.9
        return torch.get_float32_matmul_precision() == "highest"
    return {part.fp32_precision for part in (torch.backends, onednn, onednn.conv, onednn.matmul)} <= {"none", "ieee"}


@lru_cache(maxsize=1)
def _is_measured_plain() -> bool:
    """Whether a product and a convolution of 288 numbers of 24 bits are as exact as float32 has it, whatever names a setting
    has: they lose 1e-6; numbers cut to 11 or 8 bits would lose 6e-5 or 5e-4, where every factor is at random."""
    x, weight = _scattered(4, 32, 16, 16), _scattered(32, 32, 3, 3)
    rows, columns = x.flatten()[: 288 * 100].view(100, 288), weight.flatten(1).T
    pairs = (F.conv2d(x, weight), F.conv2d(x.double(), weight.double())), (rows @ columns, rows.double() @ columns.double())
    return all(bool(((found - exact).abs() <= 2.0**-16 * exact).all()) for found, exact in pairs)


def _scattered(*shape: int) -> Tensor:
    """Numbers between 1 and 2 without a pattern; `vmap` lets nobody draw random ones."""
    large = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 12.9898) * 43758.5453
    return (1 + large % 1).float().view(shape)


def raised(error: Tensor, magnitude: Tensor, relative: float = ELEMENTWISE) -> Tensor:
    """`error` after rounding: raised by `relative` of itself and of the `magnitude` of what was computed."""
    lost = (relative * (1 + relative)) * magnitude + TINY
    return torch.add(lost, error, alpha=1 + 2 * relative)


def above(value: Tensor, magnitude: Tensor, relative: float = ELEMENTWISE) -> Tensor:
    """`value`, of either sign, rounded up: raised by `relative` of its size and of the `magnitude` of what it was computed from."""
    return value + ((relative * (1 + relative)) * magnitude + TINY) + 2 * relative * value.abs()


def largest(part: Tensor) -> Tensor:
    """The largest absolute value as one number; NaN if there is one."""
    # Several times as fast as the maximum norm or the maximum of a copy.
    return torch.maximum(part.amax(), -part.amin()) if part.numel() else part.new_zeros(())
