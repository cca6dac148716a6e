"""The paper's protocol, the polynomial experiments and the counterexample: small sizes, independent oracles."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import l1_loss

import dss
from dss.theory import hidden_orientation
from experiments import (
    counterexample,
    cubics,
    growing_string,
    measurement,
    polynomials,
    quadratics,
    two_gaussians,
)
from experiments.polynomial_net import (
    PolynomialObjective,
    initial_points,
    midpoint_samples,
    random_samples,
    train_ends,
)
from experiments.protocol import PaperString, paper_beads
from experiments.triangle import (
    SWAP,
    X,
    aligned,
    objective,
    perfect,
    permuted,
    pinched_path,
    point,
    rescaled,
    units,
)

BOWL = dss.Quadratic((1.0, 1.0, 1.0))
MUELLER_ENDS = torch.tensor([[-0.558, 1.442], [0.623, 0.028]], dtype=torch.float64)
BOWL_ENDS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def strings_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "STRINGS", tmp_path / "runs")


class Watched(dss.Objective):
    """A constant that remembers the points it was asked about without gradients."""

    def __init__(self):
        self.seen = []

    def __call__(self, points):
        if not points.requires_grad:
            self.seen.append(points)
        return (0 * points).sum(1).double()


def test_the_protocol_inserts_a_midpoint_even_into_a_line_that_passes():
    problem = dss.Problem.of(BOWL, *BOWL_ENDS, threshold=10.0)
    *_, last = PaperString().steps(problem)
    assert last.status is dss.Status.FOUND
    assert paper_beads(last.path) == 3
    assert torch.equal(last.path.beads[1], BOWL_ENDS.mean(0))


def test_the_protocol_samples_a_segment_at_its_start_and_not_at_its_end():
    watched = Watched()
    problem = dss.Problem.of(watched, *BOWL_ENDS, threshold=1.0)
    watched.seen.clear()
    PaperString(points=4).advance(problem, PaperString().begin(problem))
    t = torch.arange(8, dtype=torch.float64) / 8
    assert torch.allclose(watched.seen[-1], torch.lerp(BOWL_ENDS[0], BOWL_ENDS[1], t[:, None]))


@pytest.mark.parametrize("multiplier", [1.0, 1.3])
def test_a_string_that_is_found_stays_below_multiplier_times_the_threshold(multiplier):
    objective, level = dss.Ring(), 0.05
    start, end = torch.tensor([[1.0, 0.0], [-1.0, 0.02]], dtype=torch.float64)
    problem = dss.Problem.of(objective, start, end, threshold=level)
    *_, last = PaperString(multiplier=multiplier, descent=dss.Descent(max_steps=3000)).steps(problem)
    assert last.status is dss.Status.FOUND
    losses = objective(last.path.points(*_grid(last.path, 100)))
    assert losses.max() <= multiplier * level
    assert len(last.path) > 3


def _grid(path, cells):
    segments = torch.arange(len(path) - 1).repeat_interleave(cells)
    return segments, (torch.arange(cells) / cells).repeat(len(path) - 1)


def test_a_larger_multiplier_never_needs_more_beads():
    start, end = torch.tensor([[1.0, 0.0], [-1.0, 0.02]], dtype=torch.float64)
    problem = dss.Problem.of(dss.Ring(), start, end, threshold=0.05)
    finders = [PaperString(multiplier=m, descent=dss.Descent(max_steps=3000)) for m in (1.0, 1.3)]
    strict, loose = (list(finder.steps(problem))[-1] for finder in finders)
    assert len(loose.path) <= len(strict.path)


def test_searching_together_gives_the_same_strings_as_one_by_one():
    ends = torch.tensor([[[1.0, 0.0], [-1.0, 0.02]], [[0.0, 1.0], [0.8, -0.6]]], dtype=torch.float64)
    problems = [dss.Problem.of(dss.Ring(), *pair, threshold=0.05) for pair in ends]
    finder = PaperString(descent=dss.Descent(max_steps=3000))
    alone = [list(finder.steps(problem))[-1] for problem in problems]
    for one, other in zip(alone, finder.search_together(problems), strict=True):
        assert one.status is other.status and one.round == other.round
        assert torch.allclose(one.path.beads, other.path.beads, atol=1e-12)


@pytest.mark.parametrize("insertion", ["midpoint", "argmax"])
def test_no_bead_is_repeated_and_rounds_end_the_search(insertion):
    problem = dss.Problem.of(dss.MuellerBrown(), *MUELLER_ENDS, threshold=-60.0)
    finder = PaperString(
        insertion=insertion, alpha=1.0, descent=dss.Descent(max_steps=3000), limits=dss.Limits(rounds=3, beads=None)
    )
    (last,) = finder.search_together([problem])
    assert last.status in (dss.Status.ROUNDS, dss.Status.STALLED)
    assert last.path.segment_lengths().min() > 0


@pytest.mark.parametrize("options", [{"alpha": 0}, {"alpha": 1.1}, {"multiplier": 0.9}, {"points": 1}, {"insertion": "end"}])
def test_protocol_options_outside_their_range_are_refused(options):
    with pytest.raises(dss.InputError, match="multiplier >= 1"):
        PaperString(**options)


@pytest.mark.parametrize(("bias", "bounded"), [(False, True), (True, False)])
def test_the_fast_polynomial_objective_equals_the_network(bias, bounded):
    x, y = random_samples(lambda x: x**2, 60, seed=3)
    fast = PolynomialObjective(x, y, bias=bias, bounded=bounded, description="test")
    points = initial_points(fast, 5, seed=0)
    assert points.shape == (5, 33 if bias else 24)
    gradients = []
    for judge in (fast, fast.network_objective()):
        rows = points.clone().requires_grad_()
        losses = judge(rows)
        losses.sum().backward()
        gradients.append((losses.detach(), rows.grad))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-13)


def test_the_midpoint_rule_gives_the_expected_error_of_the_best_constant():
    _x, y = midpoint_samples(cubics.STUDY.function, 200)
    fine = midpoint_samples(cubics.STUDY.function, 100_000)[1]
    errors = [(values - fine.median()).abs().mean() for values in (y, fine)]
    assert errors[0] == pytest.approx(errors[1].item(), abs=5e-5)
    assert errors[1] == pytest.approx(0.1582, abs=5e-5)


def test_ends_are_where_plain_training_first_meets_each_threshold():
    x, y = midpoint_samples(lambda x: 0.5 * x, 20)
    fast = PolynomialObjective(x, y, bias=True, bounded=False, description="test")
    points = initial_points(fast, 3, seed=1)
    found = train_ends(fast, points, (0.5, 0.3), max_steps=3000)
    row = points[1:2].clone().requires_grad_()
    optimizer = torch.optim.Adam([row], lr=1e-3)
    for level in (0.5, 0.3):
        while (loss := l1_loss(_outputs(fast, row), y)) > level:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert found[level][1].all()
        assert torch.allclose(found[level][0][1], row.detach()[0], atol=1e-9)


def _outputs(fast, row):
    parameters = {name: value[0] for name, value in fast.space.unflatten(row).items()}
    net = fast.network_objective().model
    return torch.func.functional_call(net, parameters, (fast.x[:, None],))[:, 0]


@pytest.fixture(scope="module")
def small_quadratics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    small = replace(quadratics.QUICK, pairs=2, samples=20, thresholds=(0.125,), points=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "STRINGS", folder / "runs")
        yield small, folder / "small.json", polynomials.run(small, folder / "small.json").records


def test_a_small_study_holds_every_variant_and_continues_to_the_same_file(small_quadratics, capsys):
    small, out, records = small_quadratics
    assert [name for name, _ in small.pieces()] == ["paper", "strict", "shortened", "bend"]
    assert all(len(records[name]["0.125"]) == 2 for name in records)
    assert all(r["connected"] and r["length"] >= 1 - 1e-9 and r["beads"] >= 3 for r in records["paper"]["0.125"])
    before = out.read_text()
    polynomials.run(small, out)
    assert capsys.readouterr().out == "" and out.read_text() == before


def test_strict_strings_and_bends_are_proved_and_shortening_never_lengthens_them(small_quadratics):
    records = small_quadratics[2]
    for strict, short, bent in zip(*(records[name]["0.125"] for name in ("strict", "shortened", "bend")), strict=True):
        assert strict["proven"] and short["proven"] and bent["proven"]
        assert max(strict["max_loss"], short["max_loss"], bent["max_loss"]) <= 0.125
        assert short["length_all"] <= strict["length_all"] + 1e-9


def test_cubics_of_a_variant_with_thresholds_of_its_own_run_there_alone():
    pieces = cubics.STUDY.pieces()
    assert {level for name, level in pieces if name == "alpha 0.85"} == set(cubics.SPIKE)
    assert {level for name, level in pieces if name == "shortened"} == set(cubics.THRESHOLDS)
    assert pieces[0] == ("paper", 0.32) and pieces[-1] == ("bend", 0.01)


def test_the_triangle_network_and_its_swapped_copy_are_perfect_and_on_opposite_sides():
    theta, swapped = perfect(), permuted(perfect(), SWAP)
    assert objective()(torch.stack([theta, swapped, rescaled(theta, torch.tensor([2.0, 0.5, 3.0]))])).max() < 1e-30
    assert hidden_orientation(X, units(theta)[0]) == -hidden_orientation(X, units(swapped)[0]) == 1


@pytest.mark.parametrize(("width", "beads"), [(0.1, 40), (0.01, 80)])
def test_the_pinched_path_comes_closer_to_one_twelfth_the_tighter_the_pinch(width, beads):
    path = pinched_path(width, beads)
    assert torch.equal(path.beads[0], perfect())
    assert torch.allclose(path.beads[-1], permuted(perfect(), SWAP), atol=1e-12)
    barrier = 12 * dss.certify(objective(), path, threshold=1.0).max_loss
    assert 1 < barrier < 1 + 6 * width
    assert dss.certify(objective(), path, threshold=(barrier + 1e-6) / 12, prove=True).proven
    assert not dss.certify(objective(), path, threshold=0.999 / 12, prove=True).passed


def test_alignment_undoes_the_swap():
    theta = perfect()
    other = permuted(rescaled(theta, torch.tensor([1.2, 0.9, 1.1])), SWAP)
    found, order = aligned(other, theta)
    assert order == SWAP
    assert torch.allclose(found, rescaled(theta, torch.tensor([1.2, 0.9, 1.1])))


def test_the_counterexample_runs_small_and_nothing_connects_below(tmp_path, monkeypatch):
    monkeypatch.setattr(dss, "FINDERS", {name: dss.FINDERS[name] for name in ("greedy", "straight", "band")})
    monkeypatch.setattr(counterexample, "STALL_STEPS", 40)
    monkeypatch.setattr(counterexample, "BEAD_STEPS", 40)
    records = counterexample.run(
        tmp_path / "c.json", above=(4.0,), below=(0.5,), steps=100, rounds=2, bends=1, bend_steps=100
    ).records
    for name in ("greedy to the copy", "straight to the copy"):
        (found,) = records[name].values()
        assert [r["connected"] for r in found] == [True, False]
    (explicit,), (line,) = records["explicit path"].values(), records["aligned ends"].values()
    assert [r["proven"] for r in explicit] == [True] * 3
    assert line[0]["straight_after"] and not line[0]["straight_before"]
    assert (tmp_path / "runs" / "stalled-string-to-the-rescaled-copy.html").stat().st_size > 1e6


def test_a_bent_start_leaves_the_line_sideways_and_the_lowest_barrier_of_all_starts_is_kept():
    theta = perfect()
    problem = dss.Problem.of(objective(), theta, permuted(theta, SWAP), threshold=0.05)
    first, again, other = (counterexample.bent(problem, number).path for number in (0, 0, 1))
    assert torch.equal(first.beads, again.beads) and not torch.equal(first.beads, other.beads)
    away = (first.beads - problem.straight.resample(len(first)).beads).norm(dim=1)
    assert away.argmax() == len(first) // 2
    assert away.max().item() == pytest.approx(counterexample.BEND * (problem.end - theta).norm().item())
    assert away[[0, -1]].max() == 0
    band = counterexample.finders(50)["band"]
    each = [counterexample.search(band, problem.end, 0.99, bend)["barrier_over_exact"] for bend in (0, 1)]
    best = counterexample.any_of(band, problem.end, 0.99, 2)
    assert (best["barrier_over_exact"], best["starts"], best["connected"]) == (min(each), 2, False)


def test_points_that_no_unit_answers_to_are_counted():
    w, v = units(perfect())
    assert counterexample.unseen(perfect()) == 0
    assert counterexample.unseen(point(w[[0, 0, 2]], v)) == 1
    assert counterexample.unseen(point(w[[0, 0, 0]], v)) == 2


def test_two_units_do_no_better_than_half_on_the_literal_two_gaussians():
    found = two_gaussians.least_risk(True, samples=200, starts=10, steps=150)
    assert 0.5 - 1e-6 < found["relative_risk"] < 0.6


def test_relative_risk_is_that_of_least_squares():
    xi = two_gaussians.standard_normal(50, 0)
    assert torch.allclose(xi.T @ xi / 50, torch.eye(2, dtype=torch.float64))
    generator = torch.Generator().manual_seed(2)
    w, s, t = (torch.randn(1, 2, *more, generator=generator, dtype=torch.float64) for more in ((2,), (), ()))
    hidden = np.concatenate([np.maximum(xi.numpy() @ w[0].numpy().T + o[0].numpy(), 0) for o in (s, t)])
    y = np.concatenate([xi.numpy(), -xi.numpy()])
    residual = y - hidden @ np.linalg.lstsq(hidden, y, rcond=None)[0]
    expected = (residual**2).sum() / (y**2).sum()
    assert two_gaussians.relative_risk(xi, w, s, t, output_bias=False).item() == pytest.approx(expected, abs=1e-7)


def test_swapped_classifiers_have_risk_of_order_sigma_squared_and_do_not_connect_below_half():
    records = two_gaussians.swapped_classifiers(0.03, thresholds=(0.3,), samples=50, seconds=1.0)
    assert records[0]["end_risk"] == pytest.approx(1.25 * 0.03**2, rel=1e-6)
    assert not records[0]["connected"]


def test_the_growing_string_is_drawn_on_the_axes_of_the_last(tmp_path):
    start, end = torch.tensor([[1.0, 0.0], [-1.0, 0.02]], dtype=torch.float64)
    problem = dss.Problem.of(dss.Ring(), start, end, threshold=0.05)
    steps = list(PaperString(descent=dss.Descent(max_steps=3000)).steps(problem))
    picture = growing_string.pictures(problem, steps)
    assert [len(strand.beads) for strand in picture.strings] == [len(step.path) for step in steps]
    centred = steps[-1].path.beads - steps[-1].path.beads.mean(0)
    singular = torch.linalg.svdvals(centred) ** 2
    assert torch.allclose(picture.explained[:2], singular / singular.sum(), atol=1e-9)
    pages = growing_string.write(picture, tmp_path)
    assert len(pages) == 1 + len(steps) and all(page.stat().st_size > 1e6 for page in pages)
