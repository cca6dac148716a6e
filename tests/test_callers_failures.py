"""What fails in the caller's code is said to be the caller's; what is no number on the way is an outcome, not an error."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from dss.cli import main
from dss.objectives.network.replays import Replays

X, Y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


class Fussy:
    """A loss that fails where it is told to from its n-th call on."""

    def __init__(self, after):
        self.after, self.calls, self.error = after, 0, ValueError("too fussy")

    def __call__(self, output, target):
        self.calls += 1
        if self.calls > self.after:
            raise self.error
        return cross_entropy(output, target)


def fussy(**options):
    """An objective whose loss starts to fail once it was made."""
    loss = Fussy(10**9)
    objective = dss.NetworkObjective(net(), loss, (X, Y), rows="loop", **options)
    objective(torch.zeros(1, objective.size))  # the first time is also tried in other chunks
    loss.after = loss.calls
    return objective, loss


def test_what_the_loss_raises_is_the_tasks_failure_with_its_cause_and_samples():
    objective, loss = fussy(names=("the model of a.py:b", "the loss of a.py:b"))
    point = torch.randn(1, objective.size)
    with pytest.raises(dss.TaskError, match=r"^the loss of a\.py:b raises ValueError: too fussy on samples 0-19$") as caught:
        objective(point)
    assert caught.value.__cause__ is loss.error


def test_minibatches_models_and_gradients_are_named():
    objective, _ = fussy(batch_size=5)
    with pytest.raises(dss.TaskError, match="the loss raises ValueError: too fussy on 5 samples of a minibatch"):
        objective.estimate(torch.randn(1, objective.size), torch.Generator())

    class Backless(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, slope):
            raise KeyError("no way back")

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            return Backless.apply(self.inner(x))

    one_way = dss.NetworkObjective(Model(), cross_entropy, (X, Y))
    points = torch.randn(1, one_way.size)
    assert one_way(points).isfinite().all()
    with pytest.raises(dss.TaskError, match="the gradient of the loss raises KeyError: 'no way back'"):
        one_way(points.requires_grad_())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")])
def test_memory_that_runs_out_is_not_the_callers_fault(error):
    objective, loss = fussy()
    loss.error = error
    with pytest.raises(type(error)) as caught:
        objective(torch.randn(1, objective.size))
    assert caught.value is error


TASK = """
import torch, dss
from torch import nn
from torch.nn.functional import cross_entropy

calls = 0

def loss(output, target):
    global calls
    calls += 1
    if calls > {after}:
        raise ZeroDivisionError("of the task")
    return cross_entropy(output, target)

def task():
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()
    return dss.Task(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)), loss, (x, y), name="xor")
"""


def test_a_task_that_fails_ends_a_command_with_2_and_a_traceback_if_wanted(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Replays, "takes", lambda *_: False)  # a pass that is played calls no loss that could fail
    (tmp_path / "task.py").write_text(TASK.format(after=200))
    name = f"{tmp_path / 'task.py'}:task"
    command = ["connect", str(tiny / "a.pt"), str(tiny / "b.safetensors"), "--task", name, "--threshold", "0.3"]
    assert main([*command, "--out", str(tmp_path / "run"), "--quiet", "--traceback"]) == 2
    said = capsys.readouterr().err
    assert f"the loss of {name} raises ZeroDivisionError: of the task on samples 0-63" in said
    assert "Traceback" in said and 'raise ZeroDivisionError("of the task")' in said


class Cliff(dss.Objective):
    """A bowl with a hole in the middle, where there is no number, between two ends that are fine."""

    size = 2

    def __call__(self, points):
        x = points.double()
        losses = (x[:, 1] - 1) ** 2
        return torch.where(x[:, 0].abs() < 0.5, losses * torch.nan, losses)


@pytest.mark.parametrize("name", dss.FINDERS)
def test_losses_that_are_no_numbers_on_the_way_end_in_a_status_and_a_partial_path(name):
    if name == "convex":
        return  # is for networks alone, and says so
    ends = torch.tensor([[-1.0, 1.0], [1.0, 1.0]])
    found = dss.connect(
        Cliff(), *ends, threshold=0.1, finder=dss.FINDERS[name](), limits=dss.Limits(rounds=3, gradient_steps=300)
    )
    assert not found.connected and found.status not in (dss.Status.FOUND, dss.Status.SEARCHING)
    assert torch.equal(found.path.beads[[0, -1]], ends) and found.path.beads.isfinite().all()


def test_a_bead_that_runs_off_to_infinity_is_a_status():
    wild = dss.Descent(optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e38))
    ends = torch.tensor([[-1.0, 0.1], [1.0, 0.1]])
    found = dss.connect(dss.DoubleWell(), *ends, threshold=0.1, finder=dss.GreedyString(descent=wild))
    assert found.status is dss.Status.DIVERGED and not found.connected and "infinity" in found.reason
    assert torch.equal(found.path.beads, ends)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_everything_works_where_gradients_are_switched_off(mode):
    with mode():
        objective = dss.NetworkObjective(net(), cross_entropy, (torch.randn(20, 3), Y), batch_size=8)
        ends = torch.randn(2, objective.size, generator=torch.Generator().manual_seed(1))
        top = objective(ends).max().item()
        middle = objective((ends[:1] + ends[1:]) / 2).item()
        level = max(top, middle) * 1.001
        for finder in (dss.GreedyString(), dss.PolygonalChain(limits=dss.Limits(rounds=1))):
            found = dss.connect(objective, *ends, threshold=level, finder=finder, shorten=True)
            assert not found.path.beads.is_inference()
        assert dss.certify(objective, found.path, threshold=level).max_loss > 0
        trained = dss.descend(
            objective, objective, ends, 0.0, options=dss.Descent(max_steps=30), generator=torch.Generator().manual_seed(0)
        )
        assert (trained.losses < objective(ends).cpu()).all()
        assert dss.align(objective, *ends).point.shape == ends[0].shape


@pytest.mark.parametrize("threshold", [None, "low", float("nan"), float("inf"), torch.ones(2)])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(dss.InputError, match="threshold must be"):
        dss.connect(dss.DoubleWell(), torch.zeros(2), torch.ones(2), threshold=threshold)


def test_lazy_modules_are_asked_to_be_run_once():
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    with pytest.raises(dss.InputError, match=r"0\.weight, 0\.bias of the model have no shape yet"):
        dss.NetworkObjective(model, cross_entropy, (X, Y))
    model(X)
    dss.NetworkObjective(model, cross_entropy, (X, Y))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_models_are_taken_as_they_were_written_and_scripted_ones_refused():
    plain, compiled = net(), torch.compile(net(), backend="eager")
    inside = nn.Sequential(torch.compile(net(), backend="eager"), nn.Linear(2, 2))
    point = torch.randn(1, 26, generator=torch.Generator().manual_seed(0))
    losses = [dss.NetworkObjective(model, cross_entropy, (X, Y))(point) for model in (plain, compiled)]
    assert torch.equal(*losses)
    assert dss.NetworkObjective(inside, cross_entropy, (X, Y)).size == 32
    with pytest.raises(dss.InputError, match=r"torch\.jit"):
        dss.NetworkObjective(torch.jit.trace(net(), X), cross_entropy, (X, Y))


@pytest.mark.parametrize("error", [KeyError("inside"), RuntimeError("inside"), AssertionError("inside")])
def test_whatever_a_proof_raises_the_path_that_was_found_is_kept_and_sampled(error, monkeypatch):
    objective = dss.NetworkObjective(net(), cross_entropy, (X, Y))
    ends = torch.randn(2, objective.size, generator=torch.Generator().manual_seed(1))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("dss.objectives.network.bounds.enclose", fail)
    found = dss.connect(objective, *ends, threshold=objective(ends).max().item() + 1, finder=dss.GreedyString())
    assert found.connected and not found.certificate.proven
    assert f"it raised {type(error).__name__}" in found.reason and "inside" in found.reason


def test_autocast_is_torchs_own_is_not_proved_and_is_refused_where_it_changes_nothing():
    objective = dss.NetworkObjective(net(), cross_entropy, (X, Y), autocast=torch.bfloat16)
    ends = torch.randn(2, objective.size, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        output = torch.func.functional_call(net(), objective.space.unflatten(ends[0]), (X,))
        expected = cross_entropy(output, Y).item()
    assert objective(ends[:1]).item() == pytest.approx(expected, rel=1e-6)
    assert "autocast" in dss.connect(objective, *ends, threshold=9.0).reason
    with pytest.raises(dss.InputError, match="changes nothing"):
        dss.NetworkObjective(net().double(), cross_entropy, (X.double(), Y), autocast=torch.bfloat16)
