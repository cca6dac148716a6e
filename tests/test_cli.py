"""The commands as a user types them: outcomes, exit codes, refusals, and real kills."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace

import pytest
import torch
from safetensors.torch import load_file

from dss.cli import demo, main
from dss.runs import load_run


def connect(tiny, out, *more, threshold="0.25"):
    return ["connect", f"{tiny}/a.pt", f"{tiny}/b.safetensors", "--task", f"{tiny}/task.py:task",
            "--threshold", threshold, "--out", str(out), "--lr", "0.01", *more]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "finder"),
    [
        ((), "bend"),
        (("--margin", "0.01"), "greedy"),
        (("--insertion", "midpoint"), "greedy"),
        (("--bead-steps", "900"), "bend"),
        (("--beads-on-disk",), "greedy"),
    ],
)
def test_where_no_finder_is_named_bends_are_unless_an_option_is_greedys(tiny, tmp_path, options, finder):
    assert main(connect(tiny, tmp_path / "run", "--prove", "never", *options)) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["finder"] == finder


def test_connect_writes_a_run_and_says_connected(tiny, tmp_path, capsys):
    assert main(connect(tiny, tmp_path / "run", "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    required = {
        "status", "connected", "proven", "threshold", "max_loss", "upper_bound", "normalized_length", "intermediate_beads",
        "linear_barrier", "loss_start", "loss_end", "finder", "seed", "seconds", "loss_evaluations", "gradient_evaluations",
        "versions",
    }  # fmt: skip
    assert required <= summary.keys() and summary["status"] == "connected"
    assert summary["max_loss"] <= 0.25 < summary["linear_barrier"]
    assert summary["proven"] == (summary["upper_bound"] is not None)
    run = load_run(tmp_path / "run")
    assert run.path.intermediate_beads == summary["intermediate_beads"] > 0
    assert run.path.normalized_length == summary["normalized_length"]


def test_an_ordinary_connection_prints_words_and_a_page(tiny, tmp_path, capsys):
    assert main(connect(tiny, tmp_path / "run")) == 0
    out = capsys.readouterr().out
    assert out.startswith("connected: ") and "normalized length" in out and "report.html" in out
    assert (tmp_path / "run" / "report.html").stat().st_size > 1e6


def test_what_cannot_be_connected_exits_with_one_and_keeps_the_partial_path(tiny, tmp_path, capsys):
    command = connect(tiny, tmp_path / "run")
    del command[command.index("--lr") :]
    assert main([*command, "--finder", "straight", "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert not summary["connected"] and summary["upper_bound"] is None
    assert len(load_run(tmp_path / "run").path) == 2


def test_the_same_seed_gives_the_same_bits(tiny, tmp_path):
    for name in ("one", "two"):
        assert main(connect(tiny, tmp_path / name, "--prove", "never")) == 0
    files = [(tmp_path / name / "path.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_export_writes_a_checkpoint_that_the_model_loads(tiny, tmp_path, capsys):
    assert main(connect(tiny, tmp_path / "run", "--prove", "never")) == 0
    assert main(["export", str(tmp_path / "run"), "--bead", "1", "--out", str(tmp_path / "bead.pt")]) == 0
    state = torch.load(tmp_path / "bead.pt", weights_only=True)
    beads = load_file(tmp_path / "run" / "path.safetensors")
    assert all(torch.equal(state[name], value[1]) for name, value in beads.items())
    assert main(["export", str(tmp_path / "run"), "--bead", "99", "--out", str(tmp_path / "no.pt")]) == 2
    assert main(["export", str(tmp_path / "run"), "--bead", "1", "--out", str(tmp_path / "bead.pt")]) == 2
    assert not (tmp_path / "no.pt").exists()


def garbage(tiny, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"garbage" * 99)
    return ["connect", str(tmp_path / "a.pt"), *connect(tiny, tmp_path / "run")[2:]]


def other_model(tiny, tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a.pt")
    return ["connect", str(tmp_path / "a.pt"), *connect(tiny, tmp_path / "run")[2:]]


def missing_file(tiny, tmp_path):
    return ["connect", str(tmp_path / "none.pt"), *connect(tiny, tmp_path / "run")[2:]]


def identical(tiny, tmp_path):
    command = connect(tiny, tmp_path / "run")
    return [command[0], command[1], command[1], *command[3:]]


def too_low(tiny, tmp_path):
    return connect(tiny, tmp_path / "run", threshold="1e-9")


def not_a_number(tiny, tmp_path):
    return connect(tiny, tmp_path / "run", threshold="nan")


def unknown_task(tiny, tmp_path):
    return [*connect(tiny, tmp_path / "run"), "--task", "mnits"]


def failing_task(tiny, tmp_path):
    return [*connect(tiny, tmp_path / "run"), "--task", f"{tiny}/task.py:broken"]


def foreign_option(tiny, tmp_path):
    return [*connect(tiny, tmp_path / "run"), "--finder", "straight"]


def two_targets(tiny, tmp_path):
    return [*connect(tiny, tmp_path / "run"), "--alpha", "0.9", "--margin", "0.1"]


def no_device(tiny, tmp_path):
    return [*connect(tiny, tmp_path / "run"), "--device", "abacus"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (garbage, "damaged|not a readable"),
        (other_model, "missing: .*unexpected: "),
        (missing_file, "no file"),
        (identical, "identical"),
        (too_low, "at most the threshold 1e-09, got [^ ]+ and [^ ]+"),
        (not_a_number, "finite number"),
        (unknown_task, "no task 'mnits'"),
        (failing_task, "no such data"),
        (foreign_option, "has no --lr"),
        (two_targets, "alpha"),
        (no_device, "abacus"),
    ],
)
def test_bad_input_is_one_clear_line_exit_code_two_and_nothing_written(tiny, tmp_path, capsys, build, message):
    command = build(tiny, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("dss: error: ") and error.count("\n") == 1
    assert re.search(message, error)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_is_neither_overwritten_nor_resumed_with_another_question(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(connect(tiny, out, "--prove", "never")) == 0
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert main(connect(tiny, out, "--prove", "never")) == 2
    assert main(connect(tiny, out, "--prove", "never", "--resume", threshold="0.3")) == 2
    assert "another threshold" in capsys.readouterr().err
    assert main(connect(tiny, out, "--prove", "never", "--resume")) == 0
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    assert main(connect(tiny, out, "--prove", "never", "--overwrite")) == 0


@pytest.mark.slow
def test_runs_killed_at_random_moments_resume_to_the_same_path(tiny, tmp_path):
    slow = ("--lr", "0.002", "--schedule", "depth", "--margin", "0.02", "--prove", "never")
    command = [sys.executable, "-m", "dss", *connect(tiny, tmp_path / "killed", *slow, "--resume")]
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"the moments of the kills are drawn with seed {seed}")
    moments = torch.Generator().manual_seed(seed)
    kills = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if kills < 4:
            _wait_for_a_step(process, tmp_path / "killed", torch.rand((), generator=moments).item() / 5)
            process.send_signal(signal.SIGKILL)
        _, error = process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert process.returncode == 0, error
    assert main(connect(tiny, tmp_path / "whole", *slow)) == 0
    paths = [(tmp_path / name / "path.safetensors").read_bytes() for name in ("killed", "whole")]
    first, second = (load_run(tmp_path / name).summary for name in ("killed", "whole"))
    differing = {key for key in first if first[key] != second[key]}
    # What the certificate recalls from the search's looks, the last process had to look at again.
    assert kills >= 1 and paths[0] == paths[1] and differing <= {"seconds", "loss_evaluations", "seal"}


def _wait_for_a_step(process, folder, more: float) -> None:
    """Let the process get to its search, then on by a random time."""
    before = _size(folder)
    while process.poll() is None and _size(folder) == before:
        time.sleep(0.01)
    time.sleep(more)


def _size(folder) -> int:
    file = folder / "steps.jsonl"
    return file.stat().st_size if file.exists() else 0


def test_an_interrupt_is_safe_and_says_how_to_go_on(tiny, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("dss.cli.connect.conclude", interrupt)
    assert main(connect(tiny, tmp_path / "run", "--prove", "never")) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(connect(tiny, tmp_path / "run", "--prove", "never", "--resume")) == 0


def test_a_demo_computes_in_one_thread_and_gives_the_others_back(tmp_path, monkeypatch, capsys):
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr("dss.cli.main", lambda words: seen.append((words[0], torch.get_num_threads())) or 0)
    torch.set_num_threads(2)
    try:
        assert demo.run(Namespace(out=tmp_path, overwrite=False, quiet=True, json=False)) == 0
        assert seen == [("train", 1), ("train", 1), ("connect", 1)] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert capsys.readouterr().out.startswith("$ export OMP_NUM_THREADS=1\n$ dss train digits")
