"""The fastest proven path: written down where its corners prove it, else searched as `bend` would have alone."""

import json

import pytest
import torch
import torch.nn.functional as F

import dss
from dss.certificates import convexity
from dss.cli import main
from tests.architectures import Encoder
from tests.test_convex import blobs, mlp, question, trained


@pytest.fixture(scope="module")
def apart():
    """A question about a network that can be taken apart, and the largest loss of its written path."""
    wide = question(mlp(24, 24), steps=200)
    return wide, dss.ConvexPath().run(wide).max_loss


def asked(problem, threshold, judge=None):
    return dss.Problem.of(problem.objective.unwrapped, problem.start, problem.end, threshold=threshold, judge=judge)


def encoder(level):
    """A question about a network that cannot be taken apart, at a multiple of the higher end's loss."""
    torch.manual_seed(0)
    objective = dss.NetworkObjective(Encoder(), F.cross_entropy, blobs(shape=(3, 8)), buffers="frozen")
    ends = [trained(objective, seed, 30) for seed in (0, 1)]
    return dss.Problem.of(objective, *ends, threshold=level * objective(torch.stack(ends)).max().item())


def mueller_brown():
    return dss.Problem.of(dss.MuellerBrown(), *torch.tensor(dss.MuellerBrown.minima[:2]).double(), threshold=-40.5)


def same(ours, theirs):
    assert torch.equal(ours.path.beads, theirs.path.beads) and ours.status is theirs.status
    assert (ours.round, ours.gradient_steps) == (theirs.round + 1, theirs.gradient_steps)


def test_a_written_path_that_its_corners_prove_is_the_answer(apart):
    wide, corners = apart
    found = dss.connect(
        wide.objective.unwrapped, wide.start, wide.end, threshold=1.1 * corners, finder=dss.FastestPath(), prove="always"
    )
    assert found.certificate.proof == "convexity" and found.certificate.upper <= 1.1 * corners
    assert (found.finder, found.gradient_steps, found.rounds) == ("convex", 0, 1)
    assert torch.equal(found.path.beads, dss.ConvexPath().run(asked(wide, 1.1 * corners)).path.beads)


def test_a_corner_above_the_threshold_is_searched_around(apart):
    wide, corners = apart
    level = (corners + max(wide.loss_start, wide.loss_end)) / 2
    ours, theirs = (finder.run(asked(wide, level)) for finder in (dss.FastestPath(), dss.BendString()))
    same(ours, theirs)
    assert dss.FastestPath().proposer(ours) == "bend" and theirs.gradient_steps > 0


def test_a_written_path_that_is_not_proved_is_not_taken(apart):
    wide, _ = apart
    judge = dss.NetworkObjective(mlp(24, 24), dss.error_rate, blobs(), buffers="frozen")
    step = dss.FastestPath(limits=dss.Limits(rounds=1)).run(asked(wide, 1.0, judge=judge))
    assert "search" in step.memory and len(step.path) == 2


@pytest.mark.parametrize("make", [lambda: encoder(1.3), mueller_brown])
@pytest.mark.parametrize("rounds", [1, 2, 40])
def test_what_cannot_be_taken_apart_is_searched_within_the_same_limits(make, rounds):
    ours = dss.FastestPath(limits=dss.Limits(rounds=rounds + 1)).run(make())
    same(ours, dss.BendString(limits=dss.Limits(rounds=rounds)).run(make()))


def test_it_resumes_from_every_step_as_a_run_keeps_it():
    finder, problem = dss.FastestPath(), encoder(1.3)
    steps = list(finder.steps(problem))
    assert len(steps) > 3
    for step in steps[:-1]:
        kept = dss.Step(step.path, step.maxima, step.status, step.round, step.gradient_steps, json.loads(json.dumps(step.memory)))
        assert torch.equal(finder.run(encoder(1.3), resume=kept).path.beads, steps[-1].path.beads)


def test_the_command_line_says_which_way_won(tiny, tmp_path, capsys):
    ends = [str(tiny / name) for name in ("a.pt", "b.safetensors")]
    words = ["connect", *ends, "--task", f"{tiny}/task.py:task", "--finder", "fastest", "--quiet"]
    assert main([*words, "--threshold", "0.7", "--out", str(tmp_path / "written")]) == 0
    assert "fastest (written down)" in capsys.readouterr().out
    summary = json.loads((tmp_path / "written" / "summary.json").read_text())
    assert (summary["finder"], summary["proof"]) == ("convex", "convexity")
    lower = str(0.3 * summary["max_loss"] + 0.7 * max(summary["loss_start"], summary["loss_end"]))
    main([*words, "--threshold", lower, "--out", str(tmp_path / "searched")])
    assert "fastest (searched by bend)" in capsys.readouterr().out
    assert "fastest (searched by bend)" in (tmp_path / "searched" / "report.html").read_text()


def test_a_written_path_is_proved_once(apart, monkeypatch):
    wide, corners = apart
    bounded, bound = [], convexity.bound_points
    monkeypatch.setattr(convexity, "bound_points", lambda *args: bounded.append(args) or bound(*args))
    found = dss.connect(
        wide.objective.unwrapped, wide.start, wide.end, threshold=1.1 * corners, finder=dss.FastestPath(), prove="always"
    )
    assert found.certificate.proof == "convexity" and len(bounded) == 1
    again = dss.certify(wide.objective, found.path, threshold=1.1 * corners, prove=True)
    assert len(bounded) == 2 and again.upper == found.certificate.upper
