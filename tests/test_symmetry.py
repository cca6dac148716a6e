"""Which units may be reordered: read off a run, and put to the test on networks of every kind."""

import copy

import pytest
import torch
from architectures import CASES
from symmetric_networks import NETWORKS, CumulativeSum, Hidden, Positions, inputs_of
from torch import nn

import dss
from dss.objectives.network.statistics import tracked_norms
from dss.symmetry import Specification
from models.mlp import MLP
from models.paper import CIFAR10Net, PTBNet, TriangleNet
from models.recurrent import LanguageModel
from models.resnet import ResNet
from models.transformer import RowTransformer

MODELS = {
    "mlp": (lambda: MLP(6, 3, width=8, depth=4), (3, 6), [8, 8, 8]),
    "triangle": (TriangleNet, (3, 2), [3]),
    "cifar": (CIFAR10Net, (2, 3, 24, 24), [384, 192]),
    "resnet": (lambda: ResNet(blocks=1, width=4), (3, 1, 8, 8), [4, 4, 8, 8, 16, 16]),
    "transformer": (lambda: RowTransformer(width=8, heads=2), (3, 1, 8, 8), [8, 2, (2, 4), (2, 4), 16]),
    "digits": (dss.DigitsNet, (3, 1, 8, 8), [12, 24, 30]),
    "polynomial": (lambda: dss.PolynomialNet(bias=True, bounded=False), (3, 1), [4, 4]),
}
LANGUAGE = {
    "ptb": (lambda: PTBNet(20, 6), [6, 6, 6]),
    "lstm": (lambda: LanguageModel(20, width=6, layers=2), [6, 6, 6]),
    "gru": (lambda: LanguageModel(20, width=6, layers=2, cell=nn.GRU), [6, 6, 6]),
    "rnn": (lambda: LanguageModel(20, width=6, layers=2, cell=nn.RNN), [6, 6, 6]),
}
ARCHITECTURES = {
    "mlp": [5],
    "conv_batch_norm": [3, 4],
    "residual_layer_norm": [],
    "lstm": [5, 4, 4],
    "transformer": [2, (2, 4), (2, 4), 16],
    "tied": [5],
}


def sizes(specification):
    return [group.size if group.within is None else group.shape for group in specification.groups.values()]


def perturbed(model):
    """A copy in float64 with all parameters and statistics random, so that nothing is symmetric by chance."""
    model = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for norm in tracked_norms(model).values():
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return model


def change(model, specification, inputs, seed):
    """By how much a random reordering of the state dict changes the outputs, run plainly; relative."""
    inputs = [x.double() if x.is_floating_point() else x for x in (inputs if isinstance(inputs, tuple) else (inputs,))]
    with torch.no_grad():
        before = model(*inputs)
        other = copy.deepcopy(model)
        other.load_state_dict(specification.apply(model.state_dict(), specification.random(torch.Generator().manual_seed(seed))))
        return ((other(*inputs) - before).abs().max() / before.abs().max()).item()


def check(make, inputs, expected):
    torch.manual_seed(0)
    model = perturbed(make())
    specification = Specification.of(model, inputs)
    assert sizes(specification) == expected
    assert max(change(model, specification, inputs, seed) for seed in range(3)) < 1e-12
    return specification


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_those_worked_out_by_hand_and_reordering_keeps_the_function(name):
    make, shape, expected = NETWORKS[name]
    specification = check(make, inputs_of(shape), expected)
    # The rules alone are sound: only what no operation shows is left to the numeric check.
    wrong = [axis for axis, reason in specification.pinned.items() if "changed the outputs" in reason]
    assert bool(wrong) == (name == "hidden")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_of_the_other_tests(name):
    make, data, _ = CASES[name]
    check(make, data()[0][:4], ARCHITECTURES[name])


@pytest.mark.parametrize("name", MODELS)
def test_reference_models(name):
    make, shape, expected = MODELS[name]
    check(make, inputs_of(shape), expected)


@pytest.mark.parametrize("name", LANGUAGE)
def test_reference_language_models_have_one_group_a_layer(name):
    make, expected = LANGUAGE[name]
    check(make, torch.randint(20, (3, 5)), expected)


def test_applying_is_what_a_loop_over_packed_gates_does():
    """The naive oracle: gates of an LSTM by index arithmetic."""
    torch.manual_seed(0)
    model = LanguageModel(7, width=4)
    specification = Specification.of(model, torch.randint(7, (3, 5)))
    embed, units = specification.random(torch.Generator().manual_seed(0)).items()
    moved = specification.apply(model.state_dict(), dict([embed, units]))
    rows = torch.cat([gate * 4 + units[1] for gate in range(4)])
    before = model.state_dict()
    assert torch.equal(moved["recurrent.weight_ih_l0"], before["recurrent.weight_ih_l0"][rows][:, embed[1]])
    assert torch.equal(moved["recurrent.weight_hh_l0"], before["recurrent.weight_hh_l0"][rows][:, units[1]])
    assert torch.equal(moved["head.weight"], before["head.weight"][:, units[1]])


def test_features_within_heads_move_with_their_head():
    """The naive oracle: head h of the result is head p[h], its features in the order of row h."""
    torch.manual_seed(0)
    model = CASES["transformer"][0]()
    specification = Specification.of(model, torch.randn(3, 5, 8))
    heads, _, values, _ = specification.groups
    orders = {heads: torch.tensor([1, 0]), values: torch.tensor([[2, 0, 1, 3], [3, 2, 1, 0]])}
    moved = specification.apply(model.state_dict(), orders)
    before = model.state_dict()["encoder.layers.0.self_attn.out_proj.weight"]
    columns = [head * 4 + feature for head, row in ((1, [2, 0, 1, 3]), (0, [3, 2, 1, 0])) for feature in row]
    assert torch.equal(moved["encoder.layers.0.self_attn.out_proj.weight"], before[:, columns])


def test_points_and_state_dicts_move_alike():
    torch.manual_seed(0)
    model = ResNet(blocks=1, width=4)
    space = dss.ParameterSpace.of(model)
    specification = Specification.of(model, torch.randn(3, 1, 8, 8))
    orders = specification.random(torch.Generator().manual_seed(0))
    moved = specification.apply(space.flatten(model.state_dict()), orders)
    assert torch.equal(moved, space.flatten(specification.apply(model.state_dict(), orders)))
    assert torch.equal(specification.apply(moved, {}), moved)


def test_what_is_not_understood_is_named_and_stays():
    specification = Specification.of(CumulativeSum(), torch.randn(3, 4))
    assert specification.unknown_ops == ("aten.cumsum",)
    # Six units before the operation and six after it, which it does not tell to be the same.
    assert specification.stayed == {"no rule for aten.cumsum": 12, "input": 4, "output": 2}
    assert specification.pinned["first.weight[0]"] == "no rule for aten.cumsum"
    assert specification.pinned["head.weight[0]"] == "output" and specification.pinned["first.weight[1]"] == "input"


def test_parameters_that_no_data_meets_stay():
    pinned = Specification.of(Positions(), torch.randn(3, 6, 4)).pinned
    assert pinned["unused.weight[0]"] == pinned["unused.weight[1]"] == "no data runs along it here"
    assert "no data runs along it here" in pinned["table[0]"]


def test_frozen_parameters_and_shared_buffers_stay():
    model = MLP(6, 3, width=8, depth=4)
    model.layers[1].weight.requires_grad_(False)
    specification = Specification.of(model, torch.randn(3, 6))
    assert sizes(specification) == [8] and specification.pinned["layers.0.weight[0]"] == "layers.1.weight is fixed"
    with pytest.raises(dss.InputError, match=r"no parameter or buffer is called layer\.9"):
        Specification.of(model, torch.randn(3, 6), fixed=["layer.9"])


def test_the_model_is_left_alone():
    model = ResNet(blocks=1, width=4).train()
    before = copy.deepcopy(model.state_dict())
    Specification.of(model, torch.randn(3, 1, 8, 8))
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.stem.weight.dtype == torch.float32 and torch.get_default_dtype() == torch.float32


def test_permutations_are_checked():
    specification = Specification.of(MLP(6, 3, width=4), torch.randn(3, 6))
    point = torch.zeros(specification.space.size)
    (name,) = specification.groups
    for wrong in ({"none": torch.arange(4)}, {name: torch.tensor([0, 1, 1, 2])}, {name: torch.arange(5)}):
        with pytest.raises(dss.InputError, match=r"no group is called|needs permutations of 0 to 3"):
            specification.apply(point, wrong)
    with pytest.raises(dss.InputError, match=r"a point \(\d+,\) of this network"):
        specification.apply(point[1:], {})


def test_a_model_that_fails_is_told_so():
    with pytest.raises(dss.InputError, match="the model fails on the inputs given"):
        Specification.of(MLP(6, 3), torch.randn(3, 7))


def test_units_that_are_turned_around_behind_the_scenes_are_found_by_the_numbers():
    pinned = Specification.of(Hidden(), torch.randn(3, 4)).pinned
    assert pinned["first.weight[0]"] == "permuting it changed the outputs" and pinned["second.weight[1]"] == "constant"
