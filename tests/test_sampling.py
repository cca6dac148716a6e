"""Losses along a path against plain loops."""

import math

import pytest
import torch
from oracles import dense_grid, length, naive_path_maximum

import dss
from dss.certificates.sampling import after_insertion, evaluate, sample_segments

FLOAT = torch.float64
ZIGZAG = dss.Path(torch.tensor([[-1.0, 0.2], [-0.1, 0.9], [0.3, -0.4], [1.2, 0.1]], dtype=FLOAT))


@pytest.mark.parametrize("judge", [dss.DoubleWell(), dss.Ring(), dss.Quadratic()])
def test_a_peak_is_the_densest_grids(judge):
    peaks = sample_segments(judge, ZIGZAG, grid=20)
    seen = dense_grid(judge, ZIGZAG.beads)
    expected, spread = seen.max(1).values, seen.max(1).values - seen.min(1).values
    # A peak is refined until it moves by less than a thousandth of its segment's range.
    assert ((expected - peaks.losses).abs() <= 2e-3 * spread).all()


class Along(dss.Objective):
    """A loss of the first coordinate, noting how many points were asked for."""

    def __init__(self, loss):
        self.loss, self.asked = loss, 0

    def __call__(self, points):
        self.asked += len(points)
        return self.loss(points[:, 0])


UNIT = dss.Path(torch.tensor([[0.0], [1.0]], dtype=FLOAT))


def test_a_peak_between_two_equal_losses_is_not_settled():
    # The first place beside .5 that is asked is .525, as high as .5: the kink between them is higher by a fortieth of the range.
    peaks = sample_segments(Along(lambda x: -(x - 0.5125).abs()), UNIT, grid=20)
    assert peaks.losses.item() == pytest.approx(0, abs=1e-3) and peaks.t.item() == pytest.approx(0.5125, abs=1e-3)


def test_a_loss_that_rises_up_to_a_bead_is_followed_there():
    judge = Along(lambda x: x)
    peaks = sample_segments(judge, UNIT, grid=20)
    assert 1 - 2e-6 <= peaks.losses.item() < 1
    assert judge.asked == peaks.evaluations == 19 + 2 * 16  # 1/20 halved until it is below a millionth


@pytest.mark.parametrize("judge", [dss.MuellerBrown(), dss.Ring()])
def test_a_sampled_certificate_finds_the_paths_maximum(judge):
    certificate = dss.certify(judge, ZIGZAG, threshold=math.inf)
    assert certificate.max_loss == pytest.approx(naive_path_maximum(judge, ZIGZAG.beads), rel=1e-3)


def test_some_segments_are_those_of_all():
    judge, some = dss.DoubleWell(), torch.tensor([2, 0])
    every, two = sample_segments(judge, ZIGZAG, grid=7), sample_segments(judge, ZIGZAG, some, grid=7)
    assert torch.equal(two.losses, every.losses[some]) and torch.equal(two.t, every.t[some])


def test_bounded_memory_changes_nothing(monkeypatch):
    segments, t = torch.arange(3)[:, None].expand(3, 50), torch.linspace(0, 1, 50, dtype=FLOAT).expand(3, 50)
    whole = evaluate(dss.MuellerBrown(), ZIGZAG, segments, t)
    monkeypatch.setattr("dss.certificates.sampling.POINT_BYTES", 40)
    torch.testing.assert_close(evaluate(dss.MuellerBrown(), ZIGZAG, segments, t), whole, rtol=1e-12, atol=0)


def test_a_loss_that_is_no_number_is_infinitely_bad():
    class Blind(dss.Ring):
        def __call__(self, points):
            return torch.where(points[:, 0] > 0, torch.nan, super().__call__(points))

    assert dss.certify(Blind(), ZIGZAG, threshold=1e300).max_loss == math.inf


def test_the_parts_of_a_segment_with_a_new_bead_are_not_judged():
    maxima = after_insertion(torch.tensor([1.0, 2.0, 3.0], dtype=FLOAT), torch.tensor([1]))
    torch.testing.assert_close(maxima, torch.tensor([1.0, torch.nan, torch.nan, 3.0], dtype=FLOAT), equal_nan=True)


def test_the_normalized_length_is_that_of_a_plain_loop():
    assert ZIGZAG.normalized_length == pytest.approx(length(ZIGZAG.beads), rel=1e-14)


def test_the_old_name_of_the_grid_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match="'points' is called 'grid'"):
        old = sample_segments(dss.Ring(), ZIGZAG, points=9)
    assert torch.equal(old.losses, sample_segments(dss.Ring(), ZIGZAG, grid=9).losses)
    with pytest.raises(TypeError, match="one argument"):
        sample_segments(dss.Ring(), ZIGZAG, points=9, grid=9)
    with pytest.warns(DeprecationWarning, match="GreedyString: 'points'"):
        assert dss.GreedyString(points=5) == dss.GreedyString(grid=5)
