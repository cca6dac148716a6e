"""Convex functions with kinks: ReLU and its kin, max-pooling and maxima.

One idea serves all. For f convex and increasing in the error, f(c + e + g tau) is convex in tau, so its chord over
[-1, 1] lies above. Below lies any line that supports f, moved down by the error. Half way between the two is the
enclosure; their larger distance at tau = -1 and +1 is twice its error. Nothing is lost where no kink is in reach.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from dss.enclosure.rounding import largest
from dss.enclosure.value import Enclosure, lift, rule, settled
from dss.errors import EnclosureError


def kink(x, left: float, right: float) -> Enclosure:
    """f(z) = left z for z < 0 and right z for z > 0, left <= right.

    Above: the chord m + h tau of max(f(z + e), f(z - e)). Below: a (z - sign(a) e) for any a in [left, right]; taken
    are the chord's slope, best for small errors, and the slope on the center's side, best for large ones. The two lines
    are at most m - a c + |a| e + |h - a g| apart.
    """
    x = lift(x)
    ends = [x.center - x.slope, x.center + x.slope]
    first, last = (_highest(z, x.error, left, right) for z in ends)
    middle, half = (first + last) / 2, (last - first) / 2
    steep = torch.where(x.slope == 0, right, half / x.slope).clamp(left, right)
    flat = torch.where(x.center < 0, torch.full_like(x.center, left), right)
    gaps = [middle - _line(a, x) + (half - a * x.slope).abs() for a in (steep, flat)]
    a = torch.where(gaps[0] <= gaps[1], steep, flat)
    size = (largest(x.center) + largest(x.slope) + largest(x.error)) * (1 + max(abs(left), abs(right)))
    return settled((middle + _line(a, x)) / 2, (half + a * x.slope) / 2, torch.minimum(*gaps) / 2, size)


def _highest(z: Tensor, error: Tensor, left: float, right: float) -> Tensor:
    """The largest value of f within `error` of z."""
    top = _bent(z + error, left, right)
    return top if left >= 0 else torch.maximum(top, _bent(z - error, left, right))


def _bent(z: Tensor, left: float, right: float) -> Tensor:
    return z.clamp(min=0.0) if (left, right) == (0.0, 1.0) else torch.maximum(left * z, right * z)


def _line(a: Tensor, x: Enclosure) -> Tensor:
    """The constant of the line a (z - sign(a) e)."""
    return a * x.center - a.abs() * x.error


@rule("relu")
def relu(x) -> Enclosure:
    """max(z, 0)."""
    return kink(x, 0.0, 1.0)


@rule("leaky_relu")
def leaky_relu(x, negative_slope: float = 0.01) -> Enclosure:
    """max(z, a z); a concave one (a > 1) is minus a convex one."""
    if negative_slope <= 1:
        return kink(x, float(negative_slope), 1.0)
    return -kink(x, -float(negative_slope), -1.0)


@rule("abs", "absolute", "__abs__")
def absolute(x) -> Enclosure:
    """max(z, -z)."""
    return kink(x, -1.0, 1.0)


@rule("clamp", "clip")
def clamp(x, min: float | None = None, max: float | None = None) -> Enclosure:
    """min + relu(z - min), then the same from above."""
    if min is not None:
        x = kink(x - min, 0.0, 1.0) + min
    return x if max is None else -kink(-x + max, 0.0, 1.0) + max


@rule("hardtanh")
def hardtanh(x, min_val: float = -1.0, max_val: float = 1.0) -> Enclosure:
    """A clamp."""
    return clamp(x, min_val, max_val)


@rule("relu6")
def relu6(x) -> Enclosure:
    """min(max(z, 0), 6)."""
    return clamp(x, 0.0, 6.0)


@rule("maximum")
def maximum(x, y) -> Enclosure:
    """y + relu(x - y)."""
    return y + kink(x - y, 0.0, 1.0)


@rule("minimum")
def minimum(x, y) -> Enclosure:
    """y - relu(y - x)."""
    return y - kink(y - x, 0.0, 1.0)


def _winners(x: Enclosure, pool, pick) -> Enclosure:
    """The maximum over groups: `pool(values)` takes it and `pick(values)` takes the entry that wins at the center.

    Above: the chord of the maximum of c + e + g tau. Below: the line of the winner, less its error.
    """
    above = [pool(x.center + sign * x.slope + x.error) for sign in (-1, 1)]
    center, slope, error = (pick(part.expand(x.center.shape)) for part in (x.center, x.slope, x.error))
    below = [center + sign * slope - error for sign in (-1, 1)]
    middle = (above[0] + above[1] + below[0] + below[1]) / 4
    tilt = (above[1] - above[0] + below[1] - below[0]) / 4
    gap = torch.maximum(above[0] - below[0], above[1] - below[1]) / 2
    return settled(middle, tilt, gap, largest(center) + largest(slope) + largest(x.error) + largest(above[1]))


@rule("amax")
def amax(x, dim=-1, keepdim: bool = False) -> Enclosure:
    """The largest entry along one dimension."""
    index = x.center.argmax(dim, keepdim=True)

    def pick(part: Tensor) -> Tensor:
        picked = part.gather(dim, index)
        return picked if keepdim else picked.squeeze(dim)

    return _winners(x, lambda part: part.amax(dim, keepdim), pick)


def _max_pool(function, dims: int, x, *shape, return_indices=False, **options) -> Enclosure:
    """The winner at the center against the best that another entry could be."""
    if return_indices:
        raise EnclosureError("no rule encloses the indices of a maximum; call max_pool with return_indices=False")
    _, index = function(x.center, *shape, return_indices=True, **options)

    def pick(part: Tensor) -> Tensor:
        return part.flatten(-dims).gather(-1, index.flatten(-dims)).reshape(index.shape)

    return _winners(x, lambda part: function(part, *shape, **options), pick)


rule("max_pool1d")(partial(_max_pool, F.max_pool1d, 1))
rule("max_pool2d")(partial(_max_pool, F.max_pool2d, 2))
