"""`dss tree` as a user types it: files, resumption, workers that are killed, a page in a browser, refusals."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from browsing import chromium, opened_page

import dss
from dss.cli import main
from dss.cli.models import unique_names
from dss.runs import load_run

ROOT = str(Path(dss.__file__).parent.parent)
# Every evaluation takes a while where the test says so: then there is a moment to kill a worker in.
TASK = """
import os, time, torch
from torch import nn
import dss

class Slow(nn.Sequential):
    def forward(self, x):
        time.sleep(float(os.environ.get("DSS_TEST_PAUSE", "0")))
        return super().forward(x)

def task():
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()
    net = Slow(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    return dss.Task(net, nn.functional.cross_entropy, (x, y), name="xor", epochs=300, learning_rate=0.03)
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A task in a file, and four trained networks."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "task.py").write_text(TASK)
    for seed, name in enumerate("abcd"):
        *_, last = dss.train(dss.load_task(f"{folder / 'task.py'}:task", seed=seed), seed=seed)
        dss.save_state(folder / f"{name}.pt", last.model.state_dict())
    return folder


def command(folder, out, *more, names="abcd"):
    return ["tree", *(str(folder / f"{name}.pt") for name in names), "--task", f"{folder / 'task.py'}:task", "--out", str(out),
            "--prove", "never", "--quiet", *more]  # fmt: skip


def results(out):
    """What must not depend on where a tree was grown: its figures, and every path's bytes."""
    tree = json.loads((out / "tree.json").read_text())
    for searched in tree["searches"]:
        for name in ("seconds", "run", "loss_evaluations", "gradient_evaluations"):  # an interrupted certificate is counted twice
            del searched[name]
    paths = {f.parent.name: f.read_bytes() for f in sorted((out / "pairs").glob("*/path.safetensors"))}
    return tree, paths, (out / "tree.nwk").read_text(), (out / "matrix.csv").read_text()


@pytest.fixture(scope="module")
def grown(nets, tmp_path_factory):
    """A tree grown in this process, with all its pages."""
    out = tmp_path_factory.mktemp("grown") / "tree"
    assert main(command(nets, out)) == 0
    return out


def test_a_tree_leaves_ordinary_runs_and_files_that_others_read(nets, grown, capsys):
    tree = json.loads((grown / "tree.json").read_text())
    assert tree["names"] == list("abcd") and len(tree["merges"]) == 3
    births = sorted(tree["births"])[1:]
    assert all(birth <= m["height"] <= 1.1 * birth for m, birth in zip(tree["merges"], births, strict=True))
    with (grown / "matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["", *"abcd"] and [[float(x) for x in row[1:]] for row in rows[1:]] == tree["upper"]
    for searched in tree["searches"]:
        run = load_run(searched["run"])
        assert run.outcome["connected"] and run.outcome["max_loss"] == searched["seen"] <= run.question["threshold"]
        assert (run.folder / "report.html").exists()
    assert main(["certify", tree["searches"][0]["run"], "--tolerance", "1e-3"]) == 0
    assert "at least" in capsys.readouterr().out


def test_a_finished_tree_is_not_grown_again_and_takes_more_models(nets, grown, tmp_path, capsys):
    out = tmp_path / "tree"
    assert main(command(nets, out, names="abc")) == 0
    before = {file: file.stat().st_mtime_ns for file in out.glob("pairs/*/summary.json")}
    assert main(command(nets, out)) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(command(nets, out, "--resume", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["upper"] == json.loads((grown / "tree.json").read_text())["upper"]
    assert all(file.stat().st_mtime_ns == time_ for file, time_ in before.items()) and len(before) == 2
    assert main(command(nets, out, "--resume", "--grid", "7")) == 2
    assert "another grid" in capsys.readouterr().err
    assert main(command(nets, out, "--overwrite", names="ab")) == 0
    assert len(list(out.glob("pairs/*"))) == 1
    assert "2 models at or below" in capsys.readouterr().out


def test_a_torn_record_of_lines_is_mended(nets, grown, tmp_path):
    out = tmp_path / "tree"
    assert main(command(nets, out, "--no-pages")) == 0
    lines = (out / "lines.jsonl").read_text()
    (out / "lines.jsonl").write_text(lines[:-20])
    assert main(command(nets, out, "--no-pages", "--resume")) == 0
    assert results(out) == results(grown) and not list(out.glob("pairs/*/report.html"))


def wait_for(condition, what, process):
    end = time.monotonic() + 60
    while not (found := condition()):
        assert process.poll() is None, f"ended before {what}: {process.communicate()}"
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.02)
    return found


def started(arguments, pause="0.003"):
    env = os.environ | {"PYTHONPATH": ROOT, "DSS_TEST_PAUSE": pause, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "dss", *arguments], env=env, stderr=subprocess.PIPE, text=True)


def children(pid):
    """Spawned worker processes of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            words = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pid and b"spawn_main" in words:
            found.append(int(status.parent.name))
    return found


def recording(out):
    """Runs that have recorded some steps and have not ended."""
    return [
        f for f in out.glob("pairs/*/steps.jsonl") if f.read_text().count("\n") >= 2 and not (f.parent / "summary.json").exists()
    ]


@pytest.mark.slow
def test_a_killed_workers_pair_goes_on_where_it_stopped(nets, grown, tmp_path):
    out = tmp_path / "tree"
    process = started([*command(nets, out, "--no-pages"), "--workers", "2", "--threads", "1"])
    caught = wait_for(lambda: recording(out), "a run to be recorded", process)
    steps = caught[0].read_text()
    for pid in children(process.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert results(out) == results(grown)
    assert caught[0].read_text().startswith(steps)


@pytest.mark.slow
def test_a_killed_tree_resumes_to_the_same_bits(nets, grown, tmp_path):
    out = tmp_path / "tree"
    process = started(command(nets, out, "--no-pages"))
    wait_for(lambda: recording(out), "a run to be recorded", process)
    process.kill()
    process.communicate()
    assert main(command(nets, out, "--no-pages", "--resume")) == 0
    assert results(out) == results(grown)


@pytest.mark.slow
def test_on_dask_a_killed_worker_changes_nothing(nets, grown, tmp_path):
    pytest.importorskip("distributed")
    env = os.environ | {"PYTHONPATH": ROOT, "DSS_TEST_PAUSE": "0.003", "OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    quiet = {"env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    scheduler, *workers = helpers = [subprocess.Popen(words, **quiet) for words in (dask, worker, worker)]
    out = tmp_path / "tree"
    try:
        process = started([*command(nets, out, "--no-pages"), "--dask", address])
        caught = wait_for(lambda: recording(out), "a run to be recorded", process)
        steps = caught[0].read_text()
        workers[0].kill()
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
    assert results(out) == results(grown) and scheduler.returncode is not None
    assert caught[0].read_text().startswith(steps)


def test_workers_on_this_machine_give_the_same_bits_and_pass_errors_on(nets, grown, tmp_path, capsys):
    out = tmp_path / "tree"
    assert main(command(nets, out, "--no-pages", "--workers", "2", "--threads", str(torch.get_num_threads()))) == 0
    assert results(out) == results(grown)
    assert main(command(nets, tmp_path / "none", "--workers", "0")) == 2
    assert "at least one worker" in capsys.readouterr().err


def test_what_cannot_be_mapped_is_named(nets, tmp_path, capsys):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    words = command(nets, tmp_path / "tree")
    for arguments, message in (
        ([*words[:2], str(tmp_path / "other.pt"), *words[2:]], "other.pt"),
        ([words[0], str(tmp_path / "missing.pt"), *words[5:]], "there is no file"),
        ([*words, "--close", "-1"], "close is at least 0"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "tree").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    assert main(command(nets, tmp_path / "full")) == 2
    assert main(command(nets, tmp_path / "full" / "thesis.tex")) == 2
    assert "is a file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--retries", "-1"])
    with pytest.raises(SystemExit, match="2"):
        main(["tree", "--task", "digits", "--out", str(tmp_path / "none")])


def test_one_model_two_copies_and_a_trajectory(nets, tmp_path, capsys):
    assert main(command(nets, tmp_path / "one", names="a")) == 0
    assert "1 models" not in (page := (tmp_path / "one" / "report.html").read_text()) and "nothing to join" in page
    assert main([*command(nets, tmp_path / "two", names="aa")]) == 0
    tree = json.loads((tmp_path / "two" / "tree.json").read_text())
    assert tree["names"] == ["a-1", "a-2"] and tree["searches"] == []
    assert tree["upper"][0][1] == tree["births"][0] == tree["merges"][0]["height"]
    assert main(command(nets, tmp_path / "run", "--trajectory", "--no-pages", names="dba")) == 0
    tree = json.loads((tmp_path / "run" / "tree.json").read_text())
    assert {tuple(s["pair"]) for s in tree["searches"]} == {(0, 1), (1, 2)}
    assert 'id="plot-steps"' in (tmp_path / "run" / "report.html").read_text()


def test_files_have_the_shortest_names_that_tell_them_apart():
    files = [Path(name) for name in ("x/seed0/last.pt", "x/seed1/last.pt")]
    assert unique_names(files) == ["seed0-last", "seed1-last"]
    assert unique_names([Path("x/a.pt"), Path("y/b.pt")]) == ["a", "b"]
    assert unique_names([Path("/a.pt"), Path("/a.pt")]) == ["a-1", "a-2"]


@pytest.mark.skipif(chromium is None, reason="needs a chromium on the PATH (Debian: apt install chromium)")
def test_the_page_shows_four_figures_and_leads_to_runs(grown, browser):
    page, complaints = opened_page(browser, (grown / "report.html").resolve(), width=390)
    assert all(page.query_selector(f"#plot-{name} svg") for name in ("tree", "matrix", "components", "map"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and not complaints
    tree = json.loads((grown / "tree.json").read_text())
    row, column = (tree["order"].index(i) for i in tree["searches"][0]["pair"])
    page.locator("#plot-matrix").scroll_into_view_if_needed()
    box = page.locator("#plot-matrix .heatmaplayer image").bounding_box()
    place = box["x"] + (column + 0.5) * box["width"] / 4, box["y"] + (row + 0.5) * box["height"] / 4
    page.mouse.move(*place)
    page.mouse.click(*place)
    page.wait_for_url(f"**/{Path(tree['searches'][0]['run']).name}/report.html", timeout=20_000)
    page.close()
