"""Samples bounded apart and proved lower sides: what is passed on stays true, and nothing is lost."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from enclosure_points import under_corners

import dss
from dss.certificates import proof
from dss.certificates.apart import inherited, tightened, wanted
from dss.certificates.bracket import Verdict
from dss.enclosure import CORNERS
from models.mlp import MLP
from models.recurrent import LanguageModel

F64 = torch.float64


@pytest.fixture(scope="module")
def judged():
    """Two networks on 80 points of two kinds, and their judge."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (80,), generator=generator)
    x = torch.randn(80, 4, generator=generator) + y[:, None]
    torch.manual_seed(0)
    judge = dss.NetworkObjective(MLP(4, 3, width=8, depth=3), F.cross_entropy, (x, y))
    return judge, torch.randn(3, judge.space.size, generator=generator) * 0.5


@pytest.mark.parametrize(("first", "last"), [(0.0, 0.5), (0.5, 1.0), (0.25, 0.5), (0.75, 1.0), (5 / 16, 6 / 16), (0.0, 1.0)])
def test_a_convex_function_on_a_part_lies_below_what_is_passed_on(first, last):
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(40, 5, 3, generator=generator, dtype=F64)  # a maximum of five planes in (tau, q)

    def value(tau, q):
        return (planes @ torch.tensor([1.0, tau, q], dtype=F64)).amax(1)

    values = torch.stack([value(*corner) for corner in CORNERS], 1)
    found = inherited(values, first, last)
    middle, half = first + last - 1, last - first
    for place in torch.linspace(-1, 1, 41, dtype=F64).tolist():
        tau = middle + half * place
        assert (value(tau, 2 * tau**2 - 1) <= under_corners(found.T, place) + 1e-12).all()
    for (tau, q), side in zip(CORNERS, found.T):
        square = middle**2 + 2 * middle * half * tau + half**2 * (1 + q) / 2
        assert (value(middle + half * tau, 2 * square - 1) <= side).all()


def test_only_lower_values_replace_what_is_known():
    values, found = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0], [math.inf, math.inf]]),
        torch.tensor([[0.0, 5.0], [3.0, 3.0], [1.0, 2.0]]),
    )
    index = torch.tensor([0, 1, 2])
    assert torch.equal(tightened(values, index, found), torch.tensor([[1.0, 2.0], [3.0, 3.0], [1.0, 2.0]]))


@pytest.mark.parametrize(("excess", "most"), [(1e-3, 10), (0.02, 40), (10.0, 100), (math.inf, 100)])
def test_as_many_samples_are_bounded_anew_as_the_excess_asks_for(excess, most):
    gaps = torch.cat([torch.full((10,), 0.5), torch.full((90,), 1e-3)])
    assert 0 < wanted(gaps, excess) <= most and (wanted(gaps, excess) == 100) == (most == 100)
    unknown = torch.cat([torch.full((30,), math.inf), gaps])
    assert wanted(unknown, 1e-6) >= 30


def test_bounds_on_chosen_samples_are_those_of_each_alone(judged):
    judge, beads = judged
    index, t = torch.tensor([[3, 77, 5], [0, 1, 2]]), torch.tensor([0.25, 0.5], dtype=F64)
    found = judge.apart(beads).enclose(beads[:2], beads[1:], t, t + 0.125, index)
    for i, row in enumerate(index):
        for j, sample in enumerate(row):
            alone = judge.on_samples(sample[None]).enclose(
                beads[i : i + 1], beads[i + 1 : i + 2], t[i : i + 1], t[i : i + 1] + 0.125
            )
            assert torch.allclose(found[i, j], alone[0], rtol=1e-7, atol=1e-7)  # traced back in float32


def test_ends_that_arithmetic_would_round_are_refused(judged):
    judge, beads = judged
    third = torch.tensor([1 / 3], dtype=F64)
    with pytest.raises(ValueError, match="GRAIN"):
        judge.apart(beads).enclose(beads[:1], beads[1:2], third, third * 2, torch.tensor([[0]]))


@pytest.mark.parametrize("goal", ["threshold", "tolerance"])
def test_a_proof_with_samples_apart_bounds_every_loss(judged, goal, monkeypatch):
    judge, beads = judged
    grid = torch.linspace(0, 1, 201)[:, None]
    losses = torch.stack([judge(torch.lerp(a, b, grid)) for a, b in itertools.pairwise(beads)])
    sizes, called = [], proof._Proof._found
    monkeypatch.setattr(
        proof._Proof, "_found", lambda self, cells, index, **how: sizes.append(index.shape) or called(self, cells, index, **how)
    )
    threshold, tolerance = (1.005 * losses.max().item(), None) if goal == "threshold" else (None, 3e-3)
    *_, bracket = proof.prove(judge, beads, threshold=threshold, tolerance=tolerance)
    assert bracket.verdict in (Verdict.PROVEN, Verdict.BRACKETED)
    assert any(0 < size[1] < judge.samples for size in sizes), "some samples kept what was known"
    for segment, lower, upper, bound in bracket.bounds.tolist():
        inside = (grid[:, 0] >= lower) & (grid[:, 0] <= upper)
        assert (losses[int(segment)][inside] <= bound + 1e-6).all()
    assert bracket.upper == bracket.bounds[:, 3].max() >= losses.max() - 1e-6


def test_the_lower_side_is_proved_and_close_to_the_loss_in_float64(judged):
    judge, beads = judged
    *_, bracket = proof.prove(judge, beads, tolerance=1e-2)
    point = torch.lerp(beads[bracket.segment].double(), beads[bracket.segment + 1].double(), bracket.t)
    exact = judge(point[None]).item()
    assert exact - 1e-9 < bracket.lower <= exact + 1e-14 and bracket.lower <= bracket.upper
    *_, of_perplexity = proof.prove(dss.Perplexity(judge), beads, tolerance=1e-2)
    assert math.isclose(of_perplexity.lower, math.exp(bracket.lower), rel_tol=1e-4) or of_perplexity.segment != bracket.segment


def test_the_lower_side_of_a_network_whose_loss_rounds_is_no_higher_than_the_exact_one(judged):
    judge, beads = judged
    t = torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    floors = judge.floor(*(beads[at : at + 1].expand(3, -1) for at in (0, 1)), t)
    exact = judge(torch.lerp(beads[:1].double(), beads[1:2].double(), t[:, None]))
    assert (floors <= exact + 1e-14).all() and (exact - floors < 1e-9).all()


def test_a_network_without_batching_rules_has_its_samples_apart_too():
    torch.manual_seed(0)
    words = torch.randint(5, (70, 4))
    judge = dss.NetworkObjective(LanguageModel(5, width=4), F.cross_entropy, (words[:, :-1], words[:, 1:]))
    assert judge.samples >= proof.OPTIONS.few
    beads = torch.randn(2, judge.space.size) * 0.7
    apart = judge.apart(beads)
    assert apart is not None
    losses = apart.losses(beads[0])
    assert losses.shape == (70,)
    torch.testing.assert_close(losses.mean().double(), judge(beads[:1])[0].double())
    *_, last = dss.prove(judge, beads, tolerance=0.05, max_seconds=60)
    assert last.verdict is Verdict.BRACKETED and last.lower <= last.seen + 1e-6 <= last.upper + 2e-6
