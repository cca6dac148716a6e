"""Looks at a string on few samples and places, and the judgement that follows: what fails is named, what passes does."""

import pytest
import torch
from torch import nn

import dss
from dss.certificates.progressive import LEVELS, ProgressiveJudge
from dss.certificates.sampling import evaluate, sample_segments


def line_fit(samples=1024):
    """A least-squares fit of one weight and one bias, whose samples' losses are known by hand."""
    x = torch.linspace(-1, 1, samples, dtype=torch.float64)[:, None]
    net = nn.Linear(1, 1).double()
    return dss.NetworkObjective(net, nn.functional.mse_loss, (x, torch.zeros_like(x)))


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
