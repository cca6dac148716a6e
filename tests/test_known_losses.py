"""Losses that a certificate evaluated are on the page without being evaluated again."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dss
from dss.cli.show import keep_losses
from dss.page.profile import intervals_for, places_of
from dss.page.report import write_report
from dss.page.report.views import keep_known
from dss.problem import Problem
from dss.runs import PROFILE, RunRecorder, load_run

GRID, THRESHOLD = 20, -40.5


class Counting(dss.Objective):
    """The Mueller-Brown potential, counting the points it is asked for."""

    description = "potential"

    def __init__(self):
        self.points = 0

    def __call__(self, points):
        self.points += len(points)
        return dss.MuellerBrown()(points)


@pytest.fixture
def found(tmp_path):
    """A recorded run without a page, and its connection."""
    judge = dss.MuellerBrown()
    problem = Problem.of(judge, *torch.tensor(judge.minima[:2], dtype=torch.float64), threshold=THRESHOLD)
    question = {"task": "gone", "threshold": THRESHOLD, "ends": ["a", "b"], "parameters": ["w"], "seed": 0, "points": GRID}
    recorder = RunRecorder.start(tmp_path / "run", question)
    for step in dss.GreedyString().steps(problem):
        recorder.record(step, problem.tally, 0.0)
    connection = dss.conclude(problem, dss.GreedyString(), step, grid=GRID, prove="never")
    recorder.finish(connection, dss.ParameterSpace(("w",), ((2,),)))
    return tmp_path / "run", connection


def test_what_is_kept_is_the_loss_and_is_not_evaluated_again(found):
    folder, connection = found
    keep_known(folder, connection.problem.judge, connection.path, certified=GRID)
    kept = json.loads((folder / PROFILE).read_text())["judged loss"]
    assert kept["description"] == connection.problem.judge.description and len(kept["losses"]) > 2 * GRID
    fresh = Counting()
    text = write_report(load_run(folder), {"judged loss": fresh}).read_text()
    bare = Counting()
    (folder / PROFILE).unlink()
    assert write_report(load_run(folder), {"judged loss": bare}).read_text() == text
    # The first of them is evaluated once more, to see whether the judge is still the same.
    assert bare.points - fresh.points == len(kept["losses"]) - 1


def test_every_place_of_a_path_with_many_segments_is_known(found):
    _, connection = found
    (path, (segments, t, _)), _ = places_of(connection.path, 160, GRID)
    known = connection.problem.judge.known_along(path, segments, t)
    inner = (t > 0) & (t < 1) & ((t * GRID).frac() == 0)
    assert inner.any() and not known[inner].isnan().any()
    torch.testing.assert_close(known[inner], dss.MuellerBrown()(path.points(segments[inner], t[inner])), rtol=0, atol=0)


@pytest.mark.parametrize(("rows", "apart"), [("loop", True), ("vmap", False)])
def test_losses_of_small_networks_are_kept_where_the_company_of_a_point_does_not_matter(tmp_path, rows, apart):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    judge = dss.NetworkObjective(net, torch.nn.functional.cross_entropy, (torch.randn(20, 3), torch.arange(20) % 2), rows=rows)
    points = torch.randn(7, judge.space.size)
    assert judge.evaluates_apart is dss.objectives.wrappers.Wrapped(judge).evaluates_apart is apart
    problem = Problem.of(judge, points[0], points[1], threshold=50.0)
    *_, step = dss.StraightLine().steps(problem)
    keep_losses(tmp_path, dss.conclude(problem, dss.StraightLine(), step, grid=GRID, prove="never"), GRID)
    assert (tmp_path / PROFILE).exists() is apart
    if apart:
        assert torch.equal(judge(points), torch.cat([judge(point[None].clone()) for point in points]))


def test_nothing_is_known_of_another_path(found):
    _, connection = found
    other = dss.Path(connection.path.beads + 0.01)
    segments, t = torch.zeros(3, dtype=torch.long), torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64)
    before = connection.problem.tally.loss_evaluations
    assert connection.problem.judge.known_along(other, segments, t).isnan().all()
    assert connection.problem.tally.loss_evaluations == before


@given(
    lengths=st.lists(st.floats(0.01, 10), min_size=1, max_size=12),
    evaluations=st.integers(6, 400),
    certified=st.integers(2, 60),
)
def test_intervals_share_the_certificates_places_and_are_about_as_many(lengths, evaluations, certified):
    path = dss.Path(torch.tensor([0.0, *lengths], dtype=torch.float64).cumsum(0)[:, None])
    shares = path.segment_lengths() / path.segment_lengths().sum()
    choices = [n for n in range(4, 500) if n % certified == 0 or certified % n == 0]
    for count, wanted in zip(intervals_for(path, evaluations, certified).tolist(), (evaluations * shares).tolist(), strict=True):
        assert count == max((n for n in choices if n <= wanted), default=choices[0])
