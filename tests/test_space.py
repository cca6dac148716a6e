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


def frozen_model():
    model = Tied()
    model.embed.weight.requires_grad_(False)
    return model


def test_frozen_parameters_are_no_coordinates_unless_told_to_move():
    space = dss.ParameterSpace.of(frozen_model())
    assert space.names == ("norm.weight", "norm.bias", "head.bias") and set(space.frozen) == {"embed.weight"}
    assert dss.ParameterSpace.of(frozen_model(), trainable=False) == dss.ParameterSpace.of(Tied())
    assert dss.ParameterSpace.of(Tied()).frozen == {}


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("norm.*", ["norm.weight", "norm.bias"]),
        ("*.bias", ["norm.bias", "head.bias"]),
        ("bias", ["norm.bias", "head.bias"]),  # no whole name: what follows a dot
        ("head.weight", ["embed.weight"]),  # a tied parameter, by its other name
        (lambda name: "norm" in name, ["norm.weight", "norm.bias"]),
    ],
)
def test_a_selection_moves_what_it_fits(only, names):
    space = dss.ParameterSpace.of(Tied(), only=only)
    assert list(space.names) == names
    assert {*space.names, *space.frozen} == {"embed.weight", "norm.weight", "norm.bias", "head.bias"}


@pytest.mark.parametrize(
    ("build", "only", "message"),
    [
        (Tied, "hed.*", "near are head"),
        (Tied, "Norm.*", "near are norm.weight, norm.bias"),
        (Tied, "norm.wieght", "near are .*norm.weight"),
        (Tied, "xyz", "there are embed.weight"),
        (Tied, lambda name: False, "fits no parameter"),
        (Tied, 3, "a pattern or a function"),
        (frozen_model, "embed.*", "frozen parameters alone"),
        (lambda: Tied().requires_grad_(False), None, "all 4 parameters of the model are frozen"),
    ],
)
def test_a_selection_of_nothing_says_what_there_is(build, only, message):
    with pytest.raises(dss.InputError, match=message):
        dss.ParameterSpace.of(build(), only=only)


def test_states_may_leave_frozen_parameters_out_but_not_change_them():
    model = frozen_model()
    space, state = dss.ParameterSpace.of(model), model.state_dict()
    alone = {name: value for name, value in state.items() if name not in ("embed.weight", "head.weight")}
    assert torch.equal(space.flatten(state), space.flatten(alone))
    assert torch.equal(space.flatten(state | {"embed.weight": state["embed.weight"].double(), "head.weight": state["embed.weight"].double()}),
                       space.flatten(state))  # fmt: skip
    other = state | {"embed.weight": state["embed.weight"] + 1, "head.weight": state["embed.weight"] + 1}
    with pytest.raises(dss.InputError, match=r"differ from the model's: embed.weight.*trainable=False"):
        space.flatten(other)
    assert torch.equal(space.flatten(other, adopt=True), space.flatten(state))
    with pytest.raises(dss.InputError, match=r"of another shape: embed\.weight"):
        space.flatten(alone | {"embed.weight": torch.zeros(2, 2)})


def test_parameters_that_move_have_one_dtype_whatever_the_frozen_ones_have():
    model = Tied()
    model.embed.weight = nn.Parameter(model.embed.weight.to(torch.bfloat16))
    with pytest.raises(dss.InputError, match="of one dtype"):
        dss.ParameterSpace.of(model)
    model.embed.weight.requires_grad_(False)
    assert dss.ParameterSpace.of(model).dtype == torch.float32
