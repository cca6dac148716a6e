"""`dss align`, and `dss connect --align`: the function stays, the words say so, and runs resume."""

import json

import pytest
import torch
from torch import nn

import dss
from dss.cli import main

TASK = """
import torch
from torch import nn
import dss

def task():
    x = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = (x.mean((1, 2, 3)) > 0.5).long()
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    return dss.Task(net, nn.functional.cross_entropy, (x, y), name="bright", epochs=60, learning_rate=0.03)
"""


@pytest.fixture(scope="module")
def normed(tmp_path_factory):
    """A folder with a task whose network has BatchNorm, and two trained ends."""
    folder = tmp_path_factory.mktemp("normed")
    (folder / "task.py").write_text(TASK)
    for seed, name in enumerate("ab"):
        words = ["train", f"{folder}/task.py:task", "--seed", str(seed), "--out", str(folder / f"{name}.pt")]
        assert main(words) == 0
    return folder


def align(folder, out, *words):
    ends = [str(folder / "a.pt"), str(folder / next(f.name for f in folder.iterdir() if f.name.startswith("b.")))]
    return main(["align", *ends, "--task", f"{folder}/task.py:task", "--out", str(out), *words])


def loaded(folder, file):
    model = dss.load_task(f"{folder}/task.py:task").fresh_model().eval()
    model.load_state_dict(torch.load(file))
    return model


def test_align_writes_a_copy_with_the_same_outputs_statistics_included(normed, tmp_path, capsys):
    assert align(normed, tmp_path / "c.pt", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["aligned"] == "weights" and said["modulo_symmetry"] and said["units"] == 6
    assert said["distance_after"] < said["distance_before"] and said["groups"][0]["name"] == "0.weight[0]"
    x = torch.rand(8, 1, 4, 4)
    before, after = (loaded(normed, file) for file in (normed / "b.pt", tmp_path / "c.pt"))
    torch.testing.assert_close(after(x), before(x))
    assert not torch.equal(after[1].running_mean, before[1].running_mean)
    assert after.state_dict().keys() == before.state_dict().keys()


def test_align_says_what_moved_and_what_stayed(normed, tmp_path, capsys):
    assert align(normed, tmp_path / "c.safetensors", "--by", "activations", "--rescale", "--restarts", "2") == 0
    said = capsys.readouterr().out
    assert f"{tmp_path}/c.safetensors: a reordered copy of {normed}/b.pt, the same function" in said
    assert "of 6 moved, by activations" in said and "scaled or reflected  0.weight[0]" in said
    assert "2 in order (output): 4.weight[0], 4.bias[0]" in said and "6 in order (kernel of aten.convolution)" in said


def test_align_with_frozen_statistics_holds_channels(normed, tmp_path, capsys):
    assert align(normed, tmp_path / "c.pt", "--buffers", "frozen") == 0
    said = capsys.readouterr().out
    assert "groups               none" in said and "6 in order (1.running_mean is shared)" in said


def test_align_overwrites_nothing(normed, tmp_path, capsys):
    (tmp_path / "c.pt").write_text("precious")
    assert align(normed, tmp_path / "c.pt") == 2
    assert "exists already" in capsys.readouterr().err and (tmp_path / "c.pt").read_text() == "precious"
    assert align(normed, tmp_path / "c.pt", "--overwrite") == 0


def connect(folder, out, *words):
    ends = [str(folder / "a.pt"), str(folder / "b.safetensors")]
    options = ["--task", f"{folder}/task.py:task", "--threshold", "0.35", "--out", str(out), "--prove", "never"]
    return main(["connect", *ends, *options, *words])


def test_connect_joins_the_reordered_copy_and_says_so(tiny, tmp_path, capsys):
    code = connect(tiny, tmp_path / "run", "--align", "weights")
    said, run = capsys.readouterr().out, dss.load_run(tmp_path / "run")
    assert code == (0 if run.summary["connected"] else 1)
    assert f"to a reordered copy of {tiny}/b.safetensors" in said
    assert run.summary["aligned"] == "weights" and run.summary["modulo_symmetry"] is True
    assert "(A) to a reordered copy of b.safetensors (B)" in (tmp_path / "run" / "report.html").read_text()
    network, _ = dss.load_task(f"{tiny}/task.py:task").objectives()
    a, b = (dss.load_point(tiny / name, network.space) for name in ("a.pt", "b.safetensors"))
    assert torch.equal(run.path.beads[0], a) and torch.equal(run.path.beads[-1], dss.align(network, a, b).point)
    assert not torch.equal(run.path.beads[-1], b)


def test_a_run_to_a_reordered_copy_resumes_and_only_as_such(tiny, tmp_path, capsys):
    connect(tiny, tmp_path / "run", "--align", "weights")
    whole = dss.load_run(tmp_path / "run")
    for name in ("summary.json", "path.safetensors", "report.html"):
        (tmp_path / "run" / name).unlink()
    lines = (tmp_path / "run" / "steps.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "steps.jsonl").write_text("".join(lines[:-1] or lines))
    capsys.readouterr()
    assert connect(tiny, tmp_path / "run", "--resume") == 2
    assert "another align" in capsys.readouterr().err
    connect(tiny, tmp_path / "run", "--align", "weights", "--resume")
    again = dss.load_run(tmp_path / "run")
    assert torch.equal(again.path.beads, whole.path.beads) and again.summary["aligned"] == "weights"


def test_without_align_nothing_is_said_of_copies(tiny, tmp_path, capsys):
    connect(tiny, tmp_path / "run")
    assert "reordered" not in capsys.readouterr().out + (tmp_path / "run" / "report.html").read_text()
    assert not {"aligned", "modulo_symmetry"} & dss.load_run(tmp_path / "run").summary.keys()


def test_a_reordered_copy_of_the_same_network_is_named(tiny, tmp_path, capsys):
    state = torch.load(tiny / "a.pt")
    order = torch.arange(8).flip(0)
    moved = {"0.weight": state["0.weight"][order], "0.bias": state["0.bias"][order], "2.weight": state["2.weight"][:, order]}
    torch.save(state | moved, tmp_path / "b.pt")
    words = [str(tiny / "a.pt"), str(tmp_path / "b.pt"), "--task", f"{tiny}/task.py:task", "--threshold", "1"]
    assert main(["connect", *words, "--out", str(tmp_path / "run"), "--align", "weights"]) == 2
    assert "with its units in another order: they are one network" in capsys.readouterr().err
    assert isinstance(dss.load_task(f"{tiny}/task.py:task").model, nn.Module) and not (tmp_path / "run").exists()
