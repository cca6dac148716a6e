"""Types of axes against plain arrays: an atom is an array of labels, and operations on types are those on arrays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dss.symmetry.axes import Axis, atoms, chosen, collapse, cut, pin, product, resolve, split, total, unify
from dss.symmetry.layout import blocks_of, segments


def shape(axis):
    """The structure of a type: a number for an atom, nested tuples for the rest."""
    axis = resolve(axis)
    return axis.size if axis.kind == "atom" else (axis.kind, *map(shape, axis.parts))


def same(x, y):
    return resolve(x) is resolve(y)


def test_a_split_atom_is_a_product_everywhere():
    axis = Axis(12)
    heads, features = split(axis, [3, 4], "view")
    assert shape(axis) == ("product", 3, 4)
    assert [same(x, y) for x, y in zip(split(axis, [3, 4], "view"), (heads, features))] == [True, True]


def test_unequal_products_are_refined_to_common_factors():
    x, y = Axis(24), Axis(24)
    split(x, [2, 12], "view"), split(y, [6, 4], "view")
    unify(x, y, "add")
    assert [a.size for a in atoms(x)] == [a.size for a in atoms(y)] == [2, 3, 4]
    assert [same(a, b) for a, b in zip(atoms(x), atoms(y))] == [True] * 3


def test_sums_meet_at_all_boundaries():
    x, y = total([Axis(3), Axis(5)]), total([Axis(6), Axis(2)])
    unify(x, y, "add")
    assert [a.size for a in atoms(x)] == [a.size for a in atoms(y)] == [3, 3, 2]
    assert all(same(a, b) for a, b in zip(atoms(x), atoms(y)))


def test_halves_that_change_places_become_one():
    first, second = cut(Axis(8), [4, 4], "chunk")
    unify(total([first, second]), total([second, first]), "add")
    assert same(first, second)


def test_a_sum_seen_as_rows_has_one_inner_part():
    outer, inner = split(total([Axis(6), Axis(9)]), [5, 3], "view")
    assert shape(outer) == ("sum", 2, 3) and inner.size == 3


def test_a_product_beside_a_sum_is_cut_along_its_first_factor():
    heads, features = Axis(5), Axis(4)
    parts = [Axis(8), Axis(12)]
    unify(product([heads, features]), total(parts), "add")
    assert shape(heads) == ("sum", 2, 3)
    assert [shape(part) for part in parts] == [("product", 2, 4), ("product", 3, 4)]


@pytest.mark.parametrize("sizes", [([4, 6], [6, 4]), ([2, 9], [3, 6])])
def test_boundaries_that_run_through_units_pin_both(sizes):
    x, y = (product([Axis(size) for size in side]) for side in sizes)
    unify(x, y, "add")
    assert all(atom.pinned == "two meanings in add" for axis in (x, y) for atom in atoms(axis))


def test_sizes_never_tie_and_pins_travel():
    x, y, z = Axis(4), Axis(4), Axis(4)
    assert not same(x, y)
    unify(x, y, "add")
    pin(y, "output")
    unify(z, x, "add")
    assert resolve(x).pinned == resolve(z).pinned == "output"


def test_a_case_is_what_its_index_says_until_somebody_ignores_it():
    index, parts = Axis(2, pinned="packed"), [Axis(5), Axis(5)]
    case = Axis(5, "case", parts, index=index)
    assert [same(chosen(case, index, i), parts[i]) for i in range(2)] == [True, True]
    assert shape(product([index, case])) == ("sum", 5, 5)
    assert not same(*parts)
    collapse(case)
    assert same(*parts)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3), st.integers(0, 3), st.integers(0, 3))
def test_blocks_cover_a_tensor_once(factors, before, after):
    """The oracle: numbers 0, 1, 2, ... read through all blocks are each there once, and atoms give their places."""
    middle = [Axis(size) for size in factors]
    axis = total([Axis(before), product(middle), Axis(after)])
    other = Axis(2)
    tensor = torch.arange(axis.size * 2).view(axis.size, 2)
    blocks = blocks_of([axis, other], {})
    assert sorted(torch.cat([block.of(tensor).flatten() for block in blocks]).tolist()) == list(range(axis.size * 2))
    block = next(block for block in blocks if block.offset == 2 * before)
    assert torch.equal(block.of(tensor), tensor[before : axis.size - after].view(*factors, 2))
    assert len(segments(axis)) == 1 + (before > 0) + (after > 0)
