"""What results show of themselves: a line in a shell, a view in a notebook."""

import plotly.graph_objects as go
import pytest
import torch

import dss

JUDGE = dss.DoubleWell()


@pytest.fixture(scope="module")
def found():
    return dss.connect(JUDGE, *torch.tensor(JUDGE.minima, dtype=torch.float64), threshold=1.01, prove="never")


@pytest.fixture(scope="module")
def results(found):
    barrier = dss.barrier(JUDGE, *torch.tensor(JUDGE.minima, dtype=torch.float64), tolerance=2.0)
    return {"Connection": found, "Path": found.path, "Certificate": found.certificate, "Barrier": barrier}


@pytest.mark.parametrize("kind", ["Connection", "Path", "Certificate", "Barrier"])
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
    assert isinstance(figure, go.Figure) and len(figure.data) > 1


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
