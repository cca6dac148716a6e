"""Margins, and the convex problem behind quadratic activations: brute force and closed forms."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import dss
from dss.theory import (
    degree,
    margin_bound,
    normalized_margin,
    quadratic_loss,
    quadratic_optimum,
    strict_error_rate,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relu_net(*widths, bias=False):
    layers = []
    for into, out in itertools.pairwise(widths):
        layers += [nn.Linear(into, out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def classes(model, count=20):
    y = torch.randint(3, (count,), generator=torch.Generator().manual_seed(4))
    return dss.NetworkObjective(model, cross_entropy, (drawn(count, 4), y)), y


def test_the_margin_of_classes_is_that_of_a_loop_over_samples():
    judge, y = classes(relu_net(4, 6, 5, 3))
    points = drawn(4, judge.size, seed=1)
    for point, found in zip(points, normalized_margin(judge, points)):
        w = judge.space.unflatten(point / point.norm())
        least = math.inf
        for x, label in zip(drawn(20, 4), y):
            f = w["4.weight"] @ torch.relu(w["2.weight"] @ torch.relu(w["0.weight"] @ x))
            least = min(least, (f[label] - max(f[k] for k in range(3) if k != label)).item())
        assert found.item() == pytest.approx(least, rel=1e-12)


def test_the_margin_does_not_depend_on_the_length_and_its_sign_is_that_of_the_errors():
    judge, y = classes(relu_net(4, 6, 5, 3), count=3)
    points = drawn(200, judge.size, seed=2)
    margins = normalized_margin(judge, points)
    scaled = normalized_margin(judge, 7.3 * points)
    assert torch.allclose(margins, scaled, rtol=1e-12, atol=1e-15) and (margins > 0).any() and (margins < 0).any()
    errors = dss.NetworkObjective(relu_net(4, 6, 5, 3), strict_error_rate, (drawn(3, 4), y))(points)
    assert ((margins > 0) == (errors == 0)).all()


def test_a_linear_classifier_has_the_margin_of_its_hyperplane():
    x, w = drawn(30, 3), drawn(3, seed=5)
    y = torch.sign(x @ w)
    distance = (y * (x @ w)).min() / w.norm()
    for target in (y, (y > 0).double()):
        judge = dss.NetworkObjective(nn.Linear(3, 1, bias=False).double(), mse_loss, (x, target[:, None]))
        assert normalized_margin(judge, w[None]).item() == pytest.approx(distance.item())
        assert margin_bound(judge, w) == pytest.approx(w.norm().item() / (y * (x @ w)).min().item() / 30**0.5)


def test_the_bound_does_not_depend_on_how_layers_share_their_scale():
    model = relu_net(4, 6, 3)
    judge, _ = classes(model, count=2)
    point = next(p for p in drawn(100, judge.size, seed=6) if normalized_margin(judge, p[None]) > 0)
    tensors = {name: t.clone() for name, t in judge.space.unflatten(point).items()}
    moved = judge.space.flatten({"0.weight": 5 * tensors["0.weight"], "2.weight": tensors["2.weight"] / 5})
    assert margin_bound(judge, point) == pytest.approx(margin_bound(judge, moved))
    # In words: sqrt(L) times the product of norms, over margin and sqrt(n)
    f = torch.relu(drawn(2, 4) @ tensors["0.weight"].T) @ tensors["2.weight"].T
    y = judge.data.target
    gamma = min((f[i, y[i]] - f[i][torch.arange(3) != y[i]].max()).item() for i in range(2))
    norms = tensors["0.weight"].norm() * tensors["2.weight"].norm()
    assert margin_bound(judge, point) == pytest.approx(2**0.5 * norms.item() / gamma / 2**0.5)


def test_a_wrong_sample_makes_the_bound_infinite():
    judge, _ = classes(relu_net(4, 6, 3))
    point = next(p for p in drawn(50, judge.size, seed=6) if normalized_margin(judge, p[None]) < 0)
    assert margin_bound(judge, point) == math.inf


def test_degrees_are_the_number_of_layers_and_others_are_refused():
    for widths in ((4, 3), (4, 5, 3), (4, 5, 6, 3)):
        judge, _ = classes(relu_net(*widths))
        assert degree(judge, drawn(judge.size)) == pytest.approx(len(widths) - 1)
    for model in (
        relu_net(4, 5, 3, bias=True),
        nn.Sequential(nn.Linear(4, 5, bias=False), nn.Tanh(), nn.Linear(5, 3, bias=False)),
    ):
        judge, _ = classes(model.double())
        with pytest.raises(dss.InputError, match="not homogeneous"):
            normalized_margin(judge, drawn(1, judge.size))
    with pytest.raises(dss.InputError, match="zero"):
        normalized_margin(judge, torch.zeros(1, judge.size))


def test_gradient_descent_on_separable_data_widens_the_margin():
    x = drawn(12, 2)
    y = torch.sign(x[:, 0] + 0.3 * x[:, 1])
    judge = dss.NetworkObjective(
        nn.Linear(2, 1, bias=False).double(), lambda out, t: nn.functional.softplus(-out * t).mean(), (x, y[:, None])
    )
    point, margins = torch.tensor([0.0, 1.0], dtype=torch.float64), []
    for _ in range(2000):
        point = point.requires_grad_()
        (gradient,) = torch.autograd.grad(judge(point[None]).sum(), point)
        point = (point - gradient).detach()
        margins.append(normalized_margin(judge, point[None]).item())
    turns = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    best = ((torch.stack([turns.cos(), turns.sin()], 1) @ x.T) * y).amin(1).max().item()
    assert 0 < margins[100] < margins[500] < margins[-1] <= best + 1e-8


def quadratic_problem(n=30, d=4, m0=2, seed=0):
    x, w = drawn(n, d, seed=seed), drawn(m0, d, seed=seed + 1)
    return x, (x @ w.T).square().sum(1) + 0.1 * drawn(n, seed=seed + 2)


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 1.0, 1e3])
def test_the_convex_optimum_is_closed_from_below_and_meets_the_networks(penalty):
    x, y = quadratic_problem()
    found = quadratic_optimum(x, y, penalty)
    assert found.lower <= found.value <= found.lower + 1e-9 * y.square().mean()
    assert torch.linalg.eigvalsh(found.matrix).min() >= -1e-12
    rows = drawn(8, 4, seed=9).requires_grad_()
    optimizer = torch.optim.LBFGS([rows], max_iter=3000, line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimizer.zero_grad()
        loss = quadratic_loss(x, y, rows, penalty)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert quadratic_loss(x, y, rows.detach(), penalty).item() == pytest.approx(found.value, rel=1e-6)


def test_no_random_matrix_and_no_network_is_below_the_lower_side():
    x, y = quadratic_problem(seed=5)
    found = quadratic_optimum(x, y, 0.05)
    rows = drawn(3000, 3, 4, seed=8) * torch.rand(3000, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(found.matrix)
    near = (vectors * values.clamp_min(0).sqrt()).T + 0.01 * drawn(3000, 4, 4, seed=9)
    assert quadratic_loss(x, y, rows, 0.05).min() >= found.lower and quadratic_loss(x, y, near, 0.05).min() >= found.lower


def test_a_penalty_so_large_that_zero_is_best():
    x, y = quadratic_problem()
    large = 2 * torch.linalg.matrix_norm((x * y[:, None]).T @ x, ord=2).item() / len(y)  # the gradient at zero
    found = quadratic_optimum(x, y, 1.01 * large)
    assert found.matrix.abs().max() == 0 and found.value == pytest.approx(y.square().mean().item())
    assert quadratic_optimum(x, y, 0.9 * large).matrix.trace() > 0


def test_penalties_of_zero_are_refused():
    x, y = quadratic_problem()
    with pytest.raises(dss.InputError, match="penalty"):
        quadratic_optimum(x, y, 0.0)
