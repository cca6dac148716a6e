"""Bends trained as segments: how they are trained and pulled, what is kept, and what greedy insertion gets."""

from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

import dss
from dss.finders import taut as pulling
from dss.finders.default import LARGE, default_finder
from dss.finders.segments import moving_places, natural_rate, train_segments
from dss.finders.taut import tauten


def ring(threshold=0.2):
    return dss.Problem.of(dss.Ring(), dss.Ring.at(0.0), dss.Ring.at(2.5), threshold=threshold)


def test_the_natural_rate_follows_the_scale_of_the_coordinates_and_not_their_number():
    a, b = torch.zeros(9, dtype=torch.float64), torch.full((9,), 2.0, dtype=torch.float64)
    few = dss.Problem.of(dss.Quadratic((1.0,) * 9), a, b, threshold=1e3)
    many = dss.Problem.of(dss.Quadratic((1.0,) * 36), a.repeat(4), b.repeat(4), threshold=1e3)
    assert natural_rate(few, 0.04) == pytest.approx(0.08) and natural_rate(many, 0.04) == pytest.approx(0.08)


def test_steps_are_a_third_as_long_in_networks_of_many_coordinates(monkeypatch):
    problem, finder = ring(), dss.BendString()

    def rate():
        return finder._optimizer(problem, 0.03)([torch.zeros(2)]).param_groups[0]["lr"]

    assert rate() == pytest.approx(natural_rate(problem, 0.03))
    monkeypatch.setattr("dss.finders.bend.WIDE", 3)
    assert rate() == pytest.approx(natural_rate(problem, 0.03))
    monkeypatch.setattr("dss.finders.bend.WIDE", 2)
    assert rate() == pytest.approx(natural_rate(problem, 0.01))


def test_training_goes_down_the_gradient_of_the_loss_at_the_places_drawn():
    problem, path = ring(), ring().straight.resample(4)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    steps = train_segments(problem, path, lambda p: torch.optim.SGD(p, lr=0.1), generators[0])
    first = next(steps)
    u = 0.4 + (torch.arange(24) + torch.rand(24, generator=generators[1], dtype=torch.float64)) / 24 * (3 - 2 * 0.4)
    inner = path.beads[1:-1].clone().requires_grad_()
    beads = torch.cat([path.beads[:1], inner, path.beads[-1:]])
    points = torch.stack([beads[int(s)] + (s - int(s)) * (beads[int(s) + 1] - beads[int(s)]) for s in u])
    losses = dss.Ring()(points)
    losses.sort(descending=True).values[:12].mean().backward()
    expected = inner.detach() - 0.1 * 0.1 * inner.grad  # the running mean goes a tenth of the step
    assert torch.allclose(first.path.beads[1:-1], expected, atol=1e-12)
    assert first.gradient_steps == 2 and first.loss == pytest.approx(losses.mean().item())


@pytest.mark.parametrize(("exact", "beads", "places"), [(False, 1, 1), (False, 3, 3), (True, 2, 24)])
def test_places_of_a_few_steps_cover_every_part_of_the_string_evenly(exact, beads, places):
    steps = moving_places(SimpleNamespace(exact_estimate=exact), beads, torch.Generator().manual_seed(3))
    taken = torch.stack(list(islice(steps, 34)))
    assert taken.shape == (34, places)
    width = (beads + 1 - 0.8) / places
    within = (taken - 0.4) / width - torch.arange(places)
    assert ((within >= 0) & (within < 1)).all()
    # Of 34 places, a number of Fibonacci's, no two neighbours are twice as far apart as equal steps.
    assert within.sort(dim=0).values.diff(dim=0).max() < 2 / 34


def bends(**options):
    return dss.BendString(small=None, **options)


def test_pulling_shortens_and_every_path_kept_on_the_way_passes():
    problem = ring()
    steps = list(bends(tighten=20.0).steps(problem))
    pulled = [step for step in steps if "pull" in step.memory]
    lengths = [step.path.normalized_length for step in pulled]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < lengths[0]
    assert all(dss.certify(dss.Ring(), step.path, threshold=0.2).passed for step in pulled)
    assert steps[-1].status is dss.Status.FOUND


def test_pulling_approaches_the_geodesic_from_above():
    *_, last = bends(tighten=60.0).steps(ring(0.25))
    shortest = dss.Ring.geodesic_length(0.25, angle=2.5)
    assert shortest - 1e-9 <= last.path.normalized_length < 1.15 * shortest


def test_pulling_takes_the_gradient_steps_that_it_is_given():
    problem, path = ring(), dss.Path(torch.stack([dss.Ring.at(a) for a in (0.0, 0.8, 1.7, 2.5)]))
    taut = tauten(problem, path, 0.01, 101, torch.Generator().manual_seed(0))
    assert taut.gradient_steps == 100 and taut.path.normalized_length < path.normalized_length


def test_a_pulled_string_descends_as_torchs_optimizer_with_momentum_does(monkeypatch):
    beads = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradients = torch.randn(8, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = iter(gradients.clone())
    monkeypatch.setattr(pulling, "segment_gradient", lambda *_: (next(given), 0.0))
    descent, theirs = pulling._Descent(ring(), beads.clone()), beads.clone().requires_grad_()
    optimizer = torch.optim.SGD([theirs], lr=1.0, momentum=pulling.MOMENTUM)
    size = gradients[0].norm(dim=1).mean()
    for i, gradient in enumerate(gradients):
        descent.step(torch.zeros(2, 2), torch.zeros(1), torch.Generator())
        size = pulling.AVERAGING * size + (1 - pulling.AVERAGING) * gradient.norm(dim=1).mean() if i else size
        theirs.grad = gradient * (descent.length / size)
        optimizer.step()
        torch.testing.assert_close(descent.inner, theirs.detach(), rtol=1e-12, atol=0)


def test_a_string_with_no_room_is_given_back():
    path = dss.Path(torch.stack([dss.Ring.at(0.0), torch.zeros(2, dtype=torch.float64), dss.Ring.at(2.5)]))
    taut = tauten(ring(0.05), path, 0.01, 10, torch.Generator().manual_seed(0))
    assert taut.path is path and taut.pull < 0.01


def test_a_limit_while_a_path_is_pulled_leaves_a_found_path():
    problem, finder = ring(), bends(tighten=20.0)
    found = next(step for step in finder.steps(problem) if "pull" in step.memory)
    stopped = replace(finder, limits=dss.Limits(rounds=found.round))
    *_, last = stopped.steps(problem, found)
    assert last.status is dss.Status.FOUND and torch.equal(last.path.beads, found.path.beads)


def test_where_gradients_are_exact_and_cheap_second_order_steps_take_the_bends_place():
    problem = dss.Problem.of(dss.Ring(), dss.Ring.at(0.0), dss.Ring.at(2.5), threshold=0.2, seed=3)
    rate = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02))
    *_, one = dss.BendString(descent=rate).steps(problem)
    *_, other = dss.GeodesicString(descent=rate).steps(problem.afresh())
    assert one.status is dss.Status.FOUND and torch.equal(one.path.beads, other.path.beads)


class Nowhere(dss.MuellerBrown):
    """A potential whose estimates are not finite until they were asked for so often: training runs off at first."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    exact_estimate = False

    def estimate(self, points, generator):
        self.bad -= 1
        return self(points) * (float("nan") if self.bad >= 0 else 1.0)


class Unlucky(dss.Objective):
    """The ring's loss, of which few samples make too much."""

    samples = 1000

    def __init__(self, excess=0.0):
        self.excess = excess

    def __call__(self, points):
        return dss.Ring()(points) + self.excess

    def on_samples(self, index):
        return Unlucky(1.0)


def test_a_round_whose_string_passes_is_not_lost_where_few_samples_lie_above_the_threshold():
    problem = dss.Problem.of(Unlucky(), dss.Ring.at(0.0), dss.Ring.at(2.5), threshold=0.2)
    finder = bends(round_steps=200, tighten=0.0)
    *_, last = finder.steps(problem)
    assert last.status is dss.Status.FOUND and last.round == 1 and 100 < last.gradient_steps <= 200
    assert dss.certify(problem.judge, last.path, threshold=0.2).passed


def test_bends_that_run_off_to_infinity_leave_the_search_to_greedy_insertion():
    adam = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02), max_steps=1000)
    a, b = (torch.tensor(m, dtype=torch.float64) for m in dss.MuellerBrown.minima[:2])
    problem = dss.Problem.of(Nowhere(10), a, b, threshold=-35.0, judge=dss.MuellerBrown(), seed=1)
    *_, last = dss.BendString(descent=adam).steps(problem)
    assert last.status is dss.Status.FOUND and "greedy" in last.memory


@pytest.mark.parametrize("small", [None, dss.GeodesicString(patience=0)])
def test_what_bends_do_not_connect_is_what_greedy_insertion_finds(small):
    adam = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02), max_steps=1000)
    a, b = (torch.tensor(m, dtype=torch.float64) for m in dss.MuellerBrown.minima[:2])
    problem = dss.Problem.of(dss.MuellerBrown(), a, b, threshold=-40.5, seed=1)
    *_, greedy = dss.GreedyString(descent=adam).steps(problem)
    *_, bend = dss.BendString(small=small, patience=0, tighten=0.0, round_steps=20, descent=adam).steps(problem)
    assert bend.status is dss.Status.FOUND and torch.equal(bend.path.beads, greedy.path.beads)


@pytest.mark.parametrize("options", [{"bends": 0}, {"share": 0.0}, {"tighten": -1.0}, {"patience": -1}, {"check_every": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(dss.InputError, match=next(iter(options))):
        dss.BendString(**options)


def test_large_networks_and_beads_on_disk_are_searched_greedily_where_no_finder_is_named(monkeypatch):
    assert [default_finder(size, on_disk=disk).name for size, disk in ((9, False), (9, True), (LARGE, False))] == [
        "bend",
        "greedy",
        "greedy",
    ]
    problem = ring()
    ends = (problem.start, problem.end)
    assert dss.connect(dss.Ring(), *ends, threshold=0.2, prove="never").finder == "bend"
    monkeypatch.setattr("dss.finders.default.LARGE", 2)
    assert dss.connect(dss.Ring(), *ends, threshold=0.2, prove="never").finder == "greedy"
