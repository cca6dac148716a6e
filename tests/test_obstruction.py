"""Walls of squared errors: closed forms by SVD, attacks from the wall itself, exact orientations."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import dss
from dss.theory import bottleneck_obstruction, linear_barrier, nonnegative_obstruction
from dss.theory.exact import determinant_sign, integers, rounded_down
from dss.theory.spectrum import Enclosed, Spectrum, gram_of_residuals

DIGITS = {1: 0.063345, 2: 0.053764, 3: 0.046259, 4: 0.039536, 8: 0.024139}


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrum_draw(seed, n, q, *, bias):
    """Targets with a decaying spectrum, and their squared singular values, centred or not, by numpy."""
    y = draw(seed, n, q) * torch.logspace(0, -1, q, dtype=torch.float64) + 0.3
    centred = (y - y.mean(0) if bias else y).numpy()
    return y, torch.tensor(np.linalg.svd(centred, compute_uv=False) ** 2)


def least_error(y, features, *, bias):
    """The squared error of the best last layer on given features, by least squares."""
    columns = torch.cat([features, torch.ones(len(y), int(bias), dtype=y.dtype)], 1).numpy()
    return float(((columns @ np.linalg.lstsq(columns, y.numpy(), rcond=None)[0] - y.numpy()) ** 2).sum())


def simplex(n):
    """n vertices of a regular simplex in R^(n-1): sum zero, length one."""
    centred = torch.eye(n, dtype=torch.float64) - 1 / n
    left, values, _ = torch.linalg.svd(centred)
    y = left[:, : n - 1] * values[: n - 1]
    return y / y.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("units", DIGITS)
def test_walls_of_the_digits_are_the_known_ones_and_below_the_exact_ones(units):
    y = torch.tensor(load_digits().data / 16)
    found = bottleneck_obstruction(y, units, output_bias=True)
    values = np.linalg.svd((y - y.mean(0)).numpy(), compute_uv=False) ** 2 / y.numel()
    exact, best = values[units - 1] + values[units + 1 :].sum(), values[units:].sum()
    assert found.threshold == pytest.approx(DIGITS[units], abs=6e-7)
    assert exact - 1e-11 < found.threshold <= exact + 1e-15 and best - 1e-11 < found.best <= best + 1e-15


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_network_on_the_wall_has_an_error_below_it(seed, bias):
    """500 features a case that make the determinant zero, half of them close to the worst: the best last layer on each."""
    n, q, units = 9 + seed, 4 + seed, 2 + seed % 2
    y, values = spectrum_draw(seed, n, q, bias=bias)
    found = bottleneck_obstruction(y, units, output_bias=bias, reduction="sum")
    exact = (values[units - 1] + values[units + 1 :].sum()).item()
    left, _, _ = np.linalg.svd((y - y.mean(0) if bias else y).numpy())
    axes, errors = torch.tensor(left.T), []
    for attack in range(500):
        mixed = draw(1000 * seed + attack, units)
        u = (mixed if attack % 2 else mixed * 0.05 + torch.eye(units, dtype=torch.float64)[-1]) @ axes[:units]
        features = draw(7000 * seed + attack, n, units) * 0.1 + torch.cat([axes[: units - 1], axes[units : units + 1]]).T
        features -= torch.outer(u, u @ features) / (u @ u)
        errors.append(least_error(y, features, bias=bias))
    assert found.threshold <= exact <= min(errors) * (1 + 1e-12)
    assert found.threshold == pytest.approx(exact, rel=1e-10) and min(errors) < 1.2 * exact


@pytest.mark.parametrize("seed", range(4))
def test_no_last_layer_on_the_wall_has_an_error_below_it(seed):
    """The decoder's side: w.z is constant; the best outputs of rank N under that, by SVD, for 300 directions w."""
    y, _ = spectrum_draw(seed, 12, 5, bias=True)
    found = bottleneck_obstruction(y, 3, output_bias=True, reduction="sum")
    centred = y - y.mean(0)
    w = draw(seed, 300, 3) @ found.directions
    w = w / w.norm(dim=1, keepdim=True)
    rest = centred - torch.einsum("nq,kq,kp->knp", centred, w, w)
    errors = (w @ centred.T).square().sum(1) + torch.linalg.svdvals(rest)[:, 3:].square().sum(1)
    assert errors.min() >= found.threshold


def test_orientations_by_features_and_by_the_last_layer_agree_below_the_wall():
    y, _ = spectrum_draw(5, 14, 6, bias=True)
    found, below = bottleneck_obstruction(y, 3, output_bias=True), 0
    base = (y - y.mean(0)) @ found.directions.T
    for seed in range(200):
        mix, noise = draw(seed, 3, 3), draw(seed + 999, 14, 3) * 0.15
        features = base @ mix + noise + 5
        columns = torch.cat([features, torch.ones(14, 1, dtype=torch.float64)], 1)
        solution = torch.linalg.lstsq(columns, y).solution
        if (columns @ solution - y).square().mean() < found.threshold:
            weight, below = solution[:3].T, below + 1
            assert found.orientation(features) == found.layer_orientation(weight) != 0
            assert found.orientation(features[:, [1, 0, 2]]) == -found.orientation(features)
            expected = torch.linalg.det(found.directions @ (y - y.mean(0)).T @ features).sign()
            assert found.orientation(features) == expected
    assert below > 50


def test_a_skip_connection_to_the_output_is_projected_away():
    x, (y, _) = draw(1, 15, 2), spectrum_draw(2, 15, 5, bias=True)
    columns = torch.cat([torch.ones(15, 1, dtype=torch.float64), x], 1)
    residuals = y - columns @ torch.linalg.lstsq(columns, y).solution
    values = torch.linalg.svdvals(residuals) ** 2 / y.numel()
    found = bottleneck_obstruction(y, 2, output_bias=True, regressors=x)
    assert found.threshold == pytest.approx((values[1] + values[3:].sum()).item(), rel=1e-10)
    assert found.threshold < bottleneck_obstruction(y, 2, output_bias=True).threshold
    features = residuals @ found.directions.T
    expected = torch.linalg.det(found.directions @ residuals.T @ features).sign()
    assert found.orientation(features + x @ draw(3, 2, 2) - 7) == expected


@pytest.mark.parametrize("bias", [False, True])
def test_features_confined_to_the_inputs_meet_the_exact_barrier_of_a_square_linear_network(bias):
    x, y = draw(1, 20, 3), draw(2, 20, 6)
    centre = (lambda z: z - z.mean(0)) if bias else (lambda z: z)
    basis = torch.linalg.qr(centre(x)).Q
    kept = basis @ (basis.T @ centre(y))
    values = torch.linalg.svdvals(kept) ** 2
    exact = ((centre(y) - kept).square().sum() + values[2]) / y.numel()
    found = bottleneck_obstruction(y, 3, output_bias=bias, span=x)
    assert found.threshold == pytest.approx(exact.item(), rel=1e-10) and found.threshold <= exact
    if not bias:
        best = torch.linalg.lstsq(x, y).solution.T
        start, end = [torch.eye(3, dtype=torch.float64), best], [torch.eye(3, dtype=torch.float64)[[1, 0, 2]], best[:, [1, 0, 2]]]
        assert found.threshold == pytest.approx(linear_barrier(x, y, start, end), rel=1e-10)
        assert found.layer_orientation(start[1]) == -found.layer_orientation(end[1]) != 0


def test_one_unit_and_one_output_leave_the_variance():
    y = draw(9, 30, 1)
    found = bottleneck_obstruction(y, 1, output_bias=True)
    assert found.threshold == pytest.approx(y.var(correction=0).item(), rel=1e-12) and found.best == 0
    assert found.layer_orientation(torch.tensor([[0.3]])) == -found.layer_orientation(torch.tensor([[-0.3]])) != 0


def test_one_sample_more_than_units_leaves_the_lowest_eigenvalue_across_ones():
    y = draw(4, 4, 7)
    centred = y - y.mean(0)
    expected = torch.linalg.eigvalsh(centred @ centred.T)[1] / y.numel()
    assert bottleneck_obstruction(y, 3, output_bias=True).threshold == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize(
    "targets, units, options, says",
    [
        (draw(0, 8, 3), 4, {}, "more than the rank"),
        (draw(0, 3, 8), 3, {}, "more than the rank"),
        (torch.cat([draw(0, 8, 2)] * 2, 1), 3, {}, "more than the rank"),
        (torch.eye(5, dtype=torch.float64), 2, {}, "equal as far as float64 shows"),
        (draw(0, 8, 3), 0, {}, "positive whole number"),
        (draw(0, 8, 3), 2, {"reduction": "max"}, "reduction"),
        (draw(0, 8, 3) * torch.nan, 2, {}, "finite"),
        (torch.arange(6), 2, {}, "real numbers"),
        (draw(0, 8, 3), 2, {"regressors": torch.ones(8, 1)}, "linearly independent"),
        (draw(0, 8, 3), 2, {"span": torch.ones(7, 1)}, r"\(8, columns\)"),
        (draw(0, 8, 3) * 1e200, 2, {}, "too large"),
    ],
)
def test_what_has_no_wall_is_refused(targets, units, options, says):
    with pytest.raises(dss.InputError, match=says):
        bottleneck_obstruction(targets, units, output_bias=True, **options)


def test_features_of_another_shape_are_refused():
    found = bottleneck_obstruction(draw(0, 8, 3), 2, output_bias=True)
    for bad in (draw(1, 8, 3), draw(1, 8, 2) * torch.inf):
        with pytest.raises(dss.InputError, match="features must be finite"):
            found.orientation(bad)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_simplex_targets_have_the_known_wall_for_any_nonnegative_features(n):
    y = simplex(n)
    found = nonnegative_obstruction(y)
    assert found.threshold == pytest.approx(1 / (n * (n - 1) ** 2), rel=1e-12) and found.threshold <= 1 / (n * (n - 1) ** 2)
    for seed in range(300):
        features = draw(seed, n, n).clamp_min(0)
        features[:, 0] = features[:, 1:] @ draw(seed + 500, n - 1).abs()
        assert least_error(y, features, bias=False) / y.numel() >= found.threshold
    assert found.orientation(y.new_ones(n, n).tril()) == 1 == -found.orientation(y.new_ones(n, n).tril()[[1, 0, *range(2, n)]])


def test_a_lowest_eigenvector_of_both_signs_is_itself_the_wall():
    """Rows removed one at a time would give 1: too much, for the features (1, 1) have an error of 1/2."""
    y = torch.linalg.cholesky(torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64))
    found = nonnegative_obstruction(y)
    features = torch.ones(2, 2, dtype=torch.float64)
    assert found.threshold == pytest.approx(0.5 / 4, rel=1e-12)
    assert least_error(y, features, bias=False) / 4 == pytest.approx(found.threshold)


def test_negative_features_and_fitting_targets_are_refused():
    with pytest.raises(dss.InputError, match="negative"):
        nonnegative_obstruction(simplex(3)).orientation(-torch.eye(3, dtype=torch.float64))
    for bad, says in ((torch.ones(3, 2), "zero"), (torch.ones(1, 2), "two samples")):
        with pytest.raises(dss.InputError, match=says):
            nonnegative_obstruction(bad)


@given(st.integers(1, 5), st.data())
@settings(max_examples=60, deadline=None)
def test_signs_of_determinants_are_those_of_leibniz(n, data):
    entries = data.draw(st.lists(st.integers(-3, 3), min_size=n * n, max_size=n * n))
    matrix = np.array(entries, dtype=object).reshape(n, n)
    total = 0
    for order in permutations(range(n)):
        sign = (-1) ** sum(order[i] > order[j] for i in range(n) for j in range(i, n))
        total += sign * int(np.prod([matrix[i, order[i]] for i in range(n)]))
    assert determinant_sign(matrix) == (total > 0) - (total < 0)


def test_signs_that_float64_cannot_tell_are_exact():
    a = torch.tensor([[0.1, 1.1], [0.3, 3.3]], dtype=torch.float64)
    assert a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0] == 0 > Fraction(0.1) * Fraction(3.3) - Fraction(1.1) * Fraction(0.3)
    assert determinant_sign(integers(a)) == -1
    assert determinant_sign(integers(torch.tensor([[1e-300, 0.0], [0.0, -1e300]], dtype=torch.float64))) == -1
    assert determinant_sign(integers(torch.zeros(2, 2))) == 0


@given(st.fractions())
def test_rounding_down_never_rounds_up(value):
    assert Fraction(rounded_down(value)) <= value < Fraction(np.nextafter(rounded_down(value), np.inf))


@pytest.mark.parametrize("seed", range(5))
def test_radii_hold_the_eigenvalues_that_an_integer_matrix_surely_has(seed):
    """Q D Q' of a Householder reflection in small integers: eigenvalues known without rounding."""
    v = torch.randint(-3, 4, (6,), generator=torch.Generator().manual_seed(seed)).double()
    v[0] = 1
    scale = v @ v
    reflection = scale * torch.eye(6, dtype=torch.float64) - 2 * torch.outer(v, v)
    known = torch.tensor([7.0, 5, 5, 2, 1, 0], dtype=torch.float64)
    found = Spectrum.of(Enclosed(reflection @ torch.diag(known) @ reflection, 0.0))
    assert (found.values - known * scale**2).norm() <= found.radius <= 1e-10 * scale**2
    low, high = found.sums_from(3)
    assert low <= 3 * scale**2 <= high


def test_the_gram_matrix_of_residuals_is_that_of_exact_fractions():
    y, f = draw(0, 6, 2), torch.cat([torch.ones(6, 1, dtype=torch.float64), draw(1, 6, 1)], 1)
    rows = [[Fraction(v) for v in row] for row in torch.cat([f, y], 1).tolist()]
    gram = [[sum(row[i] * row[j] for row in rows) for j in range(4)] for i in range(4)]
    for pivot in range(2):  # the Schur complement of the regressors
        for i in range(pivot + 1, 4):
            factor = gram[i][pivot] / gram[pivot][pivot]
            gram[i] = [a - factor * b for a, b in zip(gram[i], gram[pivot], strict=True)]
    exact = torch.tensor([[float(v) for v in row[2:]] for row in gram[2:]], dtype=torch.float64)
    found = gram_of_residuals(y, f)
    assert (found.matrix - exact).norm() <= found.error <= 1e-11
