"""A run knows its data: the commands that go on with it refuse any other, and draw what is drawn under the run's seed."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import dss
from dss.cli import main
from dss.runs import load_run

TASK = """
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dss

HERE = Path(__file__).parent

def net():
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

def labelled(x):
    return x, ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()

def stored():
    judge = labelled(torch.load(HERE / "judge.pt"))
    return dss.Task(net(), nn.functional.cross_entropy, labelled(torch.load(HERE / "train.pt")), judge=judge, epochs=200,
                    learning_rate=0.03)

def drawn():
    x = torch.rand(24, 2)
    y = torch.tensor(np.random.rand(24, 2), dtype=torch.float32)
    z = torch.tensor([[random.random(), random.random()] for _ in range(24)])
    loader = DataLoader(TensorDataset(*labelled(torch.cat([x, y, z]))), batch_size=9, shuffle=True, drop_last=True)
    return dss.Task(net(), nn.functional.cross_entropy, loader, judge_loss=dss.error_rate, epochs=200, learning_rate=0.03)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A task whose data lies in files, two ends, and a run between them."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "task.py").write_text(TASK)
    for seed, name in enumerate(("train.pt", "judge.pt")):
        torch.save(torch.rand(48, 2, generator=torch.Generator().manual_seed(seed)), folder / name)
    for seed in (0, 1):
        assert main(["train", f"{folder}/task.py:stored", "--seed", str(seed), "--out", f"{folder}/{seed}.pt"]) == 0
    assert main(connect(folder, "run")) == 0
    return folder


def connect(folder, run, *more, task="stored", threshold=0.6):
    return ["connect", f"{folder}/0.pt", f"{folder}/1.pt", "--task", f"{folder}/task.py:{task}", "--threshold", str(threshold),
            "--out", f"{folder}/{run}", "--lr", "0.01", "--prove", "never", *more]  # fmt: skip


@pytest.fixture(params=["train", "judge"])
def other_data(folder, request):
    """One sample of one of the data sets is another, by one rounding."""
    file = folder / f"{request.param}.pt"
    before = file.read_bytes()
    x = torch.load(file)
    x[3, 0] += 1e-6
    torch.save(x, file)
    yield request.param
    file.write_bytes(before)


def test_a_run_keeps_the_digests_of_its_data(folder, capsys):
    run = load_run(folder / "run")
    found = json.loads((folder / "run" / "summary.json").read_text())["data"]
    assert found == run.question["data"] == run.data and found["train"] != found["judge"]
    assert main(connect(folder, "run", "--resume")) == 0
    assert found["judge"][:12] in capsys.readouterr().out


GOING_ON = {
    "certify": ["certify", "{run}", "--tolerance", "0.5"],
    "shorten": ["shorten", "{run}", "--prove", "never", "--out", "{run}-short", "--overwrite"],
    "show": ["show", "{run}", "--no-open", "--evaluations", "8", "--plane", "0"],
    "export": ["export", "{run}", "--bead", "0", "--out", "{run}.pt", "--overwrite"],
    "figure": ["figure", "{run}", "--which", "loss", "--out", "{run}.csv", "--overwrite"],
}


def going_on(folder, command):
    return (
        connect(folder, "run", "--resume") if command == "resume" else [w.format(run=folder / "run") for w in GOING_ON[command]]
    )


@pytest.mark.parametrize("command", [*GOING_ON, "resume"])
def test_other_data_than_the_runs_is_refused_in_one_sentence(folder, command, other_data, capsys):
    capsys.readouterr()
    assert main(going_on(folder, command)) == 2
    error = capsys.readouterr().err
    digest = load_run(folder / "run").data[other_data]
    assert error.startswith("dss: error: ") and error.count("\n") == 1
    assert f"the {other_data} data has the digest" in error and f"the run's had {digest}" in error and "another --out" in error


@pytest.mark.parametrize("command", [*GOING_ON, "resume"])
def test_the_runs_own_data_is_accepted(folder, command):
    assert main(going_on(folder, command)) == 0


def test_a_run_of_before_digests_were_kept_makes_no_claim(folder, other_data, tmp_path, capsys):
    old = shutil.copytree(folder / "run", tmp_path / "old")
    for name in ("run.json", "summary.json"):
        content = json.loads((old / name).read_text())
        for kept in ("data", "varies", "seal", *(("digests",) if name == "summary.json" else ())):
            content.pop(kept, None)
        (old / name).write_text(json.dumps(content))
    assert main(["show", str(old), "--no-open", "--evaluations", "8", "--plane", "0"]) == 0
    assert load_run(old).data == {"train": "unknown", "judge": "unknown"}
    assert main(connect(folder, "run", "--resume", "--out", str(old))) == 0
    assert "digest unknown" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, 5])
def test_what_a_task_draws_without_a_seed_is_drawn_under_the_runs(folder, seed, capsys):
    run = f"drawn-{seed}"
    torch.manual_seed(seed + 99), np.random.seed(seed + 99), random.seed(seed + 99)
    assert main(connect(folder, run, "--seed", str(seed), task="drawn", threshold=0.9)) == 0
    again, other = (dss.load_task(f"{folder}/task.py:drawn", draws=draws).objectives()[1] for draws in (seed, seed + 1))
    assert load_run(folder / run).data["judge"] == again.data_digest != other.data_digest
    assert again.samples == 72 and again.data.batch_size == 9
    assert main(["certify", f"{folder}/{run}", "--threshold", "0.95"]) == 0


def test_data_that_can_be_read_once_serves_training_and_judge():
    batches = iter([(torch.rand(5, 2), torch.randint(2, (5,))) for _ in range(3)])
    task = dss.Task(nn.Linear(2, 2), nn.functional.cross_entropy, batches, judge_loss=dss.error_rate)
    train, judge = task.objectives()
    assert train.data is judge.data and train.samples == 15
