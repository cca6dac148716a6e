"""What the page says: words, bounds, remembered losses, and pages of runs that are incomplete."""

import json
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dss
from dss.page.loss_cache import LossCache, Remembered
from dss.page.report import write_report
from dss.page.report.render import json_for_html
from dss.page.report.words import above, key_figures, verdict
from dss.problem import Problem
from dss.runs import PROFILE, RunRecorder, load_run

SUMMARY = {
    "connected": True,
    "proven": False,
    "max_loss": 0.3812345,
    "upper_bound": None,
    "reason": "the limit on rounds was reached first",
}


class Counting(dss.Objective):
    """The double well, counting the points it is asked for."""

    def __init__(self, shift=0.0):
        self.points, self.shift = 0, shift

    def __call__(self, points):
        self.points += len(points)
        return dss.DoubleWell()(points) + self.shift


@pytest.fixture
def folder(tmp_path):
    """A run of three rounds and an outcome."""
    judge = dss.DoubleWell()
    problem = Problem.of(judge, *torch.tensor(judge.minima, dtype=torch.float64), threshold=1.01)
    recorder = RunRecorder.start(
        tmp_path / "run", {"task": "gone", "threshold": 1.01, "ends": ["x/a.pt", "x/b.pt"], "parameters": ["w"], "seed": 0}
    )
    for step in dss.GreedyString().steps(problem):
        recorder.record(step, problem.tally, 0.0)
    recorder.finish(dss.conclude(problem, dss.GreedyString(), step), dss.ParameterSpace(("w",), ((2,),)))
    return tmp_path / "run"


@pytest.mark.parametrize(
    "changes, word, says",
    [
        ({"proven": True, "upper_bound": 0.39991}, "proven", "proved that the loss never exceeds 0.4 at any point of the path"),
        ({}, "sampled", "not proved"),
        ({"connected": False}, "failed", "may exist that this search did not find"),
    ],
)
def test_the_verdict_says_what_is_known_and_no_more(changes, word, says):
    found, sentence = verdict(SUMMARY | changes, 0.4)
    assert found == word and says in sentence
    assert ("proved that" in sentence) == (word == "proven")


def test_a_search_that_has_not_ended_is_not_called_a_failure():
    assert verdict(None, 0.4)[0] == "unfinished"


@given(st.floats(-1e9, 1e9, allow_nan=False), st.integers(2, 8))
def test_a_printed_bound_is_still_a_bound(value, digits):
    text = above(value, digits).replace("−", "-")
    excess = Fraction(text) - Fraction(value)
    assert 0 <= excess <= abs(Fraction(value)) * Fraction(10) ** (1 - digits) + Fraction(1, 10**300)


def test_key_figures_leave_out_what_is_unknown(folder):
    run = load_run(folder)
    names = [name for name, *_ in key_figures(run.summary, run.question)]
    assert "largest loss on the path" in names and "proven bound" not in names
    assert [name for name, *_ in key_figures(None, run.question)] == ["threshold L₀"]


def test_data_cannot_end_the_script_it_stands_in():
    text = json_for_html({"name": "</script><!-- &"})
    assert "<" not in text and "&" not in text and json.loads(text) == {"name": "</script><!-- &"}


def test_a_second_page_evaluates_one_point(folder):
    first, second = Counting(), Counting()
    write_report(load_run(folder), {"loss": first})
    text = write_report(load_run(folder), {"loss": second}).read_text()
    assert first.points > 100 and second.points == 1
    assert "grey parts" not in text


def test_losses_are_forgotten_when_the_judge_changes(folder):
    write_report(load_run(folder), {"loss": Counting()})
    changed = Counting(shift=0.1)
    write_report(load_run(folder), {"loss": changed})
    assert changed.points > 100
    kept = json.loads((folder / PROFILE).read_text())["loss"]["losses"].values()
    assert min(kept) >= 0.1


def test_remembered_losses_are_those_of_the_objective(tmp_path):
    points = torch.randn(6, 2, dtype=torch.float64)
    cache = LossCache(tmp_path / "losses.json")
    torch.testing.assert_close(Remembered(cache, "a", dss.Ring())(points[[0, 1, 1, 2]]), dss.Ring()(points[[0, 1, 1, 2]]))
    cache.save()
    again = LossCache(tmp_path / "losses.json")
    recalled = Remembered(again, "a", None)(points)
    torch.testing.assert_close(recalled[:3], dss.Ring()(points[:3]))
    assert recalled[3:].isnan().all() and again.names() == ("a",)
    assert Remembered(again, "a", None)(points[:1].float()).isnan().all()


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"a": 3}'])
def test_a_damaged_cache_counts_as_empty(tmp_path, damage):
    file = tmp_path / "losses.json"
    file.write_text(damage)
    assert LossCache(file).names() == ()


def test_a_page_without_its_task_shows_what_the_folder_holds(folder):
    bare = write_report(load_run(folder)).read_text()
    assert "could not be rebuilt" in bare and 'id="plot-string"' in bare and 'id="plot-loss"' not in bare
    assert not (folder / PROFILE).exists()
    write_report(load_run(folder), {"loss": dss.DoubleWell()})
    full = write_report(load_run(folder)).read_text()
    assert "could not be rebuilt" not in full and 'id="plot-loss"' in full


def test_an_unfinished_run_has_a_page(folder):
    (folder / "summary.json").unlink()
    (folder / "path.safetensors").unlink()
    assert "Not finished" in write_report(load_run(folder), {"loss": dss.DoubleWell()}).read_text()


def test_a_page_of_a_hundred_beads_in_high_dimension_is_small_and_free_of_networks(tmp_path):
    beads = torch.randn(102, 20_000, generator=torch.Generator().manual_seed(0)).cumsum(0)
    recorder = RunRecorder.start(
        tmp_path / "run", {"task": "gone", "threshold": 1e9, "ends": ["a", "b"], "parameters": ["w"], "seed": 0}
    )
    for count in (2, 40, 102):
        recorder.record(dss.Step(dss.Path(beads[:count]), torch.zeros(count - 1)), dss.Tally(), 0.0)

    class Size(dss.Objective):
        def __call__(self, points):
            return points.double().square().mean(1)

    text = write_report(load_run(tmp_path / "run"), {"size": Size()}).read_text()
    assert len(text.encode()) < 8e6
    outside = re.findall(r'(?:src|href)="(?!data:)[^"]*"', text.split("<script>")[0])
    assert outside == []
