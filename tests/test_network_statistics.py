"""Running statistics of normalising layers: recomputed as torch would, for every call, on the data that they are told."""

import copy

import pytest
import torch
from architectures import conv_batch_norm, vectors
from network_points import naive, random_points
from torch import nn
from torch.nn.functional import cross_entropy

import dss


def test_recalibrated_statistics_are_those_of_torch_and_their_gradient_is_a_difference_quotient():
    torch.manual_seed(0)
    model, data = conv_batch_norm().double(), (torch.randn(30, 1, 6, 6), torch.randint(3, (30,)))
    judge = (torch.randn(20, 1, 6, 6).double(), torch.randint(3, (20,)))
    objective = dss.NetworkObjective(model, cross_entropy, judge, calibration=data)
    point = random_points(model, 1).requires_grad_()
    loss = objective(point)
    reference = copy.deepcopy(model).train()
    nn.utils.vector_to_parameters(point[0].detach(), reference.parameters())
    for norm in (reference[1], reference[6]):
        norm.momentum = None
        norm.reset_running_stats()
    reference(data[0].double())
    assert loss.item() == pytest.approx(cross_entropy(reference.eval()(judge[0]), judge[1]).item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), point)
    direction = torch.randn_like(point)
    step = 1e-6 * direction
    quotient = (objective(point.detach() + step) - objective(point.detach() - step)).item() / 2e-6
    assert (gradient * direction).sum().item() == pytest.approx(quotient, rel=1e-6)


class Twice(nn.Module):
    """Normalises two different things by one layer."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.norm(x) + torch.tanh(self.norm(3 * x + 1)))


class Named(Twice):
    """Calls its layer by keyword."""

    def forward(self, x):
        return self.head(self.norm(input=x))


class Shared(nn.Module):
    """One layer at two places and two sizes."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(2, 2, 2), nn.BatchNorm1d(2), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.norm(self.conv(self.norm(x.view(-1, 2, 3)))).flatten(1))


@pytest.mark.parametrize("build", [Twice, Named, Shared])
def test_statistics_of_a_layer_are_those_of_all_its_calls(build):
    torch.manual_seed(0)
    model, (x, y) = build().double(), (torch.randn(30, 6).double(), torch.randint(3, (30,)))
    objective = dss.NetworkObjective(model, cross_entropy, (x, y))
    point = random_points(model, 1).requires_grad_()
    reference = copy.deepcopy(model).train()
    nn.utils.vector_to_parameters(point[0].detach(), reference.parameters())
    reference.norm.momentum = None
    reference.norm.reset_running_stats()
    reference(x)
    assert objective(point).item() == pytest.approx(cross_entropy(reference.eval()(x), y).item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(objective(point).sum(), point)
    step = 1e-6 * torch.randn_like(point)
    quotient = objective(point.detach() + step) - objective(point.detach() - step)
    assert (gradient * 2 * step).sum().item() == pytest.approx(quotient.item(), rel=1e-4)


@pytest.mark.parametrize("samples", [2, 3, 5, 29])
def test_no_chunk_is_too_small_for_statistics(samples, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("dss.objectives.network.pieces.CHUNK_BYTES", 1)
    data = torch.randn(samples, 6), torch.randint(3, (samples,))
    objective = dss.NetworkObjective(Twice(), cross_entropy, data)
    points = random_points(Twice(), 2)
    assert objective(points).isfinite().all() and objective.estimate(points, torch.Generator()).isfinite().all()


def test_a_batch_of_one_is_refused_where_layers_normalise_by_it():
    objective = dss.NetworkObjective(Twice(), cross_entropy, vectors(), batch_size=1)
    with pytest.raises(dss.InputError, match="batch_size"):
        objective.estimate(random_points(Twice(), 1), torch.Generator())


class Frozen(nn.BatchNorm1d):
    """Stays in eval, as detection models have it."""

    def train(self, mode=True):
        return super().train(False)


class Activated(nn.BatchNorm1d):
    def forward(self, x):
        return torch.relu(super().forward(x))


@pytest.mark.parametrize("norm", [Frozen, Activated, lambda k: nn.InstanceNorm1d(k, track_running_stats=True)])
def test_layers_that_are_no_plain_batch_norm_keep_their_statistics(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Unflatten(1, (2, 3)), norm(2), nn.Flatten(), nn.Linear(6, 3))
    model[1].running_mean.normal_(), model[1].running_var.uniform_(0.5, 2)
    data, points = (torch.randn(20, 6), torch.randint(3, (20,))), random_points(model, 2)
    objective = dss.NetworkObjective(model, cross_entropy, data)
    assert objective.buffers == "none" and not objective.recalibrates
    assert objective(points)[0].item() == pytest.approx(naive(model.eval(), data, cross_entropy, points[0])[0], rel=1e-6)


def test_a_judge_recalibrates_on_the_training_data_unless_told_otherwise():
    torch.manual_seed(0)
    model, data = conv_batch_norm(), (torch.randn(30, 1, 6, 6), torch.randint(3, (30,)))
    judge_data = (torch.randn(20, 1, 6, 6), torch.randint(3, (20,)))
    train = dss.NetworkObjective(model, cross_entropy, data)
    judge = dss.NetworkObjective(model, cross_entropy, judge_data)
    told = dss.NetworkObjective(model, cross_entropy, judge_data, calibration=data)
    points = random_points(model)
    assert torch.equal(judge.calibrated_by(train)(points), told(points))
    assert not torch.equal(judge(points), told(points))


def test_fewer_calibration_samples_are_spread_over_all_and_where_none_are_needed_nothing_changes():
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double(), *vectors()
    x, other = x.double(), torch.randn(30, 6, dtype=torch.float64)
    objective = dss.NetworkObjective(model, cross_entropy, (x, y), calibration=(other, torch.zeros(30, dtype=torch.long)))
    points, few = random_points(model).detach(), other[[i * 30 // 8 for i in range(8)]]
    expected = dss.NetworkObjective(model, cross_entropy, (x, y), calibration=(few, torch.zeros(8, dtype=torch.long)))(points)
    torch.testing.assert_close(objective.with_calibration_of(8)(points), expected)
    assert not torch.allclose(expected, objective(points)) and objective.with_calibration_of(30) is objective
    frozen = dss.NetworkObjective(model, cross_entropy, (x, y), buffers="frozen")
    assert frozen.with_calibration_of(8) is frozen


def test_a_norm_that_counts_no_batches_has_the_same_statistics():
    torch.manual_seed(0)
    (x, y), losses = vectors(), []
    for counted in (True, False):
        model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
        if not counted:
            model[1].num_batches_tracked = None
        points = torch.linspace(-1, 1, 63, dtype=torch.float64)[None]
        losses.append(dss.NetworkObjective(model, cross_entropy, (x.double(), y))(points))
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
