"""Matching against brute force and planted permutations; scaling against its closed form."""

import itertools

import pytest
import torch
from architectures import CASES
from symmetric_networks import Attention
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from dss.symmetry.layout import Group, permuted
from dss.symmetry.matching import Matching
from dss.symmetry.scaling import Gauge
from dss.symmetry.terms import Term
from models.mlp import MLP
from models.resnet import ResNet
from models.transformer import RowTransformer


def objective(model, shape, classes=3, samples=40, **options):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(samples, *shape, generator=generator), torch.randint(classes, (samples,), generator=generator)
    return dss.NetworkObjective(model, cross_entropy, data, **options)


def point_of(network, model, seed=0):
    """The model's point with noise, so that nothing is equal by chance."""
    point = network.space.flatten(model.state_dict())
    return point + 0.1 * torch.randn(point.shape, generator=torch.Generator().manual_seed(seed))


def shuffled(network, point, seed):
    specification = dss.align(network, point, point).specification
    return specification.apply(point, specification.random(torch.Generator().manual_seed(seed)))


def orders(group):
    """All permutations of a group, one for each block."""
    every = [torch.tensor(p) for p in itertools.permutations(range(group.size))]
    return [torch.stack(rows).view(group.shape) for rows in itertools.product(every, repeat=group.blocks)]


def best_by_force(groups, terms):
    choices = itertools.product(*map(orders, groups.values()))
    named = (dict(zip(groups, choice)) for choice in choices)
    return max(sum((t.a * permuted(t.b, (*t.axes, None), groups, p)).sum().item() for t in terms) for p in named)


def random_term(axes, sizes, generator):
    a, b = (torch.randn(*sizes, generator=generator, dtype=torch.float64) for _ in range(2))
    return Term.of(axes, a, b)


@pytest.mark.parametrize("seed", range(5))
def test_one_group_is_matched_as_well_as_all_permutations_allow(seed):
    generator = torch.Generator().manual_seed(seed)
    groups = {"u": Group("u", 5, ())}
    terms = [random_term(("u", None), (5, 3), generator), random_term((None, "u"), (2, 5), generator)]
    matching = Matching(groups, terms)
    assert matching.value(matching.run(generator)) == pytest.approx(best_by_force(groups, terms), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_heads_and_their_features_are_matched_as_well_as_the_wreath_product_allows(seed):
    generator = torch.Generator().manual_seed(seed)
    groups = {"h": Group("h", 3, ()), "d": Group("d", 2, (), "h", 3), "e": Group("e", 2, (), "h", 3)}
    terms = [
        random_term(("h", "d", None), (3, 2, 4), generator),
        random_term((None, "h", "d"), (2, 3, 2), generator),
        random_term(("h", "e", None), (3, 2, 2), generator),
        random_term(("h", None), (3, 1), generator),
    ]
    matching = Matching(groups, terms)
    assert matching.value(matching.run(generator)) == pytest.approx(best_by_force(groups, terms), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_meet_come_to_where_no_single_one_can_be_better(seed):
    generator = torch.Generator().manual_seed(seed)
    groups = {"u": Group("u", 4, ()), "v": Group("v", 3, ())}
    terms = [
        random_term(("u", None), (4, 2), generator),
        random_term(("v", "u"), (3, 4), generator),
        random_term(("u", "u"), (4, 4), generator),
    ]
    matching, best = Matching(groups, terms), best_by_force(groups, terms)
    found = matching.run(generator, restarts=30)
    assert matching.value(found) == pytest.approx(best, rel=1e-12)
    arrays = [permuted(t.b, (*t.axes, None), groups, found.permutations) for t in terms]
    assert all(torch.equal(x, y) for x, y in zip(arrays, found.arrays))
    single = matching.run(generator)
    here = [Term(t.axes, t.a, x) for t, x in zip(terms, single.arrays)]
    # The group that stands once in every term is at its best; of the squared one a linear model was.
    assert matching.value(single) == pytest.approx(best_by_force({"v": groups["v"]}, [here[1]]) + sum(
        (t.a * t.b).sum().item() for t in (here[0], here[2])
    ), rel=1e-12)  # fmt: skip


@pytest.mark.parametrize("by", ["weights", "activations"])
@pytest.mark.parametrize("name", CASES)
def test_shuffled_copies_are_restored_bit_for_bit(name, by):
    torch.manual_seed(0)
    make, data, loss = CASES[name]
    model = make()
    network = dss.NetworkObjective(model, loss, data())
    point = point_of(network, model)
    for seed in range(3):
        assert torch.equal(dss.align(network, point, shuffled(network, point, seed), by=by, seed=seed).point, point)


PLANTED = {
    **{f"width {w}": (lambda w=w: MLP(6, 3, width=w, depth=4), (6,), 20 if w < 64 else 5) for w in (16, 64, 256)},
    "deep": (lambda: MLP(6, 3, width=24, depth=9), (6,), 20),
    "residual": (lambda: ResNet(blocks=2, width=8, norm=False), (1, 8, 8), 5),
    "residual, normed": (lambda: ResNet(blocks=1, width=8), (1, 8, 8), 5),
    "transformer": (lambda: RowTransformer(width=16, heads=4, blocks=2), (1, 8, 8), 5),
    "packed attention": (lambda: Attention("reshape"), (6, 5), 5),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_permutations_are_undone_at_every_depth(name):
    make, shape, seeds = PLANTED[name]
    torch.manual_seed(0)
    model = make()
    network = objective(model, shape)
    point = point_of(network, model)
    specification = dss.align(network, point, point).specification
    for seed in range(seeds):
        other = specification.apply(point, specification.random(torch.Generator().manual_seed(seed)))
        found = dss.align(network, point, other, seed=seed)
        assert torch.equal(found.point, point) and found.distance_after == 0 < found.distance_before


def test_ties_and_dead_units_are_restored_too():
    """Units equal in what comes in, units that never fire, and units that are zero altogether."""
    model = MLP(6, 3, width=12, depth=3)
    with torch.no_grad():
        first, second, last = model.layers
        first.weight[1], first.bias[1] = first.weight[0], first.bias[0]
        first.bias[2:5] = -100.0
        second.weight[:, 4] = first.weight[4] = 0
        second.weight[3:6] = second.bias[3:6] = last.weight[:, 3:6] = 0
    network = objective(model, (6,))
    point = network.space.flatten(model.state_dict())
    for seed, by in itertools.product(range(5), ("weights", "activations")):
        assert torch.equal(dss.align(network, point, shuffled(network, point, seed), by=by).point, point)


def test_alignment_reports_itself():
    model = MLP(6, 3, width=8, depth=3)
    network = objective(model, (6,))
    a, b = point_of(network, model, 1), point_of(network, model, 2)
    found = dss.align(network, network.space.unflatten(a), network.space.unflatten(b), restarts=3)
    moved = found.specification.apply(b, found.permutations)
    assert torch.equal(moved, found.point) and found.groups.keys() == found.permutations.keys()
    assert found.distance_before == pytest.approx((a - b).norm().item(), rel=1e-6)
    assert (
        found.distance_after == pytest.approx((a - moved).norm().item(), rel=1e-6)
        and found.distance_after <= found.distance_before
    )
    assert network(torch.stack([b, moved])).diff().abs() < 1e-6
    assert torch.equal(dss.align(network, a, b, restarts=3).point, found.point)
    assert found.moved_units == sum(int((p != torch.arange(8)).sum()) for p in found.permutations.values())


def test_frozen_statistics_hold_their_channels():
    model = ResNet(blocks=1, width=4)
    frozen, moving = (objective(model, (1, 8, 8), buffers=buffers) for buffers in ("frozen", "recalibrate"))
    point = point_of(moving, model)
    other = shuffled(moving, point, 0)
    assert torch.equal(dss.align(moving, point, other).point, point)
    held = dss.align(frozen, point, other)
    assert torch.equal(held.point, other) and not held.groups
    assert held.pinned["stem.weight[0]"].endswith("is shared")


def test_parts_of_networks_and_losses_of_the_whole_data_are_aligned_too():
    """What is no coordinate holds its units; the rest is restored."""
    torch.manual_seed(0)
    model = MLP(6, 3, width=5, depth=4)
    part = objective(model, (6,), only=lambda name: not name.startswith("layers.0"))
    point = part.space.flatten(model.state_dict())
    found = dss.align(part, point, shuffled(part, point, 0))
    assert torch.equal(found.point, point) and found.pinned["layers.1.weight[1]"] == "layers.0.weight is fixed"
    assert [group.size for group in found.groups.values()] == [5, 5]
    data = torch.randn(20, 6), torch.zeros(20)
    whole = dss.NetworkObjective(model, lambda output, _: output.square().mean().sqrt(), data, whole=True)
    point = whole.space.flatten(model.state_dict())
    assert torch.equal(dss.align(whole, point, shuffled(whole, point, 0)).point, point)


class SmallBatchesOnly(nn.Module):
    """Turns its units around in batches larger than those that types are read from."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.first(x)
        return self.second(hidden if len(x) <= 16 else torch.as_tensor(hidden.numpy()[:, ::-1].copy()))


def test_a_changed_function_is_refused():
    torch.manual_seed(0)
    network = objective(model := SmallBatchesOnly(), (6,))
    point = network.space.flatten(model.state_dict())
    state, order = model.state_dict(), [1, 0, 2, 3]
    swapped = {"first.weight": state["first.weight"][order], "first.bias": state["first.bias"][order]}
    swapped |= {"second.weight": state["second.weight"][:, order], "second.bias": state["second.bias"]}
    with pytest.raises(dss.InputError, match="the aligned copy is another function"):
        dss.align(network, point, swapped)


def test_networks_that_write_in_place_leave_the_data_alone():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
    network = objective(model, (6,))
    before, point = network.data.inputs[0].clone(), network.space.flatten(model.state_dict())
    assert torch.equal(dss.align(network, point, shuffled(network, point, 1), rescale=True, by="activations").point, point)
    assert torch.equal(network.data.inputs[0], before)


def test_bad_questions_are_refused():
    network = objective(model := MLP(6, 3, width=4), (6,))
    point = network.space.flatten(model.state_dict())
    for options in ({"by": "names"}, {"restarts": 0}):
        with pytest.raises(dss.InputError, match="by must be one of weights, activations"):
            dss.align(network, point, point, **options)
    with pytest.raises(dss.InputError, match="a NetworkObjective is needed, got Quadratic"):
        dss.align(dss.Quadratic(torch.eye(2)), point, point)
    with pytest.raises(dss.InputError, match=r"a finite point \(43,\)"):
        dss.align(network, point, point[1:])


def gauge_of(network):
    point = network.space.flatten(dict(network.model.named_parameters()))
    return Gauge.of(dss.align(network, point, point).specification)


def test_which_units_scale_is_read_off_the_network():
    torch.manual_seed(0)
    exponents = {
        name: [scaling.exponents for scaling in gauge_of(objective(make(), shape)).scalings]
        for name, (make, shape) in {
            "relu": (lambda: MLP(6, 3, width=5), (6,)),
            "gelu": (lambda: MLP(6, 3, width=5, activation=nn.GELU), (6,)),
            "normed": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)), (6,)),
            "attention": (lambda: RowTransformer(width=8, heads=2), (1, 8, 8)),
        }.items()
    }
    assert exponents["relu"] == [(1, 1, -1)] and exponents["gelu"] == []
    assert exponents["normed"] == [(0, 0, 1, 1, -1)]
    # Queries against keys (whose bias does not matter), and values against the output layer.
    assert exponents["attention"][1:] == [(1, -1, 1, 0), (1, 1, -1)]


def test_balance_is_the_closed_form_of_one_hidden_layer():
    network = objective(model := MLP(6, 3, width=5), (6,))
    state = {name: value.detach().double() for name, value in model.named_parameters()}
    found = gauge_of(network).balanced(state)
    ins = (state["layers.0.weight"].square().sum(1) + state["layers.0.bias"].square()).sqrt()
    outs = state["layers.1.weight"].norm(dim=0)
    torch.testing.assert_close(found.factors[0], (outs / ins).sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.state["layers.0.weight"], state["layers.0.weight"] * (outs / ins).sqrt()[:, None])


SCALED = {
    "relu": (lambda: MLP(6, 3, width=8, depth=4), (6,)),
    "tanh": (lambda: MLP(6, 3, width=8, depth=3, activation=nn.Tanh), (6,)),
    "convolutions": (dss.DigitsNet, (1, 8, 8)),
    "transformer": (lambda: RowTransformer(width=8, heads=2), (1, 8, 8)),
}


@pytest.mark.parametrize("by", ["weights", "activations"])
@pytest.mark.parametrize("name", SCALED)
def test_shuffled_scaled_and_reflected_copies_come_back(name, by):
    make, shape = SCALED[name]
    torch.manual_seed(0)
    network = objective(model := make(), shape)
    point = network.space.flatten(model.state_dict()).double()
    gauge, generator = gauge_of(network), torch.Generator().manual_seed(1)
    state = network.space.unflatten(shuffled(network, point, 0))
    for scaling in gauge.scalings:
        state = scaling.scaled(state, torch.exp2(2 * torch.rand(scaling.group.shape, generator=generator).double() - 1))
    for reflection in gauge.reflections:
        state = reflection.scaled(state, torch.rand(reflection.group.shape, generator=generator).sub(0.5).sign().double())
    other = network.space.flatten(state)
    assert dss.align(network, point, other, by=by).distance_after > 1
    found = dss.align(network, point, other, by=by, rescale=True)
    assert found.distance_after < 1e-10 and found.rescaled


def test_matching_lowers_the_straight_line_between_trained_networks():
    """Wider than two units of chance: digits, width 64, one pair; `benchmarks/symmetry.py` has the table."""
    task = dss.load_task("digits")
    ends = []
    for seed in range(2):
        torch.manual_seed(seed)
        model, (x, y) = MLP(64, 10, width=64, depth=3), task.train
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        ends.append(model)
    network = dss.NetworkObjective(ends[0], cross_entropy, task.judge)
    a, b = (network.space.flatten(model.state_dict()) for model in ends)

    def excess(end):
        losses = network(torch.lerp(a, end, torch.linspace(0, 1, 11)[:, None]))
        return (losses.max() - max(losses[0], losses[-1])).item()

    naive, matched = excess(b), excess(dss.align(network, a, b).point)
    assert matched < naive / 3 and excess(dss.align(network, a, b, by="activations").point) < naive / 3
