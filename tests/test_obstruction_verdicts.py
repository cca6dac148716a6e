"""What connect, barrier, the command line and the page make of walls; what keeps a wall from being claimed."""

import json

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import dss
from dss.theory import (
    Obstruction,
    Wall,
    bottleneck_obstruction,
    features,
    highest_wall,
    polygon_obstruction,
    strict_error_rate,
)

UNITS = 2
ADAM = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.01), max_steps=1500)
FINDERS = {
    "geodesic": dss.GeodesicString(descent=ADAM, limits=dss.Limits(rounds=6, beads=40)),
    "band": dss.ElasticBand(descent=ADAM, limits=dss.Limits(rounds=8)),
    "greedy": dss.GreedyString(descent=ADAM, limits=dss.Limits(rounds=6, beads=40)),
}


def targets():
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(30, 4, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 0.8, 0.3, 0.1], dtype=torch.float64)
    return y + 0.2


def autoencoder():
    return nn.Sequential(nn.Linear(4, UNITS), nn.Linear(UNITS, 4)).double()


def network(model=None, loss=mse_loss, y=None, **options):
    y = targets() if y is None else y
    return dss.NetworkObjective(model or autoencoder(), loss, (y, y), **options)


def principal(mix):
    """The best autoencoder, its two units mixed by a matrix: the orientation is the sign of its determinant."""
    y, mix = targets(), torch.tensor(mix, dtype=torch.float64)
    mean = y.mean(0)
    axes = mix @ torch.linalg.svd(y - mean, full_matrices=False).Vh[:UNITS]
    decoder = torch.linalg.pinv(axes)
    return torch.cat([axes.reshape(-1), -axes @ mean, decoder.reshape(-1), mean])


START = principal([[1.0, 0.0], [0.0, 1.0]])
EQUAL = principal([[0.3, -1.2], [0.8, 0.4]])
OPPOSITE = principal([[0.0, 1.0], [1.0, 0.0]])


@pytest.fixture(scope="module")
def wall():
    return bottleneck_obstruction(targets(), UNITS, output_bias=True)


@pytest.mark.parametrize("name", FINDERS)
def test_finders_agree_with_the_orientation_below_the_wall(name, wall):
    threshold = wall.best + 0.8 * (wall.threshold - wall.best)
    for end, separated in ((EQUAL, False), (OPPOSITE, True)):
        found = dss.connect(network(), START, end, threshold=threshold, finder=FINDERS[name], prove="never")
        assert found.connected is not separated
        assert wall.between(network(), START, end).proven is separated


def test_a_threshold_below_the_wall_is_answered_without_a_search(wall):
    found = dss.connect(network(), START, OPPOSITE, threshold=0.99 * wall.threshold, obstructions=[wall])
    assert found.disconnected and not found.connected and found.gradient_steps == 0 == found.path.intermediate_beads
    assert found.status.value == found.summary["status"] == "proved disconnected"
    assert found.summary["obstruction"] == {"lower": wall.threshold, "reason": found.reason}
    assert found.reason.count(". ") == 1 and "opposite orientations" in found.reason and not found.summary["proven"]
    json.dumps(found.summary, allow_nan=False)


def test_a_threshold_above_the_wall_and_ends_of_one_side_are_searched(wall):
    above = dss.connect(network(), START, OPPOSITE, threshold=1.5 * wall.threshold, obstructions=[wall], prove="never")
    assert above.connected and above.summary["obstruction"]["lower"] == wall.threshold
    same = dss.connect(network(), START, EQUAL, threshold=0.99 * wall.threshold, obstructions=[wall], prove="never")
    assert same.connected and same.summary["obstruction"]["lower"] is None and same.summary["status"] == "connected"
    assert "a path below 0.08" in same.summary["obstruction"]["reason"]


def test_a_barrier_has_a_proved_lower_side(wall):
    found = dss.barrier(network(), START, OPPOSITE, finders=(FINDERS["geodesic"],), tolerance=0.2, obstructions=[wall])
    assert found.lower_proven and found.lower == wall.threshold <= found.upper <= 1.3 * wall.threshold
    assert all(threshold > wall.threshold for threshold, _ in found.tried) and "orientations" in found.reason
    free = dss.barrier(network(), START, EQUAL, finders=(FINDERS["geodesic"],), tolerance=0.2, obstructions=[wall])
    assert not free.lower_proven and free.upper < wall.threshold


class Mistaken(Obstruction):
    """A wall where there is none."""

    def __init__(self, lower):
        self.threshold = lower

    def between(self, objective, start, end):
        return Wall(self.threshold, "A mistake. It follows.")

    def separation(self, first, second):
        return self.threshold

    def _accepts(self, reading):
        return None

    def _why(self, first, second, lower):
        return ""

    def _same(self, first, second):
        return ""


def test_a_path_that_passes_below_a_wall_is_an_internal_error():
    ends = torch.eye(2, dtype=torch.float64)
    for prove in ("always", "never"):
        with pytest.raises(RuntimeError, match=r"internal contradiction.*report"):
            dss.connect(dss.Quadratic(), *ends, threshold=1.0, obstructions=[Mistaken(2.0)], prove=prove)
    with pytest.raises(RuntimeError, match="internal contradiction"):
        dss.barrier(dss.Quadratic(), *ends, obstructions=[Mistaken(2.0)])


def test_the_highest_of_several_walls_counts_and_what_is_no_obstruction_is_refused(wall):
    low = Mistaken(0.5 * wall.threshold)
    assert highest_wall([low, wall], network(), START, OPPOSITE).lower == wall.threshold
    assert highest_wall([low, wall], network(), START, EQUAL).lower == low.threshold
    assert highest_wall([], network(), START, EQUAL) is None
    with pytest.raises(dss.InputError, match="got float"):
        dss.connect(network(), START, EQUAL, threshold=1.0, obstructions=[0.3])


class Twice(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, UNITS).double(), nn.Linear(UNITS, 4).double()

    def forward(self, x):
        return self.decoder(self.encoder(x)) + x


class TwoHeads(Skip):
    """Which layer comes last depends on the weights."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(UNITS, 4).double()

    def forward(self, x):
        return (self.decoder if self.encoder.weight.sum() > 0 else self.other)(self.encoder(x))


class InPlace(nn.Sequential):
    def forward(self, x):
        return super().forward(x).relu_()


def scaled(output, target):
    return 0.5 * mse_loss(output, target)


def shifted(output, target):
    return mse_loss(output + 1, target)


def by_hand(output, target):
    return ((output - target) ** 2).mean()


class Doubled(dss.Objective):
    def __call__(self, points):
        return 2 * network()(points)


@pytest.mark.parametrize(
    "objective, says",
    [
        (network(loss=nn.MSELoss()), None),
        (network(loss=lambda output, target: mse_loss(output, target)), None),
        (network(nn.Sequential(*autoencoder(), nn.Identity(), nn.Dropout(0.5))), None),
        (network(nn.Sequential(nn.Linear(4, UNITS), nn.BatchNorm1d(UNITS), nn.Linear(UNITS, 4)).double()), None),
        (network(loss=nn.MSELoss(reduction="sum")), "reduction 'mean'"),
        (network(loss=mse_loss, whole=True), "all samples at once"),
        (network(loss=lambda output, target: ((output - target) ** 2).sum(1)), "the loss is"),
        (network(loss=scaled), "the loss is scaled"),
        (network(loss=shifted), "the loss is shifted"),
        (network(loss=by_hand), "the loss is by_hand"),
        (network(loss=nn.functional.l1_loss), "the loss is l1_loss"),
        (network(y=targets() + 1e-9), "other targets"),
        (network(y=targets()[:20]), "other targets"),
        (network(nn.Sequential(*autoencoder(), nn.Sigmoid())), "something follows its last layer"),
        (network(InPlace(*autoencoder())), "something follows its last layer"),
        (network(nn.Sequential(*autoencoder(), nn.ReLU(inplace=True))), "something follows its last layer"),
        (dss.DoubleWell(), "DoubleWell"),
        (Doubled(), "Doubled"),
        (dss.Perplexity(network()), "Perplexity"),
    ],
)
def test_a_wall_is_claimed_only_of_what_was_seen_to_be_the_loss_it_is_for(objective, says, wall):
    ends = START, OPPOSITE
    if isinstance(objective, dss.NetworkObjective) and objective.space.size > len(START):  # the norm's scale and shift
        ends = (torch.cat([end[:10], torch.tensor([1.0, 1.0, 0.0, 0.0]).double(), end[10:]]) for end in ends)
    found = wall.between(objective, *ends)
    assert found.proven is (says is None)
    assert says is None or (says in found.reason and found.summary["lower"] is None)


@pytest.mark.parametrize("model, says", [(Skip(), "is added"), (TwoHeads(), "not always the same")])
def test_outputs_that_are_not_always_one_layers_have_no_wall(model, says, wall):
    objective = network(model)
    ends = torch.randn(2, objective.space.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    ends[:, : 4 * UNITS] = torch.tensor([[1.0], [-1.0]])
    assert says in wall.between(objective, *ends).reason


def test_features_are_what_the_last_layer_is_handed(wall):
    y, model = targets(), autoencoder()
    model.load_state_dict(network().state(START))
    phi = features(model.train(), "1", y)
    assert torch.equal(model[1](phi), model(y)) and model.training and not model[1]._forward_pre_hooks
    assert wall.orientation(phi) == wall.layer_orientation(model[1].weight.detach()) == -wall.orientation(phi[:, [1, 0]])
    with pytest.raises(dss.InputError, match="has no layer '2'"):
        features(model, "2", y)
    two = TwoHeads()
    nn.init.ones_(two.encoder.weight)
    with pytest.raises(dss.InputError, match="does not call its layer 'other'"):
        features(two, "other", y)


def test_sums_have_walls_of_sums_and_frozen_layers_none(wall):
    total = bottleneck_obstruction(targets(), UNITS, output_bias=True, reduction="sum")
    found = total.between(network(loss=nn.MSELoss(reduction="sum")), START, OPPOSITE)
    assert found.lower == total.threshold == pytest.approx(120 * wall.threshold)
    model = autoencoder()
    model[1].weight.requires_grad_(False)
    objective = network(model)
    assert "no free parameter" in wall.between(objective, START[: objective.space.size], OPPOSITE[: objective.space.size]).reason


def test_a_bias_a_named_layer_and_a_weight_computed_from_others_are_minded(wall):
    y = targets()
    assert "without one there" in bottleneck_obstruction(y, UNITS, output_bias=False).between(network(), START, OPPOSITE).reason
    assert bottleneck_obstruction(y, UNITS, output_bias=True, layer="1").between(network(), START, OPPOSITE).proven
    other = bottleneck_obstruction(y, UNITS, output_bias=True, layer="0").between(network(), START, OPPOSITE)
    assert "its layer '0'" in other.reason
    for computed in (lambda m: nn.utils.parametrize.register_parametrization(m, "weight", Twice()), nn.utils.spectral_norm):
        model = autoencoder()
        computed(model[1])
        objective = network(model, rows="loop")
        ends = torch.randn(2, objective.space.size, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        assert not wall.between(objective, *ends).proven
    skip = bottleneck_obstruction(y, 1, output_bias=True, regressors=y[:, :1])
    assert "regressors" in skip.between(network(), START, OPPOSITE).reason


def classifier():
    return nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False))


@pytest.mark.parametrize(
    "loss, judged, says",
    [
        ("cross_entropy", cross_entropy, None),
        ("cross_entropy", nn.CrossEntropyLoss(), None),
        ("error_rate", strict_error_rate, None),
        ("error_rate", dss.error_rate, "strict_error_rate"),
        ("cross_entropy", nn.CrossEntropyLoss(label_smoothing=0.1), "plain cross_entropy"),
    ],
)
def test_classifiers_are_judged_by_the_loss_of_their_wall(loss, judged, says):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 3, generator=generator), torch.arange(24) % 4
    objective = dss.NetworkObjective(classifier(), judged, (x, y))
    angles = torch.arange(4) * torch.pi / 2
    rows, below = torch.stack([angles.cos(), angles.sin()], 1), torch.randn(6, generator=generator)
    a, b = torch.cat([below, rows.reshape(-1)]), torch.cat([below, rows[:, [1, 0]].reshape(-1)])
    found = polygon_obstruction(y, loss=loss).between(objective, a, b)
    assert found.proven is (says is None) and (says is None or says in found.reason)
    if says is None:
        line = dss.Path.straight(a, b).resample(2001).beads
        assert objective(line).max() >= found.lower and "turn clockwise" in found.reason
