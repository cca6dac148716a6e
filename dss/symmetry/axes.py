"""Types of tensor axes, and their unification.

Two axes that run over the same units have one type. A type is an *atom* (so many units that are told apart by nothing
but their number), a *product* (a flattened axis: the last factor runs fastest), a *sum* (axes laid end to end), or a
*case* (an axis whose meaning depends on the place along another axis of its tensor: q, k and v, packed). All start as
atoms. Operations split atoms, cut them, and unify them; an atom that is split is bound to the product of its parts, so
that every tensor that ever carried it learns of it: first-order unification with sizes.

Where two types cannot be one, or where the place along an axis matters, its atoms are *pinned*, with the reason. To pin
is always safe: it forgoes a symmetry. To fail to unify is not, so each rule of an operation has to unify enough, and the
result is checked numerically (`specification`).
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Literal, Optional


class Axis:
    """The type of one axis, up to unification: compare `resolve(x) is resolve(y)`.

    Attributes:
        size: the number of places along it.
        kind: see the module.
        parts: of a product, outermost first; of a sum, in order; of a case, one for each place along `index`.
        pinned: why the atom's units must stay in their order, or None.
        index: of a case, the axis that it depends on.
        born: which view made it by splitting another: (number of the call, axis of the result).
    """

    __slots__ = ("born", "forward", "index", "kind", "parts", "pinned", "size")

    def __init__(
        self,
        size: int,
        kind: Literal["atom", "product", "sum", "case"] = "atom",
        parts: Sequence["Axis"] = (),
        *,
        pinned: str | None = None,
        index: Optional["Axis"] = None,
    ):
        self.size, self.kind, self.parts, self.pinned, self.index = size, kind, tuple(parts), pinned, index
        self.forward: Axis | None = None
        self.born: tuple[int, int] | None = None


def resolve(axis: Axis) -> Axis:
    """What the axis was unified with last."""
    while axis.forward is not None:
        axis = axis.forward
    return axis


def factors(axis: Axis) -> list[Axis]:
    """The parts of a product, flat, without those of size 1; else the axis alone."""
    axis = resolve(axis)
    if axis.kind == "product":
        return [factor for part in axis.parts for factor in factors(part)]
    return [axis] if axis.size != 1 else []


def terms(axis: Axis) -> list[Axis]:
    """The parts of a sum, flat; else the axis alone."""
    axis = resolve(axis)
    return [term for part in axis.parts for term in terms(part)] if axis.kind == "sum" else [axis]


def atoms(axis: Axis) -> Iterator[Axis]:
    """All atoms beneath an axis."""
    axis = resolve(axis)
    if axis.kind == "atom":
        yield axis
    for part in axis.parts:
        yield from atoms(part)


def product(axes: Sequence[Axis]) -> Axis:
    """The type of axes flattened into one, the last running fastest."""
    flat = [factor for axis in axes for factor in factors(axis)]
    for place, index in enumerate(flat):
        after = flat[place + 1 :]
        if any(_depends(axis, index) for axis in after):
            # With its index before it, a case is a sum again: first all places of part 0, then of part 1.
            choices = [product([chosen(axis, index, i) for axis in after]) for i in range(index.size)]
            return product([*flat[:place], total(choices)])
    for axis in flat:
        collapse(axis)
    flat = [factor for axis in flat for factor in factors(axis)]
    return flat[0] if len(flat) == 1 else Axis(prod(f.size for f in flat), "product", flat) if flat else Axis(1)


def total(axes: Sequence[Axis]) -> Axis:
    """The type of axes laid end to end."""
    flat = [term for axis in axes if axis.size for term in terms(collapse(axis))]
    if len(flat) == 1:
        return flat[0]
    if all(term.size == 1 for term in flat):
        return Axis(len(flat), pinned="one place for each thing joined")
    return Axis(sum(term.size for term in flat), "sum", flat)


def chosen(axis: Axis, index: Axis, place: int) -> Axis:
    """The axis where `index` has the value `place`: that part of a case, else the axis itself."""
    return resolve(axis).parts[place] if _depends(axis, index) else axis


def _depends(axis: Axis, index: Axis | None) -> bool:
    axis = resolve(axis)
    return axis.index is not None and index is not None and resolve(axis.index) is resolve(index)


def collapse(axis: Axis) -> Axis:
    """Let a case mean the same at every place of its index, for what follows does not tell them apart."""
    axis = resolve(axis)
    if axis.kind == "case":
        axis.forward = axis.parts[0]
        for part in axis.parts[1:]:
            unify(axis.parts[0], part, "one meaning for packed parts")
        return collapse(axis)
    return axis


def pin(axis: Axis, reason: str) -> None:
    """Fix the order of all atoms beneath; the first reason is kept."""
    for atom in atoms(axis):
        atom.pinned = atom.pinned or reason


def unify(x: Axis, y: Axis, where: str) -> None:
    """Make two axes one type; where they cannot be one, both are pinned."""
    x, y = resolve(x), resolve(y)
    if x is y:
        return
    if x.size != y.size:
        _conflict(x, y, where)
    elif "case" in (x.kind, y.kind):
        _unify_cases(x, y, where)
    elif x.kind == "atom":
        _bind(x, y)
    elif y.kind == "atom":
        _bind(y, x)
    elif x.kind == y.kind == "product":
        _unify_products(x, y, where)
    else:
        _unify_sums(x, y, where)


def _conflict(x: Axis, y: Axis, where: str) -> None:
    for axis in (x, y):
        pin(axis, f"two meanings in {where}")


def _bind(atom: Axis, axis: Axis) -> None:
    atom.forward = axis
    if atom.pinned:
        pin(axis, atom.pinned)


def _unify_cases(x: Axis, y: Axis, where: str) -> None:
    if x.kind == y.kind and _depends(x, y.index):
        for one, other in zip(x.parts, y.parts, strict=True):
            unify(one, other, where)
    else:
        unify(collapse(x), collapse(y), where)


def _unify_products(x: Axis, y: Axis, where: str) -> None:
    """Factor by factor, outermost first; the larger of two unequal ones is split."""
    left, right = factors(x), factors(y)
    while left and right:
        if left[0].size < right[0].size:
            left, right = right, left
        big, small = left[0], right[0]
        if big.size % small.size:
            return _conflict(x, y, where)
        head, rest = split(big, [small.size, big.size // small.size], where)
        unify(head, small, where)
        left, right = [*factors(rest), *left[1:]], right[1:]
    return None


def _unify_sums(x: Axis, y: Axis, where: str) -> None:
    """Term by term, at all boundaries of either; a product beside a sum is cut along its first factor."""
    if x.kind == "product":
        x, y = y, x
    if y.kind == "product":
        pieces = cut(y, [term.size for term in terms(x)], where)
        for piece, term in zip(pieces, terms(x), strict=True):
            unify(piece, term, where)
        return
    left, right = terms(x), terms(y)
    while left and right:
        if left[0].size < right[0].size:
            left, right = right, left
        big, small = left[0], right[0]
        head, rest = cut(big, [small.size, big.size - small.size], where)
        unify(head, small, where)
        left, right = [*(terms(rest) if rest.size else ()), *left[1:]], right[1:]


def split(axis: Axis, sizes: Sequence[int], where: str) -> list[Axis]:
    """The axis as a product of axes of these sizes, outermost first."""
    axis = resolve(axis)
    proper = [size for size in sizes if size != 1]
    if len(proper) <= 1:
        return [axis if size != 1 else Axis(1) for size in sizes]
    if len(proper) < len(sizes):
        parts = iter(split(axis, proper, where))
        return [next(parts) if size != 1 else Axis(1) for size in sizes]
    if axis.kind == "atom":
        parts = [Axis(size, pinned=axis.pinned) for size in sizes]
        axis.forward = product(parts)
        return parts
    if axis.kind == "product":
        return _split_product(axis, sizes, where)
    if axis.kind == "sum":
        return _split_sum(axis, sizes, where)
    columns = zip(*(split(part, sizes, where) for part in axis.parts), strict=True)
    return [Axis(size, "case", column, index=axis.index) for size, column in zip(sizes, columns, strict=True)]


def _split_product(axis: Axis, sizes: Sequence[int], where: str) -> list[Axis]:
    """Group the factors by the sizes wanted; one that straddles a boundary is split."""
    waiting, groups = factors(axis), []
    for size in sizes:
        group: list[Axis] = []
        while (missing := size // prod(f.size for f in group)) > 1:
            first = waiting.pop(0)
            if missing % first.size and first.size % missing:
                return _unsplit(axis, sizes, where)
            if first.size > missing:
                first, rest = split(first, [missing, first.size // missing], where)
                waiting[:0] = factors(rest)
            group.append(first)
        groups.append(product(group))
    return groups


def _split_sum(axis: Axis, sizes: Sequence[int], where: str) -> list[Axis]:
    """A sum of products with one and the same inner part."""
    inner = prod(sizes[1:])
    if any(term.size % inner for term in terms(axis)):
        return _unsplit(axis, sizes, where)
    outer, inside = zip(*(split(term, [term.size // inner, inner], where) for term in terms(axis)), strict=True)
    for part in inside[1:]:
        unify(inside[0], part, where)
    return [total(outer), *split(inside[0], sizes[1:], where)]


def _unsplit(axis: Axis, sizes: Sequence[int], where: str) -> list[Axis]:
    """Give up: the boundaries wanted run through units."""
    pin(axis, f"two meanings in {where}")
    return [Axis(size, pinned=f"two meanings in {where}") for size in sizes]


def cut(axis: Axis, sizes: Sequence[int], where: str) -> list[Axis]:
    """The axis as a sum of axes of these sizes, in order."""
    axis = resolve(axis)
    if len([size for size in sizes if size]) == 1:
        return [axis if size else Axis(0) for size in sizes]
    if axis.kind == "atom":
        parts = [Axis(size, pinned=axis.pinned) for size in sizes]
        axis.forward = total(parts)
        return parts
    if axis.kind == "sum":
        return _cut_sum(axis, sizes, where)
    if axis.kind == "case":
        columns = zip(*(cut(part, sizes, where) for part in axis.parts), strict=True)
        return [Axis(size, "case", column, index=axis.index) for size, column in zip(sizes, columns, strict=True)]
    first, *rest = factors(axis)
    inner = prod(factor.size for factor in rest)
    if any(size % inner for size in sizes):
        pin(axis, f"two meanings in {where}")
        return [Axis(size, pinned=f"two meanings in {where}") for size in sizes]
    return [product([piece, *rest]) if piece.size else piece for piece in cut(first, [s // inner for s in sizes], where)]


def _cut_sum(axis: Axis, sizes: Sequence[int], where: str) -> list[Axis]:
    """Group the terms by the sizes wanted; one that straddles a boundary is cut."""
    waiting, groups = terms(axis), []
    for size in sizes:
        group: list[Axis] = []
        while (missing := size - sum(t.size for t in group)) > 0:
            first = waiting.pop(0)
            if first.size > missing:
                first, rest = cut(first, [missing, first.size - missing], where)
                waiting[:0] = terms(rest)
            group.append(first)
        groups.append(total(group) if group else Axis(0))
    return groups
