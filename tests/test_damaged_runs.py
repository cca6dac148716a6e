"""Run folders that were damaged or changed: one sentence from every command, and never a verdict on what was not judged."""

import json
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import dss
from dss.cli import main
from dss.page.report.own import is_current, is_page
from dss.runs import load_run, writing

DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A finished, proved run."""
    folder = tmp_path_factory.mktemp("made") / "run"
    command = ["connect", f"{tiny}/a.pt", f"{tiny}/b.safetensors", "--task", f"{tiny}/task.py:task", "--threshold", "0.25", "-q"]
    assert main([*command, "--out", str(folder), "--lr", "0.01", "--prove", "always"]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of it to be damaged."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def edited(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def readers(run, tmp_path):
    yield ["show", str(run), "--no-open", "--plane", "0", "--evaluations", "8", "-q"]
    yield ["certify", str(run), "-q"]
    yield ["export", str(run), "--bead", "0", "--out", str(tmp_path / "bead.pt")]
    yield ["figure", str(run), "--which", "loss", "--out", str(tmp_path / "loss.csv"), "-q"]
    yield ["shorten", str(run), "--out", str(tmp_path / "short"), "-q"]


DAMAGES = {
    "another shape": ("run.json", "[1, 2]", "object of named values"),
    "deep nesting": ("run.json", DEEP, "nested too deeply"),
    "not UTF-8": ("run.json", b"\xff\xfe{}", "not UTF-8"),
    "a huge number": ("run.json", '{"format": 1, "threshold": 1' + "0" * 400 + ', "parameters": ["a"]}', "'threshold' must be"),
    "NaN": ("run.json", '{"format": 1, "threshold": NaN, "parameters": ["a"]}', "NaN"),
    "a future format": ("run.json", '{"format": 2, "threshold": 0.25, "parameters": ["a"]}', "newer"),
    "no format": ("run.json", '{"threshold": 0.25, "parameters": ["a"]}', "format must be 1"),
    "a summary of another shape": ("summary.json", '{"connected": "yes"}', "summary.json is damaged"),
    "a summary that is null": ("summary.json", "null", "object of named values"),
    "escape codes": ("summary.json", '{"status": ["\\u001b[31m"]}', r"\\x1b"),
    "a truncated path": ("path.safetensors", b"\x08\0\0\0\0\0\0\0{", "not a readable"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_every_command_says_in_one_line_which_file_is_damaged_and_how(run, tmp_path, capsys, name):
    file, content, words = DAMAGES[name]
    (run / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in readers(run, tmp_path):
        assert main(command) == 2, command
        err = capsys.readouterr().err
        assert err.startswith("dss: error: ") and err.count("\n") == 1 and str(run / file) in err and re.search(words, err)
        assert "\x1b" not in err and len(err) < 2200


@pytest.mark.parametrize(
    "change",
    [
        lambda t: {n: v[:1] for n, v in t.items()},
        lambda t: {n: v.long() for n, v in t.items()},
        lambda t: {n: v * torch.nan for n, v in t.items()},
        lambda t: {n + "x": v for n, v in t.items()},
        lambda t: {n: v.flatten() for n, v in t.items()},
        lambda t: {n: v[:1].expand_as(v).contiguous().clone() for n, v in t.items()},
        lambda t: {n: v.transpose(1, -1).contiguous() for n, v in t.items()},
    ],
    ids=["one bead", "whole numbers", "NaN", "other names", "no axes", "all beads the first", "another shape"],
)
def test_a_path_that_is_none_of_the_runs_is_refused(run, tmp_path, capsys, change):
    save_file(change(load_file(run / "path.safetensors")), run / "path.safetensors")
    for command in readers(run, tmp_path):
        assert main(command) == 2, command
        assert "proved" not in capsys.readouterr().out


def moved(run):
    """The inner beads elsewhere; the ends stay."""
    beads = load_file(run / "path.safetensors")
    for value in beads.values():
        value[1:-1] += 0.05
    save_file(beads, run / "path.safetensors")


def lowered(run):
    edited(run / "summary.json", upper_bound=0.1)


@pytest.mark.parametrize(
    "searched", [{}, {"finder": "greedy", "normalized_length": "<b>", "max_loss": 0.1, "connected": True, "reason": ""}]
)
def test_what_a_constructed_path_replaced_must_be_told_in_full(run, tmp_path, capsys, searched):
    edited(run / "summary.json", searched=searched)
    for command in readers(run, tmp_path):
        assert main(command) == 2
        assert "'searched'" in capsys.readouterr().err


@pytest.mark.parametrize("change", [moved, lowered])
def test_a_run_that_was_changed_after_its_certificate_is_proved_nowhere(run, tmp_path, capsys, change):
    change(run)
    show, certify, *others = readers(run, tmp_path)
    for command in others[:1] + others[2:]:
        assert main(command) == 2
        assert "changed after its certificate" in capsys.readouterr().err
    assert main(show) == 0
    page = (run / "report.html").read_text()
    assert "Changed after its certificate" in page and 'class="verdict failed"' in page and "Connected: proved" not in page
    # Judged anew, it is what it is.
    code = main(certify)
    assert load_run(run).changes == () and load_run(run).outcome["connected"] == (code == 0)
    assert is_current(run)


def test_a_bead_that_is_not_what_its_name_says_is_refused(run, capsys):
    (run / "summary.json").unlink()
    (run / "path.safetensors").unlink()
    file = sorted((run / "snapshots").iterdir())[-1]
    save_file({name: value + 0.5 for name, value in load_file(file).items()}, file)
    with pytest.raises(dss.RunError, match=r"not what its name says"):
        load_run(run)


def test_a_step_that_was_changed_is_refused(run):
    (run / "summary.json").unlink()
    (run / "path.safetensors").unlink()
    lines = (run / "steps.jsonl").read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"round": 7})
    (run / "steps.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(dss.RunError, match=r"line 1 .* was changed"):
        load_run(run)


def test_runs_of_before_digests_were_kept_are_read(run, capsys):
    summary = json.loads((run / "summary.json").read_text())
    for name in ("digests", "seal", "varies"):
        del summary[name]
    (run / "summary.json").write_text(json.dumps(summary))
    steps = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    (run / "steps.jsonl").write_text("".join(json.dumps({n: v for n, v in step.items() if n != "seal"}) + "\n" for step in steps))
    assert load_run(run).outcome["proven"] and len(list(load_run(run).history)) == len(steps)
    assert main(next(readers(run, run))) == 0
    assert "Connected: proved" in (run / "report.html").read_text()


def test_what_a_run_misses_after_its_summary_is_made_by_resuming(run, tiny):
    command = ["connect", f"{tiny}/a.pt", f"{tiny}/b.safetensors", "--task", f"{tiny}/task.py:task", "--threshold", "0.25", "-q",
               "--out", str(run), "--lr", "0.01", "--prove", "always", "--resume"]  # fmt: skip
    whole = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert main(command) == 0 and (run / "report.html").read_bytes() == whole


def test_a_shortening_that_misses_its_page_is_completed_and_another_is_refused(run, tmp_path, capsys):
    command = ["shorten", str(run), "--out", str(tmp_path / "short"), "--prove", "never", "-q"]
    assert main(command) == 0
    (tmp_path / "short" / "report.html").unlink()
    before = (tmp_path / "short" / "summary.json").read_bytes()
    assert main([*command, "--resume"]) == 0
    assert is_page(tmp_path / "short" / "report.html") and (tmp_path / "short" / "summary.json").read_bytes() == before
    assert main([*command, "--resume", "--starts", "2"]) == 2
    assert "with these options" in capsys.readouterr().err


def test_show_replaces_pages_alone(run, tmp_path, capsys):
    show = [*next(readers(run, tmp_path)), "--out"]
    (tmp_path / "thesis.tex").write_text("x")
    assert main([*show, str(tmp_path / "thesis.tex")]) == 2
    assert "exists already" in capsys.readouterr().err and (tmp_path / "thesis.tex").read_text() == "x"
    for _ in range(2):
        assert main([*show, str(tmp_path / "page.html")]) == 0
    assert main([*show, str(tmp_path / "thesis.tex"), "--overwrite"]) == 0 and is_page(tmp_path / "thesis.tex")


def test_compare_replaces_no_file_of_another(run, tiny, tmp_path, capsys):
    command = ["compare", f"{tiny}/a.pt", f"{tiny}/b.safetensors", "--task", f"{tiny}/task.py:task", "--threshold", "0.25"]
    for name in ("compare.html", "profile.json"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text('{"mine": 1}')
        assert main([*command, "--out", str(folder), "--finders", "straight"]) == 2
        assert (folder / name).read_text() == '{"mine": 1}' and len(list(folder.iterdir())) == 1


def test_one_writer_at_a_time_is_told_who_the_other_is(tmp_path, capsys):
    told = pytest.raises(dss.RunError, match=f"is being written by process {os.getpid()} on ")
    with writing(tmp_path / "run"), told, writing(tmp_path / "run"):
        pass
    with writing(tmp_path / "run"):
        pass
    (tmp_path / "run" / ".writer").write_text("process 1 on a machine that was switched off\n")
    with writing(tmp_path / "run"):  # what a killed writer leaves locks nobody out
        pass
    (tmp_path / "run" / ".summary.json.x.unfinished.json").write_text("half")
    with writing(tmp_path / "run"):
        assert not list((tmp_path / "run").glob("*.unfinished*"))


def test_a_finder_that_cannot_go_on_from_what_it_remembers_says_that_the_record_is_damaged(tiny, tmp_path, capsys):
    command = ["connect", f"{tiny}/a.pt", f"{tiny}/b.safetensors", "--task", f"{tiny}/task.py:task", "--threshold", "0.25", "-q",
               "--finder", "geodesic", "--prove", "never", "--max-rounds", "3", "--out", str(tmp_path / "run")]  # fmt: skip
    assert main(command) in (0, 1)
    for name in ("summary.json", "path.safetensors", "report.html"):
        (tmp_path / "run" / name).unlink()
    lines = [json.loads(line) for line in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()][:2]
    assert lines[1]["memory"]
    lines[1]["memory"] = {"pulls": "x"}
    del lines[1]["seal"]  # as an earlier version wrote it
    (tmp_path / "run" / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main([*command, "--resume"]) == 2
    assert "cannot go on from its last line" in capsys.readouterr().err
