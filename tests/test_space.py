"""Flat points and named tensors are two views of the same numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import dss


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Embedding(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 5)
        self.head.weight = self.embed.weight


def test_flatten_and_unflatten_are_inverse_and_ordered_as_named_parameters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 3))
    space = dss.ParameterSpace.of(model)
    point = space.flatten(model.state_dict())
    assert torch.equal(point, nn.utils.parameters_to_vector(model.parameters()))
    assert point.shape == (space.size,)
    for name, value in space.unflatten(point).items():
        assert torch.equal(value, model.state_dict()[name])


@given(st.lists(st.integers(1, 4), min_size=0, max_size=3))
def test_unflatten_gives_views_for_any_leading_shape(lead):
    space = dss.ParameterSpace.of(nn.Linear(2, 3))
    points = torch.zeros(*lead, space.size)
    named = space.unflatten(points)
    assert named["weight"].shape == (*lead, 3, 2)
    named["bias"][...] = 1
    assert points.sum() == named["bias"].numel()


def test_tied_weights_count_once_and_may_come_under_any_of_their_names():
    model = Tied()
    space = dss.ParameterSpace.of(model)
    assert space.size == 15 + 6 + 5 and space.aliases == {"head.weight": "embed.weight"}
    state = model.state_dict()
    expected = space.flatten(state)
    state.pop("embed.weight")
    assert torch.equal(space.flatten(state), expected)
    with pytest.raises(dss.InputError, match="tied"):
        space.flatten(model.state_dict() | {"head.weight": torch.zeros(5, 3)})


def test_buffers_are_not_coordinates():
    space = dss.ParameterSpace.of(nn.BatchNorm1d(3))
    assert space.names == ("weight", "bias") and "running_mean" in space.buffers


def test_everything_wrong_with_the_keys_is_said_at_once():
    space = dss.ParameterSpace.of(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
    state = {"0.weight": torch.zeros(2, 2), "0.bias": torch.zeros(3), "1.weight": torch.zeros(1, 3), "extra": torch.zeros(1)}
    with pytest.raises(dss.InputError) as error:
        space.flatten(state)
    for part in ("missing: 1.bias", "unexpected: extra", "0.weight is (2, 2), not (3, 2)"):
        assert part in str(error.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bad):
    model = nn.Linear(2, 3)
    state = model.state_dict() | {"bias": torch.full((3,), bad)}
    with pytest.raises(dss.InputError, match="infinity in bias"):
        dss.ParameterSpace.of(model).flatten(state)


def test_points_take_the_widest_dtype_and_at_least_single_precision():
    space = dss.ParameterSpace.of(nn.Linear(2, 3))
    state = nn.Linear(2, 3).state_dict()
    assert space.flatten({n: v.half() for n, v in state.items()}).dtype == torch.float32
    assert space.flatten(state | {"bias": torch.zeros(3).double()}).dtype == torch.float64
    with pytest.raises(dss.InputError, match="not real numbers"):
        space.flatten(state | {"bias": torch.zeros(3, dtype=torch.long)})


def test_coordinates_select_named_tensors():
    space = dss.ParameterSpace.of(nn.Linear(2, 3))
    assert space.weights == ("weight",)
    assert space.coordinates(space.weights).tolist() == [True] * 6 + [False] * 3
    with pytest.raises(dss.InputError, match="no parameter is called w"):
        space.coordinates(("w",))


def test_a_model_without_parameters_is_refused():
    with pytest.raises(dss.InputError, match="parameters"):
        dss.ParameterSpace.of(nn.ReLU())
