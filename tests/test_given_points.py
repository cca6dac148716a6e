"""What users give as ends: points or state dicts, everywhere the same, and everywhere refused with the same cause."""

import pytest
import torch
from torch import nn

import dss

THRESHOLD = 50.0


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


STATE_A, STATE_B = net(1).state_dict(), net(2).state_dict()


@pytest.fixture(scope="module")
def objective():
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return dss.NetworkObjective(net(0), nn.functional.mse_loss, (x, x.sum(1, keepdim=True)))


CALLS = {
    "connect": lambda objective, a, b: dss.connect(objective, a, b, threshold=THRESHOLD, prove="never").path.beads,
    "barrier": lambda objective, a, b: dss.barrier(objective, a, b, tolerance=2.0).path.beads[[0, -1]],
    "problem": lambda objective, a, b: dss.Problem.of(objective, a, b, threshold=THRESHOLD).straight.beads,
    "align": lambda objective, a, b: dss.align(objective, a, b).point,
    "merge_tree": lambda objective, a, b: dss.merge_tree(objective, [a, b], prove="never").points,
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
def test_a_state_dict_gives_what_its_point_gives(objective, call):
    points = [objective.flatten(state) for state in (STATE_A, STATE_B)]
    assert torch.equal(call(objective, STATE_A, STATE_B), call(objective, *points))
    assert torch.equal(call(objective, STATE_A, points[1]), call(objective, *points))


def _good():
    return dss.ParameterSpace.of(net(0)).flatten(STATE_A)


BAD = {
    "another length": (lambda: torch.zeros(20), r"finite point \(21,\).*got \(20,\) torch.float32"),
    "a matrix": (lambda: torch.zeros(1, 21), r"finite point \(21,\).*got \(1, 21\)"),
    "integers": (lambda: torch.zeros(21, dtype=torch.int64), "floating-point numbers, got .*torch.int64"),
    "not finite": (lambda: torch.full((21,), torch.nan), "with NaN or infinity"),
    "a list": (lambda: [0.0] * 21, "a point .* or a state dict, got list"),
    "a model": (lambda: net(0), "a point .* or a state dict, got Sequential"),
    "a state without one entry": (lambda: {k: v for k, v in STATE_A.items() if k != "0.bias"}, "0.bias"),
    "a state of another shape": (lambda: {**STATE_A, "2.bias": torch.zeros(2)}, "2.bias"),
    "a state with infinity": (lambda: {**STATE_A, "2.bias": torch.full((1,), torch.inf)}, "2.bias"),
}


@every_call
@pytest.mark.parametrize(("given", "cause"), BAD.values(), ids=BAD)
def test_what_is_no_point_is_refused_with_its_cause(objective, call, given, cause):
    with pytest.raises(dss.InputError, match=cause):
        call(objective, given(), _good())
    with pytest.raises(dss.InputError, match=cause):
        call(objective, _good(), given())


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"align"}))  # which takes each end to float64 for itself
def test_ends_of_two_dtypes_are_refused(objective, name):
    with pytest.raises(dss.InputError, match="dtype"):
        CALLS[name](objective, _good(), _good().float() + 1)


def test_an_analytic_objective_reads_no_state_dicts():
    with pytest.raises(dss.InputError, match="the end: a state dict is read by a network's objective only"):
        dss.connect(dss.MuellerBrown(), torch.zeros(2), STATE_A, threshold=1.0)


def test_wrapped_objectives_read_state_dicts(objective):
    wrapped = objective.calibrated_by(objective)
    assert wrapped.size == 21 and torch.equal(wrapped.flatten(STATE_A), objective.flatten(STATE_A))
