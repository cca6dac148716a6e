"""Groups within units of other groups: features within attention heads may be ordered differently in every head.

A flattened axis of A x B stands for the direct product of two permutation groups at least. Often the full group is the
wreath product: an order of A's units, and for each of them its own order of B's. It is, when whatever carries B carries
A too, exactly once, so that it is known at each entry which unit of A it belongs to, and when nothing mixes the units of
A at equal places along B.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product as choices

from dss.symmetry.axes import Axis, atoms, segments
from dss.symmetry.trace import Axes

# For each axis of one block of a tensor its atoms, outermost first.
Content = tuple[tuple[Axis, ...], ...]


def nested(tensors: Iterable[Axes], mixes: Sequence[tuple[Axes, Axes]]) -> dict[Axis, Axis]:
    """For each free atom that may be ordered differently within each unit of another, that other."""
    unique = {tuple(map(id, axes)): axes for axes in tensors}.values()
    holders: dict[Axis, dict[Content, None]] = defaultdict(dict)
    for content in (content for axes in unique for content in _contents(axes)):
        for atom in (atom for run in content for atom in run):
            holders[atom][content] = None
    mixed = _mixed(mixes)
    found: dict[Axis, Axis] = {}
    for outer, inner in _candidates(holders):
        free = inner not in found and outer not in found and inner not in found.values()
        if free and all(_once(outer, content) for content in holders[inner]) and not (outer, inner) in mixed:
            found[inner] = outer
    return found


def _contents(axes: Axes) -> list[Content]:
    """The blocks of a tensor."""
    runs = [[tuple(atom for atom, _ in run) for _, run in segments(axis)] for axis in axes]
    return list(choices(*runs))


def _candidates(holders: dict[Axis, dict[Content, None]]) -> dict[tuple[Axis, Axis], None]:
    """Pairs (outer, inner) of atoms flattened into one axis; the outermost come first, so that they are preferred."""
    runs = {run: None for contents in holders.values() for content in contents for run in content}
    return {
        (outer, inner): None
        for run in runs
        for place, inner in enumerate(run)
        if inner.pinned is None
        for outer in run[:place]
        if outer is not inner
    }


def _once(atom: Axis, content: Content) -> bool:
    return sum(run.count(atom) for run in content) == 1


def _mixed(mixes: Sequence[tuple[Axes, Axes]]) -> set[tuple[Axis, Axis]]:
    """Pairs of atoms of which the first was mixed while the second stood still beside it."""
    unique = {tuple(map(id, axes)): (axes, along) for axes, along in mixes}
    found = set()
    for axes, along in unique.values():
        moved = {atom for axis in along for atom in atoms(axis)}
        still = {atom for axis in axes for atom in atoms(axis)} - moved
        found |= set(choices(moved, still))
    return found
