"""Operations that look places up by their numbers: the axis looked up in has to stay as it is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dss.symmetry.rules.elementwise import broadcast
from dss.symmetry.trace import Axes, Call, rule


@rule("embedding")
def embedding(call: Call) -> Sequence[Axes]:
    """Rows of a table, by numbers."""
    weight, indices = call.operands
    rows, *features = call.axes(weight)
    call.pin(rows, "rows looked up by")
    return [(*call.axes(indices), *features)]


@rule("index_select")
def index_select(call: Call) -> Sequence[Axes]:
    """Places along one axis, by numbers."""
    x, index = call.operands
    dim, axes = call.dim("dim", x), list(call.axes(x))
    call.pin(axes[dim], "places looked up by")
    axes[dim : dim + 1] = call.axes(index)
    return [tuple(axes)]


@rule("gather")
def gather(call: Call) -> Sequence[Axes]:
    """Places along one axis, by numbers that differ from place to place along the others."""
    x, index = call.operands
    looked_up = call.dim("dim", x)
    for dim, (axis, other) in enumerate(zip(call.axes(x), call.axes(index), strict=True)):
        if dim == looked_up:
            call.pin(axis, "places looked up by")
        else:
            call.unify(axis, other)
    return [call.axes(index)]


@rule("index")
def index(call: Call) -> Sequence[Axes] | None:
    """Places by numbers along several axes; masks choose by values, which no type can follow."""
    x, indices = call.operands[0], call["indices"]
    given = {dim: index for dim, index in enumerate(indices) if isinstance(index, Tensor)}
    if any(index.dtype in (torch.bool, torch.uint8) for index in given.values()):
        return None
    axes = call.axes(x)
    for dim in given:
        call.pin(axes[dim], "places looked up by")
    found = broadcast(call, list(given.values()), torch.broadcast_shapes(*(index.shape for index in given.values())))
    rest = [axis for dim, axis in enumerate(axes) if dim not in given]
    adjacent = list(given) == list(range(min(given), min(given) + len(given)))
    first = min(given) if adjacent else 0
    return [(*rest[:first], *found, *rest[first:])]
