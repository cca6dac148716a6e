"""Proofs of the benchmark that are kept segment by segment."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import dss
from benchmarks import architectures
from benchmarks.records import Records


@pytest.fixture
def three_beads(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 2, generator=generator)
    judge = dss.NetworkObjective(
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), mse_loss, (x, x.sum(1, keepdim=True))
    )
    beads = 0.5 * torch.randn(3, judge.size, generator=generator)
    monkeypatch.setattr(architectures, "made", lambda _name: (judge, beads))
    return judge, beads


def test_a_proof_goes_on_at_the_first_segment_that_is_missing_and_is_that_of_the_whole_path(three_beads, tmp_path, monkeypatch):
    judge, beads = three_beads
    asked, prove = [], dss.prove
    monkeypatch.setattr(dss, "prove", lambda _judge, some, **given: asked.append(some) or prove(_judge, some, **given))
    file = tmp_path / "found.json"
    found = architectures.measured_by_segment("net", 1.02, 600.0, Records(file))
    assert found["verdict"] == "PROVEN" and found["segments"] == 2 and len(asked) == 2
    *_, whole = prove(judge, beads, threshold=found["threshold"])
    assert whole.proven and found["sampled"] <= found["upper"] <= found["threshold"]
    kept = Records(file)
    assert found["cells"] == sum(part["cells"] for part in kept.results[architectures.PARTS].values())
    del kept.results[architectures.PARTS]["net / 1"]
    again = architectures.measured_by_segment("net", 1.02, 600.0, kept)
    assert len(asked) == 3 and torch.equal(asked[2], beads[1:]) and again["cells"] == found["cells"]


def test_a_segment_of_another_path_is_proved_anew_and_one_that_is_not_finished_is_not_kept(three_beads, tmp_path, capsys):
    _, beads = three_beads
    records = Records(tmp_path / "found.json")
    architectures.measured_by_segment("net", 1.02, 600.0, records)
    before = dict(records.results[architectures.PARTS])
    beads[2] *= 1.5
    assert architectures.measured_by_segment("net", 1.0 + 1e-9, 0.0, records) is None
    assert records.results[architectures.PARTS] == before and "net / 1" in capsys.readouterr().out
    assert architectures.measured_by_segment("net", 1.1, 600.0, records)["verdict"] == "PROVEN"
    assert records.results[architectures.PARTS]["net / 1"] != before["net / 1"]
