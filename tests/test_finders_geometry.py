"""The formulas inside the finders, against the plainest way to write them."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import dss
from dss.finders.band import downhill, relax, spread, tangents
from dss.finders.constrained import Neighboured, hyperplanes, onto

FLOAT = torch.float64
ADAM = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


def mueller_brown(threshold=-40.5):
    a, b = torch.tensor(dss.MuellerBrown.minima[:2], dtype=FLOAT)
    return dss.Problem.of(dss.MuellerBrown(), a, b, threshold=threshold)


# --- hyperplanes ---


def test_the_projection_is_the_nearest_point_equally_far_from_both_neighbours():
    a, b, x = random(3, 5, 7)
    middle, normal = hyperplanes(a, b)
    projected = onto(x, middle, normal)
    torch.testing.assert_close((projected - a).norm(dim=1), (projected - b).norm(dim=1))
    torch.testing.assert_close(onto(projected, middle, normal), projected)
    # Nearest: what was removed is along the normal.
    removed = x - projected
    torch.testing.assert_close(removed, (removed * normal).sum(1, keepdim=True) * normal)


def test_beads_of_the_recursion_stay_equally_far_from_the_neighbours_they_were_made_for():
    finder = dss.ConstrainedString(margin=0.05, descent=ADAM, limits=dss.Limits(rounds=4))
    problem = mueller_brown()
    for before, after in zip(steps := list(finder.steps(problem)), steps[1:], strict=False):
        if len(after.path) == len(before.path):
            continue
        old = {tuple(bead) for bead in before.path.beads.tolist()}
        for i, bead in enumerate(after.path.beads):
            if tuple(bead.tolist()) not in old:
                left, right = after.path.beads[i - 1], after.path.beads[i + 1]
                assert (bead - left).norm().item() == pytest.approx((bead - right).norm().item(), rel=1e-9)


def test_the_penalty_is_the_papers():
    a, b, x = random(3, 6)
    penalised = Neighboured(dss.Quadratic((1.0,) * 6), a, b, zeta=0.3, kappa=0.7)
    m, n = (a + b) / 2, (a - b) / (a - b).norm()
    cosine = torch.dot(n, x - m) / (x - m).norm()
    expected = x.square().sum() + 0.3 * ((a - x).norm() + (b - x).norm()) + 0.7 * cosine.abs()
    assert penalised(x[None]).item() == pytest.approx(expected.item())


def test_the_penalty_at_the_middle_has_a_finite_gradient():
    a, b = random(2, 6)
    x = ((a + b) / 2)[None].requires_grad_()
    Neighboured(dss.Quadratic((0.0,) * 6), a, b, zeta=0.3, kappa=0.7)(x).sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() < 1e-9


@pytest.mark.parametrize("levels", [0, 3])
def test_every_segment_that_the_whole_grid_fails_gets_a_bead_and_no_other(levels):
    finder = dss.ConstrainedString(levels=levels, margin=0.05, descent=ADAM, limits=dss.Limits(rounds=4))
    problem, before, grown = mueller_brown(), None, 0
    for step in finder.steps(problem):
        if before is not None and step.status is dss.Status.SEARCHING and len(step.path) > len(before.path):
            losses = dss.sample_segments(dss.MuellerBrown(), before.path, grid=20).losses
            top = step.memory.get("top")
            level = problem.threshold if top is None else top + (problem.threshold - top) * min(1.0, (before.round + 1) / levels)
            assert len(step.path) - len(before.path) == (losses > level).sum()
            grown += 1
        before = step
    assert grown >= 2


def test_a_middle_above_the_threshold_settles_its_segment():
    class Asked(dss.MuellerBrown):
        asked = 0

        def __call__(self, points):
            self.asked += len(points)
            return super().__call__(points)

    judge = Asked()
    problem = dss.Problem.of(judge, *map(torch.tensor, dss.MuellerBrown.minima[:2]), threshold=-60.0)
    judge.asked = 0
    finder = dss.ConstrainedString(descent=dss.Descent(max_steps=0), limits=dss.Limits(rounds=1))
    *_, step = finder.steps(problem)
    assert len(step.path) == 3 and judge.asked == 2, "once to judge, once to train"


def test_a_strong_kappa_holds_the_bead_near_the_hyperplane_that_a_free_bead_leaves():
    moved = []
    for kappa in (0.0, 1e4):
        finder = dss.ConstrainedString(form="penalty", zeta=0.0, kappa=kappa, descent=ADAM, limits=dss.Limits(rounds=1))
        *_, step = finder.steps(problem := mueller_brown())
        middle, normal = hyperplanes(problem.start[None], problem.end[None])
        moved.append(((step.path.beads[1:-1] - middle) * normal).sum().abs().item())
    assert moved[1] < 0.5 * moved[0]


def test_a_falling_level_moves_every_bead_and_ends_at_the_threshold():
    finder = dss.ConstrainedString(levels=5, margin=0.05, descent=ADAM, limits=dss.Limits(rounds=12))
    steps = list(finder.steps(mueller_brown()))
    top = steps[1].memory["top"]
    for k, step in enumerate(steps[1:-1], start=1):
        level = top + (-40.5 - top) * min(1, k / 5)
        assert (dss.MuellerBrown()(step.path.beads) <= level + 1e-9).all()
    assert steps[-1].status is dss.Status.FOUND


# --- elastic band ---


def naive_tangent(beads, profile, i):
    """Henkelman & Jonsson 2000, eqs. 8-11, one bead, as printed."""
    plus, minus = beads[i + 1] - beads[i], beads[i] - beads[i - 1]
    v = profile.tolist()
    if v[i + 1] > v[i] > v[i - 1]:
        tangent = plus
    elif v[i + 1] < v[i] < v[i - 1]:
        tangent = minus
    else:
        largest = max(abs(v[i + 1] - v[i]), abs(v[i - 1] - v[i]))
        smallest = min(abs(v[i + 1] - v[i]), abs(v[i - 1] - v[i]))
        if v[i + 1] > v[i - 1]:
            tangent = plus + minus * (smallest / largest)
        else:
            tangent = plus * (smallest / largest) + minus
    return tangent / tangent.norm()


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=9, unique=True), st.integers(0, 100))
@example([1.0, 0.0, 6.928253791350936e-189, 2.225073858507203e-309], 0)
@settings(max_examples=30, deadline=None)
def test_tangents_are_those_of_the_paper(values, seed):
    profile, beads = torch.tensor(values, dtype=FLOAT), random(len(values), 3, seed=seed)
    expected = torch.stack([naive_tangent(beads, profile, i) for i in range(1, len(values) - 1)])
    torch.testing.assert_close(tangents(beads, profile), expected)


def test_a_flat_profile_takes_the_chord():
    beads = random(3, 4)
    chord = (beads[2] - beads[0]) / (beads[2] - beads[0]).norm()
    torch.testing.assert_close(tangents(beads, torch.zeros(3, dtype=FLOAT))[0], chord)


def test_the_force_is_across_the_string_and_the_climber_goes_up_along_it():
    beads, profile, gradient = random(6, 3), random(6), random(4, 3, seed=1)
    tangent, top = tangents(beads, profile), int(profile[1:-1].argmax())
    sliding = downhill(beads, profile, gradient, climb=False)
    torch.testing.assert_close((sliding * tangent).sum(1), torch.zeros(4, dtype=FLOAT))
    climbing = downhill(beads, profile, gradient, climb=True)
    along = (gradient[top] * tangent[top]).sum()
    torch.testing.assert_close((climbing[top] * tangent[top]).sum(), -along)
    others = torch.arange(4) != top
    torch.testing.assert_close(climbing[others], sliding[others])


def test_spreading_keeps_the_ends_and_the_fixed_bead_and_evens_out_either_side():
    beads = random(7, 3)
    even = spread(beads, 2)
    assert torch.equal(even[[0, 2, 6]], beads[[0, 2, 6]])
    path = dss.Path(spread(beads))
    assert torch.equal(path.beads[[0, -1]], beads[[0, -1]]) and len(path) == 7


def test_the_climbing_bead_comes_to_rest_on_the_saddle():
    problem = mueller_brown()
    slow = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.003))
    band = dss.ElasticBand(beads=9, cycle=600, climb=True, descent=slow)
    path = relax(problem, problem.straight.resample(11), band, ("test",))
    losses = dss.MuellerBrown()(path.beads)
    assert losses.max().item() == pytest.approx(dss.MuellerBrown.saddle_values[0], abs=0.1)
    saddle = torch.tensor(dss.MuellerBrown.saddles[0], dtype=FLOAT)
    assert (path.beads[losses.argmax()] - saddle).norm() < 0.02


# --- curves ---


def de_casteljau(control, t):
    while len(control) > 1:
        control = torch.lerp(control[:-1], control[1:], t)
    return control[0]


@pytest.mark.parametrize("bends", [1, 2, 4])
def test_the_bezier_basis_is_de_casteljaus_curve(bends):
    control, t = random(bends + 2, 3), torch.tensor([0.0, 0.3, 0.77, 1.0], dtype=FLOAT)
    expected = torch.stack([de_casteljau(control, place) for place in t])
    torch.testing.assert_close(dss.BezierCurve().basis(t, bends) @ control, expected)


@pytest.mark.parametrize("bends", [1, 2, 4])
def test_the_chain_basis_is_the_polygon_with_equal_time_on_every_segment(bends):
    control, t = random(bends + 2, 3), torch.linspace(0, 1, 23, dtype=FLOAT)
    segments = (t * (bends + 1)).floor().long().clamp_max(bends)
    expected = dss.Path(control).points(segments, t * (bends + 1) - segments)
    torch.testing.assert_close(dss.PolygonalChain().basis(t, bends) @ control, expected)


@pytest.mark.parametrize("curve", [dss.BezierCurve(bends=3), dss.PolygonalChain(bends=3)], ids=lambda c: c.name)
def test_the_control_points_are_read_back_off_the_beads(curve):
    control = random(5, 4)
    path = dss.Path(curve.basis(curve.knots(3), 3) @ control)
    torch.testing.assert_close(curve._control(path, 3), control)


@pytest.mark.parametrize(
    "make",
    [
        lambda: dss.ElasticBand(beads=0),
        lambda: dss.BezierCurve(bends=0),
        lambda: dss.ConstrainedString(form="nearly"),
        lambda: dss.ConstrainedString(zeta=-1.0),
        lambda: dss.ConstrainedString(alpha=0.9, margin=0.1),
        lambda: dss.GeodesicString(constraint_points=0),
        lambda: dss.GeodesicString(patience=-1),
        lambda: dss.GreedyString(insertion="nowhere"),
        lambda: dss.GreedyString(alpha=1.5),
    ],
)
def test_options_that_make_no_sense_are_refused(make):
    with pytest.raises(dss.InputError):
        make()
