"""Bends trained as segments: what is looked at, what is kept, and what greedy insertion gets."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import dss
from dss.certificates.progressive import LEVELS, ProgressiveJudge
from dss.certificates.sampling import evaluate, sample_segments
from dss.finders import taut as pulling
from dss.finders.default import LARGE, default_finder
from dss.finders.segments import natural_rate, train_segments
from dss.finders.taut import tauten


def line_fit(samples=1024):
    """A least-squares fit of one weight and one bias, whose samples' losses are known by hand."""
    x = torch.linspace(-1, 1, samples, dtype=torch.float64)[:, None]
    net = nn.Linear(1, 1).double()
    return dss.NetworkObjective(net, nn.functional.mse_loss, (x, torch.zeros_like(x)))


def ring(threshold=0.2):
    return dss.Problem.of(dss.Ring(), dss.Ring.at(0.0), dss.Ring.at(2.5), threshold=threshold)


class Watched(dss.Objective):
    """The ring's loss, noting how many points were asked for."""

    samples = 1

    def __init__(self):
        self.asked = 0

    def __call__(self, points):
        self.asked += len(points)
        return dss.Ring()(points)


def test_a_look_names_a_place_that_fails_and_passes_nothing_that_fails_at_a_coarse_place():
    torch.manual_seed(0)
    for _ in range(20):
        path = dss.Path(torch.randn(4, 2, dtype=torch.float64))
        place = ProgressiveJudge(dss.Ring(), 0.3, 0.3).failure(path)
        t = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64).expand(3, -1)
        losses = evaluate(dss.Ring(), path, torch.arange(3)[:, None].expand_as(t), t)
        beads = dss.Ring()(path.beads[1:-1])
        assert (place is None) == bool((losses <= 0.3).all() and (beads <= 0.3).all())
        if place is not None:
            assert evaluate(dss.Ring(), path, torch.tensor([place[0]]), torch.tensor([place[1]])).item() > 0.3


def test_a_look_ends_at_the_first_place_that_fails_and_begins_where_the_last_one_did():
    judge = Watched()
    path = dss.Path(torch.tensor([[1.0, 0.0], [-0.2, 0.0], [-1.0, 0.0]], dtype=torch.float64))
    look = ProgressiveJudge(judge, 0.2, 0.2)
    assert look.failure(path) is not None and judge.asked == 2
    assert look.failure(path, (0, 0.75)) == (0, 0.75) and judge.asked == 3


def test_a_judgement_passes_what_the_grid_and_the_beads_pass_and_else_names_a_place_that_fails():
    torch.manual_seed(1)
    passed = 0
    for _ in range(300):
        path = dss.Path(0.7 * torch.randn(4, 2, dtype=torch.float64))
        peaks, place = ProgressiveJudge(dss.Ring(), 0.6, 0.6).judged(path, 20)
        naive = sample_segments(dss.Ring(), path, grid=20, threshold=0.6).losses
        assert (place is None) == bool((naive <= 0.6).all() and (dss.Ring()(path.beads[1:-1]) <= 0.6).all())
        if place is None:
            assert peaks is not None
            grid = sample_segments(dss.Ring(), path, grid=20, refine=False).losses
            close = torch.isclose(peaks.losses, naive, rtol=1e-12)
            assert (close | (torch.isclose(peaks.losses, grid, rtol=1e-12) & (naive < 0.6))).all()
            passed += 1
        else:
            assert peaks is None
            assert evaluate(dss.Ring(), path, torch.tensor([place[0]]), torch.tensor([place[1]])).item() > 0.6
    assert 10 < passed < 290


def test_a_judgement_looks_closer_beside_a_peak_near_the_threshold_and_nowhere_else():
    segment = dss.Path(torch.tensor([[1.0, 0.0], [-1.013, 0.0]], dtype=torch.float64))  # across the ring's middle, off the grid
    top = sample_segments(dss.Ring(), segment, grid=20).losses.item()
    coarse = sample_segments(dss.Ring(), segment, grid=20, refine=False).losses.item()
    between, far = Watched(), Watched()
    assert ProgressiveJudge(between, (coarse + top) / 2, 1.0).judged(segment, 20)[0] is None, "the grid alone would pass it"
    peaks, _ = ProgressiveJudge(far, 2.0, 1.0).judged(segment, 20)
    assert peaks is not None and peaks.losses.item() == pytest.approx(coarse) and far.asked == 19 < between.asked


def test_a_verdict_believes_all_samples_alone_and_names_what_it_saw_of_a_segment_that_fails():
    judge, generator = line_fit(), torch.Generator().manual_seed(3)
    verdicts = []
    for _ in range(60):
        path = dss.Path(torch.randn(3, 2, dtype=torch.float64, generator=generator))
        naive = sample_segments(judge, path, grid=20).losses
        threshold = naive.max().item() * (0.97 + 0.06 * torch.rand((), generator=generator).item())
        maxima, place = ProgressiveJudge(judge, threshold, 1.0).verdict(path, 20)
        assert (place is None) == bool((naive <= threshold).all() and judge(path.beads[1:-1]).item() <= threshold)
        if place is not None:
            seen = maxima[~maxima.isnan()]
            assert len(seen) == 1 and seen.item() > threshold
            assert seen.item() == pytest.approx(evaluate(judge, path, *(torch.tensor([x]) for x in place)).item())
        verdicts.append(place is None)
    assert 10 < sum(verdicts) < 50


def test_a_judgement_that_fails_at_a_bead_asks_for_the_beads_alone():
    judge = Watched()
    beads = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert ProgressiveJudge(judge, 0.2, 0.2).judged(dss.Path(beads), 20) == (None, (1, 0.0)) and judge.asked == 1


class OneByOne(Watched):
    """The same of points that are evaluated one by one, and where they were asked for."""

    evaluates_apart = True

    def __init__(self, loss=None):
        super().__init__()
        self.loss, self.places = loss or dss.Ring(), []

    def __call__(self, points):
        self.asked += len(points)
        self.places += points[:, 0].tolist()
        return self.loss(points)


def test_points_that_are_evaluated_one_by_one_are_asked_until_one_fails_and_decide_the_same():
    torch.manual_seed(2)
    failed, together, one_by_one = 0, Watched(), OneByOne()
    for _ in range(200):
        path = dss.Path(0.7 * torch.randn(4, 2, dtype=torch.float64))
        before = together.asked, one_by_one.asked
        (peaks, place), (same, found) = (ProgressiveJudge(judge, 0.6, 0.6).judged(path, 20) for judge in (together, one_by_one))
        if place is None:
            assert peaks is not None and same is not None and torch.equal(peaks.losses, same.losses)
            assert together.asked - before[0] == one_by_one.asked - before[1]
        else:
            assert same is None and found is not None and together.asked - before[0] >= one_by_one.asked - before[1]
            assert evaluate(dss.Ring(), path, torch.tensor([found[0]]), torch.tensor([found[1]])).item() > 0.6
            failed += 1
    assert 10 < failed < 190 and one_by_one.asked < together.asked


def test_after_beads_and_middles_the_places_come_first_where_their_losses_lead_one_to_expect_most():
    heights = torch.tensor([0.2, 0.6, 0.9, 0.1, 0.0], dtype=torch.float64)  # at 0, 1/2, 1, 3/2 and 2, linear between

    def loss(points):
        x = 2 * points[:, 0]
        below = x.floor().clamp_max(3).long()
        return torch.lerp(heights[below], heights[below + 1], x - below)

    path = dss.Path(torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64))
    judge = OneByOne(loss)
    assert ProgressiveJudge(judge, 1.0, 1.0).judged(path, 4)[0] is not None
    # Beside the bead at 1 the losses are .75 and .5; ends are not asked for and count as low.
    assert judge.places[:5] == [1.0, 0.5, 1.5, 0.75, 1.25] and sorted(judge.places[5:]) == [0.25, 1.75]


def test_where_all_samples_failed_before_they_are_asked_again_though_few_pass():
    judge = line_fit()
    path = dss.Path(torch.tensor([[0.0, 0.0], [1.0, -1.0]], dtype=torch.float64))
    whole, few = (evaluate(part, path, torch.tensor([0]), torch.tensor([0.9])).item() for part in (judge, small_part(judge)))
    assert few < whole, "the subsample must be the more lenient one"
    look = ProgressiveJudge(judge, (few + whole) / 2, 1.0)
    assert look.failure(path) is None and look.failure(path, (0, 0.9)) == (0, 0.9)


def small_part(judge):
    """The largest subsample that looks are made on."""
    return ProgressiveJudge(judge, 1.0, 1.0).levels[-1][0]


def test_the_subsamples_are_nested_and_fewer_samples_are_forgiven_more():
    judge = line_fit()
    look = ProgressiveJudge(judge, 1.0, 1.0)
    sizes = [part.samples for part, _ in look.levels]
    assert sizes == [n for n, _ in LEVELS] and [level for _, level in look.levels] == [1 + share for _, share in LEVELS]
    small, large = (set(part.data.inputs[0][:, 0].tolist()) for part, _ in look.levels)
    assert small < large


def test_a_judge_of_few_samples_is_asked_whole():
    judge = line_fit(100)
    assert [part.samples for part, _ in ProgressiveJudge(judge, 1.0, 1.0).levels] == [100]


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
        descent.step(torch.zeros(2, 2), torch.Generator())
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
