"""Operations that rearrange axes: views, cuts, joins, repetitions."""

from collections.abc import Sequence
from math import prod

from torch import Tensor

from dss.symmetry.axes import Axis, atoms, chosen, collapse, cut, product, split, total
from dss.symmetry.trace import Axes, Call, rule


@rule("view", "_unsafe_view", "reshape")
def view(call: Call) -> Sequence[Axes] | None:
    """Old and new axes fall into the shortest runs of equal size; each run is flattened and split anew."""
    sizes = call.out.shape
    if prod(sizes) != call.operands[0].numel():  # seen as another dtype
        return None
    old = [axis for axis in call.axes(call.operands[0]) if axis.size != 1]
    places = [place for place, size in enumerate(sizes) if size != 1]
    found = [Axis(1) for _ in sizes]
    while old:
        run, into = [old.pop(0)], [places.pop(0)]
        while (have := prod(axis.size for axis in run)) != (want := prod(sizes[place] for place in into)):
            if have < want:
                run.append(old.pop(0))
            else:
                into.append(places.pop(0))
        for place, axis in zip(into, run if len(run) == len(into) == 1 else _split_anew(call, product(run), into), strict=True):
            found[place] = axis
    return [tuple(found)]


def _split_anew(call: Call, axis: Axis, places: Sequence[int]) -> list[Axis]:
    """The axis as a product of the new ones; in a second run, as packed parts where single places are taken later."""
    sizes = [call.out.shape[place] for place in places]
    free = any(atom.pinned is None for atom in atoms(axis))
    for number, place in enumerate(places[:-1]):
        if free and (call.number, place) in call.trace.cases:
            return _packed(call, axis, sizes, number)
    return [_made_here(part, call.number, place) for part, place in zip(split(axis, sizes, call.name), places, strict=True)]


def _packed(call: Call, axis: Axis, sizes: Sequence[int], number: int) -> list[Axis]:
    """Parts end to end along axis `number` of the new ones, such as q, k and v: those after it depend on it."""
    *before, rest = split(axis, [*sizes[:number], prod(sizes[number:])], call.name)
    after = sizes[number + 1 :]
    parts = [split(part, after, call.name) for part in cut(rest, [prod(after)] * sizes[number], call.name)]
    index = Axis(sizes[number], pinned="which of the packed parts")
    return [*before, index, *(Axis(c[0].size, "case", c, index=index) for c in zip(*parts, strict=True))]


def _made_here(axis: Axis, number: int, place: int) -> Axis:
    """A new name of an axis that remembers the view it comes from."""
    alias = Axis(axis.size)
    alias.forward, alias.born = axis, (number, place)
    return alias


@rule("select")
def select(call: Call) -> Sequence[Axes]:
    """One place along an axis."""
    (x,) = call.operands
    place = call["index"]
    return [_taken(call, x, call.dim("dim", x), [place % x.shape[call.dim("dim", x)]])[0]]


@rule("unbind")
def unbind(call: Call) -> Sequence[Axes]:
    """Every place along an axis."""
    (x,) = call.operands
    dim = call.dim("dim", x)
    return _taken(call, x, dim, range(x.shape[dim]))


def _taken(call: Call, x: Tensor, dim: int, places: Sequence[int]) -> list[Axes]:
    """Single places are told apart: the axis is pinned, unless others depend on it, which then are what they are there."""
    axes = call.axes(x)
    if (born := axes[dim].born) is not None:
        call.trace.selected.add(born)
    call.pin(axes[dim], "single places taken by")
    rest = axes[:dim] + axes[dim + 1 :]
    return [tuple(chosen(axis, axes[dim], place) for axis in rest) for place in places]


@rule("slice")
def slice_(call: Call) -> Sequence[Axes]:
    """A run of places; with steps, single ones."""
    (x,) = call.operands
    dim, axes, start = call.dim("dim", x), list(call.axes(x)), call["start"]
    size, kept = x.shape[dim], call.out.shape[dim]
    if call["step"] != 1:
        call.pin(axes[dim], "single places taken by")
        axes[dim] = Axis(kept, pinned="single places")
        return [tuple(axes)]
    start = 0 if start is None else min(max(start + size if start < 0 else start, 0), size)
    axes[dim] = cut(axes[dim], [start, kept, size - start - kept], call.name)[1]
    return [tuple(axes)]


@rule("split", "unsafe_split", "split_with_sizes", "unsafe_split_with_sizes")
def split_(call: Call) -> Sequence[Axes]:
    """An axis cut into runs."""
    (x,) = call.operands
    dim, axes = call.dim("dim", x), call.axes(x)
    pieces = cut(axes[dim], [part.shape[dim] for part in call.results], call.name)
    return [(*axes[:dim], piece, *axes[dim + 1 :]) for piece in pieces]


@rule("cat")
def cat(call: Call) -> Sequence[Axes]:
    """Axes laid end to end; all others are one."""
    operands = [tensor for tensor in call.operands if tensor.numel()]
    dim = call.dim("dim", call.out)
    columns = list(zip(*map(call.axes, operands), strict=True))
    for number, column in enumerate(columns):
        for axis in column[1:] if number != dim else ():
            call.unify(column[0], axis)
    return [tuple(total(column) if number == dim else column[0] for number, column in enumerate(columns))]


@rule("stack")
def stack(call: Call) -> Sequence[Axes]:
    """Tensors one after the other along a new axis, on which the others depend: the last states of a recurrent network's
    layers lie in one tensor, yet their units are not the same."""
    index = Axis(len(call.operands), pinned="one place for each thing joined")
    dim = call.dim("dim", call.out)
    found = [_dependent(column, index) for column in zip(*map(call.axes, call.operands), strict=True)]
    return [(*found[:dim], index, *found[dim:])]


def _dependent(column: Axes, index: Axis) -> Axis:
    """One axis that is each of the column's at its place of the index; just that, if they are the same."""
    plain = [collapse(axis) for axis in column]
    return plain[0] if all(axis is plain[0] for axis in plain) else Axis(plain[0].size, "case", plain, index=index)


@rule("t", "transpose", "permute")
def permute(call: Call) -> Sequence[Axes]:
    """Axes in another order."""
    (x,) = call.operands
    axes = call.axes(x)
    dims = call.arguments.get("dims", range(len(axes))[::-1])
    if "dim0" in call.arguments:
        first, second, dims = call.dim("dim0", call.out), call.dim("dim1", call.out), list(range(len(axes)))
        dims[first], dims[second] = second, first
    return [tuple(axes[dim] for dim in dims)]


@rule("expand")
def expand(call: Call) -> Sequence[Axes]:
    """Along an axis that is new, or was of size 1, all places are equal: it may be anything."""
    shape = call.out.shape
    axes = call.axes(call.operands[0])
    axes = (*(Axis(1) for _ in range(len(shape) - len(axes))), *axes)
    return [tuple(axis if axis.size == size else Axis(size) for axis, size in zip(axes, shape, strict=True))]


@rule("unsqueeze")
def unsqueeze(call: Call) -> Sequence[Axes]:
    """A new axis of size 1. (In place, the result is the operand: its axes of before are those that are known.)"""
    axes = call.axes(call.operands[0])
    dim = call.dim("dim", call.out)
    return [(*axes[:dim], Axis(1), *axes[dim:])]


@rule("squeeze")
def squeeze(call: Call) -> Sequence[Axes]:
    """Axes of size 1 are left out: all, or the ones named."""
    axes = call.axes(call.operands[0])
    dims = call.arguments.get("dim", range(len(axes)))
    named = {dim % max(len(axes), 1) for dim in ([dims] if isinstance(dims, int) else dims)}
    return [tuple(axis for dim, axis in enumerate(axes) if axis.size != 1 or dim not in named)]


@rule("as_strided")
def as_strided(call: Call) -> Sequence[Axes] | None:
    """Pooling to one place leaves memory in channels-last order so; nothing moves then, and anything else has no rule."""
    (x,) = call.operands
    axes, before = call.axes(x), call.trace.strides(x)
    moved = any(old != new for size, old, new in zip(call.out.shape, before, call.out.stride(), strict=False) if size != 1)
    return None if moved or call.out.storage_offset() or len(axes) != call.out.ndim else [axes]


@rule("repeat")
def repeat(call: Call) -> Sequence[Axes]:
    """Copies after one another: the copy is the outer factor, and may be anything."""
    axes = call.axes(call.operands[0])
    repeats = list(call["repeats"])
    axes = (*(Axis(1) for _ in range(len(repeats) - len(axes))), *axes)
    return [tuple(product([Axis(count), axis]) for count, axis in zip(repeats, axes, strict=True))]


@rule("constant_pad_nd")
def pad(call: Call) -> Sequence[Axes]:
    """One value before and after, or places cut off."""
    axes = list(call.axes(call.operands[0]))
    margins = list(call["pad"])
    for back, (before, after) in enumerate(zip(margins[::2], margins[1::2], strict=True), start=1):
        axis = axes[-back]
        lost = [max(-before, 0), max(-after, 0)]
        inner = cut(axis, [lost[0], axis.size - sum(lost), lost[1]], call.name)[1]
        axes[-back] = total([Axis(max(before, 0)), inner, Axis(max(after, 0))])
    return [tuple(axes)]


@rule("roll", "flip")
def move(call: Call) -> Sequence[Axes]:
    """Places moved along some axes."""
    axes = call.axes(call.operands[0])
    dims = list(call["dims"]) or range(len(axes))
    for dim in dims:
        call.pin(axes[dim], "moved by")
    return [axes]
