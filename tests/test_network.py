"""NetworkObjective against the plainest loop there is, for the architectures people use."""

import copy

import pytest
import torch
from architectures import CASES, conv_batch_norm, mlp, vectors
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import dss
from dss.objectives.judges import error_rate


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    build, data, loss = CASES[request.param]
    model = build()
    return model.eval(), data(), loss


def random_points(model, k=3):
    centre = nn.utils.parameters_to_vector(model.parameters()).detach()
    return centre + 0.1 * torch.randn(k, len(centre), dtype=centre.dtype)


def naive(model, data, loss, point):
    """Losses and gradient as anyone would compute them: load the weights, call backward."""
    model = copy.deepcopy(model)
    nn.utils.vector_to_parameters(point, model.parameters())
    value = loss(model(data[0]), data[1])
    gradient = torch.autograd.grad(value, list(model.parameters()))
    return value.item(), torch.cat([g.reshape(-1) for g in gradient])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_and_gradients_equal_a_naive_loop_over_models(case, dtype):
    model, (x, y), loss = case
    model = model.to(dtype)
    x = x.to(dtype) if x.is_floating_point() else x
    objective = dss.NetworkObjective(model, loss, (x, y), buffers="frozen")
    points = random_points(model).requires_grad_()
    losses = objective(points)
    (gradients,) = torch.autograd.grad(losses.sum(), points)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for point, value, gradient in zip(points.detach(), losses, gradients, strict=True):
        expected, slope = naive(model, (x, y), loss, point)
        assert value.item() == pytest.approx(expected, rel=tolerance)
        assert torch.allclose(gradient, slope, rtol=tolerance, atol=tolerance)


def test_vmap_loop_and_small_chunks_agree_to_rounding(case, monkeypatch):
    model, data, loss = case
    points = random_points(model, 5).double()
    expected = dss.NetworkObjective(model, loss, data, rows="loop", buffers="frozen")(points)
    assert torch.allclose(dss.NetworkObjective(model, loss, data, buffers="frozen")(points), expected, rtol=1e-12)
    monkeypatch.setattr("dss.objectives.network.objective.CHUNK_BYTES", 1)
    assert torch.allclose(dss.NetworkObjective(model, loss, data, buffers="frozen")(points), expected, rtol=1e-12)


def test_the_callers_model_is_left_as_it_was(case):
    model, data, loss = case
    model.train()
    before = copy.deepcopy(model.state_dict())
    dss.NetworkObjective(model, loss, data)(random_points(model).requires_grad_()).sum().backward()
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


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


def test_minibatches_are_seeded_and_unbiased():
    torch.manual_seed(0)
    model, data = mlp(), vectors()
    objective = dss.NetworkObjective(model, cross_entropy, data, batch_size=5)
    points = random_points(model)
    draws = [objective.estimate(points, torch.Generator().manual_seed(i)) for i in range(400)]
    assert torch.equal(draws[7], objective.estimate(points, torch.Generator().manual_seed(7)))
    spread = torch.stack(draws).std(0) / 20
    assert ((torch.stack(draws).mean(0) - objective(points)).abs() < 4 * spread).all()


def test_datasets_and_loaders_read_the_same_data_as_tensors():
    torch.manual_seed(0)
    model, (x, y) = mlp(), vectors()
    points = random_points(model)
    expected = dss.NetworkObjective(model, cross_entropy, (x, y))(points)
    dataset = TensorDataset(x, y)
    loader = DataLoader(dataset, batch_size=4)
    assert torch.equal(dss.NetworkObjective(model, cross_entropy, dataset)(points), expected)
    from_loader = dss.NetworkObjective(model, cross_entropy, loader)
    assert torch.equal(from_loader(points), expected) and from_loader.batch_samples == 4


def test_an_error_rate_judges_but_refuses_to_give_gradients():
    torch.manual_seed(0)
    model, (x, y) = mlp(), vectors()
    judge = dss.NetworkObjective(model, error_rate, (x, y))
    points = random_points(model)
    nn.utils.vector_to_parameters(points[1], model.parameters())
    assert judge(points)[1].item() == pytest.approx((model(x).argmax(-1) != y).double().mean().item())
    with pytest.raises(dss.InputError, match="as the judge"):
        judge(points.requires_grad_())


class FunctionalDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, x):
        return self.inner(nn.functional.dropout(x))


@pytest.mark.parametrize(
    ("build", "loss", "data", "message"),
    [
        (FunctionalDropout, cross_entropy, vectors, "self.training"),
        (mlp, nn.CrossEntropyLoss(reduction="sum"), vectors, "mean over samples"),
        (mlp, nn.CrossEntropyLoss(reduction="none"), vectors, "scalar"),
        (mlp, cross_entropy, lambda: (torch.zeros(0, 6), torch.zeros(0)), "empty"),
        (mlp, cross_entropy, lambda: (torch.zeros(3, 6), torch.zeros(2)), "as many samples"),
        (mlp, cross_entropy, lambda: TensorDataset(torch.zeros(0, 6)), "empty"),
        (mlp, cross_entropy, lambda: "digits", "DataLoader"),
    ],
)
def test_what_cannot_be_judged_is_refused_with_the_cure(build, loss, data, message):
    torch.manual_seed(0)
    with pytest.raises(dss.InputError, match=message):
        dss.NetworkObjective(build(), loss, data())


def test_a_part_of_the_data_is_spread_over_it_and_leaves_the_objective_alone():
    torch.manual_seed(0)
    model, x, y = mlp(), vectors()[0].repeat(3, 1), vectors()[1].repeat(3)
    x = x + torch.randn_like(x)
    objective = dss.NetworkObjective(model, cross_entropy, (x, y), batch_size=len(x))
    points, whole = random_points(model), objective(random_points(model).detach() * 0)
    part, places = objective.part(5), [i * len(x) // 5 for i in range(5)]
    torch.testing.assert_close(part(points), dss.NetworkObjective(model, cross_entropy, (x[places], y[places]))(points))
    assert part.samples == 5 == part.batch_samples and objective.samples == len(x) == objective.batch_samples
    assert torch.equal(objective(random_points(model).detach() * 0), whole)
