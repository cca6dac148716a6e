"""Bends trained as segments: what is looked at, what is kept, and what greedy insertion gets."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import dss
from dss.certificates.progressive import LEVELS, ProgressiveJudge
from dss.certificates.sampling import evaluate
from dss.finders.segments import natural_rate, train_segments


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
        assert (place is None) == bool((losses <= 0.3).all())
        if place is not None:
            assert evaluate(dss.Ring(), path, torch.tensor([place[0]]), torch.tensor([place[1]])).item() > 0.3


def test_a_look_ends_at_the_first_place_that_fails_and_begins_where_the_last_one_did():
    judge = Watched()
    path = dss.Path(torch.tensor([[1.0, 0.0], [-0.2, 0.0], [-1.0, 0.0]], dtype=torch.float64))
    look = ProgressiveJudge(judge, 0.2, 0.2)
    assert look.failure(path) is not None and judge.asked == 2
    assert look.failure(path, (0, 0.75)) == (0, 0.75) and judge.asked == 3


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


def test_training_goes_down_the_gradient_of_the_loss_at_the_places_drawn():
    problem, path = ring(), ring().straight.resample(4)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    steps = train_segments(problem, path, lambda p: torch.optim.SGD(p, lr=0.1), generators[0])
    first = next(steps)
    u = (torch.arange(24) + torch.rand(24, generator=generators[1], dtype=torch.float64)) / 24 * 3
    inner = path.beads[1:-1].clone().requires_grad_()
    beads = torch.cat([path.beads[:1], inner, path.beads[-1:]])
    points = torch.stack([beads[int(s)] + (s - int(s)) * (beads[int(s) + 1] - beads[int(s)]) for s in u])
    losses = dss.Ring()(points)
    losses.sort(descending=True).values[:12].mean().backward()
    expected = inner.detach() - 0.1 * 0.1 * inner.grad  # the running mean goes a tenth of the step
    assert torch.allclose(first.path.beads[1:-1], expected, atol=1e-12)
    assert first.gradient_steps == 2 and first.loss == pytest.approx(losses.mean().item())


def test_a_pull_shortens_and_every_path_kept_on_the_way_passes():
    problem, finder = ring(), dss.BendString(tighten=20.0)
    steps = list(finder.steps(problem))
    pulled = [step for step in steps if "pull" in step.memory]
    lengths = [step.path.normalized_length for step in pulled]
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < lengths[0]
    assert all(dss.certify(dss.Ring(), step.path, threshold=0.2).passed for step in pulled)
    assert steps[-1].status is dss.Status.FOUND


def test_a_limit_while_a_path_is_pulled_leaves_a_found_path():
    problem, finder = ring(), dss.BendString(tighten=20.0)
    found = next(step for step in finder.steps(problem) if "pull" in step.memory)
    stopped = replace(finder, limits=dss.Limits(rounds=found.round))
    *_, last = stopped.steps(problem, found)
    assert last.status is dss.Status.FOUND and torch.equal(last.path.beads, found.path.beads)


def test_what_bends_do_not_connect_is_what_greedy_insertion_finds():
    adam = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02), max_steps=1000)
    a, b = (torch.tensor(m, dtype=torch.float64) for m in dss.MuellerBrown.minima[:2])
    problem = dss.Problem.of(dss.MuellerBrown(), a, b, threshold=-40.5, seed=1)
    *_, greedy = dss.GreedyString(descent=adam).steps(problem)
    *_, bend = dss.BendString(patience=0, tighten=0.0, round_steps=20, descent=adam).steps(problem)
    assert bend.status is dss.Status.FOUND and torch.equal(bend.path.beads, greedy.path.beads)


@pytest.mark.parametrize("options", [{"bends": 0}, {"share": 0.0}, {"tighten": -1.0}, {"patience": -1}, {"check_every": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(dss.InputError, match=next(iter(options))):
        dss.BendString(**options)
