"""The experiments on the source texts at small sizes: what they measure, that they resume, that their figures draw."""

import importlib
import json
import math

import pytest
import torch

import dss
from experiments import gradient_flow, hidden_layer, linear, margins, mean_field, students
from experiments.texts import Curve, Panel, drawing, slope

ALL = (gradient_flow, students, mean_field, linear, hidden_layer, margins)
NAMES = [module.__name__.split(".")[1] for module in ALL]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Every experiment at its quick size, once it is asked for."""
    done = {}

    def results(name):
        if name not in done:
            module = importlib.import_module(f"experiments.{name}")
            done[name] = module.run(tmp_path_factory.mktemp(name) / "results.json", **module.QUICK)
        return done[name]

    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_resumes_and_draws(name, finished, capsys):
    module, results = importlib.import_module(f"experiments.{name}"), finished(name)
    capsys.readouterr()
    again = module.run(results.path, **module.QUICK)
    assert capsys.readouterr().out == "" and again.records == results.records
    figure = module.picture(results)
    assert figure.data and all(len(trace.x) == len(trace.y) > 0 for trace in figure.data)


@pytest.mark.parametrize("name", NAMES)
def test_the_results_beside_a_script_are_of_its_own_sizes(name, tmp_path):
    """Nothing is left to do, and nothing is of other settings."""
    module = importlib.import_module(f"experiments.{name}")
    kept = (tmp_path / "kept.json", json.loads((importlib.import_module("experiments.texts").HERE / f"{name}.json").read_text()))
    kept[0].write_text(json.dumps(kept[1]))
    assert module.run(kept[0]).records == kept[1]["records"]


def test_slopes_are_those_of_powers():
    assert slope([1, 2, 8], [3, 3 * 2**-0.77, 3 * 8**-0.77]) == pytest.approx(-0.77)


def test_a_figure_has_a_legend_for_every_panel():
    figure = drawing(
        [Panel("one", "x", [Curve("a", [1, 2], [3, 4])]), Panel("two", "y", [Curve("b", [1], [2], law=True)], log_x=False)]
    )
    assert [trace.legend for trace in figure.data] == ["legend", "legend2"]
    assert figure.layout.xaxis.type == "log" and figure.layout.xaxis2.type is None


@pytest.mark.slow
def test_the_flow_keeps_its_law_at_both_sizes_of_a_step(finished):
    for work in ("flow", "descent"):
        for records in finished("gradient_flow").records[work].values():
            assert all(r["last_error"] > 0 and r["ratio_to_law"] <= 1.5 for r in records)


@pytest.mark.slow
def test_wide_students_and_wide_quadratic_networks_get_further(finished):
    records = finished("students").records
    narrow, wide = ([r["train"] for r in records["students"][size]] for size in ("20.0", "100.0"))
    assert max(wide) < min(narrow) / 5
    (one,), (ten,) = records["quadratic activation"]["1.0"], records["quadratic activation"]["10.0"]
    assert one["reached"] == 0 and ten["reached"] == ten["starts"] and min(ten["ends"]) >= ten["lower"]


def test_the_mean_field_step_is_descent_of_the_squared_error():
    """One step against autograd: theta - alpha N grad (y - y(x))^2."""
    alpha, d, width = 0.05, 3, 7
    w, a = mean_field.trained(width, d, 2, alpha, alpha)
    before = mean_field.start(width, d, 2)
    x, y = mean_field.sampled(2, d, torch.Generator().manual_seed(7 * width + d))
    for seed in range(2):
        rows, outer = (part[seed].clone().requires_grad_() for part in before)
        loss = (y[seed] - torch.tanh(rows @ x[seed]) @ outer / width).square()
        slopes = torch.autograd.grad(loss, (rows, outer))
        assert torch.allclose(w[seed], rows - alpha * width * slopes[0], atol=1e-6)
        assert torch.allclose(a[seed], outer - alpha * width * slopes[1], atol=1e-6)


def test_the_deep_step_is_descent_of_the_squared_error():
    alpha, width = 0.01, 5
    x, y = torch.randn(1, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([[1.0, 0, 0]])
    one, two, three = mean_field.deep_trained(width, x, y, 3, alpha, alpha)
    first, before, last = mean_field.deep_trained(width, x, y, 3, alpha, 0.0)
    assert torch.equal(one, first) and torch.equal(three, last)
    before.requires_grad_()
    loss = (y[0] - three @ torch.tanh(before @ torch.tanh(one @ x[0]) / width) / width).square().sum()
    (gradient,) = torch.autograd.grad(loss, before)
    assert torch.allclose(two, before - alpha * width**2 * gradient, atol=1e-6)


def test_the_path_through_halves_is_proved_and_no_higher_than_its_corners():
    x, y = mean_field.sampled(60, 3, torch.Generator().manual_seed(0))
    nets = [[part[0] for part in mean_field.trained(8, 3, 1, 0.02, time)] for time in (0.2, 0.4)]
    path, judge = mean_field.halves_path(*nets), mean_field.plain(8, 3, x, y)
    corners = judge(path.beads)
    found = dss.certify(judge, path, threshold=10.0, prove=True)
    assert found.proof == "convexity" and found.upper == pytest.approx(corners.max().item(), rel=1e-5)
    halves = [
        mean_field.losses(w[None, part], a[None, part], x, y).item() for (w, a), part in zip(nets, (slice(0, 4), slice(4, 8)))
    ]
    assert corners[1].item() == pytest.approx(halves[0], rel=1e-5) and corners[4].item() == pytest.approx(halves[1], rel=1e-5)


@pytest.mark.slow
def test_three_layers_are_joined_by_a_proved_path(finished):
    for record in finished("mean_field").records["three layers"]["20.0"]:
        assert record["proven"] and record["eps_convex"] >= 0 and record["eps_all_layers"] > 0


@pytest.mark.slow
def test_linear_polygons_do_not_exceed_their_ends_and_square_ones_the_barrier(finished):
    records = finished("linear").records
    assert all(r["excess"] <= 1e-12 < r["straight"] for r in records["wide"]["6.0"])
    for record in records["square bottleneck"]["6.0"]:
        assert record["path"] <= record["barrier"] * (1 + (1e-8 if record["opposite"] else 1e-2))
    assert all(r["path"] <= r["bound"] * (1 + 1e-12) for r in records["ridge"]["2.0"])


@pytest.mark.slow
def test_the_theorems_path_is_as_high_as_its_bound(finished):
    for records in finished("hidden_layer").records["pairs"].values():
        assert all(math.isclose(r["path"], r["bound"], rel_tol=1e-9) and r["bound"] < r["straight"] for r in records)


@pytest.mark.slow
def test_margins_are_negative_only_where_errors_are(finished):
    for record in finished("margins").records["path"]["8.0"]:
        assert all((margin > 0) == (error == 0) for margin, error in zip(record["margins"], record["errors"]))
