"""What notebooks show of results: the verdict, the key figures, and the loss along the path."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from dss._barrier import Barrier
from dss._connection import Connection
from dss.averaging.answer import Check
from dss.averaging.line import LossLine
from dss.base.errors import InputError
from dss.base.path import Path
from dss.base.shown import figure_of, html_of
from dss.certificates.bracket import Bracket, Verdict
from dss.certificates.certificate import Certificate
from dss.page.figures.averages import loss_between, losses_of_soups, rise_matrix
from dss.page.figures.loss import loss_along_path
from dss.page.figures.sheet import loss_on_sheet
from dss.page.figures.string import string_in_space
from dss.page.figures.style import number
from dss.page.figures.tree import barrier_matrix, components_by_threshold, merge_tree_figure
from dss.page.loss_sheet import unroll
from dss.page.profile import EVALUATIONS, describe, measure_path, picture_string
from dss.page.report.words import Fact, above, below, key_figures, verdict
from dss.symmetry.alignment import Alignment
from dss.topology.tree import MergeTree

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


@figure_of.register
def _(check: Check, which: str) -> go.Figure:
    if which == "loss":
        return loss_between(check) if len(check) == 2 else losses_of_soups(check)
    if which == "rise":
        return rise_matrix(check)
    raise InputError(f'a check is drawn as "loss" or "rise", got {which!r}')


@figure_of.register
def _(tree: MergeTree, which: str) -> go.Figure:
    drawings = {"tree": merge_tree_figure, "barriers": barrier_matrix, "components": components_by_threshold}
    if which not in drawings:
        raise InputError(f'a merge tree is drawn as "tree", "barriers" or "components", got {which!r}')
    return drawings[which](tree)


@html_of.register
def _(check: Check) -> str:
    answer = check.answer
    copies = f"of copies reordered by {answer.align}" if check.repaired else "all models alike"
    facts = [
        ("models' losses", f"{number(check.losses.min().item())} to {number(check.losses.max().item())}", check.judge),
        ("uniform average", number(answer.uniform.loss), copies),
        ("greedy soup", number(answer.greedy.loss), f"{len(answer.greedy.members)} of {len(check)} models"),
        *[("rise of the line", number(line.rise), "above the ends' losses, weighted likewise") for line in _only(check)],
    ]
    word = "sampled" if answer.safe else "failed"
    return _view(word, f"{check.sentence[:1].upper()}{check.sentence[1:]}.", facts) + check.figure()._repr_html_()


def _only(check: Check) -> list[LossLine]:
    """The line between two models; of more there are many."""
    return [check.answer.lines[0, 1]] if len(check) == 2 else []


@html_of.register
def _(tree: MergeTree) -> str:
    facts = [
        ("joined at", number(tree.upper.max().item()), "every point, by a path through others where need be"),
        ("by straight lines", number(tree.straight.max().item()), "the highest of them"),
        ("searches", str(len(tree.searches)), f"of {len(tree) * (len(tree) - 1) // 2} pairs"),
    ]
    word = "proven" if bool(tree.certain.max() <= tree.upper.max()) else "sampled"
    return _view(word, f"A merge tree: {tree.in_words()}.", facts) + tree.figure()._repr_html_()


@html_of.register
def _(found: Alignment) -> str:
    facts = [
        ("distance before", number(found.distance_before), "Euclidean, over all parameters that move"),
        ("distance after", number(found.distance_after), "of the same function, its units in another order"),
        ("units moved", f"{found.moved_units:,}", f"in {len(found.groups)} groups"),
        ("axes pinned", f"{len(found.pinned):,}", "they may not be reordered; `pinned` says why"),
    ]
    return _view("unfinished", "The reordered copy that lies closest.", facts)


@html_of.register
def _(bracket: Bracket) -> str:
    facts = [
        ("at most", above(bracket.upper), "proved: no point of the path has more"),
        ("at least", below(bracket.lower), "proved, once a proof to a tolerance has ended"),
        (
            "largest loss computed",
            number(bracket.seen),
            f"on segment {bracket.segment}, at t = {bracket.t:.4g}; rounded as it was computed",
        ),
        ("cells", f"{bracket.cells:,}", "bounded on the whole data"),
    ]
    word = "proven" if bracket.verdict in (Verdict.PROVEN, Verdict.BRACKETED) else "failed"
    return _view(word, f"{bracket.verdict.value[:1].upper()}{bracket.verdict.value[1:]}.", facts)


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
