"""The benchmark beside auto_LiRPA: our half of it, against the network itself. Theirs is not installed here."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

import dss
from benchmarks import auto_lirpa, verifiers
from models.mlp import MLP


@pytest.mark.parametrize("make", [lambda: MLP(64, 10, width=16, depth=3), dss.DigitsNet])
def test_a_cells_network_is_the_network_at_the_points_of_the_cell(make):
    models, x = [make().double() for _ in range(2)], torch.rand(5, 1, 8, 8).double()
    space = dss.ParameterSpace.of(models[0])
    a, b = (space.flatten(model.state_dict()) for model in models)
    network = auto_lirpa.CellNetwork(models[0])
    network.place(space.unflatten(a), space.unflatten(b), 0.25, 0.75)
    for tau in (-1.0, -0.3, 1.0):
        there = space.unflatten(torch.lerp(a, b, 0.5 + 0.25 * tau))
        expected = torch.func.functional_call(models[0], there, x)
        torch.testing.assert_close(network(torch.full((5, 1), tau).double(), x), expected)


def test_margins_give_the_cross_entropy():
    logits, labels = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 9, 3, 3, 5, 1, 2])
    margins = (auto_lirpa.differences(labels) @ logits[:, :, None]).squeeze(2)
    torch.testing.assert_close(softplus(margins.logsumexp(1)), cross_entropy(logits, labels, reduction="none"))


def test_a_layer_that_cannot_move_is_refused():
    with pytest.raises(dss.InputError, match=r"only weights of Linear and Conv2d can move with tau here, got 1\.bias"):
        auto_lirpa.CellNetwork(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)))


class Line(auto_lirpa.Verifier):
    """A verifier whose bound is the loss's largest value on the cell and as much again as the cell is wide."""

    def __init__(self):
        pass

    def bound(self, start: dict, end: dict, lower: float, upper: float) -> float:
        return 1 + upper - lower


def test_cells_are_halved_until_all_pass():
    space, beads = dss.ParameterSpace.of(nn.Linear(1, 1)), torch.zeros(3, 2)
    # Two segments, each into quarters: 1 + 2 + 4 cells.
    assert auto_lirpa.attempt(Line(), space, beads, 1.25, 60.0).cells == 14
    stopped = auto_lirpa.attempt(Line(), space, beads, 1.0, 60.0)
    assert stopped.outcome == "stopped, 0% of the path proved"


def test_the_ratios_are_of_one_pair_each_and_of_what_was_proved():
    def row(cells, seconds, outcome="proved"):
        return {"cells": cells, "seconds": seconds, "outcome": outcome}

    methods = {
        "ours": [row(10, 1.0), row(10, 2.0)],
        "CROWN": [row(30, 9.0), row(15, 120.0, "stopped, 9% of the path proved")],
        "CROWN-IBP": [row(80, 5.0), row(40, 20.0)],
    }
    assert verifiers.ratios(methods) == ("3.5 (3.0 to 4.0)", "7.5 (5.0 to 10.0)")
    assert verifiers.cell(methods["CROWN-IBP"]) == "60 / 12"
    assert verifiers.cell(methods["CROWN"]) == "30 / 9; stopped, 9% of the path proved in 120 s"
    assert verifiers.cell([row(0, 0.0, "NotImplementedError: Erf")]) == "NotImplementedError: Erf"
