"""The obstruction of three points: known values, brute force, invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dss import InputError
from dss.theory import disconnection_threshold, hidden_orientation

ANGLES = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64).deg2rad()
TRIANGLE = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
ROTATED_TARGETS = TRIANGLE[[1, 2, 0]]
# Of the brute-force oracles, whose columns may be parallel up to 1e-5.
ROUNDING = 1e-9


def random_points(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    return x, y


def columns(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Unit vectors along relu(x w), `(k, 3)`, for directions w at these angles."""
    h = (torch.stack([angles.cos(), angles.sin()], -1) @ x.T).relu()
    return h / h.norm(dim=-1, keepdim=True).clamp_min(1e-300)


def spanned_distance(y: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of y to the span of two unit columns, by Gram-Schmidt; infinity where nearly parallel."""
    rest = second - (second * first).sum(-1, keepdim=True) * first
    size = rest.norm(dim=-1, keepdim=True)
    rest = rest / size.clamp_min(1e-300)
    kept = ((first @ y) ** 2).sum(-1) + ((rest @ y) ** 2).sum(-1)
    return torch.where(size[..., 0] > 1e-5, (y**2).sum() - kept, torch.inf) / 6


def grid_minimum(x: torch.Tensor, y: torch.Tensor, n: int = 120) -> float:
    """The least distance over pairs of directions: a uniform grid, and a logarithmic one around every kink."""
    kinks = torch.atan2(x[:, 1], x[:, 0])
    offsets = torch.logspace(-6, -0.5, n // 3, dtype=torch.float64)
    near = [kink + sign * math.pi / 2 + side * offsets for kink in kinks for sign in (1, -1) for side in (1, -1)]
    h = columns(x, torch.cat([torch.arange(n, dtype=torch.float64) * 2 * math.pi / n, *near]))
    return min(spanned_distance(y, row.expand_as(h), h).min().item() for row in h if row.any())


def descent_minimum(x: torch.Tensor, y: torch.Tensor, starts: int = 200, steps: int = 300) -> float:
    """The least distance that gradient descent over two directions finds from random starts."""
    generator = torch.Generator().manual_seed(1)
    angles = (2 * math.pi * torch.rand(2, starts, generator=generator, dtype=torch.float64)).requires_grad_()
    optimizer = torch.optim.Adam([angles], lr=0.02)
    best = math.inf
    for _ in range(steps):
        distances = spanned_distance(y, columns(x, angles[0]), columns(x, angles[1]))
        best = min(best, distances.min().item())
        optimizer.zero_grad()
        distances[distances.isfinite()].sum().backward()
        angles.grad.nan_to_num_(0)
        optimizer.step()
    return best


def test_the_triangle_is_disconnected_below_one_twelfth():
    threshold = disconnection_threshold(TRIANGLE, ROTATED_TARGETS)
    assert 0.99 / 12 < threshold <= 1 / 12 + 1e-15
    assert threshold == pytest.approx(1 / 12, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_the_bound_is_below_brute_force_and_close_to_it(seed):
    x, y = random_points(seed)
    threshold, brute = disconnection_threshold(x, y), grid_minimum(x, y)
    assert threshold <= brute + ROUNDING
    assert brute <= threshold * 1.03 + 2e-3 * (y**2).mean()


@pytest.mark.parametrize("seed", range(20, 26))
def test_gradient_descent_never_gets_below_the_bound(seed):
    x, y = random_points(seed)
    assert disconnection_threshold(x, y) <= descent_minimum(x, y) + ROUNDING


def test_gradient_descent_approaches_the_bound_of_the_triangle():
    found = descent_minimum(TRIANGLE, ROTATED_TARGETS)
    assert 1 / 12 - ROUNDING <= found < 1.05 / 12


def test_targets_that_two_units_can_represent_have_no_obstruction():
    x, _ = random_points(3)
    units = torch.tensor([[1.0, 0.2], [-0.3, 1.0]], dtype=torch.float64)
    y = (x @ units.T).relu() @ torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    assert disconnection_threshold(x, y) == 0
    assert descent_minimum(x, y) < 1e-3 * (y**2).mean()


def test_parallel_target_columns_have_a_circle_of_zeros_and_no_obstruction():
    y = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert disconnection_threshold(TRIANGLE, y) == 0


def test_one_input_beside_two_zeros_leaves_exactly_the_other_targets():
    x = torch.tensor([[0.5, -1.0], [0.0, 0.0], [0.0, 0.0]])
    y = torch.tensor([[5.0, 7.0], [1.0, 2.0], [3.0, 0.5]])
    assert disconnection_threshold(x, y) == pytest.approx((1 + 4 + 9 + 0.25) / 6, rel=1e-15)


def test_opposite_inputs_beside_a_zero_leave_exactly_the_third_target():
    x = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]])
    y = torch.tensor([[5.0, 7.0], [1.0, 2.0], [3.0, 0.5]])
    assert disconnection_threshold(x, y) == pytest.approx((9 + 0.25) / 6, rel=1e-15)


def test_parallel_inputs_leave_the_distance_to_one_column():
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
    column = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / math.sqrt(14)
    expected = ((y**2).sum() - ((column @ y) ** 2).sum()).item() / 6
    assert disconnection_threshold(x, y) == pytest.approx(expected, rel=1e-14)


def test_zero_inputs_leave_all_of_the_targets():
    y = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert disconnection_threshold(torch.zeros(3, 2), y) == pytest.approx(91 / 6, rel=1e-15)


@given(st.lists(st.integers(-2, 2), min_size=12, max_size=12))
@settings(max_examples=30, deadline=None)
def test_small_integers_with_all_their_degenerate_cases_stay_below_brute_force(entries):
    x, y = torch.tensor(entries, dtype=torch.float64).view(2, 3, 2)
    h = columns(x, torch.arange(48, dtype=torch.float64) * 2 * math.pi / 48 + 1e-3)
    brute = min((spanned_distance(y, row.expand_as(h), h).min().item() for row in h if row.any()), default=math.inf)
    assert disconnection_threshold(x, y, tolerance=1e-3) <= brute + ROUNDING


@given(st.integers(0, 40), st.floats(0.1, 6), st.permutations([0, 1, 2]))
@settings(max_examples=15, deadline=None)
def test_rotations_permutations_and_scales_change_nothing_but_units(seed, angle, order):
    x, y = random_points(seed)
    c, s = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    threshold = disconnection_threshold(x, y)
    changed = disconnection_threshold(3 * (x @ rotation)[order], (y @ rotation.T)[order] / 2)
    assert 4 * changed == pytest.approx(threshold, rel=3e-6, abs=3e-6 * (y**2).mean().item())


def test_a_coarser_tolerance_gives_a_lower_bound():
    x, y = random_points(16)
    fine, coarse = (disconnection_threshold(x, y, tolerance=t) for t in (1e-8, 0.1))
    assert 0.9 * fine <= coarse <= fine


def test_swapping_two_units_flips_the_orientation_and_a_repeated_unit_has_none():
    w = TRIANGLE.clone()
    assert hidden_orientation(TRIANGLE, w) == -hidden_orientation(TRIANGLE, w[[1, 0, 2]]) != 0
    assert hidden_orientation(TRIANGLE, w[[1, 2, 0]]) == hidden_orientation(TRIANGLE, w)
    assert hidden_orientation(TRIANGLE, w[[0, 0, 2]]) == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_orientation_is_the_sign_of_the_determinant(seed):
    x, y = random_points(seed)
    w = torch.cat([y[:1] + 1, y[1:]])
    assert hidden_orientation(x, w) == torch.linalg.det((x @ w.T).relu()).sign().item()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(3, 2), "x must be finite"),
        (TRIANGLE, torch.zeros(3), "y must be finite"),
        (TRIANGLE * torch.nan, ROTATED_TARGETS, "x must be finite"),
        (TRIANGLE, ROTATED_TARGETS * 1j, "y must be finite"),
    ],
)
def test_points_that_cannot_be_used_are_refused(x, y, message):
    with pytest.raises(InputError, match=message):
        disconnection_threshold(x, y)


@pytest.mark.parametrize("tolerance", [0, 1, math.nan])
def test_a_tolerance_outside_its_range_is_refused(tolerance):
    with pytest.raises(InputError, match="tolerance"):
        disconnection_threshold(TRIANGLE, ROTATED_TARGETS, tolerance=tolerance)
