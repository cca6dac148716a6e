"""Functions with kinks: ReLU and its kin, maxima, max-pooling.

relu(z) is a slope times z, a parabola in tau and what is left of both, which is an error; it is zero where the kink is out of
reach (`dss.enclosure.rules.parabolas`).
"""

from functools import partial, reduce

import torch
from torch import Tensor

from dss.base.errors import EnclosureError
from dss.enclosure.adjoint import refined, through, tracked
from dss.enclosure.passes import count_kink, note_kink
from dss.enclosure.registry import rule
from dss.enclosure.rounding import UNIT
from dss.enclosure.rules.arithmetic import dims_of, total_of
from dss.enclosure.rules.parabolas import bow
from dss.enclosure.rules.shapes import broadcast, has_outliers, joined, where
from dss.enclosure.value import PARTS, Enclosure, lift, settled

STRIDE = 2
"""Errors are traced back at one of so many kinks of a deep network."""


def kink(x, left: float, right: float) -> Enclosure:
    """f(z) = left z for z < 0 and right z for z > 0, left <= right: left z + (right - left) relu(z)."""
    x = lift(x)
    if count_kink(x.center.numel()) % STRIDE == 0:
        x = refined(x)
    part, jump = bow(x, x.reach), right - left
    # left + (right - left) share, of which relu needs nothing but the share
    steep = part.share if (left, right) == (0.0, 1.0) else left + jump * part.share
    size = steep if left >= 0 else steep.abs()
    largest = 3 * x.reach * max(1.0, abs(left), abs(right), jump)
    result = settled(
        torch.addcmul(_times(jump, part.center), steep, x.center),
        torch.addcmul(_times(jump, part.slope), steep, x.slope),
        torch.addcmul(_times(jump, part.error), size, x.error),
        _times(jump, part.bend) if x.bend is None else torch.addcmul(_times(jump, part.bend), steep, x.bend),
        None if x.twist is None else steep * x.twist,
        magnitude=largest,
    )
    result._most = result._reach = largest
    return through(result, x, lambda error: size * error, lambda weight: steep.to(weight.dtype) * weight, apart=True)


def _times(factor: float, part: Tensor) -> Tensor:
    return part if factor == 1 else factor * part


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
        x = maximum(x, min) if has_outliers(lift(min)) else kink(x - min, 0.0, 1.0) + min
    if max is not None:
        x = minimum(x, max) if has_outliers(lift(max)) else -kink(-x + max, 0.0, 1.0) + max
    return x


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
    """x + relu(y - x) = (1 - s) x + s y and what is left of relu at y - x."""
    x, y = lift(x), lift(y)
    shape = torch.broadcast_shapes(x.center.shape, y.center.shape)
    x, y = broadcast(x, shape), broadcast(y, shape)
    if has_outliers(x) or has_outliers(y):
        return _decided(x, y)
    return _maximum(x, y)


def _maximum(x: Enclosure, y: Enclosure) -> Enclosure:
    result, share = _larger(x, y)
    return tracked(result, torch.lerp(x.error, y.error, share), (x, y), lambda weight: _divided(weight, share))


def _decided(x: Enclosure, y: Enclosure) -> Enclosure:
    """The maximum of which one is surely the larger in most entries, and lends the others none of its rounding."""
    (low, high), (least, most) = _outward(x), _outward(y)
    one, other = low >= most, high <= least
    rest = tuple(where(one | other, 0.0, z) for z in (x, y))
    result = where(one, x, where(other, y, _maximum(*rest)))
    result.ragged = True
    return result


def _outward(x: Enclosure) -> tuple[Tensor, Tensor]:
    """The least and the largest value, with the rounding of `extent`; what is infinite is not rounded."""
    low, high = x.extent
    margin = 32 * UNIT * (x.amount + x.sway + x.error)
    margin = torch.where(margin.isinf(), 0.0, margin)
    return low - margin, high + margin


def _larger(x: Enclosure, y: Enclosure) -> tuple[Enclosure, Tensor]:
    """The maximum of two of the same shape, and the share s."""
    note_kink()
    size = x.reach + y.reach
    part = bow(_difference(y, x), size)
    center, slope, error = (torch.lerp(getattr(x, name), getattr(y, name), part.share) for name in PARTS[:3])
    bend, twist = _mixed(x.bend, y.bend, part.share), _mixed(x.twist, y.twist, part.share)
    bend = total_of(part.bend, bend)
    result = settled(center + part.center, slope + part.slope, error + part.error, bend, twist, magnitude=3 * size)
    result._most = result._reach = 3 * size
    return result, part.share


def _divided(weight: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """(1 - s) w and s w, both to the last digits."""
    return (1 - share).to(weight.dtype) * weight, share.to(weight.dtype) * weight


def _difference(x: Enclosure, y: Enclosure) -> Enclosure:
    """x - y without the rounding of its parts, for which `bow` allows."""
    bend, twist = _less(x.bend, y.bend), _less(x.twist, y.twist)
    return Enclosure(x.center - y.center, x.slope - y.slope, x.error + y.error, bend, twist)


def _less(x: Tensor | None, y: Tensor | None) -> Tensor | None:
    """x - y; None is zero."""
    return x if y is None else -y if x is None else x - y


def _mixed(x: Tensor | None, y: Tensor | None, share: Tensor) -> Tensor | None:
    """(1 - s) x + s y; None is zero."""
    if x is None or y is None:
        part, its = (x, 1 - share) if y is None else (y, share)
        return None if part is None else its * part
    return torch.lerp(x, y, share)


@rule("minimum")
def minimum(x, y) -> Enclosure:
    """-max(-x, -y)."""
    return -maximum(-lift(x), -lift(y))


@rule("amax")
def amax(x, dim=(), keepdim: bool = False) -> Enclosure:
    """The largest entry along some dimensions (all by default), as a knock-out of pairs along one after the other."""
    dims = dims_of(x, dim)
    for one in sorted(dims, reverse=True):
        x = _largest_along(x, one, keepdim)
    return x


@rule("amin")
def amin(x, dim=(), keepdim: bool = False) -> Enclosure:
    """-max(-x)."""
    return -amax(-x, dim, keepdim)


def _largest_along(x: Enclosure, dim: int, keepdim: bool) -> Enclosure:
    while (count := x.shape[dim]) > 1:
        half = count // 2
        best = maximum(x.narrow(dim, 0, half), x.narrow(dim, half, half))
        x = joined(torch.cat, [best, x.narrow(dim, 2 * half, 1)], dim) if count % 2 else best
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
    takes, shares, _ = [], [], x.reach  # known once, it holds for all the copies
    for step in range(-padding, span - padding, dilation):
        last = step + (count - 1) * stride
        if step >= 0 and last < size:  # a view, which is much faster than a copy
            takes.append((slice(None),) * dim + (slice(step, last + 1, stride),))
        else:
            places = torch.arange(step, last + 1, stride, device=x.device)
            places = torch.where(places < 0, places % dilation, places)
            places = torch.where(places < size, places, size - 1 - (size - 1 - places) % dilation)
            takes.append((slice(None),) * dim + (places,))
    if has_outliers(x):
        return reduce(maximum, (x[take] for take in takes))
    best = x[takes[0]]
    for take in takes[1:]:
        best, share = _larger(best, x[take])
        shares.append(share)
    if not shares:
        return best

    def carry(error: Tensor) -> Tensor:
        carried = error[takes[0]]
        for take, share in zip(takes[1:], shares):
            carried = torch.lerp(carried, error[take], share)
        return carried

    # An entry of overlapping windows has several places, and what is local to it is a little overrated.
    pull = partial(_pooled, takes, shares, x.center.shape)
    return through(best, x, carry, pull, terms=len(takes) * (1 + 2 * padding))


def _pooled(takes: list, shares: list[Tensor], shape: torch.Size, weight: Tensor) -> Tensor:
    """Weights of a maximum of copies taken back to where these came from: one tensor is filled, instead of one per copy."""
    sums = _zeros(shape, weight, *shares)
    for take, share in zip(takes[:0:-1], shares[::-1]):
        weight, part = _divided(weight, share)
        _add_at(sums, take, part)
    _add_at(sums, takes[0], weight)
    return sums


def _zeros(shape: torch.Size, *likes: Tensor) -> Tensor:
    """Zeros of the first one's dtype, under `vmap` batched wherever one of them is: only then may they be filled in place."""
    zero = likes[0].new_zeros(())
    for like in likes:
        entry = like.flatten()[0].to(zero.dtype)
        zero = torch.where(torch.zeros_like(entry, dtype=torch.bool), entry, zero)
    return zero.expand(shape).clone()


def _add_at(sums: Tensor, take: tuple, part: Tensor) -> None:
    if isinstance(take[-1], slice):
        sums[take] += part
    else:  # places may repeat
        sums.index_add_(len(take) - 1, take[-1], part)


for _dims in (1, 2, 3):
    rule(f"max_pool{_dims}d")(partial(_max_pool, _dims))


def _adaptive_max_pool(dims: int, x, output_size, return_indices: bool = False) -> Enclosure:
    """Maxima over windows that depend on the shape, one dimension after the other."""
    if return_indices:
        raise EnclosureError("no rule encloses the indices of a maximum; call max_pool with return_indices=False")
    for i, count in enumerate(_each(dims, output_size)):
        x = _adaptive_max_along(x, x.dim() - dims + i, count)
    return x


def _adaptive_max_along(x: Enclosure, dim: int, count: int | None) -> Enclosure:
    """Window i of n entries goes from floor(i n / count) to ceil((i + 1) n / count)."""
    size = x.shape[dim]
    if count is None or count == size:
        return x
    ends = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    return joined(torch.cat, [_largest_along(x.narrow(dim, a, b - a), dim, True) for a, b in ends], dim)


for _dims in (1, 2):
    rule(f"adaptive_max_pool{_dims}d")(partial(_adaptive_max_pool, _dims))
