"""What every command answers with `--json`: one strict document on standard output, and nothing else."""

import json
import logging
import re

import pytest

from dss.cli import COMMANDS, main

NAMES = [command.__name__.rpartition(".")[2] for command in COMMANDS]
# A task that prints, as tasks do.
TALKS = """
from task import task as quiet

def task():
    print("loading the data")
    return quiet()
"""


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory):
    """A folder with a task that talks, and a finished run."""
    folder = tmp_path_factory.mktemp("answers")
    (folder / "talks.py").write_text("import sys; sys.path.insert(0, " + repr(str(tiny)) + ")\n" + TALKS)
    assert main(["train", f"{folder}/talks.py:task", "--seed", "7", "--epochs", "5", "--out", str(folder / "c.pt")]) == 0
    assert main(["connect", *ends(tiny), *task(folder), *goal(), "--out", str(folder / "run"), "--lr", "0.01"]) == 0
    return folder


def ends(tiny):
    return [f"{tiny}/a.pt", f"{tiny}/b.safetensors"]


def task(folder):
    return ["--task", f"{folder}/talks.py:task"]


def goal():
    return ["--threshold", "0.25"]


def words(name, tiny, place, out):
    """A quick command line of every command."""
    a, b = ends(tiny)
    run = str(place / "run")
    return {
        "demo": ["--out", str(out / "demo")],
        "train": [f"{place}/talks.py:task", "--epochs", "2", "--out", str(out / "c.pt")],
        "align": [a, b, *task(place), "--out", str(out / "aligned.pt")],
        "check": [a, b, *task(place)],
        "connect": [a, b, *task(place), *goal(), "--finder", "straight", "--out", str(out / "run")],
        "certify": [run, "--threshold", "0.3"],
        "shorten": [run, "--out", str(out / "short"), "--prove", "never"],
        "barrier": [a, b, *task(place), "--tolerance", "0.9"],
        "show": [run, "--no-open", "--evaluations", "8", "--plane", "0", "--out", str(out / "page.html")],
        "compare": [a, b, *task(place), *goal(), "--finders", "straight", "--out", str(out / "all")],
        "plane": [a, b, str(place / "c.pt"), *task(place), "--resolution", "8", "--out", str(out / "plane.html")],
        "figure": [run, "--which", "loss", "--out", str(out / "loss.csv")],
        "export": [run, "--bead", "1", "--out", str(out / "bead.pt")],
        "tree": [a, b, *task(place), "--out", str(out / "tree"), "--no-pages", "--prove", "never"],
        "tasks": [],
    }[name]


# Keys that scripts read, by command.
KEYS = {
    "demo": {"train", "connect", "run", "page"},
    "train": {"out", "task", "seed", "epochs", "judged_loss"},
    "align": {"out", "aligned", "distance_before", "distance_after", "moved_units"},
    "check": {"safe", "sentence", "losses", "uniform", "lines"},
    "connect": {"status", "connected", "proven", "threshold", "max_loss", "upper_bound", "normalized_length", "versions"},
    "certify": {"threshold", "passed", "proven", "upper", "max_loss", "reason"},
    "shorten": {"status", "connected", "normalized_length", "shortened"},
    "barrier": {"upper", "lower", "ends", "excess", "linear", "judge"},
    "show": {"run", "page"},
    "compare": {"page", "connected", "finders"},
    "plane": {"page", "names", "threshold", "resolution", "judge"},
    "figure": {"run", "which", "out"},
    "export": {"out", "run", "bead", "loss", "judge"},
    "tree": {"names", "births", "merges", "searches", "judge"},
}


def strict(text):
    """The document, which must be JSON as the standard has it."""

    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "demo" else n for n in NAMES])
def test_json_is_one_strict_document_and_nothing_else(name, tiny, place, tmp_path, capsys):
    capsys.readouterr()
    assert main([name, *words(name, tiny, place, tmp_path), "--json"]) in (0, 1)
    found = strict(capsys.readouterr().out)
    if name == "tasks":
        assert {"name", "parameters", "train", "judge"} <= found[0].keys()
    else:
        assert KEYS[name] <= found.keys()


def test_what_a_task_prints_is_kept_out_of_the_document(tiny, place, tmp_path, capsys):
    assert main(["check", *words("check", tiny, place, tmp_path), "--json"]) in (0, 1)
    said = capsys.readouterr()
    assert "loading the data" in said.err and "loading the data" not in said.out
    assert main(["check", *words("check", tiny, place, tmp_path)]) in (0, 1)
    assert "loading the data" in capsys.readouterr().out


def test_bad_input_leaves_standard_output_empty(tiny, place, tmp_path, capsys):
    assert main(["connect", *words("connect", tiny, place, tmp_path), "--grid", "1", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_figures_that_are_no_numbers_are_null_or_text(capsys):
    from argparse import Namespace

    from dss.cli.answers import answer

    answer(Namespace(json=True), {"a": float("nan"), "b": [float("inf"), (-float("inf"), 1.5)]}, "")
    assert strict(capsys.readouterr().out) == {"a": None, "b": ["inf", ["-inf", 1.5]]}


def test_verbose_says_versions_data_seed_choices_and_times(tiny, place, tmp_path, capsys):
    command = [*words("connect", tiny, place, tmp_path), "--seed", "3", "--threshold", "9x", "--no-quiet"]
    command[command.index("--finder") + 1] = "greedy"
    assert main(["connect", *command, "--max-rounds", "1", "-v"]) in (0, 1)
    text = capsys.readouterr().err
    for part in ("torch 2", "seed=3", "64 training samples", "42 parameters", "float32 on cpu", "threshold 9x is", "data: train"):
        assert part in text, part
    assert re.search(r"greedy took \d+\.\d s", text)
    assert main(["connect", *command, "--overwrite", "-q"]) in (0, 1)
    assert capsys.readouterr().err == "" and not logging.getLogger("dss").handlers


def test_quiet_and_verbose_exclude_each_other(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["tasks", "-q", "-v"])
