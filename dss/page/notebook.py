"""What notebooks show of results: the verdict, the key figures, and the loss along the path."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dss._barrier import Barrier
from dss._connection import Connection
from dss.base.errors import InputError
from dss.base.path import Path
from dss.base.shown import figure_of, html_of
from dss.certificates.certificate import Certificate
from dss.page.figures.loss import loss_along_path
from dss.page.figures.sheet import loss_on_sheet
from dss.page.figures.string import string_in_space
from dss.page.figures.style import number
from dss.page.loss_sheet import unroll
from dss.page.profile import EVALUATIONS, describe, measure_path, picture_string
from dss.page.report.words import Fact, above, key_figures, verdict

# Parameters times samples of one evaluation, above which a figure nobody asked for is left out, and one that was asked for is coarse.
CHEAP, FEW = 1e8, 24
COLOURS = {"proven": "#00714f", "sampled": "#0067a0", "failed": "#b3400a", "unfinished": "#5b6670"}


@figure_of.register
def _(found: Connection, which: str) -> go.Figure:
    judge, threshold = found.problem.judge, found.problem.threshold
    evaluations = EVALUATIONS if _is_cheap(found) else FEW
    if which == "loss":
        bounds = found.certificate.bounds
        profile = measure_path(found.path, {"judged loss": judge}, threshold=threshold, bounds=bounds, evaluations=evaluations)
        return loss_along_path(profile)
    if which == "string":
        return string_in_space(picture_string(found.path, judge, threshold=threshold, evaluations=evaluations))
    if which == "sheet":
        return loss_on_sheet(unroll(judge, found.path, threshold=threshold, resolution=16 if _is_cheap(found) else 8))
    raise InputError(f'a connection is drawn as "loss", "sheet" or "string", got {which!r}')


@html_of.register
def _(found: Connection) -> str:
    word, sentence = verdict(found.summary, found.problem.threshold)
    drawn = found.figure()._repr_html_() if _is_cheap(found) else ""
    return _view(word, sentence, key_figures(found.summary, {"threshold": found.problem.threshold})) + drawn


@html_of.register
def _(certificate: Certificate) -> str:
    word = ("proven" if certificate.proven else "sampled") if certificate.passed else "failed"
    return _view(word, f"{certificate.reason[:1].upper()}{certificate.reason[1:]}.", _judged(certificate))


@html_of.register
def _(found: Barrier) -> str:
    known = "proved: no path stays below it" if found.lower_proven else "the highest loss below which no path was found, if any"
    facts = [
        ("connected at", number(found.upper), "proved" if found.certificate.proven else "as samples show"),
        ("lower end", number(found.lower), known),
        ("straight line", number(found.linear), "the largest loss on it"),
        ("higher end", number(found.ends), "its own loss"),
    ]
    word = "proven" if found.certificate.proven else "sampled"
    return _view(word, f"The lowest threshold at which a path was found is {number(found.upper)}.", facts)


@html_of.register
def _(path: Path) -> str:
    facts = [
        ("beads", str(len(path)), "with both ends"),
        ("parameters", f"{path.size:,}", str(path.rows[0].dtype).removeprefix("torch.")),
    ]
    return _view("unfinished", f"A path: {describe(path)}.", facts)


def _judged(certificate: Certificate) -> list[Fact]:
    bound = [] if certificate.upper is None else [("proven bound", above(certificate.upper), "no point of the path has more")]
    return [
        ("threshold L₀", number(certificate.threshold), "the loss that must not be exceeded"),
        *bound,
        ("largest loss seen", number(certificate.max_loss), f"on segment {certificate.segment}, at t = {certificate.t:.4g}"),
    ]


def _is_cheap(found: Connection) -> bool:
    return found.path.size * found.problem.judge.samples <= CHEAP


def _view(word: str, sentence: str, facts: Sequence[Fact]) -> str:
    """A sentence in the verdict's colour, and a table."""
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(name)}</td><td style="text-align:left"><b>{escape(value)}</b></td>'
        f'<td style="text-align:left">{escape(note)}</td></tr>'
        for name, value, note in facts
    )
    return f'<p style="border-left:4px solid {COLOURS[word]};padding-left:.6em">{escape(sentence)}</p><table>{rows}</table>'
