"""What is known of barriers, spread by the ultrametric inequality, against brute force and planted truths."""

from itertools import combinations, pairwise, permutations
from math import inf

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from dss.topology import closure
from dss.topology.closure import classes_below, lower_closure, parted, spanning_tree, upper_closure

SEEDS = st.integers(0, 2**31)


def symmetric(values):
    return torch.minimum(values, values.T)


def random_values(seed, count=8, *, ties=False):
    """A symmetric matrix with the points' losses on the diagonal, none above the values beside it."""
    generator = torch.Generator().manual_seed(seed)
    values = symmetric(torch.rand(count, count, generator=generator, dtype=torch.float64))
    values = (4 * values).round() / 4 if ties else values
    births = values.min(0).values.clone() * torch.rand(count, generator=generator, dtype=torch.float64)
    return values.diagonal_scatter(births)


def minimax(values):
    """The bottleneck of every pair by brute force: all chains of all lengths."""
    closed = values.clone()
    count = len(values)
    for i, j in permutations(range(count), 2):
        others = [k for k in range(count) if k not in (i, j)]
        for length in range(count - 1):
            for chain in permutations(others, length):
                stops = (i, *chain, j)
                closed[i, j] = min(closed[i, j], max(values[a, b] for a, b in pairwise(stops)))
    return closed


def ultrametric(seed, count=8):
    """A true c: the minimax of random values is an ultrametric."""
    return upper_closure(random_values(seed, count))


@pytest.mark.parametrize("ties", [False, True])
def test_the_upper_closure_is_the_minimax_over_all_chains(ties):
    for seed in range(3):
        values = random_values(seed, 6, ties=ties)
        assert torch.equal(upper_closure(values), minimax(values))


@given(SEEDS)
@settings(max_examples=50, deadline=None)
def test_the_upper_closure_of_eight_points_is_floyd_and_warshalls(seed):
    values = random_values(seed, ties=seed % 2 == 0)
    expected = values.clone()
    for k in range(8):
        expected = torch.minimum(expected, torch.maximum(expected[:, k, None], expected[k]))
    expected = expected.diagonal_scatter(values.diagonal())
    assert torch.equal(upper_closure(values), expected)


@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_the_lower_closure_never_exceeds_the_truth_and_is_a_fixpoint(seed, below, above):
    """Whatever of the truth is known, from below and from above, what follows is true."""
    truth = ultrametric(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    noise = symmetric(torch.rand(8, 8, generator=generator, dtype=torch.float64))
    upper = upper_closure(torch.where(noise < above, truth, inf).diagonal_scatter(truth.diagonal()))
    floor = torch.maximum(truth.diagonal()[:, None], truth.diagonal())
    lower = torch.where(noise.T.flip(0).flip(1) < below, truth, floor)
    lower = torch.maximum(floor, symmetric(lower))
    closed = lower_closure(lower, upper)
    assert (closed >= lower).all() and (closed <= truth).all() and torch.equal(closed, closed.T)
    assert torch.equal(lower_closure(closed, upper), closed)
    for i, j, k in permutations(range(8), 3):
        assert not (upper[k, j] < lower[i, j] and closed[i, k] < lower[i, j])


def test_a_wall_between_two_points_parts_all_that_are_joined_to_them():
    upper = torch.tensor([[0, 1, inf, inf], [1, 0, inf, inf], [inf, inf, 0, 2], [inf, inf, 2, 0]], dtype=torch.float64)
    lower = torch.zeros(4, 4, dtype=torch.float64)
    lower[0, 2] = lower[2, 0] = 5.0
    assert lower_closure(lower, upper).tolist() == [[0, 0, 5, 5], [0, 0, 5, 5], [5, 5, 0, 0], [5, 5, 0, 0]]
    lower[0, 2] = lower[2, 0] = 1.5  # below the height at which points 2 and 3 are joined: 3 may lie on the other side
    assert lower_closure(lower, upper).tolist() == [[0, 0, 1.5, 0], [0, 0, 1.5, 0], [1.5, 1.5, 0, 0], [0, 0, 0, 0]]


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_spanning_tree_is_the_least_and_keeps_edges_that_fall(seed):
    values = random_values(seed, 6, ties=True)
    edges = spanning_tree(values)
    least = min(
        sum(values[a, b].item() for a, b in tree)
        for tree in combinations(list(combinations(range(6), 2)), 5)
        if len(joined(tree)) == 1
    )
    assert sum(edge.value for edge in edges) == pytest.approx(least)
    fallen = values.clone()
    pair = edges[seed % 5].pair
    fallen[pair] = fallen[pair[::-1]] = 0.9 * fallen[pair]
    assert {edge.pair for edge in spanning_tree(fallen)} == {edge.pair for edge in edges}


def joined(pairs):
    groups = [{i} for i in range(6)]
    for a, b in pairs:
        one, other = (next(g for g in groups if x in g) for x in (a, b))
        if one is not other:
            groups.remove(other)
            one |= other
    return groups


def test_ties_go_to_the_lower_indices_and_infinity_joins_nothing():
    assert [edge.pair for edge in spanning_tree(torch.ones(4, 4, dtype=torch.float64))] == [(0, 1), (0, 2), (0, 3)]
    values = torch.full((3, 3), inf, dtype=torch.float64).fill_diagonal_(0.0)
    values[0, 2] = values[2, 0] = 1.0
    assert [edge.pair for edge in spanning_tree(values)] == [(0, 2)]
    assert upper_closure(values)[0, 1] == inf
    assert spanning_tree(torch.zeros(1, 1)) == [] and upper_closure(torch.ones(1, 1)).tolist() == [[1.0]]


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_classes_are_those_of_the_level_set(seed):
    closed = ultrametric(seed)
    for threshold in (0.1, 0.3, 0.6):
        alive = [i for i in range(8) if closed[i, i] <= threshold]
        expected = {tuple(j for j in alive if i == j or closed[i, j] <= threshold) for i in alive}
        assert set(classes_below(closed, threshold)) == expected
    assert classes_below(closed, -1.0) == []


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_parted_points_are_a_largest_clique_and_greed_never_claims_more(seed):
    generator = torch.Generator().manual_seed(seed)
    lower = symmetric(torch.rand(8, 8, generator=generator, dtype=torch.float64)).fill_diagonal_(0.0)
    lower = torch.maximum(lower, lower.T)
    certain = torch.full((8, 8), inf, dtype=torch.float64).fill_diagonal_(0.0)
    exact = max(
        len(points)
        for size in range(1, 9)
        for points in combinations(range(8), size)
        if all(lower[i, j] > 0.3 for i, j in combinations(points, 2))
    )
    assert parted(lower, certain, 0.3) == exact
    before, closure.EXACT = closure.EXACT, 2
    try:
        assert 1 <= parted(lower, certain, 0.3) <= exact
    finally:
        closure.EXACT = before
