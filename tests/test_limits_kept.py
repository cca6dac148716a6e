"""A limit in seconds holds for search, shortening and certificate together: no evaluation begins after it. The clock is the test's."""

import time

import pytest
import torch

import dss
from dss.finders import FINDERS


class Clock:
    """A clock that stands still but when it is told how long something took."""

    def __init__(self):
        self.now = 1000.0


class Slow(dss.Objective):
    """The double well, at a second a point."""

    size = 2

    def __init__(self, clock):
        self.clock, self.longest = clock, 0

    def __call__(self, points):
        self.clock.now += len(points)
        self.longest = max(self.longest, len(points))
        return dss.DoubleWell()(points)


class SlowRing(Slow):
    """The ring, at a second a point, each asked on its own."""

    evaluates_apart = True

    def __call__(self, points):
        super().__call__(points)
        return dss.Ring()(points)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


@pytest.mark.parametrize("name", [name for name in FINDERS if name != "convex"])
@pytest.mark.parametrize("seconds", [0, 40, 400])
def test_a_connection_ends_in_time_with_a_status_and_a_path(clock, name, seconds):
    ends = torch.tensor(dss.DoubleWell.minima, dtype=torch.float64)
    judge, began = Slow(clock), clock.now
    found = dss.connect(judge, *ends, threshold=0.5, finder=FINDERS[name](grid=5), limits=dss.Limits(seconds=seconds), grid=5)
    # What has begun may end: one call of the judge. The two ends are judged when the question is put.
    assert clock.now - began <= seconds + judge.longest + 2
    assert not found.connected and found.summary["status"] != "connected" and len(found.path) >= 2
    if seconds == 0:
        assert "limit on seconds" in found.reason and "limit on seconds" in found.certificate.reason


def test_a_shortening_ends_in_time_and_its_path_is_certified_or_not_called_connected(clock):
    ends = torch.tensor(dss.DoubleWell.minima, dtype=torch.float64)
    for seconds in (100, 1000, 5000):
        judge, began = Slow(clock), clock.now
        found = dss.connect(
            judge, *ends, threshold=1.05, limits=dss.Limits(seconds=seconds), grid=5, shorten=True, prove="always"
        )
        assert clock.now - began <= seconds + judge.longest + 2
        assert found.connected == (found.certificate.evaluations > 0 and found.certificate.max_loss <= 1.05)


def test_what_is_sampled_before_a_shortening_is_of_its_time(clock):
    path = dss.Path(torch.stack([dss.Ring.at(2.5 * i / 9) for i in range(10)]))
    problem = dss.Problem.of(SlowRing(clock), path.beads[0], path.beads[-1], threshold=0.1)
    step = dss.Step(path, torch.full((9,), torch.nan, dtype=torch.float64), dss.Status.FOUND)
    began, finder = clock.now, dss.StraightLine(limits=dss.Limits(seconds=1000))
    found = dss.conclude(problem, finder, step, shorten=dss.Shortening(), grid=20, prove="never", began=began)
    assert found.path.normalized_length < path.normalized_length
    assert clock.now - began <= 1000 + problem.judge.unwrapped.longest + 2


def test_without_a_limit_the_certificate_is_whole():
    ends = torch.tensor(dss.DoubleWell.minima, dtype=torch.float64)
    found = dss.connect(dss.DoubleWell(), *ends, threshold=1.01, prove="never", limits=dss.Limits(seconds=600))
    assert found.connected and found.certificate.evaluations > 0 and found.linear.evaluations > 0
