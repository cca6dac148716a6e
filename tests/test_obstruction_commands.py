"""Walls on the command line and on the page."""

import json

import torch

import dss
from dss.cli import main

TASK = """
import torch
from torch import nn
import dss

def task():
    y = torch.randn(30, 4, generator=torch.Generator().manual_seed(3)) * torch.tensor([1.0, 0.8, 0.3, 0.1])
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4))
    wall = dss.theory.bottleneck_obstruction(y, 2, output_bias=True)
    return dss.Task(net, nn.functional.mse_loss, (y, y), name="bottleneck", obstructions=(wall,))
"""


def test_the_command_line_says_proved_disconnected_and_the_page_says_why(tmp_path, capsys):
    (tmp_path / "task.py").write_text(TASK)
    task = dss.load_task(f"{tmp_path}/task.py:task")
    space, (wall,) = dss.ParameterSpace.of(task.model), task.obstructions
    y = task.train[0]
    mean = y.mean(0)
    axes = torch.linalg.svd(y - mean, full_matrices=False).Vh[:2]
    for name, rows in (("a.pt", axes), ("b.pt", axes[[1, 0]])):
        torch.save(space.unflatten(torch.cat([rows.reshape(-1), -rows @ mean, rows.T.reshape(-1), mean])), tmp_path / name)
    ends = [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    arguments = ["connect", *ends, "--task", f"{tmp_path}/task.py:task", "--threshold", str(0.95 * wall.threshold)]
    assert main([*arguments, "--out", str(tmp_path / "run"), "--quiet"]) == 1
    assert "PROVED DISCONNECTED" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "proved disconnected" and summary["obstruction"]["lower"] == wall.threshold
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Proved disconnected: every path whatever" in page and "opposite orientations" in page
    assert main([*arguments, "--out", str(tmp_path / "run"), "--quiet", "--resume", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "proved disconnected"
    assert main(["barrier", *ends, "--task", f"{tmp_path}/task.py:task", "--tolerance", "2", "--quiet"]) == 0
    assert f"no path whatever stays below {wall.threshold:.6g}, which is proved" in capsys.readouterr().out
