"""Groups within units of other groups: features within attention heads may be ordered differently in every head.

A flattened axis of A x B stands for the direct product of two permutation groups at least. Often the full group is the
wreath product: an order of A's units, and for each of them its own order of B's. It is, when whatever carries B carries
A too, exactly once, so that it is known at each entry which unit of A it belongs to, and when nothing mixes the units of
A at equal places along B.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product as choices

from dss.symmetry.axes import Axis, atoms
from dss.symmetry.layout import segments
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
    for inner, contents in holders.items():
        if inner.pinned is None and inner not in found.values():
            outers = [outer for outer in _companions(inner, contents) if outer not in found and (outer, inner) not in mixed]
            found |= {inner: outers[0]} if outers else {}
    return found


def _contents(axes: Axes) -> list[Content]:
    """The blocks of a tensor."""
    runs = [[tuple(atom for atom, _ in run) for _, run in segments(axis)] for axis in axes]
    return list(choices(*runs))


def _companions(inner: Axis, contents: Iterable[Content]) -> list[Axis]:
    """Atoms found once wherever `inner` is; those that it is flattened with come first, outermost before others."""
    first = next(iter(contents))
    flattened = [atom for content in contents for run in content if inner in run for atom in run[: run.index(inner)]]
    atoms_of_first = [atom for run in first for atom in run]
    return [
        atom
        for atom in dict.fromkeys([*flattened, *atoms_of_first])
        if atom is not inner and all(sum(run.count(atom) for run in content) == 1 for content in contents)
    ]


def _mixed(mixes: Sequence[tuple[Axes, Axes]]) -> set[tuple[Axis, Axis]]:
    """Pairs of atoms of which the first was mixed while the second stood still beside it."""
    unique = {tuple(map(id, axes)): (axes, along) for axes, along in mixes}
    found = set()
    for axes, along in unique.values():
        moved = {atom for axis in along for atom in atoms(axis)}
        still = {atom for axis in axes for atom in atoms(axis)} - moved
        found |= set(choices(moved, still))
    return found
