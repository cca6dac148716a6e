"""The commands that show: on a task of three parameters, brought by the user in a file."""

import json
import webbrowser

import pytest
import torch

import dss
from dss.base.errors import InputError
from dss.cli import compare, connect, figure, parser, plane, show
from dss.page.report import image

TASK = """
import torch
from torch import nn
import dss

class Bump(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-1.0, 0.0]))

    def forward(self, x):
        return x * ((self.weight[0] ** 2 - 1) ** 2 + self.weight[1] ** 2 - 2 * torch.exp(-8 * (self.weight[1] - 0.6) ** 2 - 2 * self.weight[0] ** 2))

def task():
    x = torch.ones(4, 1)
    return dss.tasks.Task(Bump(), lambda output, target: (output - target).mean(), (x, 0 * x), name="bump")
"""


def run(module, *words):
    """A command as the command line runs it."""
    options = parser().parse_args([module.__name__.rpartition(".")[2], *map(str, words)])
    return options.run(options)


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """A folder with a task and three checkpoints."""
    folder = tmp_path_factory.mktemp("ends")
    (folder / "bump.py").write_text(TASK)
    for name, weight in {"a": [-1.0, 0.0], "b": [1.0, 0.0], "c": [0.0, 0.6]}.items():
        torch.save({"weight": torch.tensor(weight, dtype=torch.float64)}, folder / f"{name}.pt")
    return folder


@pytest.fixture(scope="module")
def connected(ends):
    """A run of the greedy string below the saddle of the straight line."""
    question = ["--task", f"{ends / 'bump.py'}:task", "--threshold", "0.8", "--margin", "0.3"]
    assert run(connect, ends / "a.pt", ends / "b.pt", *question, "--out", ends / "run") == 0
    return ends / "run"


def test_show_writes_the_page_and_opens_it(connected, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert run(show, connected) == 0
    assert opened == [(connected / "report.html").resolve().as_uri()] == capsys.readouterr().out.split()
    text = (connected / "report.html").read_text()
    assert 'id="plot-plane"' in text and "a.pt → b.pt" in text


COUNTED = """
import pathlib, torch, dss

def task():
    with open(pathlib.Path(__file__).with_name("built"), "a") as file:
        file.write(".")
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 2, generator=generator), torch.randint(2, (40,), generator=generator)
    batches = ((x[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8))
    return dss.Task(torch.nn.Linear(2, 2), torch.nn.functional.cross_entropy, batches, (x[:20], y[:20]), name="counted")
"""


def test_connect_draws_its_page_with_what_it_judged_with_as_show_does_with_what_it_builds_again(tmp_path):
    (tmp_path / "counted.py").write_text(COUNTED)
    for name, sign in {"a": 1.0, "b": 0.5}.items():
        torch.save({"weight": sign * torch.eye(2), "bias": torch.zeros(2)}, tmp_path / f"{name}.pt")
    question = ["--task", f"{tmp_path / 'counted.py'}:task", "--threshold", "2", "--prove", "never"]
    assert run(connect, tmp_path / "a.pt", tmp_path / "b.pt", *question, "--out", tmp_path / "run") == 0
    assert (tmp_path / "built").read_text() == "."
    page = (tmp_path / "run" / "report.html").read_text()
    assert all(name in page for name in ("judged loss", "training loss", "error rate")) and "could not be rebuilt" not in page
    (tmp_path / "run" / "profile.json").unlink()
    assert run(show, tmp_path / "run", "--no-open", "--out", tmp_path / "again.html") == 0
    assert (tmp_path / "built").read_text() == ".." and (tmp_path / "again.html").read_text() == page


def test_show_without_opening_writes_elsewhere(connected, tmp_path, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda address: pytest.fail("opened"))
    assert run(show, connected, "--no-open", "--out", tmp_path / "page.html", "--plane", 0) == 0
    assert 'id="plot-plane"' not in (tmp_path / "page.html").read_text()


def test_show_of_a_run_whose_task_is_gone_says_so(connected, tmp_path, capsys):
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("path.safetensors", "summary.json", "steps.jsonl"):
        (copy / name).write_bytes((connected / name).read_bytes())
    (copy / "snapshots").symlink_to(connected / "snapshots")
    question = json.loads((connected / "run.json").read_text()) | {"task": "no/such/file.py:task"}
    (copy / "run.json").write_text(json.dumps(question))
    assert run(show, copy, "--no-open") == 0
    assert "cannot be rebuilt" in capsys.readouterr().err
    assert "could not be rebuilt" in (copy / "report.html").read_text()


@pytest.mark.parametrize("which", ["loss", "string", "plane", "sheet"])
def test_figures_are_written_as_data(connected, tmp_path, which):
    for ending in ("csv", "json", "html"):
        assert run(figure, connected, "--which", which, "--out", tmp_path / f"{which}.{ending}") == 0
    assert (tmp_path / f"{which}.csv").read_text().count("\n") > 3
    assert json.loads((tmp_path / f"{which}.json").read_text())["data"]
    with pytest.raises(InputError, match="exists already"):
        run(figure, connected, "--which", which, "--out", tmp_path / f"{which}.csv")


def test_an_image_without_kaleido_says_what_to_install(connected, tmp_path, monkeypatch):
    monkeypatch.setattr(image, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"need kaleido .* pip install"):
        run(figure, connected, "--which", "loss", "--out", tmp_path / "loss.svg")
    with pytest.raises(InputError, match=r"one of \.png, \.svg"):
        run(figure, connected, "--which", "loss", "--out", tmp_path / "loss.xyz")
    assert list(tmp_path.iterdir()) == []


def test_a_plane_through_three_checkpoints(ends, tmp_path, capsys):
    task = f"{ends / 'bump.py'}:task"
    points = [ends / f"{name}.pt" for name in "abc"]
    assert run(plane, *points, "--task", task, "--threshold", 0.8, "--cells", 16, "--out", tmp_path / "plane.html") == 0
    text = (tmp_path / "plane.html").read_text()
    assert "The plane through a.pt, b.pt, c.pt" in text and "17 × 17 places" in text
    with pytest.raises(InputError, match="exists already"):
        run(plane, *points, "--task", task, "--out", tmp_path / "plane.html")


def test_compare_shows_every_finder_in_one_table(ends, tmp_path, capsys):
    question = ["--task", f"{ends / 'bump.py'}:task", "--threshold", "0.8", "--out", tmp_path / "all"]
    finders = ["--finders", "straight", "greedy"]
    assert run(compare, ends / "a.pt", ends / "b.pt", *question, *finders) == 0
    summaries = {name: dss.runs.load_run(tmp_path / "all" / name).summary for name in ("straight", "greedy")}
    text = (tmp_path / "all" / "compare.html").read_text()
    assert text.count("<tr>") == 3 and 'id="plot-strings"' in text
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("straight ", "greedy "))]
    for name, connected, largest, *_ in printed:
        proven = summaries[name]["proven"]
        assert connected == ("no" if name == "straight" else "proved" if proven else "sampled")
        assert float(largest) == pytest.approx(summaries[name]["max_loss"], rel=1e-3)
    assert len(printed) == 2


def test_compare_goes_on_with_what_is_there(ends, tmp_path):
    question = ["--task", f"{ends / 'bump.py'}:task", "--threshold", "0.8", "--out", tmp_path / "all", "--finders", "straight"]
    assert run(compare, ends / "a.pt", ends / "b.pt", *question) == 1
    before = (tmp_path / "all" / "straight" / "summary.json").read_text()
    assert run(compare, ends / "a.pt", ends / "b.pt", *question) == 1
    assert (tmp_path / "all" / "straight" / "summary.json").read_text() == before
