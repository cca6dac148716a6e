"""Every finder on landscapes whose answer is known: it connects what is connected, and never what is not."""

from dataclasses import replace

import pytest
import torch

import dss

ADAM = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02), max_steps=1000)

# Every way to run a finder on the analytic landscapes. A new finder joins the whole file with one line.
FINDERS = {
    f"greedy-{insertion}-{schedule}-{margin}": dss.GreedyString(
        insertion=insertion, schedule=schedule, margin=margin, descent=ADAM, limits=dss.Limits(rounds=12)
    )
    for insertion in ("argmax", "midpoint")
    for schedule in ("breadth", "depth")
    for margin in (None, 20.0)
} | {
    "bend": dss.BendString(descent=ADAM, limits=dss.Limits(rounds=40)),
    "bend-tightened": dss.BendString(
        small=None, tighten=0.3, patience=1, descent=ADAM, round_steps=100, limits=dss.Limits(rounds=20)
    ),
    "bend-untightened": dss.BendString(
        small=None, bends=3, patience=2, tighten=0.0, descent=ADAM, round_steps=60, limits=dss.Limits(rounds=15)
    ),
    "geodesic": dss.GeodesicString(descent=ADAM, limits=dss.Limits(rounds=15)),
    # On a hyperplane near the saddle no bead gets far below it: the margin must be smaller than the room there is.
    "constrained": dss.ConstrainedString(margin=0.05, descent=ADAM, limits=dss.Limits(rounds=12)),
    "constrained-penalty": dss.ConstrainedString(form="penalty", descent=ADAM, limits=dss.Limits(rounds=12)),
    "constrained-falling": dss.ConstrainedString(levels=4, margin=0.05, descent=ADAM, limits=dss.Limits(rounds=12)),
    "band": dss.ElasticBand(descent=ADAM, limits=dss.Limits(rounds=12)),
    "band-climbing": dss.ElasticBand(climb=True, descent=ADAM, limits=dss.Limits(rounds=12)),
    "curve": dss.BezierCurve(bends=2, draws=8, cycle=50, descent=ADAM, limits=dss.Limits(rounds=8)),
    "chain": dss.PolygonalChain(bends=5, draws=8, cycle=50, descent=ADAM, limits=dss.Limits(rounds=8)),
}
# Greedy beads come to rest on either side of a sharp ridge: with midpoints, or with a wide margin, the gap between
# them stops shrinking before the segment across it is low enough. Curves lower the mean along them, not the maximum.
STAYS_OFF_A_RIDGE = {name for name in FINDERS if name.startswith(("greedy-midpoint", "curve", "chain")) or name.endswith("-20.0")}
CROSSES_A_RIDGE = sorted(FINDERS.keys() - STAYS_OFF_A_RIDGE)


def ends(potential):
    return tuple(torch.tensor(m, dtype=torch.float64) for m in potential.minima[:2])


def mueller_brown(threshold):
    return dss.Problem.of(dss.MuellerBrown(), *ends(dss.MuellerBrown), threshold=threshold)


def noisy(seed):
    return dss.Problem.of(MinibatchNoise(), *ends(dss.MuellerBrown), threshold=-35.0, seed=seed)


def last(finder, problem, resume=None):
    *_, step = finder.steps(problem, resume)
    return step


def same(first, second):
    return (
        torch.equal(first.path.beads, second.path.beads)
        and torch.equal(first.maxima.nan_to_num(), second.maxima.nan_to_num())
        and (first.status, first.round, first.gradient_steps, first.memory)
        == (second.status, second.round, second.gradient_steps, second.memory)
    )


class MinibatchNoise(dss.MuellerBrown):
    """Gradients come with noise, as from a minibatch; the exact loss is the potential's."""

    @property
    def exact_estimate(self):
        return False

    def estimate(self, points, generator):
        return self(points) + 2.0 * points @ torch.randn(2, generator=generator, dtype=points.dtype)


@pytest.mark.parametrize("name", CROSSES_A_RIDGE)
def test_mueller_brown_is_connected_just_above_its_saddle(name):
    found = dss.connect(dss.MuellerBrown(), *ends(dss.MuellerBrown), threshold=-40.5, finder=FINDERS[name])
    assert found.connected and found.status is dss.Status.FOUND
    assert -40.6649 < found.certificate.max_loss <= -40.5
    assert torch.equal(found.path.beads[[0, -1]], torch.stack(ends(dss.MuellerBrown)))


@pytest.mark.parametrize("name", FINDERS)
def test_mueller_brown_is_never_connected_below_its_saddle(name):
    finder = FINDERS[name]
    problem = mueller_brown(-42.0)
    *_, step = finder.steps(problem)
    assert step.status not in (dss.Status.FOUND, dss.Status.SEARCHING)
    assert not dss.conclude(problem, finder, step).connected


@pytest.mark.parametrize("name", FINDERS)
def test_a_convex_bowl_needs_two_beads_and_the_length_is_exactly_one(name):
    a, b = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([-0.6, 0.8], dtype=torch.float64)
    found = dss.connect(dss.Quadratic(), a, b, threshold=1.0, finder=FINDERS[name])
    assert found.connected and len(found.path) == 2 and found.path.normalized_length == 1.0
    assert found.gradient_steps == 0


@pytest.mark.parametrize("name", FINDERS)
def test_a_ring_is_connected_and_no_path_is_shorter_than_the_geodesic(name):
    a, b = dss.Ring.at(0.0), dss.Ring.at(2.5)
    found = dss.connect(dss.Ring(), a, b, threshold=0.25, finder=FINDERS[name])
    assert found.connected
    assert found.path.normalized_length >= dss.Ring.geodesic_length(0.25, angle=2.5) - 1e-9


@pytest.mark.parametrize("name", FINDERS)
def test_the_double_well_is_not_connected_below_its_saddle(name):
    found = dss.connect(dss.DoubleWell(), *ends(dss.DoubleWell), threshold=0.95, finder=FINDERS[name])
    assert not found.connected


@pytest.mark.parametrize("name", CROSSES_A_RIDGE)
def test_minibatch_noise_does_not_stop_the_search(name):
    found = dss.connect(MinibatchNoise(), *ends(dss.MuellerBrown), threshold=-35.0, finder=FINDERS[name], seed=3)
    assert found.connected


@pytest.mark.parametrize("name", FINDERS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones(name):
    runs = [last(FINDERS[name], noisy(seed)) for seed in (0, 0, 1)]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("name", FINDERS)
def test_a_search_resumes_from_any_step_to_the_same_bits(name):
    finder = replace(FINDERS[name], limits=dss.Limits(rounds=3))
    steps = list(finder.steps(noisy(0)))
    for step in steps[:-1]:
        assert same(last(finder, noisy(0), step), steps[-1])


@pytest.mark.parametrize("name", FINDERS)
@pytest.mark.parametrize(
    "limits, status",
    [
        (dss.Limits(rounds=1), dss.Status.ROUNDS),
        (dss.Limits(beads=1), dss.Status.BEADS),
        (dss.Limits(gradient_steps=1), dss.Status.STEPS),
        (dss.Limits(seconds=0.0), dss.Status.SECONDS),
    ],
)
def test_every_limit_ends_the_search_with_its_status_and_a_partial_path(name, limits, status):
    step = last(replace(FINDERS[name], limits=limits), mueller_brown(-40.5))
    assert step.status is status
    assert torch.equal(step.path.beads[[0, -1]], torch.stack(ends(dss.MuellerBrown)))
    assert limits.beads is None or step.path.intermediate_beads <= limits.beads


def test_the_geodesic_search_is_warmed_up_by_the_steps_it_counts():
    problem = mueller_brown(-40.5)
    cold, warm = (dss.GeodesicString(descent=ADAM, first=first) for first in (None, dss.PolygonalChain(cycle=30)))
    still, moved = (finder.advance(problem, finder.begin(problem)) for finder in (cold, warm))
    assert still.gradient_steps == 0 and moved.gradient_steps == 30
    line, ends_apart = problem.straight.resample(4).beads, (problem.end - problem.start).norm()
    assert (still.path.beads - line).norm() < 0.01 * ends_apart < (moved.path.beads - line).norm()


def test_what_resists_greedy_insertion_too_begins_anew_at_the_straight_line():
    problem, finder = mueller_brown(-40.5), dss.GeodesicString(descent=ADAM, patience=2)
    path = problem.straight.resample(9)
    stuck = dss.Step(path, torch.full((8,), torch.nan, dtype=torch.float64), round=5, memory={"pulls": 2, "places": {}})
    anew, on = finder.advance(problem, stuck), finder.advance(problem, replace(stuck, round=4))
    greedy = dss.GreedyString(grid=finder.grid, descent=ADAM)
    expected = greedy.advance(problem, replace(greedy.begin(problem), round=5))
    assert torch.equal(anew.path.beads, expected.path.beads) and len(anew.path) == 3 < 9 <= len(on.path)


def test_a_bead_above_the_threshold_is_trained_before_greedy_insertion_goes_on():
    problem, finder = mueller_brown(-40.5), dss.GeodesicString(descent=ADAM, patience=2)
    path = problem.straight.resample(4)
    assert (dss.MuellerBrown()(path.beads[1:-1]) > -40.5).any()
    # Every segment is taken for judged and passed: only the beads are in the way.
    step = dss.Step(path, torch.full((3,), -50.0, dtype=torch.float64), round=3, memory={"pulls": 2, "places": {}})
    after = finder.advance(problem, step)
    assert (dss.MuellerBrown()(after.path.beads) <= -40.5).all() and after.gradient_steps > 0
