"""Merge trees of trained networks: heights proved, copies aligned, and what is refused."""

import json
import re

import pytest
import torch
from test_topology import Table

import dss


@pytest.fixture(scope="module")
def nets():
    """Four trained nets of a small task, as an objective and state dicts."""
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = [torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)) for _ in range(4)]
    for model in models:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(400):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    objective = dss.NetworkObjective(models[0], torch.nn.functional.cross_entropy, (x, y))
    return objective, [model.state_dict() for model in models]


def test_heights_are_proved(nets):
    objective, states = nets
    tree = dss.merge_tree(objective, states, names=["a", "b", "c", "d"])
    assert len(tree.searches) == 3 and all(merge.proven for merge in tree.merges)
    top = tree.merges[-1].height
    assert tree.components(top) == (1, 1) and tree.components_in_words(top) == "1 component, proved"
    assert top < 1.1 * tree.births.max() < tree.straight.max()
    for searched in tree.searches:
        assert searched.seen <= searched.upper <= 1.02 * searched.seen
    json.dumps(tree.as_json(), allow_nan=False)
    assert set(re.findall(r"'(\w)'", tree.to_newick())) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("by", ["weights", "activations"])
def test_reordered_copies_are_one_point_when_aligned(nets, by):
    """A copy with its hidden units in another order, and another network."""
    objective, states = nets
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    copy = {
        name: value[:, order] if name == "2.weight" else value if name == "2.bias" else value[order]
        for name, value in states[0].items()
    }
    apart = dss.merge_tree(objective, [states[0], copy, states[1]], prove="never", search=dss.StraightLine())
    tree = dss.merge_tree(objective, [states[0], copy, states[1]], prove="never", search=dss.StraightLine(), align=by)
    assert torch.equal(tree.points[0], tree.points[1]) and torch.equal(tree.points[0], apart.points[0])
    assert apart.straight[0, 1] > 2 * apart.births.max() and tree.straight[0, 1] == tree.births[0]
    assert torch.allclose(tree.births, apart.births, rtol=1e-4)


def test_bad_input_is_named(nets):
    objective, states = nets
    good = [objective.space.flatten(state) for state in states]
    for points, message in (
        ([], "at least one point is needed, got none"),
        ([states[0], torch.nn.Linear(2, 2).state_dict()], "point 1: .*missing"),
        ([good[0], good[1][:-1]], r"point 1 must be a finite point \(42,\)"),
        ([good[0], good[1].double()], "one shape, dtype and device: .*float64.* of one architecture"),
        ([good[0], good[1] * torch.nan], "point 1"),
        ([good[0], 3], r"point 1 must be a point \(p,\) or a state dict, got int"),
    ):
        with pytest.raises(dss.InputError, match=message):
            dss.merge_tree(objective, points)
    for options, message in (
        ({"pairs": "some"}, "tree, all, chain"),
        ({"names": ["a"]}, "1 names for 4 points"),
        ({"close": -1.0}, "close"),
        ({"align": "luck"}, "weights, activations"),
        ({"obstructions": [3]}, "obstructions must be"),
    ):
        with pytest.raises(dss.InputError, match=message):
            dss.merge_tree(objective, good, **options)
    with pytest.raises(dss.InputError, match="a state dict is read by a network's objective only"):
        dss.merge_tree(dss.Ring(), states)
    with pytest.raises(dss.InputError, match="finite loss"):
        dss.merge_tree(Table(torch.full((2, 2), torch.nan)), torch.zeros(2, 1))
