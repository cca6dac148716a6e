"""The parts of the solver against dense linear algebra."""

from itertools import product
from math import inf

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, nnls

import dss
from dss.geodesic.constraint_points import ConstraintPoints
from dss.geodesic.constraints import ConstraintFunction, Level, has_gradient
from dss.geodesic.quadratic import LBFGSModel, box_qp
from dss.geodesic.sqp import SequentialQP, _Program
from dss.geodesic.string import String

FLOAT = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def dense_bfgs(model, p):
    """The Hessian that the pairs describe, by the textbook's update (Nocedal & Wright 2006, eq. 6.19)."""
    hessian = model.scale * torch.eye(p, dtype=FLOAT)
    for s, y in zip(model.steps, model.changes, strict=True):
        s, y = s.flatten(), y.flatten()
        hessian = hessian - torch.outer(hessian @ s, hessian @ s) / (s @ hessian @ s) + torch.outer(y, y) / (y @ s)
    return hessian


@given(st.integers(0, 6), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_inverse_in_coefficients_is_the_dense_inverse(pairs, seed):
    root = random(6, 6, seed=seed)
    true, model = root @ root.T + 2 * torch.eye(6, dtype=FLOAT), LBFGSModel(2.0, 5.0, 4)
    for k in range(pairs):
        step = random(2, 3, seed=seed + 10 * k + 1)
        model.add(step, (true @ step.flatten()).view(2, 3))
    vectors = random(3, 6, seed=seed + 5)
    basis = torch.stack([*vectors, *(x.flatten() for x in (*model.steps, *model.changes))])
    coefficients = torch.eye(len(basis), dtype=FLOAT)[:, :3]
    found = basis.T @ model.inverse(basis @ basis.T, coefficients)
    torch.testing.assert_close(found, torch.linalg.solve(dense_bfgs(model, 6), vectors.T), rtol=1e-6, atol=1e-8)


def test_a_pair_of_too_little_model_is_damped_to_a_fifth_of_the_least():
    model, step = LBFGSModel(2.0, 5.0, 4), random(1, 5)
    model.add(step, -3 * step)
    product = (model.changes[0] * step).sum()
    assert product.item() == pytest.approx(0.2 * 2.0 * step.square().sum().item())


@given(st.integers(1, 5), st.floats(0.1, 10), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_minimum_in_a_box_satisfies_its_conditions(m, cap, seed):
    root = random(m, m + 2, seed=seed)
    matrix, linear = root @ root.T, 3 * random(m, seed=seed + 1)
    x = box_qp(matrix, linear, cap)
    slope = matrix @ x - linear
    assert ((x >= 0) & (x <= cap)).all()
    for at, s in zip(x.tolist(), slope.tolist(), strict=True):
        assert s >= -1e-5 if at == 0 else s <= 1e-5 if at == cap else abs(s) <= 1e-5


def test_the_energy_of_the_coordinates_is_the_strings():
    path = dss.Path(random(6, 4))
    string = String(path)
    energy = 5 * path.segment_lengths().square().sum() / (path.beads[-1] - path.beads[0]).square().sum()
    assert 1 + string.y.square().sum().item() == pytest.approx(energy.item())
    torch.testing.assert_close(string.beads(), path.beads)


def test_held_follow_the_coordinates_by_their_weights():
    string, held = String(dss.Path(random(5, 3))), ConstraintPoints.spread(4, 3)
    before, change = string.points(held), random(3, 3, seed=1)
    string.y = string.y + change
    torch.testing.assert_close(string.points(held) - before, string.weights(held) @ change)


def test_the_gram_matrix_is_that_of_the_vectors_it_stands_for():
    path = dss.Path(torch.tensor([[-1.0, 0.0], [-0.3, 0.9], [0.4, 0.8], [1.0, 0.0]], dtype=FLOAT))
    problem = dss.Problem.of(dss.Ring(), path.beads[0], path.beads[-1], threshold=0.25)
    level, string, held = Level.of(problem, 0.0), String(path), ConstraintPoints.spread(3, 2)
    points = string.points(held)
    constraints = ConstraintFunction(level, points, level.violations(points), samples=1, key=())
    program = _Program(string, held, constraints, SequentialQP())
    pair = random(2, 2)
    y = string.y.clone().requires_grad_()
    string.y = y
    moved = string.points(held)
    gradients = [torch.autograd.grad(dss.Ring()(moved)[i] / 0.25, y, retain_graph=True)[0].flatten() for i in range(len(moved))]
    string.y = y.detach()
    basis = torch.stack([string.y.flatten(), *gradients, pair.flatten()])
    torch.testing.assert_close(program._gram([pair]), basis @ basis.T)


def test_a_judge_tells_a_gradient_or_not():
    class Steps(dss.Ring):
        def __call__(self, points):
            return (super().__call__(points) > 0.1).double()

    class Flat(dss.Ring):
        def __call__(self, points):
            return 0.0 * super().__call__(points)

    point = torch.tensor([0.3, 0.2], dtype=FLOAT)
    assert has_gradient(dss.Ring(), point)
    assert not has_gradient(Steps(), point) and not has_gradient(Flat(), point)
    net, data = torch.nn.Linear(2, 3), (torch.rand(8, 2), torch.arange(8) % 3)
    judge = dss.NetworkObjective(net, dss.error_rate, data)
    assert not has_gradient(judge, judge.space.flatten(net.state_dict()))


@pytest.mark.parametrize("cap", [0.5, 50.0])
def test_the_minimum_in_a_box_is_exact_where_constraints_nearly_repeat_one_another(cap):
    root = random(8, 4, seed=3)
    root = torch.cat([root, root + 1e-5 * random(8, 4, seed=4)])
    matrix, linear = root @ root.T, root @ random(4, seed=5)
    x = box_qp(matrix, linear, cap)
    slope = matrix @ x - linear
    assert ((x >= 0) & (x <= cap)).all()
    assert (slope[x == 0] >= -1e-7).all() and (slope[x == cap] <= 1e-7).all()
    assert slope[(x > 0) & (x < cap)].abs().max() < 1e-7


def value(matrix, linear, x):
    return (x @ matrix @ x / 2 - linear @ x).item()


def least_of_all_faces(matrix, linear, cap):
    """The least value in the box: of the stationary points of all 3^m faces that lie in it, every one of least norm."""
    m, best = len(linear), inf
    for sides in product((0.0, cap, None), repeat=m):
        free = [i for i in range(m) if sides[i] is None]
        x = torch.tensor([side or 0.0 for side in sides], dtype=FLOAT)
        if free:
            right = (linear - matrix @ x)[free]
            x[free] = torch.from_numpy(numpy.linalg.lstsq(matrix[free][:, free].numpy(), right.numpy(), rcond=None)[0])
        if ((x >= 0) & (x <= cap)).all():
            best = min(best, value(matrix, linear, x))
    return best


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([0.0, 1e-7, 1.0]), st.floats(0.05, 20), st.integers(0, 10_000))
@settings(max_examples=150, deadline=None)
def test_no_face_of_the_box_is_lower(m, rank, beside, cap, seed):
    # Of any rank, with repeated constraints, and a linear part that need not be in the matrix's range.
    root = random(m, rank, seed=seed)
    root[m // 2] = root[0]
    matrix, linear = root @ root.T, root @ random(rank, seed=seed + 1) + beside * random(m, seed=seed + 2)
    x = box_qp(matrix, linear, cap)
    assert ((x >= 0) & (x <= cap)).all()
    lowest = least_of_all_faces(matrix, linear, cap)
    assert value(matrix, linear, x) <= lowest + 1e-9 * (1 + abs(lowest))


@given(st.integers(1, 60), st.integers(0, 6), st.floats(0.05, 20), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_many_ill_conditioned_constraints_are_solved_as_by_scipy(m, decades, cap, seed):
    root = random(m, m, seed=seed) * torch.logspace(0, -decades / 2, m, dtype=FLOAT)
    right = 2 * random(m, seed=seed + 1)
    matrix, linear = root @ root.T, root @ right
    x = box_qp(matrix, linear, cap)
    theirs = lsq_linear(root.T.numpy(), right.numpy(), bounds=(0, cap), method="bvls", tol=1e-14)
    ours = (root.T @ x - right).square().sum().item() / 2
    assert ours <= theirs.cost * (1 + 1e-9) + 1e-12
    unbounded = box_qp(matrix, linear, inf)
    ours, theirs = (root.T @ unbounded - right).square().sum().item(), nnls(root.T.numpy(), right.numpy())[1] ** 2
    # Rounding of the matrix and the linear part, which scipy does not form.
    assert ours <= theirs * (1 + 1e-9) + 1e-13 * (1 + unbounded.square().sum().item())


def test_rounding_may_have_made_a_matrix_indefinite():
    # Gram matrices of float32 gradients are positive semi-definite up to that precision only.
    root = random(10, 3, seed=1)
    exact = root @ root.T
    matrix = exact.float().double() - 1e-6 * torch.eye(10, dtype=FLOAT)
    assert torch.linalg.eigvalsh(matrix)[0] < -1e-7
    linear = root @ torch.ones(3, dtype=FLOAT)
    x, best = (box_qp(k, linear, 1.0) for k in (matrix, exact))
    assert ((x >= 0) & (x <= 1)).all()
    assert value(exact, linear, x) <= value(exact, linear, best) + 1e-4


@pytest.mark.parametrize("broken", [inf, torch.nan])
def test_a_problem_that_is_not_finite_has_no_solution(broken):
    matrix, linear = torch.eye(3, dtype=FLOAT), torch.ones(3, dtype=FLOAT)
    assert box_qp(matrix, linear.index_fill(0, torch.tensor(1), broken), 2.0).isnan().all()
    assert box_qp(matrix.index_fill(0, torch.tensor(1), broken), linear, 2.0).isnan().all()


def test_a_matrix_far_from_convex_has_no_solution():
    matrix = torch.tensor([[1.0, 1e8], [1e8, 1.0]], dtype=FLOAT)
    assert box_qp(matrix, torch.ones(2, dtype=FLOAT), 2.0).isnan().all()


def test_constraints_that_contradict_one_another_press_as_hard_as_they_may():
    # Whatever the bound, and exactly: a solve ends where multipliers have grown to the last one.
    matrix, linear = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=FLOAT), torch.tensor([1.0, 0.5], dtype=FLOAT)
    for cap in (2.0, 3e3, 2.0**24):
        assert box_qp(matrix, linear, cap).tolist() == [cap, cap]


def test_a_constraint_without_gradient_presses_as_hard_as_it_may():
    matrix, zeros = torch.zeros(2, 2, dtype=FLOAT), torch.zeros(2, dtype=FLOAT)
    assert box_qp(matrix, torch.tensor([1.0, -1.0], dtype=FLOAT), 3.0).tolist() == [3.0, 0.0]
    assert box_qp(matrix, zeros, inf).tolist() == [0.0, 0.0]
