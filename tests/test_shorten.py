"""Shortening against geodesics known in closed form, and what it promises of every path."""

import itertools

import pytest
import torch
from torch import nn

import dss
from dss.geodesic.constraint_points import ConstraintPoints
from dss.geodesic.pruning import prune
from dss.geodesic.shortening import Shortening, boundary_share, shorten, shorten_within
from dss.geodesic.sqp import SequentialQP, minimise
from dss.geodesic.tightening import TightString, exchange_step
from dss.parallel import ProcessPool

FLOAT = torch.float64


def around_the_ring(n=17, radius=1.0):
    beads = torch.stack([radius * dss.Ring.at(torch.pi * (1 - k / (n - 1))) for k in range(n)])
    beads[0], beads[-1] = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 0.0])
    return dss.Path(beads)


def over(potential, *middle):
    a, b = potential.minima[:2]
    return dss.Path(torch.tensor([a, *middle, b], dtype=FLOAT))


KNOWN = {
    "ring, wide": (dss.Ring(), around_the_ring(9), 0.25, dss.Ring.geodesic_length(0.25)),
    "ring, narrow": (dss.Ring(), around_the_ring(), 0.04, dss.Ring.geodesic_length(0.04)),
    "L-shaped valley": (dss.BentValley(), over(dss.BentValley, (0.05, 0.05)), 0.01, dss.BentValley.geodesic_length(0.01)),
    "double well": (dss.DoubleWell(), over(dss.DoubleWell, (-0.5, 0.6), (0.3, -0.4)), 1.2, 1.0),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_geodesic_length_is_reached_within_half_a_percent(name):
    objective, path, threshold, length = KNOWN[name]
    found = shorten(objective, path, threshold=threshold)
    assert length - 1e-9 <= found.path.normalized_length <= 1.005 * length
    assert found.certificate.passed and found.certificate.max_loss <= threshold


@pytest.mark.parametrize("name", ["ring, wide", "ring, narrow", "double well"])
def test_the_length_converges_under_doubling(name):
    objective, path, threshold, _ = KNOWN[name]
    found = shorten(objective, path, threshold=threshold)
    assert found.converged and found.change < 0.01
    (fewer, before), (more, after) = found.lengths[-2:]
    assert more >= 2 * fewer and found.change == pytest.approx(abs(after - before) / after)


@pytest.mark.parametrize("name", KNOWN)
def test_doubling_the_beads_never_makes_the_string_longer(name):
    objective, path, threshold, _ = KNOWN[name]
    found = shorten(objective, path, threshold=threshold, options=Shortening(tolerance=1e-4, doublings=3))
    beads, lengths = zip(*found.lengths, strict=True)
    assert list(beads) == sorted(beads)
    # Up to what the solver's own tolerance leaves open.
    assert all(after <= before * (1 + 1e-4) for before, after in itertools.pairwise(lengths))
    assert found.path.normalized_length <= min(lengths) + 1e-12


def test_the_numbers_of_the_report_are_those_of_the_path():
    objective, path, threshold, _ = KNOWN["ring, narrow"]
    found = shorten(objective, path, threshold=threshold, options=Shortening(n_starts=2))
    assert found.summary["normalized_length"] == found.path.normalized_length == min(found.starts)
    assert found.length_before == path.normalized_length
    assert len(found.starts) == 2
    t = torch.linspace(0, 1, 2001, dtype=FLOAT)
    dense = torch.cat([objective(found.path.points(torch.full((2001,), i), t)) for i in range(len(found.path) - 1)])
    near = (dense >= 0.98 * threshold).double().view(-1, 2001).mean(1)
    weights = found.path.segment_lengths() / found.path.length()
    assert found.boundary_share == pytest.approx((near @ weights).item(), abs=0.03)
    assert dense.max() <= threshold


def test_the_share_on_the_boundary_of_a_circle_of_known_radius():
    # The inner half of a ring's path lies on the boundary, the outer half well inside.
    inner, outer = around_the_ring(401, radius=0.801), around_the_ring(401)
    half = dss.Path(torch.cat([inner.beads[1:201], outer.beads[200:]]))
    arc_inner, arc_outer = 0.801 * torch.pi / 2, torch.pi / 2
    assert boundary_share(dss.Ring(), half, 0.04) == pytest.approx(arc_inner / (arc_inner + arc_outer + 0.199), abs=0.02)


def test_a_path_that_fails_is_refused():
    with pytest.raises(dss.InputError, match="only a path that passes"):
        shorten(dss.Ring(), over(dss.Ring), threshold=0.25)


def test_the_straight_line_stays_as_it_is():
    line = dss.Path(torch.tensor([[1.0, 0.0], [-0.6, 0.8]], dtype=FLOAT))
    found = shorten(dss.Quadratic(), line, threshold=1.0)
    assert torch.equal(found.path.beads, line.beads) and found.path.normalized_length == 1.0
    assert found.lengths == () and found.change is None and found.stationarity is None


def test_a_detour_through_a_convex_bowl_becomes_the_straight_line():
    path = dss.Path(torch.tensor([[1.0, 0.0], [0.5, 0.8], [-0.2, -0.7], [-0.6, 0.8]], dtype=FLOAT))
    found = shorten(dss.Quadratic(), path, threshold=1.0)
    assert found.path.intermediate_beads == 0 and found.path.normalized_length == 1.0 and found.stationarity == 0


def test_a_string_at_its_geodesic_is_never_returned_longer_whatever_the_options():
    geodesic = shorten(dss.Ring(), around_the_ring(), threshold=0.25, options=Shortening(tolerance=1e-3)).path
    for options in (
        Shortening(doublings=0),
        Shortening(solver=SequentialQP(iterations=1, updates=1)),
        Shortening(prune=False, beads=2),
    ):
        again = shorten(dss.Ring(), geodesic, threshold=0.25, options=options)
        assert again.path.normalized_length <= geodesic.normalized_length and again.certificate.passed


class Unlike(dss.Ring):
    """A judge in other units, with another optimum, of which no gradient is to be had."""

    def __call__(self, points):
        return 3 * super().__call__(points.detach()) + 0.02 * points.detach()[:, 1].double()


def test_a_judge_without_gradient_decides():
    path = around_the_ring()
    found = shorten(dss.Ring(), path, threshold=0.4, judge=Unlike())
    assert found.certificate.passed and found.certificate.max_loss <= 0.4
    assert (Unlike()(found.path.beads) <= 0.4).all()
    # The level 0.4 of the judge is the level 0.133 of the ring, up to the tilt of at most 0.02 either way.
    assert dss.Ring.geodesic_length(0.42 / 3) < found.path.normalized_length < 1.03 * dss.Ring.geodesic_length(0.38 / 3)


def test_a_subsample_of_the_data_is_enough_to_shorten_below_the_exact_loss():
    # Two linear units, the task in one unit and then in the other: the straight line between halves the output.
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    x = torch.rand(4000, 1, dtype=FLOAT, generator=generator)
    y = x + 0.1 * torch.randn(4000, 1, dtype=FLOAT, generator=generator)
    objective = dss.NetworkObjective(net, nn.functional.mse_loss, (x, y), batch_size=50)
    corners = [[1, 0, 1, 0], [1, 0, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1]]
    path = dss.Path(torch.tensor(corners, dtype=FLOAT))
    found = shorten(objective, path, threshold=0.02, options=Shortening(solver=SequentialQP(samples=500)))
    assert found.certificate.passed and found.certificate.max_loss <= 0.02
    assert found.path.normalized_length < 1 + 0.5 * (path.normalized_length - 1)
    # A subsample has a geodesic of its own: the whole data's gradient says nothing of the string's.
    assert found.stationarity is None


class Hidden(dss.Ring):
    """The same ring, whose gradient the judge does not tell."""

    def __call__(self, points):
        return super().__call__(points.detach())


def test_gradients_of_the_objective_lead_where_those_of_the_judge_do():
    path = around_the_ring()
    own, hidden = (shorten(dss.Ring(), path, threshold=0.25, judge=judge) for judge in (dss.Ring(), Hidden()))
    assert hidden.path.normalized_length == pytest.approx(own.path.normalized_length, rel=1e-3)


def test_other_strings_are_starts_too_and_every_length_is_reported():
    level, below = 0.25, dss.Path(around_the_ring().beads * torch.tensor([1.0, -1.0], dtype=FLOAT))
    few = Shortening(solver=SequentialQP(iterations=1, updates=1), doublings=0, rounds=1)
    found = shorten(dss.Ring(), around_the_ring(), threshold=level, options=few, starts=[below.resample(5)])
    alone = shorten(dss.Ring(), around_the_ring(), threshold=level, options=few)
    assert len(found.starts) == 2 and found.starts[0] == alone.path.normalized_length
    assert found.path.normalized_length == min(found.starts) <= alone.path.normalized_length


def test_the_straight_line_is_the_second_start():
    found = shorten(dss.DoubleWell(), KNOWN["double well"][1], threshold=1.2, options=Shortening(n_starts=2))
    assert found.starts == (1.0, 1.0)


def test_a_start_that_leads_nowhere_counts_as_infinitely_long():
    few = Shortening(solver=SequentialQP(iterations=1, updates=1), doublings=0, rounds=1)
    line = dss.Path(around_the_ring().beads[[0, -1]])
    found = shorten(dss.Ring(), around_the_ring(), threshold=0.25, starts=[line], options=few)
    assert found.starts[1] == float("inf") and found.summary["lengths_by_start"][1] is None


def test_a_start_between_other_ends_is_refused():
    with pytest.raises(dss.InputError, match="start 0 has others"):
        shorten(dss.Ring(), around_the_ring(), threshold=0.25, starts=[dss.Path(-around_the_ring().beads)])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_error_rate_never_makes_a_shortening_fail(seed):
    """Linearised constraints contradict one another where the judge jumps: multipliers grow, and must not overflow."""
    torch.manual_seed(seed)
    x = torch.rand(200, 2) * 2 - 1
    data = (x, (x[:, 0] * x[:, 1] > 0).long())
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    train, judge = (dss.NetworkObjective(net, loss, data) for loss in (nn.functional.cross_entropy, dss.error_rate))
    ends = torch.stack([torch.randn(train.space.size, generator=torch.Generator().manual_seed(seed + i)) for i in (10, 20)])
    fast = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.03), max_steps=2000)
    ends = dss.descend(train, judge, ends, 0.01, options=fast, generator=torch.Generator()).points
    found = dss.connect(train, *ends, threshold=0.02, judge=judge, finder=dss.GreedyString(descent=fast, limits=dss.Limits()))
    assert found.connected
    short = shorten(train, found.path, threshold=0.02, judge=judge, limits=dss.Limits(rounds=None, seconds=2.0))
    assert short.certificate.passed and short.path.normalized_length <= found.path.normalized_length


def test_the_same_seed_gives_the_same_bits():
    objective, path, threshold, _ = KNOWN["ring, narrow"]
    runs = [shorten(objective, path, threshold=threshold, options=Shortening(n_starts=2), seed=5) for _ in range(2)]
    assert torch.equal(runs[0].path.beads, runs[1].path.beads) and runs[0].starts == runs[1].starts


def test_pruning_removes_what_is_not_needed_and_keeps_the_rest():
    path = around_the_ring(33)
    pruned = prune(dss.Ring(), path, threshold=0.25)
    assert dss.certify(dss.Ring(), pruned, threshold=0.25).passed
    assert pruned.normalized_length <= path.normalized_length
    # A chord may dip to half the radius, which spans 120 degrees; half a turn needs at least one bead.
    assert 1 <= pruned.intermediate_beads <= 3
    assert torch.equal(prune(dss.Quadratic(), over(dss.Ring, (0.0, 0.1)), threshold=1.0).beads, over(dss.Ring).beads)


def test_the_held_string_is_the_least_stretched_one():
    # One bead between (-1, 0) and (1, 0) has the energy 1 + |x|^2: it comes to rest on the inner circle.
    path = over(dss.Ring, (0.3, 0.9))
    problem = dss.Problem.of(dss.Ring(), path.beads[0], path.beads[-1], threshold=0.25)
    solver = SequentialQP(margin=0.0, tolerance=0.0, settle=1e-12)
    solved = minimise(problem, path, ConstraintPoints.spread(2, 1), solver=solver, key=("test",))
    assert solved.path.beads[1].norm().item() == pytest.approx(0.5, abs=1e-6)
    assert abs(solved.violation) < 1e-6 and solved.stationarity < 1e-4


def test_a_place_is_near_only_on_its_own_segment():
    held = ConstraintPoints.spread(3, 2)
    assert held.near(torch.tensor([0.51, 0.3, 0.49], dtype=FLOAT)).tolist() == [True, False, True]
    assert held.near(torch.tensor([0.01, 0.01, 0.2], dtype=FLOAT)).tolist() == [False, True, False]


def test_held_survive_json():
    held = ConstraintPoints.spread(3, 3).add(torch.tensor([1]), torch.tensor([0.123], dtype=FLOAT))
    again = ConstraintPoints.from_json(held.as_json())
    assert torch.equal(held.segments, again.segments) and torch.equal(held.t, again.t)
    assert held.count(3).tolist() == [2, 4, 3]


@pytest.mark.parametrize("options", [{"constraint_points": 0}, {"rounds": 0}, {"n_starts": 0}, {"doublings": -1}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(dss.InputError):
        Shortening(**options)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"settle": 0.0}, {"margin": 0.001, "tolerance": 0.002}])
def test_solvers_that_make_no_sense_are_refused(options):
    with pytest.raises(dss.InputError):
        SequentialQP(**options)


def test_connect_shortens_before_it_certifies():
    a, b = dss.Ring.at(0.0), dss.Ring.at(2.5)
    finder = dss.GreedyString(descent=dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02)))
    plain = dss.connect(dss.Ring(), a, b, threshold=0.25, finder=finder)
    short = dss.connect(dss.Ring(), a, b, threshold=0.25, finder=finder, shorten=True)
    assert short.connected and short.shortened.length_before == plain.path.normalized_length
    assert short.path.normalized_length <= 1.005 * dss.Ring.geodesic_length(0.25, angle=2.5)
    assert short.summary["shortened"]["normalized_length"] == short.path.normalized_length
    assert plain.shortened is None and "shortened" not in plain.summary


def test_a_search_that_failed_is_not_shortened():
    found = dss.connect(dss.DoubleWell(), *over(dss.DoubleWell).beads, threshold=0.9, finder=dss.StraightLine(), shorten=True)
    assert not found.connected and found.shortened is None


def test_a_string_that_had_passed_is_pulled_on_without_new_beads():
    path = around_the_ring(9)
    problem = dss.Problem.of(dss.Ring(), path.beads[0], path.beads[-1], threshold=0.25)
    # Every segment had passed with room to spare: being worse now is no slip over a ridge.
    passed = TightString(path, ConstraintPoints.spread(8, 2), torch.zeros(8, dtype=FLOAT))
    after = exchange_step(problem, passed, solver=SequentialQP(), constraint_points=2, grid=20, insert=True, key=("test",))
    assert after.maxima.max() > 0 and len(after.path) == len(path)
    assert after.path.normalized_length < path.normalized_length


@pytest.mark.slow
def test_starts_in_other_processes_lead_to_the_same_path_and_count_their_work():
    path, few = around_the_ring(), Shortening(n_starts=3, doublings=1)
    here = shorten(dss.Ring(), path, threshold=0.25, options=few, seed=2)
    problem = dss.Problem.of(dss.Ring(), path.beads[0], path.beads[-1], threshold=0.25, seed=2)
    with ProcessPool(2, threads=torch.get_num_threads()) as pool:
        there = shorten_within(problem, path, few, executor=pool)
    assert torch.equal(there.path.beads, here.path.beads) and there.summary == here.summary
    assert problem.tally.loss_evaluations > 100 and problem.tally.gradient_evaluations > 100
