"""Operations that make each entry of the result of the entries at its own place."""

from collections.abc import Sequence

from torch import Tensor

from dss.symmetry.axes import Axis, cut
from dss.symmetry.trace import Axes, Call, rule


def broadcast(call: Call, operands: Sequence[Tensor], shape: Sequence[int]) -> Axes:
    """The axes of operands laid over one another, the last axes together: equal sizes are one axis."""
    found = []
    for back in range(-len(shape), 0):
        size = shape[back]
        over = [call.axes(t)[back] for t in operands if t.ndim >= -back and t.shape[back] == size != 1]
        for axis in over[1:]:
            call.unify(over[0], axis)
        found.append(over[0] if over else Axis(size))
    return tuple(found)


@rule("pointwise", "copy")
def pointwise(call: Call) -> Sequence[Axes]:
    """All operands broadcast; what is written in place keeps its axes."""
    axes = broadcast(call, call.operands, call.out.shape)
    return [axes if call.mutated is None else call.axes(call.mutated)]


@rule("_to_copy", "clone", "detach", "alias", "lift_fresh", "lift", "contiguous")
def same(call: Call) -> Sequence[Axes]:
    """Copies."""
    return [call.axes(call.operands[0])]


@rule("glu")
def glu(call: Call) -> Sequence[Axes]:
    """a * sigmoid(b), a and b the two halves of an axis."""
    (x,) = call.operands
    dim, axes = call.dim("dim", x), list(call.axes(x))
    half = axes[dim].size // 2
    first, second = cut(axes[dim], [half, half], call.name)
    call.unify(first, second)
    axes[dim] = first
    return [tuple(axes)]
