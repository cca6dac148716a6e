"""ReLU along a cell: a slope, a parabola in tau and what is left.

Let z = c + s tau + W with |W| <= rho, of which R = |s| + rho is the reach, and S = (c + R) / 2 R in [0, 1]. Then
relu(z) = S z + g(z) with g(z) = relu(z) - S z, which is convex, 0 at the kink, and M = (R^2 - c^2) / 2 R at both ends of the range. As a
function of tau it is a V whose kink lies at -c / s, with lines of the steepness p |s| on the long side and q |s| on the short one,
p = min(S, 1 - S), q = 1 - p. A number leaves M / 2 of it. With x for tau, counted toward the kink, m = |c / s| for its place and
y = 1 - m - rho / |s| for the room behind it, if that is not negative, the parabola

    Q(x) = M - gamma (1 - x^2) - beta (1 + x),    gamma = s^2 / 2 R * y / (y + m / 2),    beta = m gamma / 2

leaves a quarter of that for a kink in the middle and rho = 0, and at most 20 % more than the best parabola does. With W, g lies

- below the lines M - p |s| (1 + x) and M - q |s| (1 - x), of which the parabola stays below by at most
  (2 gamma + beta - p |s|)^2 / 4 gamma and 2 beta + (2 gamma - beta - q |s|)^2 / 4 gamma, each bracket at least 0;
- above 0 and above those lines less 2 p rho and 2 q rho. The parabola is convex and above them by most where one of the three takes
  over, or at an end. At x = -1 and 1 it is 2 q rho at most. The other two places are m - rho / |s| and 1 - y, the latter farther
  from the lowest place of Q, which is m / 4. There Q is 2 q rho as well: M - 2 q rho is q |s| y, which is what
  (2 - y) (gamma y + beta) comes to with this gamma. Without room it is M, and there is no parabola.

The numbers are computed in float32, with u = 2^-24 for its unit. With any S, beta and gamma the lines above are lines above; for what
else is lost see the constants.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dss.enclosure.rounding import UNIT
from dss.enclosure.value import Enclosure

ROUND = 2.0**-19
"""By as much of itself more than the reach does M tell: more than the 12 u of it that c / R and M lose."""

LOST = 2.0**-16
"""Of M, what float32 takes from the parabola and from the lines above. gamma is 2.7 M at most, beta half of that, so no
term is larger than 4 M, and all of their roundings together are some 70 u."""

MOVED = 2.0**-16
"""Of 2 R, by how much 2 rho has to be larger for the lines below: `ROUND` and the rounding of c and s move them by 2^-18 R, and y,
in units of |s|, by 1.2 times that. Q at 1 - y is then more than 2 q rho by 2^-17 q R at most."""

FLOOR = 1e-20
"""A reach of which float32 holds with all digits what is made of it: S is 0, 1 or 2^-25 away from them, so that M is 0 or 1e-28 at least."""

TINY = 1e-37
"""In place of a zero that divides zero."""


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
    """ReLU at z; `size` bounds the terms of which its parts are sums, up to 32 roundings.

    Every line is a pass over memory, which is what it costs: scales are such that no number is multiplied by another in one of its own.
    """
    place, slope, loose = z.center.float(), z.slope.float(), _loose(z, size)
    steep, far = slope.abs(), place.abs()
    reach = torch.add(loose, steep, alpha=2 * (1 + ROUND))  # 2 R, as loose is 2 rho
    share = (place / reach + 0.5).clamp(0.0, 1.0)
    other = 1 - share
    short, long = torch.maximum(share, other), torch.minimum(share, other)  # q, p
    height = long * short * reach  # M
    room = torch.add(steep - far, loose, alpha=-0.5).clamp(min=0.0)  # y |s|
    part = (slope / reach) * (room / torch.add(far, room, alpha=2).clamp(min=TINY))
    arch, tilt = slope * part, place * part  # gamma / 2, and beta with its sign
    amount = tilt.abs()
    above = _above(arch, amount, long, short, steep)
    below = torch.minimum(height, short * torch.add(loose, reach, alpha=MOVED))
    error = torch.add(torch.add(above, below, alpha=0.5), height, alpha=LOST)
    center = torch.add(above, below, alpha=-0.5) - arch - amount + height
    return Bow(*(each.double() for each in (share, center, tilt, arch, error)))


def _loose(z: Enclosure, size: Tensor) -> Tensor:
    """2 rho: what of z does not go with tau, and rounding."""
    loose = z.error.float()
    for part in (z.bend, z.twist):
        loose = loose if part is None else loose + part.float().abs()
    return torch.add((66 * UNIT * size + 2 * FLOOR).float(), loose, alpha=2 * (1 + ROUND))


def _above(arch: Tensor, amount: Tensor, long: Tensor, short: Tensor, steep: Tensor) -> Tensor:
    """Half of how far the lines above, p and q times as steep, are from the parabola, which has gamma / 2 and beta."""
    # The brackets over four, whose squares over gamma / 2 are half of what they stand for.
    left = torch.addcmul(torch.add(arch, amount, alpha=0.25), long, steep, value=-0.25).clamp(min=0.0)
    right = torch.addcmul(torch.add(arch, amount, alpha=-0.25), short, steep, value=-0.25).clamp(min=0.0)
    # Quotients first: squares of small numbers are too small.
    divisor = arch.clamp(min=TINY)
    return torch.maximum(left * (left / divisor), torch.addcmul(amount, right, right / divisor))
