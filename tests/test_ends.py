"""Two files as the ends of one path: what they share must agree, and is what the path is judged with."""

import copy

import pytest
import torch
from torch import nn

import dss
from dss.cli.ends import load_ends

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (12,), generator=torch.Generator().manual_seed(1))


class Scaler(nn.Module):
    """A normaliser of one's own, with the names that BatchNorm uses."""

    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(6))

    def forward(self, x):
        return x - self.running_mean


class FrozenNorm(nn.BatchNorm1d):
    def train(self, mode=True):
        return super().train(False)


def net(first):
    torch.manual_seed(0)
    return nn.Sequential(first, nn.Linear(6, 3))


def save(model, path):
    torch.save(model.state_dict(), path)
    return path


def differing(model, name):
    """The model, and a copy of which one tensor is another."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        dict(other.state_dict())[name] += 0.5
    return model, other


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (
            nn.Sequential(nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()),
            "0.1.running_mean",
        ),
        (Scaler(), "0.running_mean"),
        (FrozenNorm(6), "0.running_var"),
        (nn.Linear(6, 6).requires_grad_(False), "0.weight"),
    ],
)
def test_what_both_ends_share_must_agree(first, name, tmp_path):
    one, other = differing(net(first), name)
    task = dss.Task(copy.deepcopy(one), nn.functional.cross_entropy, (X, Y))
    with pytest.raises(dss.CheckpointError, match=name):
        load_ends(save(one, tmp_path / "a.pt"), save(other, tmp_path / "b.pt"), task)


def test_statistics_of_batch_norm_may_differ(tmp_path):
    one, other = differing(net(nn.BatchNorm1d(6)), "0.running_mean")
    task = dss.Task(copy.deepcopy(one), nn.functional.cross_entropy, (X, Y))
    load_ends(save(one, tmp_path / "a.pt"), save(other, tmp_path / "b.pt"), task)


def test_frozen_parameters_are_taken_from_the_ends_and_kept_where_the_task_has_others(tmp_path):
    model = net(nn.Linear(6, 6).requires_grad_(False))
    _, fresh = differing(model, "0.weight")
    files = save(model, tmp_path / "a.pt"), save(model, tmp_path / "b.pt")
    for task_model, kept in ((fresh, {"0.weight"}), (model, set())):
        ends = load_ends(*files, dss.Task(task_model, nn.functional.cross_entropy, (X, Y)))
        objective, _ = ends.task.objectives()
        loss = nn.functional.cross_entropy(model(X), Y).item()
        assert objective(ends.start[None]).item() == pytest.approx(loss, rel=1e-6) and set(ends.buffers) == kept


def test_a_run_with_frozen_parameters_is_exported_whole(tmp_path):
    from dss.cli import main

    (tmp_path / "task.py").write_text("""
import torch
from torch import nn
import dss

def task():
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))
    net[0].requires_grad_(False)
    return dss.Task(net, nn.functional.cross_entropy, (x, (x[:, 0] > x[:, 1]).long()), epochs=5, learning_rate=0.01)
""")
    name = f"{tmp_path}/task.py:task"
    model = dss.load_task(name, seed=3).model
    for file in ("a.pt", "b.pt"):
        nn.init.normal_(model[2].weight)
        save(model, tmp_path / file)
    run = [str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--task", name, "--threshold", "9", "--out", str(tmp_path / "run")]
    assert main(["connect", *run]) == 0
    assert main(["export", str(tmp_path / "run"), "--bead", "-1", "--out", str(tmp_path / "end.pt")]) == 0
    state = torch.load(tmp_path / "end.pt")
    model.load_state_dict(state)
    assert all(torch.equal(value, torch.load(tmp_path / "b.pt")[key]) for key, value in state.items())
