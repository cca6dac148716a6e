"""What takes the place of a search that found nothing: a constructed path, where the network can be taken apart."""

import pytest
import torch
import torch.nn.functional as F

import dss
from tests.architectures import Encoder
from tests.test_convex import blobs, mlp, question, trained


@pytest.fixture(scope="module")
def walled():
    """A question that the straight line does not answer and the constructed path does."""
    wide = question(mlp(24, 24), steps=200)
    corners = dss.ConvexPath().run(wide).max_loss
    line = dss.certify(wide.judge, wide.straight, threshold=1e3).max_loss
    assert line > 1.2 * corners
    return dss.Problem.of(wide.objective.unwrapped, wide.start, wide.end, threshold=1.1 * corners)


def concluded(problem, **options):
    finder = dss.StraightLine()
    return dss.conclude(problem, finder, finder.run(problem), **options)


def test_a_search_that_found_nothing_is_answered_by_a_constructed_path_and_says_so(walled):
    assert not concluded(walled).connected
    found = concluded(walled, constructed=True)
    assert found.connected and found.certificate.proof == "convexity" and found.finder == "convex"
    assert found.summary["finder"] == "convex" and found.path.normalized_length > 1
    assert dss.certify(walled.judge, found.path, threshold=walled.threshold).passed


def test_without_a_proof_it_is_sampled(walled):
    found = concluded(walled, constructed=True, prove="never")
    assert found.connected and not found.certificate.proven


def test_a_path_that_passed_is_kept_unless_a_proof_is_insisted_on(walled):
    easy = dss.Problem.of(walled.objective.unwrapped, walled.start, walled.end, threshold=50.0)
    for prove in ("auto", "never"):
        kept = concluded(easy, constructed=True, prove=prove)
        assert kept.finder == "straight" and len(kept.path) == 2


def test_a_limit_that_is_spent_leaves_the_answer_as_it_is(walled):
    finder = dss.StraightLine()
    step = finder.run(walled)
    found = dss.conclude(walled, finder.within(dss.Limits(seconds=0.0)), step, constructed=True)
    assert not found.connected and found.finder == "straight"


def test_what_cannot_be_taken_apart_or_is_no_network_is_answered_as_before():
    torch.manual_seed(0)
    objective = dss.NetworkObjective(Encoder(), F.cross_entropy, blobs(shape=(3, 8)), buffers="frozen")
    ends = [trained(objective, seed, 30) for seed in (0, 1)]
    level = 1.01 * objective(torch.stack(ends)).max().item()
    network = dss.Problem.of(objective, *ends, threshold=level)
    a, b = (torch.tensor(m, dtype=torch.float64) for m in dss.MuellerBrown.minima[:2])
    for problem in (network, dss.Problem.of(dss.MuellerBrown(), a, b, threshold=-80.0)):
        found = concluded(problem, constructed=True)
        assert not found.connected and found.finder == "straight"


@pytest.mark.parametrize("prove", ["auto", "always"])
def test_a_path_whose_proof_runs_out_gives_way_to_a_constructed_one_and_is_told(walled, prove):
    line = dss.certify(walled.judge, walled.straight, threshold=1e3).max_loss
    easy = dss.Problem.of(walled.objective.unwrapped, walled.start, walled.end, threshold=1.01 * line)
    finder = dss.StraightLine(limits=dss.Limits(cells=1))
    step = finder.run(easy)
    alone = dss.conclude(easy, finder, step, prove=prove)
    assert alone.connected and not alone.certificate.proven and alone.searched is None
    found = dss.conclude(easy, finder, step, prove=prove, constructed=True)
    assert found.certificate.proven and found.finder == "convex"
    told = found.summary["searched"]
    assert (told["finder"], told["normalized_length"], told["connected"]) == ("straight", pytest.approx(1.0), True)
    assert told["reason"] == alone.certificate.reason and found.path.normalized_length > 1


def test_a_proof_that_was_not_tried_costs_no_path(walled, monkeypatch):
    monkeypatch.setattr("dss._connect.PROOF_BYTES", 0)
    easy = dss.Problem.of(walled.objective.unwrapped, walled.start, walled.end, threshold=50.0)
    found = concluded(easy, constructed=True)
    assert found.connected and not found.certificate.proven and (found.finder, found.searched) == ("straight", None)
