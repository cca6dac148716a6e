"""The table of known results: measured small, resumed, drawn; and what the committed figures must show."""

import json
import sys

import pytest
import torch

import dss
from benchmarks.records import Records
from experiments import headlines
from experiments.headline_rows import QUICK, Bench, along, rows


@pytest.mark.slow
def test_every_row_is_measured_once_and_drawn(tmp_path, monkeypatch, capsys):
    file = tmp_path / "quick.json"
    monkeypatch.setattr(sys, "argv", ["headlines", "--quick", "--out", str(file)])
    headlines.main()
    first, found = file.read_text(), Records(file).results
    assert {name: list(parts) for name, parts in found.items()} == {name: list(parts) for name, parts in rows(QUICK).items()}
    assert capsys.readouterr().out.count("\n| ") == 2 + sum(map(len, found.values()))
    # What is there is not measured again; what is not, is, and comes out the same.
    content = json.loads(first)
    del content["results"]["tree"]
    file.write_text(json.dumps(content))
    headlines.main()
    again = Records(file).results
    assert again == found and "width 4" in capsys.readouterr().out


def test_figures_for_a_test_are_not_taken_for_results(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["headlines", "--quick"])
    with pytest.raises(SystemExit):
        headlines.main()
    assert "--out" in capsys.readouterr().err


def test_training_depends_on_its_seeds_alone():
    bench = Bench(QUICK, 6)
    one, other = (bench.trained(3, order, 5) for order in (4, 5))
    torch.rand(3)
    assert torch.equal(bench.trained(3, 4, 5), one) and not torch.equal(one, other)
    assert torch.equal(bench.trained(one, 4, 0), one)
    assert not torch.equal(bench.trained(2, 4, 0), bench.trained(3, 4, 0))


def test_a_lines_largest_loss_is_between_its_two_sides():
    bench = Bench(QUICK, 6)
    a, b = bench.ends(0)
    found, seen = bench.line(a, b), max(along(bench.loss, dss.Path.straight(a, b), 200))
    assert found["proved"] and found["lower"] <= seen + 1e-6 and seen <= found["upper"] <= seen * 1.02
    assert found["worse end"] == pytest.approx(max(bench.loss(torch.stack([a, b])).tolist()))
    errors = along(bench.test_error, dss.Path.straight(a, b), 51)
    naive = [(bench.test_error(torch.lerp(a, b, t / 50)[None])).item() for t in range(51)]
    assert errors == pytest.approx(naive, abs=2 / 597)
    assert found["test error rise"] == max(errors) - max(errors[0], errors[-1])


def test_the_committed_figures_have_the_shapes_that_are_known():
    found = Records(headlines.FILE).results
    widths = list(found["width"].values())
    assert all(r["aligned"]["rise"] < r["trained"]["rise"] for r in widths)
    assert widths[-1]["aligned"]["rise"] < widths[0]["aligned"]["rise"]
    orders = [r["rise"] for r in found["orders"].values()]
    assert orders[-1] < orders[0]
    assert found["tuned"]["fine-tuned from one network"]["rise"] < found["tuned"]["trained from scratch"]["rise"]
    tree = found["tree"]["10"]
    assert tree["proved"] and tree["mean saddle"] < 1.5 * tree["mean minimum"]
    changes = [r["change"][0] for r in found["dropout"].values()]
    assert changes[-1] < changes[0]
    every = [line for r in widths for how in ("trained", "aligned") for line in r[how]["pairs"]]
    assert all(line["lower"] <= line["upper"] for line in every)
