"""The image and text experiments: networks, data, and a study that runs small."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import dss
from experiments import (
    cifar10,
    image_data,
    measurement,
    mnist,
    networks,
    ptb,
    text_data,
)
from experiments.compare import paper_points
from experiments.results import NO_END, arrived
from models.paper import CIFAR10Net, PTBNet


@pytest.fixture(autouse=True)
def strings_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "STRINGS", tmp_path / "runs")


def test_the_cifar10_network_is_the_papers():
    net = CIFAR10Net()
    assert sum(p.numel() for p in net.parameters()) == 1_068_298
    assert net(torch.zeros(2, 3, 24, 24)).shape == (2, 10)
    assert net.fc3.weight.abs().max() <= 2 / 192 and net.conv2.bias.unique().tolist() == pytest.approx([0.1])
    x = torch.randn(1, 12, 2, 2, dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 4, 4)) ** 2
    sums = torch.stack([padded[:, i : i + 9].sum(1) for i in range(12)], 1)
    assert torch.allclose(net.normalise(x), x / (1 + 0.001 / 9 * sums) ** 0.75)


def test_the_ptb_network_is_the_papers():
    net = PTBNet(vocabulary=30, width=8)
    assert net(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 30, 5)
    assert sum(p.numel() for p in net.parameters()) == 30 * 8 * 2 + 30 + 2 * (2 * 4 * 8 * 8 + 2 * 4 * 8)
    assert net.embedding.weight.abs().max() <= 0.1 and not net.recurrent.bias_ih_l0.any()


def test_photo_patches_are_of_their_photo_and_of_their_part(monkeypatch):
    heights = torch.arange(200.0).view(1, -1, 1).expand(3, 200, 60)
    monkeypatch.setattr(image_data, "_photos", lambda: [1000 * i + heights for i in range(10)])
    data = image_data.photo_patches(300, 100)
    assert data.train[0].shape == (300, 3, 24, 24) and data.judge[0].shape == (100, 3, 24, 24)
    # Normalisation is one affine map for both parts: undone by two known rows.
    (x, y), (x_test, y_test) = data.train, data.judge
    slope = (x[0, 0, 1, 0] - x[0, 0, 0, 0]).item()
    values = [(part[:, 0, 0, 0] - x[0, 0, 0, 0]) / slope for part in (x, x_test)]
    origin = values[0][y == 0].min()
    for label, top, low, high in ((y, values[0], 0, 160), (y_test, values[1], 160, 200)):
        rows = top - origin - 1000 * label
        assert rows.max() - rows.min() <= high - low - 24 + 0.5


def test_verses_lose_their_numbers_and_their_punctuation():
    text = "Ge1:1 In the beginning God created the heaven; and\nPs3:2 LORD's help is Beth-el's (Selah)."
    assert text_data.verses_of(text) == ["in the beginning god created the heaven and", "lord's help is beth-el's selah"]


def test_thresholds_follow_the_data():
    papers, other = (networks.Data(name, (), ()) for name in ("MNIST", "Fashion-MNIST"))
    assert mnist.STUDY.on(papers).thresholds == mnist.THRESHOLDS
    assert mnist.STUDY.on(other).thresholds == mnist.FASHION_THRESHOLDS
    assert ptb.STUDY.on(other).thresholds == ptb.STUDY.thresholds


def test_text_becomes_stretches_of_word_numbers_and_the_words_that_follow():
    data = text_data.as_data("test", "a b a c a d\n" * 20, "a b e\n" * 10, vocabulary=4)
    assert data.name == "test, 4 words"
    inputs, targets = data.train
    assert inputs.shape == targets.shape == (6, 20)
    assert torch.equal(inputs.flatten()[1:], targets.flatten()[:-1])
    assert data.train[0][0, :3].tolist()[0] == data.train[0][0, 2].item() == 1
    assert 0 in data.judge[0]


def test_too_little_text_is_refused():
    with pytest.raises(dss.TaskError, match="at least 21 words"):
        text_data.as_data("test", "a b", "a b")


def test_a_small_study_of_a_network_runs_and_continues(tmp_path, capsys):
    def model():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    study = replace(
        cifar10.QUICK, name="small", model=model, thresholds=(0.7,), pairs=1,
        variants={"paper": (0.98, 1.1), "strict": (0.98, 1.0)},
    )  # fmt: skip
    data = image_data.small_images(200, 60, size=8)
    records = networks.run(study, data, tmp_path / "small.json").records
    for variant in ("paper", "strict", "shortened", "bend"):
        (record,) = records[variant]["0.7"]
        assert record["connected"] and record["length"] >= 1 - 1e-6
    assert records["strict"]["0.7"][0]["max_loss"] <= 0.7 and not records["strict"]["0.7"][0]["proven"]
    before = capsys.readouterr().out
    networks.run(study, data, tmp_path / "small.json")
    assert before.count("pairs connected") == 4 and capsys.readouterr().out == ""


def test_an_end_that_never_arrives_leaves_its_pair_out():
    study = replace(ptb.QUICK, thresholds=(math.log(2.0), math.log(1e6)), steps=10)
    found = networks.study_of(study, text_data.described_data_sets(), 0)
    assert len(found.problems(math.log(1e6))) == 1
    assert found.problems(math.log(2.0)) == []


def test_more_pairs_go_on_in_the_same_file_and_are_the_pairs_of_a_longer_run(tmp_path, capsys):
    study = replace(cifar10.QUICK, name="pairs", thresholds=(0.7,), model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    data = image_data.small_images(200, 60, size=8)
    one = networks.run(study, data, tmp_path / "grown.json").records["paper"]["0.7"]
    grown = networks.run(replace(study, pairs=2), data, tmp_path / "grown.json").records["paper"]["0.7"]
    at_once = networks.run(replace(study, pairs=2), data, tmp_path / "at_once.json").records["paper"]["0.7"]
    assert [record["pair"] for record in grown] == [0, 1] and grown[0] == one[0] and grown == at_once
    assert capsys.readouterr().out.count("pairs connected") == 4


def test_a_pair_without_an_end_is_kept_as_such_and_counts_in_no_mean(tmp_path, capsys):
    study = replace(cifar10.QUICK, thresholds=(0.0,), steps=1, model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    data = image_data.small_images(100, 60, size=8)
    records = networks.run(study, data, tmp_path / "none.json").records["paper"]["0.0"]
    assert records == [{"pair": 0, "status": NO_END}] and arrived(records) == []
    assert "0 of 0 pairs connected" in capsys.readouterr().out
    networks.run(study, data, tmp_path / "none.json")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("study", [mnist.STUDY, cifar10.STUDY, ptb.STUDY])
def test_thresholds_are_those_of_the_papers_panels(study):
    assert sorted(study.thresholds) == sorted(paper_points(study.name, "num_beads"))
