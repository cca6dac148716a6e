"""Proposition 2.3, the Gram matrix and the linear law: closed forms, samples and brute force."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

import dss
from dss.theory import (
    gaussian_covariance,
    gradient_flow,
    gram_matrix,
    least_eigenvalue,
    limit_gram_matrix,
    linearisation,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_sphere(n, d, seed=0):
    x = drawn(n, d, seed=seed)
    return x / x.norm(dim=1, keepdim=True)


def test_both_sides_hold_for_random_pairs_and_the_sharper_one_is_inside_the_papers():
    ratios = []
    for seed in range(300):
        d = 2 + seed % 5
        scale = drawn(d, seed=seed + 5000).exp()
        x = drawn(200, d, seed=seed) * scale + (seed % 3) * drawn(d, seed=seed + 9000)  # not centred either
        first = drawn(d, seed=seed + 1000)
        other = first + drawn(d, seed=seed + 2000) * 10.0 ** (-(seed % 4)) if seed % 2 else drawn(d, seed=seed + 3000)
        found = linearisation(x, first, other)
        assert -1e-12 * found.upper <= found.gap <= found.sharper + 1e-12 * found.upper
        assert found.sharper <= found.paper * (1 + 1e-12)
        ratios.append(found.gap / found.sharper)
    assert max(ratios) > 0.1  # the bound is of the right order somewhere


def test_the_sides_are_those_of_a_plane_integrated_by_hand():
    """X uniform on the circle: every mean is an integral over the angle."""
    turn = torch.arange(200_000, dtype=torch.float64) * (2 * math.pi / 200_000)
    x = torch.stack([turn.cos(), turn.sin()], 1)
    a = 0.7
    found = linearisation(x, x[0], 3 * torch.tensor([math.cos(a), math.sin(a)], dtype=torch.float64))
    # E[cos(t) cos(t - a)] over the arc where both are positive, from a - pi/2 to pi/2
    assert found.covariance == pytest.approx((math.sin(a) + (math.pi - a) * math.cos(a)) / (4 * math.pi), rel=1e-8)
    assert found.upper == pytest.approx(math.cos(a / 2) ** 2 / 4, rel=1e-8)
    assert found.angle == pytest.approx(a, rel=1e-7)
    assert found.sharper == pytest.approx((math.sin(a) ** 2 / 2 + (1 - math.cos(a)) / 2) / 2, rel=1e-6)


def test_equal_and_opposite_units_have_no_gap():
    x, w = drawn(50, 3), drawn(3, seed=1)
    assert linearisation(x, w, 2 * w).gap == pytest.approx(0, abs=1e-14)
    opposite = linearisation(x, w, -w)
    assert opposite.covariance == 0 and opposite.upper == pytest.approx(0, abs=1e-30)


def test_the_arc_cosine_form_is_what_samples_give():
    x = drawn(400_000, 4)
    for seed in range(3):
        first, other = drawn(4, seed=seed + 1), drawn(4, seed=seed + 7)
        products = torch.relu(x @ first) * torch.relu(x @ other)
        error = products.std().item() / len(x) ** 0.5
        assert abs(products.mean().item() - gaussian_covariance(first, other)) < 5 * error
    assert gaussian_covariance(first, first) == pytest.approx(first.square().sum().item() / 2)
    assert gaussian_covariance(first, -first) == pytest.approx(0, abs=1e-15)


def test_what_is_no_pair_of_directions_is_refused():
    with pytest.raises(dss.InputError, match="length"):
        linearisation(drawn(5, 2), torch.zeros(2), torch.ones(2))
    with pytest.raises(dss.InputError, match="directions"):
        linearisation(drawn(5, 2), torch.ones(3), torch.ones(2))


def test_the_limit_is_the_mean_of_gram_matrices():
    x = on_sphere(6, 3)
    counts = [gram_matrix(x, drawn(50_000, 3, seed=seed)) for seed in range(8)]
    assert torch.stack(counts).mean(0).sub(limit_gram_matrix(x)).abs().max() < 5 * 0.5 / math.sqrt(400_000)


def test_the_gram_matrix_is_that_of_the_gradients_of_the_predictions():
    x, rows = on_sphere(5, 3), drawn(7, 3, seed=3)
    signs = torch.tensor([1.0, -1, 1, 1, -1, 1, -1], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda w: torch.relu(x @ w.T) @ signs / 7**0.5, rows).flatten(1)
    assert torch.allclose(gram_matrix(x, rows), jacobian @ jacobian.T)


def test_equal_inputs_are_named_and_opposite_ones_are_not_degenerate():
    x = on_sphere(4, 3)
    with pytest.raises(dss.InputError, match="inputs 1 and 4"):
        least_eigenvalue(torch.cat([x, x[1:2]]))
    assert least_eigenvalue(torch.cat([x[:1], -x[:1]])) == pytest.approx(0.5)  # H_inf is half the identity
    # Three opposite pairs in a plane are: a combination of three lines vanishes.
    plane = on_sphere(3, 2)
    with pytest.raises(dss.InputError, match="lambda_0 is zero"):
        least_eigenvalue(torch.cat([plane, -plane]))


def test_small_steps_follow_the_flow_that_a_solver_integrates():
    x, y, width = on_sphere(4, 3), torch.tensor([1.0, -0.5, 0.3, 0.8], dtype=torch.float64), 20
    flow = gradient_flow(x, y, width, step=1e-3, steps=1000, looks=4, seed=3)
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(width, 3, generator=generator, dtype=torch.float64)
    signs = torch.randint(2, (width,), generator=generator).double() * 2 - 1

    def loss(w):
        return (torch.relu(x @ w.T) @ signs / width**0.5 - y).square().sum()

    def down(_, w):
        w = torch.tensor(w).view(width, 3).requires_grad_()
        (loss(w) / 2).backward()
        return -w.grad.flatten().numpy()

    solved = solve_ivp(down, (0, 1), rows.flatten().numpy(), rtol=1e-8, atol=1e-8, t_eval=flow.times.numpy())
    errors = [loss(torch.tensor(w).view(width, 3)).item() for w in solved.y.T]
    assert flow.errors.tolist() == pytest.approx(errors, rel=3e-3)


def test_the_law_holds_for_a_wide_network_and_rows_move_less_the_wider_it_is():
    x, y = on_sphere(10, 6), drawn(10, seed=2).clamp(-1, 1)
    narrow, wide = (gradient_flow(x, y, m, step=0.1, steps=300, looks=10) for m in (100, 1600))
    assert (wide.errors <= wide.law * (1 + 1e-12)).all() and (wide.errors <= wide.discrete_law * (1 + 1e-12)).all()
    assert wide.eigenvalues.min() >= wide.pace / 2
    assert 2.5 < narrow.movements[-1] / wide.movements[-1] < 6.4  # 4 is m^-1/2
    assert wide.movements[0] == wide.flips[0] == 0 and wide.times.tolist() == pytest.approx([3.0 * k for k in range(11)])


def test_inputs_that_are_no_unit_vectors_are_refused():
    with pytest.raises(dss.InputError, match="length 1"):
        gradient_flow(2 * on_sphere(3, 2), torch.zeros(3), 5)
    with pytest.raises(dss.InputError, match="at least one"):
        gradient_flow(on_sphere(3, 2), torch.zeros(3), 0)


def test_autograd_of_relu_has_no_chain_rule_at_the_kink():
    """Lee 2019: x = relu(x) - relu(-x), whose derivative is 1, and |x| = relu(x) + relu(-x); torch takes 0 at the kink of each
    relu, so the first comes out as 0 at x = 0. A dead unit has the same 0, which is why descent cannot wake it."""
    for x, identity, absolute in ((0.0, 0.0, 0.0), (1e-300, 1.0, 1.0), (-1e-300, 1.0, -1.0)):
        at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(torch.relu(at) - torch.relu(-at), at)
        (size,) = torch.autograd.grad(torch.relu(at) + torch.relu(-at), at)
        assert (slope.item(), size.item()) == (identity, absolute)
