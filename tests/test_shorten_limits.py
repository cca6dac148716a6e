"""How a shortening tells of its rounds, and where a limit ends it."""

import pytest
from test_shorten import around_the_ring

import dss
from dss.base.progress import ProgressMeter
from dss.geodesic.shortening import Shortening, shorten, shorten_within


def test_every_round_is_shown():
    seen = []

    class Told(ProgressMeter):
        def report(self, done, words=""):
            seen.append((done, words))

    path = around_the_ring()
    problem = dss.Problem.of(dss.Ring(), path.beads[0], path.beads[-1], threshold=0.25)
    found = shorten_within(problem, path, Shortening(prune=False, n_starts=2), progress=Told())
    beads, length = found.lengths[-1]
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {words[:12] for _, words in seen} == {"start 1 of 2", "start 2 of 2"}
    best = found.starts.index(min(found.starts)) + 1
    assert any(words == f"start {best} of 2, {beads} beads, normalized length {length:.4f}" for _, words in seen)


class Ticking(dss.Ring):
    """A ring whose every evaluation takes a second on a clock of its own."""

    now = 0.0

    def __call__(self, points):
        Ticking.now += 1
        return super().__call__(points)


@pytest.mark.parametrize("seconds", [0.0, 30.0, 100.0])
def test_a_shortening_ends_in_time_with_the_shortest_string_so_far(monkeypatch, seconds):
    monkeypatch.setattr("dss.geodesic.shortening.time.monotonic", lambda: Ticking.now)
    path, limits = around_the_ring(), dss.Limits(rounds=None, seconds=seconds)
    problem = dss.Problem.of(Ticking(), path.beads[0], path.beads[-1], threshold=0.04)
    began = Ticking.now
    found = shorten_within(problem, path, limits=limits)
    given = dss.certify(dss.Ring(), path, threshold=0.04)
    # What the certificates of the path given and of the result take is not the shortening's to limit.
    assert Ticking.now - began <= seconds + 1 + 2 * given.evaluations
    assert found.stopped == "the limit on seconds was reached first"
    assert found.certificate.passed and found.path.normalized_length <= path.normalized_length


@pytest.mark.parametrize("limits", [dss.Limits(rounds=2), dss.Limits(rounds=None, gradient_steps=5), dss.Limits(evaluations=300)])
def test_every_limit_ends_a_shortening(limits):
    path = around_the_ring()
    found = shorten(dss.Ring(), path, threshold=0.04, limits=limits)
    assert found.stopped is not None and found.certificate.passed
    assert found.path.normalized_length <= path.normalized_length
