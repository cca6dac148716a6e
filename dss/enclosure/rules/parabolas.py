"""ReLU along a cell: a slope, a parabola in tau and what is left.

Let z = c + s tau + W with |W| <= rho, of which R = |s| + rho is the reach, and S = (c + R) / 2 R in [0, 1]. Then
relu(z) = S z + g(z) with g(z) = relu(z) - S z, which is convex, 0 at the kink, and M = (R^2 - c^2) / 2 R at both ends of the range. As a
function of tau it is a V whose kink lies at -c / s, with lines of the steepness p |s| on the long side and q |s| on the short one,
p = min(S, 1 - S), q = 1 - p. A number leaves M / 2 of it. With x for tau, counted toward the kink, and m = |c / s| for its place, the parabola

    Q(x) = M - gamma (1 - x^2) - beta (1 + x),    gamma = .42 |s| (1 - m^2),    beta = 4/7 m gamma

leaves a quarter of that for a kink in the middle and rho = 0, and on average 5 % more than the best one does. With W, g lies

- below the lines M - p |s| (1 + x) and M - q |s| (1 - x), of which the parabola stays below by at most
  (2 gamma + beta - p |s|)^2 / 4 gamma and 2 beta + (2 gamma - beta - q |s|)^2 / 4 gamma, each bracket at least 0;
- above 0 where |x - m| <= rho / |s| and above those lines less 2 p rho and 2 q rho elsewhere. The parabola is convex and above them by most at an
  end: by min(M, 2 q rho) at most at x = -1 and 1, or by Q(m + rho / |s|), for m - rho / |s| is nearer to its lowest place.

The numbers are computed in float32: with any S, beta and gamma the formulas hold, and what they lose is less than is added.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.enclosure.rounding import UNIT
from dss.enclosure.value import Enclosure

ROUND = 2.0**-19
"""By as much more than the reach does M tell: more than float32 takes from c / R and from M."""

LOST = 2.0**-15
"""Of the reach, what float32 takes from either side of the parabola, and `ROUND` from the lines below."""

FLOOR = 1e-30
"""A reach that float32 holds with all its digits."""


@dataclass
class Bow:
    """relu(z) = share z + center + slope tau + bend (2 tau^2 - 1) up to `error`, all of one shape, in float64.

    Where the kink is out of reach, the share is 0 or 1 and all others are 0. Shares are in [0, 1], and the others at most as large as the reach.
    """

    share: Tensor
    center: Tensor
    slope: Tensor
    bend: Tensor
    error: Tensor


def bow(z: Enclosure, size: Tensor) -> Bow:
    """ReLU at z; `size` bounds the terms of which its parts are sums, up to 32 roundings."""
    shape = z.center.shape
    loose = z.error if z.bend is None else z.error + z.bend.abs()
    loose = loose if z.twist is None else loose + z.twist.abs()
    loose = torch.add(32 * UNIT * size + FLOOR, loose, alpha=1 + ROUND).expand(shape).float()
    place, slope = z.center.float(), z.slope.expand(shape).float()
    steep = slope.abs()
    reach = torch.add(loose, steep, alpha=1 + ROUND)
    turn = (place / reach).clamp(-1.0, 1.0)
    # Exact where it is small.
    long = turn.abs() * -0.5 + 0.5
    short = 1 - long
    half = long * short * reach
    # A slope of zero gives NaN, of which the comparison below is false.
    kink = (place / slope).clamp(-1.0, 1.0)
    arch = torch.addcmul(steep, steep, kink * kink, value=-1)  # gamma / .42
    tilt = arch * kink
    amount = tilt.abs()  # beta / .24
    above = _above(arch, amount, long * steep, short * steep)
    below = _below(arch, amount, (place.abs() + loose) / steep, half, short * loose)
    error = torch.add((above + below) * 0.5, reach, alpha=LOST)
    better = error < half
    middle = 2 * half - 0.21 * arch - 0.24 * amount + 0.5 * (above - below)
    parts = (torch.where(better, part, other) for part, other in ((middle, half), (tilt, 0.0), (arch, 0.0), (error, half)))
    center, slope, bend, error = (part.double() for part in parts)
    return Bow(turn.double() * 0.5 + 0.5, center, 0.24 * slope, 0.21 * bend, error)


def _above(arch: Tensor, amount: Tensor, long: Tensor, short: Tensor) -> Tensor:
    """How far the lines above are from the parabola, of the steepness `long` and `short`."""
    double, four = 0.84 * arch, 1.68 * arch
    left = (torch.add(double, amount, alpha=0.24) - long).clamp(min=0.0)
    right = (torch.add(double, amount, alpha=-0.24) - short).clamp(min=0.0)
    # Quotients first: squares of small numbers are too small.
    return torch.maximum(left * (left / four), torch.add(right * (right / four), amount, alpha=0.48))


def _below(arch: Tensor, amount: Tensor, end: Tensor, half: Tensor, spread: Tensor) -> Tensor:
    """How far the parabola is above the lines below: at x = `end`, where the flat part ends, or at the ends of the cell."""
    flat = 2 * half - (1 + end) * torch.add(0.42 * arch * (1 - end), amount, alpha=0.24)
    return torch.maximum(2 * torch.minimum(half, spread), flat)
