"""What results show of themselves: a line in a shell, a view in a notebook."""

import plotly.graph_objects as go
import pytest
import torch
from torch import nn

import dss

JUDGE = dss.DoubleWell()


@pytest.fixture(scope="module")
def found():
    return dss.connect(JUDGE, *torch.tensor(JUDGE.minima, dtype=torch.float64), threshold=1.01, prove="never")


@pytest.fixture(scope="module")
def results(found):
    ends = torch.tensor(JUDGE.minima, dtype=torch.float64)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    objective = dss.NetworkObjective(net, nn.functional.mse_loss, (torch.randn(20, 2), torch.randn(20, 2)))
    networks = torch.randn(2, objective.space.size)
    return {
        "Connection": found,
        "Path": found.path,
        "Certificate": found.certificate,
        "Barrier": dss.barrier(JUDGE, *ends, tolerance=2.0),
        "Bracket": dss.bracket(objective, dss.Path(networks), tolerance=0.1),
        "Check": dss.check(JUDGE, ends),
        "Alignment": dss.align(objective, *networks),
        "MergeTree": dss.merge_tree(JUDGE, ends, prove="never"),
    }


KINDS = ["Connection", "Path", "Certificate", "Barrier", "Bracket", "Check", "Alignment", "MergeTree"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_one_short_line_in_a_shell_and_a_view_in_a_notebook(results, kind):
    line, html = repr(results[kind]), results[kind]._repr_html_()
    assert line.startswith(f"{kind}(") and len(line) < 200 and "\n" not in line and "tensor" not in line
    assert html.startswith("<p") and "<table>" in html


def test_the_line_says_the_outcome(found):
    assert repr(found).startswith("Connection(connected: ")
    assert repr(found.path) == f"Path({len(found.path)} beads of 2 parameters, float64)"
    missed = dss.connect(
        JUDGE, *torch.tensor(JUDGE.minima, dtype=torch.float64), threshold=0.5, finder=dss.StraightLine(), prove="never"
    )
    assert repr(missed).startswith("Connection(not connected: ")


@pytest.mark.parametrize("which", ["loss", "sheet", "string"])
def test_a_connection_draws_itself(found, which):
    bent = dss.connect(
        JUDGE, *torch.tensor(JUDGE.minima, dtype=torch.float64), threshold=1.01, finder=dss.PolygonalChain(), prove="never"
    )
    figure = bent.figure(which)
    assert isinstance(figure, go.Figure) and figure.data[1:]


@pytest.mark.parametrize(
    ("kind", "which"),
    [("Check", None), ("Check", "rise"), ("MergeTree", None), ("MergeTree", "barriers"), ("MergeTree", "components")],
)
def test_checks_and_trees_draw_themselves(results, kind, which):
    figure = results[kind].figure(which)
    assert isinstance(figure, go.Figure) and figure.data


@pytest.mark.parametrize(("kind", "names"), [("Check", '"loss" or "rise"'), ("MergeTree", '"tree", "barriers" or "components"')])
def test_names_of_figures_are_told(results, kind, names):
    with pytest.raises(dss.InputError, match=f"is drawn as {names}, got 'plane'"):
        results[kind].figure("plane")


def test_a_bracket_that_has_no_bound_yet_is_shown(found):
    net = nn.Linear(2, 2)
    objective = dss.NetworkObjective(net, nn.functional.mse_loss, (torch.randn(20, 2), torch.randn(20, 2)))
    begun = next(dss.prove(objective, torch.randn(2, objective.space.size), tolerance=0.1))
    assert "at least not known" in repr(begun) and "the bound is still being lowered" in repr(begun)
    assert "<table>" in begun._repr_html_()


def test_what_cannot_be_drawn_is_refused(found):
    with pytest.raises(dss.InputError, match='"loss", "sheet" or "string", got \'plane\''):
        found.figure("plane")


def test_words_from_elsewhere_cannot_write_into_the_notebook(found):
    from dataclasses import replace

    hostile = replace(found.certificate, reason="<script>alert(1)</script>")
    assert "<script>" not in hostile._repr_html_()


def test_a_figure_that_would_be_dear_is_left_out_of_the_view(found, monkeypatch):
    monkeypatch.setattr("dss.page.notebook.CHEAP", 0)
    assert "plotly" not in found._repr_html_() and "<table>" in found._repr_html_()
