"""`dss check`: exit codes, what it says and writes, and averages that load with the statistics that they were judged with."""

import json

import pytest
import torch
from browsing import chromium, opened_page

import dss
from dss.cli import main

TASK = """
import torch
from torch import nn
import dss

def task():
    x = torch.rand(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = (x.mean((1, 2, 3)) > 0.5).long()
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    dark = lambda output, target: (output.argmax(1) == 0).double().mean()
    return dss.Task(net, nn.functional.cross_entropy, (x, y), name="bright", epochs=40, learning_rate=0.03, metrics={"dark": dark})
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A task with BatchNorm; `a.pt`, two models near it, and `far.pt` of another seed."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "task.py").write_text(TASK)
    for seed, name in ((0, "a"), (5, "far")):
        *_, last = dss.train(dss.load_task(f"{folder / 'task.py'}:task", seed=seed), seed=seed)
        dss.save_state(folder / f"{name}.pt", last.model.state_dict())
    state, generator = torch.load(folder / "a.pt"), torch.Generator().manual_seed(0)
    for name in ("near", "nearer"):
        noise = {n: 0.01 * torch.randn(v.shape, generator=generator) for n, v in state.items() if "weight" in n}
        torch.save({n: v + noise[n] if n in noise else v for n, v in state.items()}, folder / f"{name}.pt")
    return folder


def check(folder, *names, more=()):
    return main(["check", *(str(folder / f"{n}.pt") for n in names), "--task", f"{folder}/task.py:task", "--quiet", *more])


def loss_as_loaded(folder, file):
    """The loss of a saved file as anybody would compute it, with the statistics in it."""
    task = dss.load_task(f"{folder}/task.py:task")
    model, samples = task.fresh_model().eval(), task.samples
    model.load_state_dict(torch.load(file))
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(model(*samples.inputs), samples.target).item()


def test_two_near_models_are_safe_and_their_average_is_saved_with_its_own_statistics(nets, tmp_path, capsys):
    assert check(nets, "a", "near", more=["--save", str(tmp_path / "soup.pt"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["safe"] and said["sentence"].endswith(": safe") and said["saved"] == str(tmp_path / "soup.pt")
    assert said["names"] == ["a", "near"] and set(said["metrics"]) == {"error rate", "dark"}
    line = said["lines"][0]
    assert (
        line["t"][0] == 0
        and line["t"][-1] == 1
        and line["losses"][line["t"].index(0.5)] == pytest.approx(said["uniform"]["loss"])
    )
    assert loss_as_loaded(nets, tmp_path / "soup.pt") == pytest.approx(said["uniform"]["loss"], rel=1e-5)
    a, near, soup = (torch.load(file) for file in (nets / "a.pt", nets / "near.pt", tmp_path / "soup.pt"))
    assert soup.keys() == a.keys()
    torch.testing.assert_close(soup["0.weight"], (a["0.weight"] + near["0.weight"]) / 2)
    assert not torch.allclose(soup["1.running_mean"], a["1.running_mean"])
    assert check(nets, "a", "near", more=["--save", str(tmp_path / "soup.pt")]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_two_far_models_are_not_and_nothing_is_saved(nets, tmp_path, capsys):
    assert check(nets, "a", "far", more=["--save", str(tmp_path / "soup.pt"), "--tolerance", "0.001"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("a barrier of ") and "lies between them: align or connect" in said.splitlines()[0]
    assert "was not written" in said and not (tmp_path / "soup.pt").exists()
    assert check(nets, "a", "far", more=["--tolerance", "100"]) == 0


def test_a_reordered_copy_is_repaired_by_alignment(nets, tmp_path, capsys):
    state, order = torch.load(nets / "far.pt"), torch.tensor([5, 0, 3, 1, 2, 4])
    copy = {n: v[order] if n.startswith(("0.", "1.")) and v.ndim else v for n, v in state.items()}
    copy["4.weight"] = state["4.weight"].view(2, 6, 4)[:, order].reshape(2, 24)
    torch.save(copy, nets / "copy.pt")
    assert check(nets, "far", "copy") == 1
    assert check(nets, "far", "copy", more=["--align", "weights", "--save", str(tmp_path / "soup.pt")]) == 0
    assert "the uniform soup (of reordered copies, by weights)" in capsys.readouterr().out
    assert check(nets, "far", "copy", more=["--align", "weights", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["repaired"] and not said["safe"] and said["aligned"]["safe"]
    torch.testing.assert_close(torch.load(tmp_path / "soup.pt")["0.weight"], state["0.weight"])
    assert loss_as_loaded(nets, tmp_path / "soup.pt") == pytest.approx(said["aligned"]["uniform"]["loss"], rel=1e-5)


def test_of_many_there_are_soups_and_a_matrix_and_the_greedy_one_is_saved(nets, tmp_path, capsys):
    more = ["--save", str(tmp_path / "soup.safetensors"), "--soup", "greedy", "--out", str(tmp_path / "page.html")]
    assert check(nets, "a", "near", "nearer", "far", more=[*more, "--json"]) in (0, 1)
    said = json.loads(capsys.readouterr().out)
    assert len(said["lines"]) == 6 and said["greedy"]["loss"] <= min(said["losses"])
    assert (tmp_path / "soup.safetensors").exists()
    page = (tmp_path / "page.html").read_text()
    assert 'id="plot-soups"' in page and 'id="plot-matrix"' in page
    assert check(nets, "a", "near", "far", more=["--no-pairs"]) in (0, 1)
    assert "above the ends" not in capsys.readouterr().out


def test_a_part_of_the_parameters_is_averaged_if_the_others_agree(nets, tmp_path, capsys):
    state = torch.load(nets / "a.pt")
    torch.save(state | {"4.bias": state["4.bias"] + 0.1}, nets / "head.pt")
    assert check(nets, "a", "head", more=["--only", "4.*", "--save", str(tmp_path / "soup.pt")]) == 0
    soup = torch.load(tmp_path / "soup.pt")
    torch.testing.assert_close(soup["4.bias"], state["4.bias"] + 0.05)
    assert torch.equal(soup["0.weight"], state["0.weight"])
    capsys.readouterr()
    assert check(nets, "a", "near", more=["--only", "4.*"]) == 2
    assert "0.weight" in capsys.readouterr().err


def test_a_line_is_proved_where_statistics_are_frozen_and_says_why_not_elsewhere(nets, capsys):
    assert check(nets, "a", "near", more=["--prove", "--buffers", "frozen"]) == 0
    assert "proved: nowhere on the line is the loss above" in capsys.readouterr().out
    assert check(nets, "a", "near", more=["--prove"]) == 0
    assert "no proof: statistics recalibrated for every point cannot be enclosed" in capsys.readouterr().out


def test_bad_input_is_refused_in_one_line(nets, tmp_path, capsys):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    words = ["check", str(nets / "a.pt"), str(tmp_path / "other.pt"), "--task", f"{nets}/task.py:task"]
    for arguments, message in (
        (words, "other.pt"),
        ([words[0], words[1], *words[3:]], "two models or more"),
        ([*words, "--tolerance", "0.9x"], "at least 1 such as 1.05x"),
        ([*words, "--save", str(tmp_path / "none" / "x.pt")], "its folder does not exist"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.skipif(chromium is None, reason="needs a chromium on the PATH (Debian: apt install chromium)")
@pytest.mark.slow
def test_the_page_shows_the_line_its_metrics_and_both_scales(nets, tmp_path, browser):
    assert check(nets, "a", "far", more=["--align", "weights", "--out", str(tmp_path / "page.html")]) in (0, 1)
    page, complaints = opened_page(browser, tmp_path / "page.html", width=390, color_scheme="dark")
    assert page.locator("#plot-line svg .scatterlayer .trace").count() == 5
    metrics = page.locator("#tools-line select[aria-label='what is shown']")
    assert metrics.locator("option").all_inner_texts() == ["judged loss", "error rate", "dark"]
    metrics.select_option("1")
    page.wait_for_function("document.querySelector('#plot-line .ytitle').textContent === 'error rate'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and not complaints
    page.close()
