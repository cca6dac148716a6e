"""Exit codes: what a script can tell apart."""

import errno
import io
import signal
import subprocess
import sys
import time

import pytest

import dss
from dss.cli import main
from dss.cli.exits import exit_code


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (dss.InputError("a,\n  b"), 2, "error: a, b"),
        (dss.TaskError("the loss raises"), 2, "error: the loss raises"),
        (dss.CheckpointError("no file"), 2, "error: no file"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), 3, "Permission denied"),
        (MemoryError(), 3, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), 3, "the machine failed"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_kind_of_end_has_its_code_and_one_line(capsys, error, code, words):
    assert exit_code("connect", raising(error)) == code
    err = capsys.readouterr().err
    assert err.startswith("dss: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), AssertionError(), ZeroDivisionError()])
def test_our_own_mistakes_are_told_with_their_place_and_are_no_answer(capsys, error):
    assert exit_code("connect", raising(error)) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err and "please report" in err


def test_the_advice_fits_the_command(capsys):
    for command, words in (("connect", "--resume"), ("train", "run the command again"), ("compare", "the same command again")):
        exit_code(command, raising(KeyboardInterrupt()))
        assert words in capsys.readouterr().err


def test_a_traceback_is_shown_on_request(capsys):
    exit_code("connect", raising(dss.InputError("bad")), show_traceback=True)
    assert "Traceback" in capsys.readouterr().err


def test_handlers_of_the_caller_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    assert exit_code("train", lambda: 0) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_search_that_resumes(tiny, tmp_path, number):
    out = tmp_path / "run"
    question = [str(tiny / "a.pt"), str(tiny / "b.safetensors"), "--task", f"{tiny}/task.py:task", "--threshold", "0.2"]
    slow = ["--lr", "0.002", "--schedule", "depth", "--margin", "0.02", "--prove", "never", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "dss", "connect", *question, *slow], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a shell's background job would pass on that it is ignored
    )  # fmt: skip
    while process.poll() is None and not (out / "steps.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number and "--resume" in err and "Traceback" not in err
    assert main(["connect", *question, *slow, "--resume"]) == 0


def test_a_reader_that_has_gone_is_no_traceback():
    with subprocess.Popen(
        [sys.executable, "-m", "dss", "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 3 and "Traceback" not in err


@pytest.mark.parametrize(
    "command",
    [
        "align",
        "barrier",
        "certify",
        "compare",
        "connect",
        "demo",
        "export",
        "figure",
        "plane",
        "shorten",
        "show",
        "train",
        "tree",
    ],
)
def test_only_commands_that_record_promise_to_go_on(capsys, command):
    exit_code(command, raising(KeyboardInterrupt()))
    err = capsys.readouterr().err
    assert ("what was recorded is kept" in err) == (command in ("connect", "compare", "tree"))


def test_a_message_is_one_line_of_bounded_length_without_control_characters(capsys):
    exit_code("show", raising(dss.RunError("\x1b[31m" + "name\n" * 10_000 + "\x07end")))
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and len(err) < 2200 and "\x1b" not in err and "\x07" not in err and "end" in err


def test_letters_that_an_output_lacks_are_escaped(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert exit_code("tasks", lambda: print("strängé → \udcff") or 0) == 0
    out.flush()
    assert out.buffer.getvalue() == b"str\\xe4ng\\xe9 \\u2192 \\udcff\n"


def test_an_output_that_is_full_is_the_machines_failure(monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert exit_code("tasks", lambda: print("all of them") or 0) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "No space left" in err
