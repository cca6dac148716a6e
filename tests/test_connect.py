"""connect from end to end: analytic answers first, then every kind of model."""

from dataclasses import dataclass, replace

import pytest
import torch
from architectures import CASES, mlp, vectors
from torch import nn

import dss
from dss.finders.descent import descend

FAST = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=0.02), max_steps=3000)


def ends(objective, model, dtype):
    """Two points of the model trained from different seeds to half the loss of chance, and a threshold that the line fails."""
    torch.manual_seed(1)
    start = torch.randn(2, objective.space.size, dtype=dtype) * 0.4
    target = 0.5 * objective(torch.zeros_like(start[:1])).item()
    found = descend(objective, objective, start, target, options=FAST, generator=torch.Generator().manual_seed(0))
    assert found.reached.all()
    line = dss.certify(objective, dss.Path(found.points), threshold=target)
    return found.points, target + 0.3 * (line.max_loss - target)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_model_connects_unchanged(name, dtype):
    torch.manual_seed(0)
    build, data, loss = CASES[name]
    model, (x, y) = build(), data()
    objective = dss.NetworkObjective(model, loss, (x, y))
    (a, b), threshold = ends(objective, model, dtype)
    finder = dss.GreedyString(descent=FAST)
    found = dss.connect(objective, a, b, threshold=threshold, finder=finder, prove="never", grid=10)
    assert found.connected and found.path.beads.dtype == dtype
    assert found.linear.max_loss > threshold >= found.certificate.max_loss
    assert torch.equal(found.path.beads[0], a) and torch.equal(found.path.beads[-1], b)
    grid = torch.linspace(0, 1, 101)
    losses = torch.cat([objective(found.path.points(torch.full((101,), s), grid)) for s in range(len(found.path) - 1)])
    assert losses.max() <= threshold * (1 + 1e-3)


def test_a_judge_without_gradient_decides():
    torch.manual_seed(0)
    model, (x, y) = mlp(), vectors()
    y = (x[:, 0] > 0).long()
    objective = dss.NetworkObjective(model, nn.functional.cross_entropy, (x, y))
    judge = dss.NetworkObjective(model, dss.error_rate, (x, y))
    start = descend(
        objective, judge, torch.randn(2, objective.space.size), 0.0, options=FAST, generator=torch.Generator().manual_seed(0)
    ).points
    found = dss.connect(objective, *start, threshold=0.05, judge=judge, finder=dss.GreedyString(descent=FAST))
    assert found.connected and found.problem.judge.description.startswith("error_rate")
    assert found.certificate.max_loss <= 0.05


def test_a_proof_is_the_default_where_the_judge_can_be_enclosed():
    torch.manual_seed(0)
    objective = dss.NetworkObjective(mlp(), nn.functional.cross_entropy, vectors())
    (a, b), threshold = ends(objective, None, torch.float32)
    finder = dss.GreedyString(descent=FAST)
    proved = dss.connect(objective, a, b, threshold=threshold, finder=finder)
    assert proved.certificate.proven and proved.certificate.upper <= threshold
    assert proved.summary["upper_bound"] == proved.certificate.upper
    sampled = dss.connect(objective, a, b, threshold=threshold, finder=finder, prove="never")
    assert sampled.connected and not sampled.certificate.proven and sampled.summary["upper_bound"] is None
    assert torch.equal(sampled.path.beads, proved.path.beads)


def test_a_judge_that_cannot_be_enclosed_is_sampled_and_the_reason_says_so():
    a, b = (torch.tensor(m, dtype=torch.float64) for m in dss.MuellerBrown.minima[:2])
    found = dss.connect(dss.MuellerBrown(), a, b, threshold=-40.5, prove="always")
    assert found.connected and not found.certificate.proven
    assert found.certificate.reason.startswith("sampled") and "no enclosure" in found.certificate.reason


@dataclass(frozen=True)
class Boaster(dss.Finder):
    """Calls the straight line a success without looking."""

    limits: dss.Limits = dss.Limits()

    def advance(self, problem, step):
        return replace(step, status=dss.Status.FOUND)


@pytest.mark.parametrize("prove", ["always", "never"])
def test_no_finder_can_call_itself_successful(prove):
    torch.manual_seed(0)
    objective = dss.NetworkObjective(mlp(), nn.functional.cross_entropy, vectors())
    (a, b), threshold = ends(objective, None, torch.float32)
    found = dss.connect(objective, a, b, threshold=threshold, finder=Boaster(), prove=prove)
    assert found.status is dss.Status.FOUND and not found.connected and found.summary["status"] != "connected"
    worst = found.path.points(torch.tensor([found.certificate.segment]), torch.tensor([found.certificate.t]))
    assert objective(worst).item() > threshold


class Spike(dss.Objective):
    """Zero, but for a narrow spike that no coarse grid meets."""

    def __call__(self, points):
        x = points.double()[:, 0]
        return (1 - (x - 0.38137).abs() / 0.0005).clamp_min(0) + 0.01 * x * (1 - x)


def test_a_sampled_certificate_says_how_closely_it_looked():
    line = dss.Path(torch.tensor([[0.0], [1.0]]))
    certificate = dss.certify(Spike(), line, threshold=0.5, grid=20)
    assert certificate.passed and not certificate.proven and certificate.upper is None
    assert certificate.resolution == 1 / 20 and certificate.evaluations > 20
    assert not dss.certify(Spike(), line, threshold=0.5, grid=4000).passed


class Parabola(dss.Objective):
    """A smooth peak of height 1 at 0.3137, between the points of any grid used here."""

    def __call__(self, points):
        return 1 - (points.double()[:, 0] - 0.3137) ** 2


class Kink(dss.Objective):
    def __call__(self, points):
        return 1 - (points.double()[:, 0] - 0.3137).abs()


@pytest.mark.parametrize(("judge", "off"), [(Parabola(), 1e-4), (Kink(), 1e-2)])
def test_looks_close_in_on_a_peak_until_it_stops_moving(judge, off):
    certificate = dss.certify(judge, dss.Path(torch.tensor([[0.0], [1.0]])), threshold=2.0, grid=10)
    assert certificate.max_loss == pytest.approx(1, abs=off)
    assert certificate.t == pytest.approx(0.3137, abs=1e-2)


def test_a_loss_that_is_not_a_number_fails_the_certificate():
    class Hole(dss.Objective):
        def __call__(self, points):
            return torch.where((points[:, 0] - 0.5).abs() < 0.2, torch.nan, points.double()[:, 0] * 0)

    assert not dss.certify(Hole(), dss.Path(torch.tensor([[0.0], [1.0]])), threshold=1.0).passed


BOWL, A, B = dss.Quadratic(), torch.zeros(2), torch.ones(2)


@pytest.mark.parametrize(
    ("start", "end", "threshold", "message"),
    [
        (A, A, 3.0, "identical"),
        (A, B, 1.0, "threshold 1, got 0 and 2"),
        (A, B, float("nan"), "finite number"),
        (A, torch.ones(3), 3.0, "one shape"),
        (A, B.double(), 3.0, "dtype"),
        (A, B * torch.inf, 3.0, "finite"),
        (torch.zeros(1, 2), torch.ones(1, 2), 3.0, "finite point"),
    ],
)
def test_ends_that_cannot_be_used_are_refused(start, end, threshold, message):
    with pytest.raises(dss.InputError, match=message):
        dss.connect(BOWL, start, end, threshold=threshold)


def test_evaluations_are_counted_in_samples():
    torch.manual_seed(0)
    data = vectors()
    objective = dss.NetworkObjective(mlp(), nn.functional.cross_entropy, data)
    points = torch.randn(2, objective.space.size)
    found = dss.connect(objective, *points, threshold=1e3, finder=dss.StraightLine(grid=4), prove="never", grid=2)
    assert found.summary["gradient_evaluations"] == 0
    assert found.summary["loss_evaluations"] % len(data[1]) == 0 < found.summary["loss_evaluations"]


def test_perplexity_is_the_exponential_of_the_mean_and_is_proved_like_any_judge():
    torch.manual_seed(0)
    objective = dss.NetworkObjective(mlp(), nn.functional.cross_entropy, vectors())
    judge = dss.Perplexity(objective)
    points = torch.randn(3, objective.space.size)
    assert torch.equal(judge(points), objective(points).exp())
    (a, b), threshold = ends(objective, None, torch.float32)
    limit = float(torch.tensor(threshold, dtype=torch.float64).exp())
    found = dss.connect(objective, a, b, threshold=limit, judge=judge, finder=dss.GreedyString(descent=FAST), prove="always")
    assert found.certificate.proven and found.certificate.upper <= limit
    grid = torch.linspace(0, 1, 401)
    for segment in range(len(found.path) - 1):
        points = found.path.points(torch.full((401,), segment), grid)
        assert objective(points).exp().max() <= found.certificate.upper * (1 + 1e-5)
