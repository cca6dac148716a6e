"""Files of weights: every common form is read, every hostile one refused."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dss
from dss.adapters import load_checkpoint, load_point, save_state


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state},
        lambda state: {"model_state_dict": state, "loss": 0.5},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {f"model.{name}": value for name, value in state.items()},
    ],
)
def test_state_dicts_are_found_bare_or_wrapped(model, tmp_path, wrap):
    torch.save(wrap(model.state_dict()), tmp_path / "a.pt")
    assert torch.equal(load_point(tmp_path / "a.pt", dss.ParameterSpace.of(model)), flat(model))


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_saved_states_read_back_with_their_buffers(model, tmp_path, name):
    save_state(tmp_path / name, model.state_dict())
    found = load_checkpoint(tmp_path / name, dss.ParameterSpace.of(model))
    assert torch.equal(found.point, flat(model)) and "1.running_mean" in found.buffers


def test_tied_weights_survive_safetensors(tmp_path):
    model = nn.ModuleDict({"embed": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False)})
    model["head"].weight = model["embed"].weight
    save_state(tmp_path / "a.safetensors", model.state_dict())
    assert torch.equal(load_point(tmp_path / "a.safetensors", dss.ParameterSpace.of(model)), flat(model))


class Evil:
    def __reduce__(self):
        return (open, ("evil-was-here", "w"))


def missing(path, state):
    pass


def garbage(path, state):
    path.write_bytes(bytes(range(256)) * 9)


def empty(path, state):
    path.write_bytes(b"")


def code(path, state):
    torch.save({**state, "evil": Evil()}, path)


def bare_pickle(path, state):
    path.write_bytes(pickle.dumps(Evil()))


def truncated(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-300])


def whole_model(path, state):
    torch.save(nn.Linear(2, 2), path)


def a_list(path, state):
    torch.save([1, 2], path)


def other_architecture(path, state):
    torch.save(nn.Linear(2, 2).state_dict(), path)


def not_finite(path, state):
    torch.save({**state, "0.bias": torch.full((4,), torch.nan)}, path)


def integers(path, state):
    torch.save({**state, "0.bias": torch.zeros(4, dtype=torch.long)}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, "there is no file"),
        (garbage, "not a readable checkpoint|damaged"),
        (empty, "not a readable checkpoint|damaged"),
        (code, "could run code"),
        (bare_pickle, "could run code"),
        (truncated, "not a readable checkpoint"),
        (whole_model, "could run code"),
        (a_list, "no state dict"),
        (other_architecture, "missing: .*unexpected: "),
        (not_finite, "NaN or infinity in 0.bias"),
        (integers, "not real numbers: 0.bias"),
    ],
)
def test_hostile_files_are_refused_and_run_nothing(model, tmp_path, monkeypatch, damage, message):
    monkeypatch.chdir(tmp_path)
    damage(tmp_path / "a.pt", model.state_dict())
    with pytest.raises(dss.CheckpointError, match=message):
        load_point(tmp_path / "a.pt", dss.ParameterSpace.of(model))
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize("cut", [0, 4, 60, -5])
def test_damaged_safetensors_are_refused(model, tmp_path, cut):
    save_file(dict(model.named_parameters()), tmp_path / "whole.safetensors")
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:cut])
    with pytest.raises(dss.CheckpointError, match=r"not a readable safetensors|is empty"):
        load_point(tmp_path / "a.safetensors", dss.ParameterSpace.of(model))
