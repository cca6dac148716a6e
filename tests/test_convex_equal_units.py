"""Weight that moves between equal units: proved where it changes nothing, refused where it may."""

import pytest
import torch
from torch import nn

import dss
from dss.base.errors import EnclosureError
from dss.certificates.convexity import kind, prove_by_convexity
from dss.objectives.tracing import wiring
from tests.test_convex_certificate import dense_losses, objective, random_point


def twins():
    """Units 0 and 1 of the first hidden layer equal; all of row 2's weight on them is moved from one to the other."""
    judge = objective(n=8)
    start = random_point(judge.space, 9)
    tensors = judge.space.unflatten(start)
    for name in ("0.weight", "0.bias"):
        tensors[name][1] = tensors[name][0]
    tensors["2.weight"][:, 1] = 0
    end = start.clone()
    moved = judge.space.unflatten(end)["2.weight"]
    moved[:, 1], moved[:, 0] = moved[:, 0].clone(), 0
    return judge, start, end


def test_weight_may_move_between_equal_units():
    judge, start, end = twins()
    path = dss.Path(torch.stack([start, end]))
    proof = prove_by_convexity(judge, path)
    seen = dense_losses(judge, path)
    assert proof.kinds == ("constant",)
    assert seen.max() - seen.min() < 1e-12 and seen.max() <= proof.upper


@pytest.mark.parametrize(
    "forge",
    [
        lambda a, b: b["0.weight"][1].add_(1e-6),  # no longer equal at the end
        lambda a, b: [t["0.bias"][1].add_(1e-6) for t in (a, b)],  # never equal
        lambda a, b: b["2.weight"][0, 1].mul_(1 + 1e-6),  # more weight comes than goes
        lambda a, b: b["2.bias"][0].add_(1e-6),  # a bias moves too
        lambda a, b: [t["0.weight"][:2].add_(1e-3) for t in (b,)],  # equal, but they move
    ],
)
def test_forged_twins_are_not_proved(forge):
    judge, start, end = twins()
    forge(judge.space.unflatten(start), judge.space.unflatten(end))
    with pytest.raises(EnclosureError, match="neither convex nor constant"):
        prove_by_convexity(judge, dss.Path(torch.stack([start, end])))


def test_places_of_flattened_channels_are_not_confused():
    """Equal channels, but the weight moves from one place of the first to another place of the second."""
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4), nn.ReLU(), nn.Linear(4, 3)]
    judge = objective(model=nn.Sequential(*layers), shape=(1, 6, 6), n=8)
    start = random_point(judge.space, 1)
    tensors = judge.space.unflatten(start)
    for name in ("0.weight", "0.bias"):
        tensors[name][1] = tensors[name][0]
    end = start.clone()
    moved = judge.space.unflatten(end)["3.weight"]
    moved[:, 17] += moved[:, 0]
    moved[:, 0] = 0
    layout = wiring(judge.model, judge.data.take(slice(0, 3)).inputs)
    assert kind(layout, judge.space.unflatten(start), judge.space.unflatten(end)) is None
