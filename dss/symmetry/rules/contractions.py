"""Operations that sum along an axis of two operands."""

from collections.abc import Sequence

from torch import Tensor

from dss.symmetry.axes import Axis, product, split
from dss.symmetry.rules.elementwise import broadcast
from dss.symmetry.trace import Axes, Call, rule


@rule("mm", "bmm", "mv", "dot")
def multiply(call: Call) -> Sequence[Axes]:
    """Matrices, batches of them, vectors."""
    return [_multiplied(call, *call.operands)]


@rule("addmm", "baddbmm", "addmv")
def multiply_add(call: Call) -> Sequence[Axes]:
    """The same, with something added."""
    added, *operands = call.operands
    axes = _multiplied(call, *operands)
    for axis, other in zip(broadcast(call, [added], call.out.shape), axes, strict=True):
        call.unify(axis, other)
    return [axes]


def _multiplied(call: Call, left: Tensor, right: Tensor) -> Axes:
    """The last axis of the left operand meets the last but one of the right one, or its only one."""
    a, b = call.axes(left), call.axes(right)
    place = max(len(b) - 2, 0)
    call.contract((left, a[-1]), (right, b[place]))
    batch = a[:-2] if len(a) == 3 else ()
    for one, other in zip(batch, b, strict=False):
        call.unify(one, other)
    return (*a[:-1], *b[len(batch) : place], *b[place + 1 :])


@rule("convolution")
def convolution(call: Call) -> Sequence[Axes]:
    """Channels in g groups: (g x c/g) in, (g x d/g) out; kernels and places stay in their order."""
    x, weight, *bias = call.operands
    axes, kernel = call.axes(x), call.axes(weight)
    _pin_window(call, axes[2:], kernel[2:])
    groups, first = call["groups"], kernel[0]
    group, inside = split(axes[1], [groups, axes[1].size // groups], call.name)
    own, rest = split(first, [groups, first.size // groups], call.name)
    call.unify(group, own)
    entering, leaving = (rest, kernel[1]) if call["transposed"] else (kernel[1], rest)
    call.contract((x, inside), (weight, entering))
    out = product([own, leaving]) if call["transposed"] else first
    for tensor in bias:
        call.unify(out, call.axes(tensor)[0])
    places = tuple(Axis(size, pinned="place in the image") for size in call.out.shape[2:])
    return [(axes[0], out, *places)]


def _pin_window(call: Call, places: Axes, kernel: Axes) -> None:
    for axis in places:
        call.pin(axis, "place in")
    for axis in kernel:
        call.pin(axis, "kernel of")
