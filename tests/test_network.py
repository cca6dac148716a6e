"""NetworkObjective against the plainest loop there is, for the architectures people use."""

import copy

import pytest
import torch
from architectures import CASES, mlp, vectors
from network_points import naive, random_points
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


@pytest.mark.parametrize(
    "wrong", [lambda x: x[0], lambda x: x[:, :5], lambda x: x[None], lambda x: x.long(), lambda x: torch.cat([x, x], 1)]
)
def test_points_of_another_shape_are_refused_with_the_cure(wrong):
    objective = dss.NetworkObjective(
        nn.Linear(3, 2), nn.functional.cross_entropy, (torch.randn(8, 3), torch.randint(2, (8,))), batch_size=4
    )
    points = wrong(torch.zeros(1, 8))
    for loss in (objective, lambda x: objective.estimate(x, torch.Generator())):
        with pytest.raises(
            dss.InputError,
            match=r"points must be floating-point numbers \(k, 8\), got .*" + (r"point\[None\]" if points.shape == (8,) else ""),
        ):
            loss(points)


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
    monkeypatch.setattr("dss.objectives.network.pieces.CHUNK_BYTES", 1)
    assert torch.allclose(dss.NetworkObjective(model, loss, data, buffers="frozen")(points), expected, rtol=1e-12)


def test_the_callers_model_is_left_as_it_was(case):
    model, data, loss = case
    model.train()
    before = copy.deepcopy(model.state_dict())
    dss.NetworkObjective(model, loss, data)(random_points(model).requires_grad_()).sum().backward()
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


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
        (mlp, lambda o, t: cross_entropy(o, t, reduction="sum"), vectors, "mean over samples"),
        (mlp, lambda o, t: cross_entropy(o, t, reduction="none")[:, None], vectors, "scalar"),
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


def test_frozen_parameters_are_constants_of_the_objective_and_part_of_its_states():
    torch.manual_seed(0)
    model, data = mlp(), vectors()
    model[0].weight.requires_grad_(False)
    objective = dss.NetworkObjective(model, cross_entropy, data)
    assert objective.space.names == ("0.bias", "2.weight", "2.bias")
    point = torch.randn(objective.space.size)
    state = objective.state(point)
    other = mlp()
    other.load_state_dict(state)
    assert state.keys() == model.state_dict().keys() and torch.equal(other[0].weight, model[0].weight)
    assert objective(point[None]).item() == pytest.approx(cross_entropy(other(data[0]), data[1]).item(), rel=1e-6)


@pytest.mark.parametrize(("only", "size"), [("2.*", 18), ("*.bias", 8), (lambda name: name == "0.weight", 30)])
def test_an_objective_moves_only_what_it_is_told_to(only, size):
    torch.manual_seed(0)
    model, data = mlp().double(), vectors()
    objective = dss.NetworkObjective(model, cross_entropy, (data[0].double(), data[1]), only=only)
    points = torch.randn(2, objective.space.size, dtype=torch.float64, requires_grad=True)
    assert objective.space.size == size
    (gradient,) = torch.autograd.grad(objective(points).sum(), points)
    values = objective.space.unflatten(points[0].detach())
    values = {name: value.requires_grad_() for name, value in values.items()}
    loss = cross_entropy(torch.func.functional_call(model, values, (data[0].double(),)), data[1])
    slope = torch.autograd.grad(loss, list(values.values()))
    torch.testing.assert_close(gradient[0], torch.cat([s.reshape(-1) for s in slope]))


def test_bounds_hold_with_frozen_layers_in_front_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 6), nn.LayerNorm(6), mlp())
    model[0].requires_grad_(False), model[1].requires_grad_(False)
    objective = dss.NetworkObjective(model, cross_entropy, (torch.randint(7, (9,)), torch.randint(3, (9,))))
    start, end = torch.randn(2, objective.space.size)
    for low in (0.0, 0.25, 0.5, 0.75):
        bound = objective.enclose(start[None], end[None], torch.tensor([low]), torch.tensor([low + 0.25])).max()
        places = torch.linspace(low, low + 0.25, 9, dtype=torch.float64)[:, None]
        seen = objective(torch.lerp(start.double(), end.double(), places)).max()
        assert seen <= bound <= 1.5 * seen


def test_a_frozen_part_in_another_precision_keeps_it():
    torch.manual_seed(0)

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.low = nn.Linear(6, 3).to(torch.bfloat16), nn.Linear(6, 3)
            self.base.requires_grad_(False)

        def forward(self, x):
            return self.base(x.to(torch.bfloat16)).to(x.dtype) + self.low(x)

    model, (x, y) = Adapted(), vectors()
    objective = dss.NetworkObjective(model, cross_entropy, (x, y))
    point = objective.space.flatten(model.state_dict())
    assert objective(point[None]).item() == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-6)
    assert objective.state(point)["base.weight"].dtype == torch.bfloat16


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
