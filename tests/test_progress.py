"""One meter for a whole run, and one budget."""

import io
import re

import pytest
import torch

import dss
from dss.base.limits import Budget, Spent
from dss.finders import FINDERS

FAST = dss.Descent(lambda p: torch.optim.Adam(p, lr=0.02), max_steps=1000)


def ends():
    return torch.tensor(dss.MuellerBrown.minima[:2], dtype=torch.float64)


class Told(dss.ProgressMeter):
    def __init__(self):
        self.stages = []

    def begin(self, name, unit):
        self.stages.append((name, unit, []))

    def report(self, done, words=""):
        self.stages[-1][2].append((done, words))


def test_search_and_shortening_report_to_one_meter():
    told = Told()
    dss.connect(dss.MuellerBrown(), *ends(), threshold=-40.0, finder=dss.GreedyString(descent=FAST), shorten=True, progress=told)
    assert [stage[:2] for stage in told.stages][:2] == [("greedy", "rounds"), ("shorten", "rounds")]
    for _, _, reports in told.stages[:2]:
        assert reports and [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert "threshold -40" in told.stages[0][2][0][1] and "normalized length" in told.stages[1][2][-1][1]


def test_text_comes_at_most_every_so_often():
    often, never = io.StringIO(), io.StringIO()
    for seconds, stream in ((0.0, often), (1e9, never)):
        with dss.TextProgressMeter(seconds, stream).stage("work", "pieces") as meter:
            meter.report(1, "well")
            meter.report(2)
    assert often.getvalue() == "work: 1 pieces, well\nwork: 2 pieces\n" and never.getvalue() == ""


def test_the_time_left_is_told_where_the_number_of_units_is_known(monkeypatch):
    now, said = [0.0], io.StringIO()
    monkeypatch.setattr("dss.base.progress.time.monotonic", lambda: now[0])
    with dss.TextProgressMeter(0.0, said).stage("work", "pieces") as meter:
        meter.report(1)
        meter.expect(110, 10)  # ten were done before
        for now[0], done, words in ((5.0, 10, ""), (10.0, 11, "well"), (40.0, 60, ""), (1e4, 61, "")):
            meter.report(done, words)
    assert said.getvalue().splitlines() == [
        "work: 1 pieces",
        "work: 10 of 110 pieces",
        "work: 11 of 110 pieces, well, about 16 min 30 s left",
        "work: 60 of 110 pieces, about 40 s left",
        "work: 61 of 110 pieces, about 2 h 40 min left",
    ]


def test_a_bar_says_units_and_time_but_no_rate(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr("dss.base.progress.QUIET_SECONDS", 0.0)
    meter = dss.TqdmProgressMeter()
    with meter.stage("greedy", "rounds"):
        meter.report(1, "2 beads")
        assert str(meter.bar) == "greedy: 1 rounds [00:00, 2 beads]"
        meter.expect(4)
        meter.report(2, "3 beads")
        assert re.fullmatch(r"greedy: 2 of 4 rounds \|.{20}\| \[00:00, about 00:00 left, 3 beads\]", str(meter.bar))
    assert "s/" not in shown.getvalue() and "it/s" not in shown.getvalue()


@pytest.mark.parametrize("name", FINDERS)
def test_no_search_says_that_its_largest_loss_is_no_number(name):
    told = Told()
    finder = FINDERS[name]()
    try:
        finder.within(dss.Limits(rounds=2)).run(dss.Problem.of(dss.MuellerBrown(), *ends(), threshold=-40.0), progress=told)
    except dss.InputError:
        assert name == "convex"
    words = [text for _, _, reports in told.stages for _, text in reports]
    assert not any("nan" in text for text in words) and (words or name == "convex")


def test_a_bar_is_closed_even_when_the_work_fails():
    meter = dss.TqdmProgressMeter()
    with pytest.raises(ZeroDivisionError), meter.stage("work", "pieces"):
        meter.report(1, "well")
        raise ZeroDivisionError
    assert meter.bar.disable or meter.bar.n == 1


def test_a_budget_counts_down_and_is_lifted_again():
    budget = Budget()
    with budget.limited(dss.Limits(evaluations=5), began=0.0, evaluations=2):
        budget.spend(3)
        with pytest.raises(Spent, match="evaluations"):
            budget.spend(1)
    budget.spend(10**9)


@pytest.mark.parametrize(
    "finder", [dss.GreedyString(descent=FAST), dss.GeodesicString(descent=FAST), dss.ElasticBand(descent=FAST)]
)
def test_evaluations_end_a_search_and_never_exceed_their_limit(finder):
    found = dss.connect(
        dss.MuellerBrown(), *ends(), threshold=-40.5, finder=finder, limits=dss.Limits(evaluations=30), prove="never"
    )
    assert found.status is dss.Status.EVALUATIONS and not found.connected
    problem = dss.Problem.of(dss.MuellerBrown(), *ends(), threshold=-40.5)
    before = problem.tally.loss_evaluations
    last = finder.within(dss.Limits(evaluations=before + 30)).run(problem)
    assert last.status is dss.Status.EVALUATIONS and problem.tally.loss_evaluations - before <= 30


class Slow(dss.MuellerBrown):
    """Every evaluation takes a second on a clock of its own."""

    now = 0.0

    def __call__(self, points):
        Slow.now += 1
        return super().__call__(points)


@pytest.mark.parametrize("shorten", [False, True])
def test_seconds_bound_search_and_shortening_together(monkeypatch, shorten):
    for place in ("base.limits", "finders.finder", "_connect", "geodesic.shortening"):
        monkeypatch.setattr(f"dss.{place}.time.monotonic", lambda: Slow.now)
    began = Slow.now
    found = dss.connect(
        Slow(), *ends(), threshold=-40.0, finder=dss.GreedyString(descent=FAST), shorten=shorten,
        limits=dss.Limits(seconds=40.0), prove="never",
    )  # fmt: skip
    # The last certificate, and that of the straight line, are not cut short: a verdict needs them.
    assert Slow.now - began <= 41 + 2 * 60
    assert found.status is dss.Status.SECONDS or shorten
