"""`dss shorten` and `dss connect --shorten`, as a user types them."""

import json

import pytest
import torch
from test_cli import connect

from dss.cli import main
from dss.runs import load_run


@pytest.fixture
def run(tiny, tmp_path, capsys):
    assert main(connect(tiny, tmp_path / "run")) == 0
    capsys.readouterr()
    return tmp_path / "run"


def shortened(capsys, *command, code=0):
    assert main([str(word) for word in ("shorten", *command, "--json")]) == code
    return json.loads(capsys.readouterr().out)


def test_a_run_is_shortened_into_a_new_folder_that_says_how(run, capsys):
    before = (run / "path.safetensors").read_bytes()
    summary = shortened(capsys, run)
    short, long = load_run(run.with_name("run-short")), load_run(run)
    assert summary["connected"] and summary["max_loss"] <= 0.25
    assert summary["normalized_length"] == short.path.normalized_length < long.path.normalized_length
    assert summary["shortened"]["normalized_length_before"] == long.path.normalized_length
    assert len(summary["shortened"]["lengths_by_start"]) == 1
    assert (short.folder / "report.html").exists() and (run / "path.safetensors").read_bytes() == before


def test_several_starts_and_the_paths_of_other_runs_are_all_reported(tiny, run, capsys, tmp_path):
    assert main(connect(tiny, tmp_path / "other", "--seed", "5", "--prove", "never")) == 0
    capsys.readouterr()
    summary = shortened(capsys, run, "--starts", 2, "--from", tmp_path / "other", "--out", tmp_path / "short", "--prove", "never")
    lengths = [length for length in summary["shortened"]["lengths_by_start"] if length is not None]
    assert len(summary["shortened"]["lengths_by_start"]) == 3
    assert summary["normalized_length"] == min(lengths)
    more = ("--out", tmp_path / "elsewhere", "--prove", "never", "--workers", 2, "--threads", torch.get_num_threads())
    there = shortened(capsys, run, "--starts", 2, "--from", tmp_path / "other", *more)
    assert there["shortened"] == summary["shortened"]
    paths = [(tmp_path / name / "path.safetensors").read_bytes() for name in ("short", "elsewhere")]
    assert paths[0] == paths[1]


def test_a_path_that_is_not_connected_cannot_be_shortened(tiny, tmp_path, capsys):
    command = [word for word in connect(tiny, tmp_path / "line", "--finder", "straight") if word not in ("--lr", "0.01")]
    assert main(command) == 1
    capsys.readouterr()
    assert main(["shorten", str(tmp_path / "line")]) == 2
    assert "no connected path" in capsys.readouterr().err and not (tmp_path / "line-short").exists()


def test_a_shortened_run_is_not_overwritten_unasked(run, capsys):
    shortened(capsys, run)
    assert main(["shorten", str(run)]) == 2 and "--overwrite" in capsys.readouterr().err


def test_connect_shortens_on_request(tiny, tmp_path, capsys):
    assert main(connect(tiny, tmp_path / "run", "--shorten", "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["normalized_length"] <= summary["shortened"]["normalized_length_before"]
