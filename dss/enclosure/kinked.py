"""Functions with kinks: ReLU and its kin, maxima, max-pooling.

Over the range [l, u] of z the chord of relu has the slope s = u / (u - l), and relu(z) - s z lies in [0, -s l]: convex,
it is largest at the ends, and 0 at the kink. So relu(z) is s z and a gap, with all that z shares with others; the gap
is zero where the kink is out of reach.
"""

from functools import partial

import torch
from torch import Tensor

from dss.enclosure.arithmetic import subtract
from dss.enclosure.rounding import ELEMENTWISE, UNIT, largest
from dss.enclosure.shapes import broadcast, rearranged
from dss.enclosure.signs import total, with_unknowns
from dss.enclosure.value import Enclosure, lift, rule, settled
from dss.errors import EnclosureError


def kink(x, left: float, right: float) -> Enclosure:
    """f(z) = left z for z < 0 and right z for z > 0, left <= right: left z + (right - left) relu(z)."""
    x = lift(x)
    low, high = _extent(x)
    share, gap = _chord_of_relu(low, high)
    steep, half = left + (right - left) * share, (right - left) * gap / 2
    signs, rest = with_unknowns(_times(steep, x.signs), half)
    size = (x.most + largest(x.error)) * (1 + max(abs(left), abs(right)))
    return settled(steep * x.center + half, steep * x.slope, steep.abs() * x.error + rest, _times(steep, x.bend),
                   signs, magnitude=size)  # fmt: skip


def _times(factor: Tensor, part: Tensor | None) -> Tensor | None:
    return None if part is None else factor * part


def _extent(x: Enclosure) -> tuple[Tensor, Tensor]:
    """The range of values, rounded outwards."""
    low, high = x.extent
    margin = 8 * UNIT * (low.abs() + high.abs() + x.center.abs())
    return low - margin, high + margin


def _chord_of_relu(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """A slope s in [0, 1], and g so that relu(z) - s z lies in [0, g] on the range; g is that of the s at hand."""
    touches = (low < 0) & (high > 0)
    share = torch.where(touches, (high / (high - low)).clamp(0.0, 1.0), (low >= 0).to(low.dtype))
    gap = torch.maximum(-share * low, (1 - share) * high) * (1 + ELEMENTWISE)
    known = touches | (low >= 0) | (high <= 0)
    return share, torch.where(touches, gap, torch.where(known, 0.0, torch.nan))


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
    """x + relu(y - x) = (1 - s) x + s y and the gap of relu at y - x."""
    x, y = lift(x), lift(y)
    shape = torch.broadcast_shapes(x.center.shape, y.center.shape)
    x, y = broadcast(x, shape), broadcast(y, shape)
    share, gap = _chord_of_relu(*_extent(subtract(y, x)))
    rest, half = 1 - share, gap / 2
    size = sum(z.most + largest(z.error) for z in (x, y))
    signs, left = with_unknowns(total(_times(rest, x.signs), _times(share, y.signs)), half)
    bends = [part for part in (_times(rest, x.bend), _times(share, y.bend)) if part is not None]
    return settled(rest * x.center + share * y.center + half, rest * x.slope + share * y.slope,
                   rest * x.error + share * y.error + left, sum(bends) if bends else None, signs, magnitude=size)  # fmt: skip


@rule("minimum")
def minimum(x, y) -> Enclosure:
    """-max(-x, -y)."""
    return -maximum(-lift(x), -lift(y))


@rule("amax")
def amax(x, dim=-1, keepdim: bool = False) -> Enclosure:
    """The largest entry along one dimension, as a knock-out of pairs."""
    while (count := x.shape[dim]) > 1:
        half = count // 2
        best = maximum(x.narrow(dim, 0, half), x.narrow(dim, half, half))
        x = torch.cat([best, x.narrow(dim, 2 * half, 1)], dim) if count % 2 else best
    return x if keepdim else x.squeeze(dim)


def _max_pool(dims: int, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
              return_indices=False) -> Enclosure:  # fmt: skip
    """Maxima of shifted copies, one dimension after the other.

    What lies beyond the border takes no part: another entry of the window, seen twice, stands in for it.
    """
    if return_indices:
        raise EnclosureError("no rule encloses the indices of a maximum; call max_pool with return_indices=False")
    kernel, stride, padding, dilation = (_each(dims, part) for part in (kernel_size, stride or kernel_size, padding, dilation))
    for i in range(dims):
        dim = x.dim() - dims + i
        x = _max_along(x, dim, kernel[i], stride[i], padding[i], dilation[i], ceil_mode)
    return x


def _each(dims: int, value) -> tuple[int, ...]:
    value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return value * dims if len(value) == 1 else value


def _max_along(x: Enclosure, dim: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> Enclosure:
    size, span = x.shape[dim], dilation * (kernel - 1) + 1
    room = size + 2 * padding - span
    count = (-(-room // stride) if ceil else room // stride) + 1
    count -= ceil and (count - 1) * stride >= size + padding  # torch drops a window that starts beyond the border
    best = None
    for step in range(-padding, span - padding, dilation):
        last = step + (count - 1) * stride
        if step >= 0 and last < size:  # a view, which is much faster than a copy
            part = x[(slice(None),) * dim + (slice(step, last + 1, stride),)]
        else:
            places = torch.arange(step, last + 1, stride, device=x.device)
            places = torch.where(places < 0, places % dilation, places)
            places = torch.where(places < size, places, size - 1 - (size - 1 - places) % dilation)
            part = rearranged(partial(torch.index_select, dim=dim, index=places), x)
        best = part if best is None else maximum(best, part)
    return best


rule("max_pool1d")(partial(_max_pool, 1))
rule("max_pool2d")(partial(_max_pool, 2))
