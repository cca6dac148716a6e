"""What holds of every command, and the commands that only tell."""

import json
import subprocess
import sys

import pytest
import torch

import dss
from dss.cli import COMMANDS, main

FLAT = """
import torch, dss

def task():
    x = torch.ones(4, 1)
    return dss.Task(torch.nn.Linear(1, 1, bias=False), torch.nn.functional.mse_loss, train=(x, x), judge=(x, x))
"""
NAMES = [command.__name__.rpartition(".")[2] for command in COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_its_help(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: dss {name}")


def test_bare_dss_prints_help_with_every_command(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"    {name} " in text for name in NAMES)


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"dss {dss.__version__}\n"


def test_an_unknown_command_is_bad_input(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["conect"])
    assert "invalid choice: 'conect'" in capsys.readouterr().err


def test_built_in_tasks_are_listed_with_their_sizes(capsys):
    assert main(["tasks", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["digits"]["parameters"], rows["digits"]["train"], rows["digits"]["judge"]) == (5956, 1200, 597)
    assert rows["quadratics"]["parameters"] == 24 and rows["cubics"]["parameters"] == 33
    assert main(["tasks"]) == 0
    assert "dss.Task(model=" in capsys.readouterr().out


def test_data_that_are_not_at_hand_do_not_hide_the_other_tasks(capsys, monkeypatch):
    def missing():
        """The same, without its data."""
        raise dss.TaskError("the data are not here")

    monkeypatch.setitem(dss.tasks.BUILTIN, "cubics", missing)
    assert main(["tasks"]) == 0
    assert "not at hand: the data are not here" in capsys.readouterr().out


def test_a_list_of_tasks_asks_no_network_for_their_data(capsys, monkeypatch, tmp_path):
    def asked(*arguments, **options):
        raise AssertionError("a list asked the network")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", asked)
    monkeypatch.setattr("dss.tasks.data.FASHION_FOLDER", tmp_path / "nowhere")
    monkeypatch.setenv("DSS_DATA", str(tmp_path))
    dss.tasks.data.fashion.cache_clear()
    assert main(["tasks", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert "OpenML" in rows["fashion"]["missing"] and rows["fashion"]["parameters"] is None
    assert rows["digits"]["missing"] is None and rows["digits"]["judge"] == 597


def test_the_barrier_lies_between_the_ends_and_the_straight_line(tiny, capsys):
    arguments = [
        "barrier",
        str(tiny / "a.pt"),
        str(tiny / "b.safetensors"),
        "--task",
        f"{tiny}/task.py:task",
        "--tolerance",
        "0.5",
    ]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ends"] <= found["lower"] <= found["upper"] <= found["linear"]
    assert found["excess"] == pytest.approx(found["upper"] - found["ends"])
    assert main(arguments) == 0
    failed = any(not passed for _, passed in found["tried"])
    text = capsys.readouterr().out
    assert ("which proves nothing" in text) == failed and ("no search failed" in text) == (not failed)


def test_a_barrier_whose_searches_all_succeeded_names_no_failed_one(tmp_path, capsys):
    (tmp_path / "task.py").write_text(FLAT)
    for name, weight in (("a.pt", 1.0), ("b.pt", 1.001)):
        torch.save({"weight": torch.tensor([[weight]])}, tmp_path / name)
    arguments = ["barrier", str(tmp_path / "a.pt"), str(tmp_path / "b.pt"), "--task", f"{tmp_path}/task.py:task"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(passed for _, passed in found["tried"]) and found["lower"] == found["ends"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "no search failed" in text and "no search succeeded" not in text


def test_a_threshold_may_be_a_multiple_of_the_higher_ends_loss(tiny, tmp_path, capsys):
    command = [
        "connect",
        str(tiny / "a.pt"),
        str(tiny / "b.safetensors"),
        "--task",
        f"{tiny}/task.py:task",
        "--prove",
        "never",
        "--json",
    ]
    assert main([*command, "--threshold", "4x", "--out", str(tmp_path / "run")]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert found["threshold"] == pytest.approx(4 * max(found["loss_start"], found["loss_end"]), rel=1e-12)
    assert main([*command, "--threshold", "0.5x", "--out", str(tmp_path / "low")]) == 2
    assert "a factor of at least 1" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--threshold", "low", "--out", str(tmp_path / "word")])
    assert "1.1x" in capsys.readouterr().err


def test_a_relative_threshold_means_the_same_to_connect_certify_and_plane(tiny, tmp_path, capsys):
    a, b, task = str(tiny / "a.pt"), str(tiny / "b.safetensors"), ["--task", f"{tiny}/task.py:task"]
    main(["connect", a, b, *task, "--threshold", "4x", "--prove", "never", "--out", str(tmp_path / "run"), "--json"])
    level = json.loads(capsys.readouterr().out)["threshold"]
    main(["certify", str(tmp_path / "run"), "--threshold", "4x", "--json"])
    assert json.loads(capsys.readouterr().out)["threshold"] == pytest.approx(level, rel=1e-12)
    torch.save({name: value + 0.1 * torch.randn_like(value) for name, value in torch.load(a).items()}, tmp_path / "c.pt")
    out = ["--resolution", "8", "--out", str(tmp_path / "plane.html"), "--json"]
    assert main(["plane", a, b, str(tmp_path / "c.pt"), *task, "--threshold", "4x", *out]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == pytest.approx(level, rel=1e-12)


FROZEN = """
import gc, sys
from dss.cli import main
main(["tasks"])
print("frozen:", gc.get_freeze_count() > 0)
sys.argv = ["dss", "tasks"]
main()
print("frozen:", gc.get_freeze_count() > 100_000, gc.isenabled())
"""


def test_a_command_looks_for_no_garbage_among_what_imports_made_and_leaves_a_callers_alone():
    said = subprocess.run([sys.executable, "-c", FROZEN], capture_output=True, text=True, check=True).stdout
    assert [line for line in said.splitlines() if "frozen" in line] == ["frozen: False", "frozen: True True"]
