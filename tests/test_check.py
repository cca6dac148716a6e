"""May these be averaged? Lines with barriers in closed form, soups against a naive loop, and the verdict in words."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dss
from dss.averaging import Tolerance
from dss.averaging.line import FINEST, look_along
from dss.averaging.soups import average, greedy_soup

WELL = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)


class Curve(dss.Objective):
    """A function of the first coordinate, counting its evaluations."""

    def __init__(self, function):
        self.function, self.evaluations = function, 0

    def __call__(self, points):
        self.evaluations += len(points)
        return self.function(points.double()[:, 0])


def between(function, low=0.0, high=1.0):
    points = torch.tensor([[low, 0.0], [high, 1.0]], dtype=torch.float64)
    return look_along(Curve(function), points[0], points[1])


@pytest.mark.parametrize(("a", "b", "slope"), [(3.0, 0.2, 0.0), (3.0, 0.2, 5.0), (0.4, 1.0, -2.0)])
def test_a_parabola_is_known_after_nine_evaluations_and_a_few_at_its_top(a, b, slope):
    line = between(lambda x: a * x * (1 - x) + slope * x + b)
    assert line.rise == pytest.approx(a / 4, rel=1e-3) and line.place == pytest.approx(0.5, abs=0.02)
    top = min(1.0, max(0.0, 0.5 + slope / (2 * a)))
    assert line.barrier == pytest.approx(a * top * (1 - top) + slope * top + b, rel=1e-3)
    assert line.excess == pytest.approx(line.barrier - max(b, b + slope))
    assert len(line.t) <= 9 + 12


def test_a_double_well_has_its_barrier_between_its_minima():
    found = dss.check(dss.DoubleWell(), WELL)
    line = found.lines[0, 1]
    assert (line.rise, line.excess, line.barrier, line.middle) == (1.0, 1.0, 1.0, 1.0)
    assert not found.safe and found.sentence == "a barrier of 1 lies between them: align or connect"


def test_a_narrow_bump_gets_its_places_and_a_smooth_line_few():
    bump = between(lambda x: torch.exp(-(((x - 0.37) / 0.04) ** 2)))
    assert bump.rise == pytest.approx(1.0, rel=1e-3) and bump.place == pytest.approx(0.37, abs=2e-3)
    near = ((bump.t - 0.37).abs() < 0.1).double().mean()
    assert near > 0.5, "half of all places lie in a fifth of the line, where it bends"
    assert len(between(lambda x: x.square()).t) == 9
    steps = between(lambda x: (x * 37).floor().remainder(2))
    assert len(steps.t) <= FINEST + 1 + 2 * 14, "a loss that jumps everywhere costs no more than the finest grid"


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6))
def test_a_line_misses_little_of_a_smooth_loss(seed):
    draw = torch.rand(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def function(x):
        return (
            draw[0] * torch.sin(6 * draw[1] * x + draw[2]) + draw[3] * x + 3 * draw[4] * torch.exp(-(((x - draw[5]) / 0.15) ** 2))
        )

    line, fine = between(function), torch.linspace(0, 1, 20001, dtype=torch.float64)
    values = function(fine)
    rises = values - torch.lerp(values[0], values[-1], fine)
    span = (rises.max() - rises.min()).item()
    assert rises.max().item() - line.rise <= 0.01 * span
    assert line.rise <= rises.max().item() + 1e-6 * span


def test_losses_that_are_no_numbers_are_a_barrier_and_end_the_search():
    line = between(lambda x: torch.where((x > 0.3) & (x < 0.4), math.nan, x))
    assert line.barrier == line.rise == math.inf and len(line.t) <= FINEST + 1
    found = dss.check(Curve(lambda x: torch.where((x > 0.2) & (x < 0.4), math.inf, x)), [torch.zeros(2), torch.ones(2)])
    assert not found.safe and "barrier of inf" in found.sentence


def test_in_a_convex_bowl_the_average_is_better_and_safe():
    points = torch.tensor([[-1.0, 0.5], [1.0, 0.5]], dtype=torch.float64)
    found = dss.check(dss.Quadratic((1.0, 2.0)), points, metrics={"twice": Curve(lambda x: 2 * x * x)})
    assert found.safe and found.sentence == "the average is 1 better than either end: safe"
    assert found.uniform.loss == 0.5 and torch.equal(found.uniform.point, torch.tensor([0.0, 0.5], dtype=torch.float64))
    assert found.lines[0, 1].metrics["twice"].tolist() == pytest.approx((2 * (2 * found.lines[0, 1].t - 1) ** 2).tolist())
    assert found.metrics["twice"].tolist() == [2.0, 2.0] and found.uniform.metrics == {"twice": 0.0}


def test_between_unequal_models_it_says_that_one_alone_is_better():
    points = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    found = dss.check(dss.Quadratic((1.0, 1.0)), points, names=["a", "b"])
    assert found.safe and found.sentence == "the average is nowhere worse than the ends, though 3 worse than a alone: safe"


@pytest.mark.parametrize(
    ("tolerance", "safe"), [(1.0, True), (0.999, False), ("2x", True), ("1.99x", False), (Tolerance(0.5, True), False)]
)
def test_a_tolerance_is_an_amount_or_a_multiple_of_the_ends_losses(tolerance, safe):
    raised = Curve(lambda x: 1 + (x * x - 1) ** 2)
    found = dss.check(raised, WELL, tolerance=tolerance)
    assert found.safe is safe
    assert found.sentence.startswith("the average is at most 1 worse than the ends" if safe else "a barrier of 1")


def test_a_share_of_negative_losses_allows_more_not_less():
    found = dss.check(Curve(lambda x: -10 + 0.4 * (1 - x * x)), WELL, tolerance="1.05x")
    assert found.safe and not dss.check(Curve(lambda x: -10 + 0.6 * (1 - x * x)), WELL, tolerance="1.05x").safe


@pytest.mark.parametrize("tolerance", [-0.1, "0.9x", "much", "nan", "infx"])
def test_a_tolerance_that_allows_less_than_nothing_is_refused(tolerance):
    with pytest.raises(dss.InputError, match=r"a tolerance is an amount such as 0\.02"):
        dss.check(dss.DoubleWell(), WELL, tolerance=tolerance)


def naive_greedy(judge, points):
    """Algorithm 1 of Wortsman et al. 2022, with means computed anew."""
    order = sorted(range(len(points)), key=lambda i: judge(points[i : i + 1]).item())
    kept = order[:1]
    for i in order[1:]:
        if judge(points[[*kept, i]].mean(0)[None]).item() <= judge(points[kept].mean(0)[None]).item():
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(6))
def test_the_greedy_soup_is_that_of_the_naive_loop(seed):
    points = torch.randn(7, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    judge = dss.MuellerBrown() if seed % 2 else dss.Quadratic((1.0, 3.0))
    soup = greedy_soup(judge, points, judge(points))
    expected = naive_greedy(judge, points)
    assert list(soup.members) == expected
    torch.testing.assert_close(soup.point, points[expected].mean(0))
    assert soup.loss == pytest.approx(judge(soup.point[None]).item()) and soup.loss <= judge(points).min()


def test_of_many_the_verdict_is_that_of_their_uniform_average():
    bowl = torch.tensor([[1.0, 0.0], [-1.0, 0.2], [0.0, 1.0], [0.3, -1.0]], dtype=torch.float64)
    found = dss.check(dss.Quadratic((1.0, 1.0)), bowl)
    assert (
        found.safe and found.sentence.startswith("the average of all 4 is 0.9") and found.sentence.endswith("best of them: safe")
    )
    assert len(found.lines) == 6 and found.matrix().max() == 0 and found.matrix("barrier")[0, 0] == 1.0
    apart = torch.cat([WELL, WELL + torch.tensor([0.0, 0.1])])
    found = dss.check(dss.DoubleWell(), apart, names="abcd")
    assert not found.safe and "the greedy soup keeps 1" not in found.sentence and "align or connect" in found.sentence
    assert found.matrix()[0, 1] == pytest.approx(1.0) and found.matrix()[0, 2] == 0.0
    spoilt = torch.cat([WELL[:1].repeat(4, 1), torch.tensor([[3.0, 0.0]])])
    one_bad = dss.check(dss.DoubleWell(), spoilt, names="abcde")
    assert one_bad.losses.mean() > one_bad.uniform.loss > 0 and not one_bad.safe, "one bad model does not make every average safe"
    assert "worse than the median model; the greedy soup keeps 4 of them (a, b, c, d)" in one_bad.sentence
    left_out = dss.check(dss.DoubleWell(), apart, pairs=False)
    assert not left_out.lines and left_out.matrix()[0, 1].isnan() and left_out.uniform.loss == found.uniform.loss


def test_averages_are_added_up_in_float64():
    points = torch.full((3001, 1), 0.1)
    assert average(points, range(3001)).item() == points[0].item()


def network(seed=0, width=6):
    torch.manual_seed(seed)
    x = torch.rand(40, 3)
    model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Linear(width, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(8)
    model.double()
    labels = model(x.double()).argmax(1)
    return model, dss.NetworkObjective(model, torch.nn.functional.cross_entropy, (x, labels))


def test_a_permuted_copy_is_not_safe_until_it_is_aligned():
    model, objective = network()
    a = {name: value.clone() for name, value in model.state_dict().items()}
    order = torch.tensor([3, 5, 0, 1, 2, 4])
    b = a | {"0.weight": a["0.weight"][order], "0.bias": a["0.bias"][order], "2.weight": a["2.weight"][:, order]}
    plain = dss.check(objective, [a, b])
    assert not plain.safe and plain.aligned is None and plain.answer is plain
    found = dss.check(objective, [a, b], align="weights")
    assert not found.safe and found.repaired and found.answer is found.aligned
    assert "with units reordered by weights, the average is nowhere worse than the ends: safe" in found.sentence
    torch.testing.assert_close(found.answer.uniform.point, objective.flatten(a))


def test_a_line_is_bounded_by_a_proof_that_no_loss_exceeds():
    model, objective = network()
    a = objective.flatten(model.state_dict())
    b = a + 0.02 * torch.randn(len(a), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    line = dss.check(objective, [a, b], prove=True).lines[0, 1]
    fine = torch.lerp(a, b, torch.linspace(0, 1, 400, dtype=torch.float64)[:, None])
    assert line.bracket is not None and objective(fine).max() <= line.bracket.upper <= 1.02 * line.barrier
    assert line.proof.startswith("proved: nowhere on the line is the loss above")
    unknown = dss.check(dss.DoubleWell(), WELL, prove=True).lines[0, 1]
    assert unknown.bracket is None and unknown.proof.startswith("no proof: DoubleWell has no enclosure")
    hurried = dss.check(objective, [a, -b], prove=True, limits=dss.Limits(cells=1)).lines[0, 1]
    assert "limit on cells" in hurried.proof


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(dss.InputError, match="two models or more"):
        dss.check(dss.DoubleWell(), WELL[:1])
    with pytest.raises(dss.InputError, match="one architecture"):
        dss.check(dss.Quadratic((1.0, 1.0)), [torch.zeros(2), torch.zeros(2).double()])
    with pytest.raises(dss.InputError, match="finite loss"):
        dss.check(Curve(lambda x: x / 0), WELL)
