"""Checkpoints as the libraries write them: read, joined on the command line, and exported back into the library."""

import copy
import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from torch import nn

import dss
from dss.adapters import CheckpointNotice, load_checkpoint
from dss.cli import main
from dss.runs import load_run

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

TASK = """
import os
os.environ["HF_HUB_OFFLINE"] = "1"
import torch, dss
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

CONFIG = GPT2Config(vocab_size=17, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1, pad_token_id=None)

class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, words):
        return self.model(words, use_cache=False).logits.flatten(0, 1)

def base():
    torch.manual_seed(7)
    return GPT2LMHeadModel(CONFIG).eval()

def data():
    words = torch.randint(17, (2, 6), generator=torch.Generator().manual_seed(0))
    return words[:, :-1], words[:, 1:]

def loss(logits, words):
    return cross_entropy(logits, words.flatten())

def whole():
    return dss.Task(Logits(base()), loss, data(), whole=True, batch_size=None)

def lora():
    from peft import LoraConfig, get_peft_model
    model = get_peft_model(base(), LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    return dss.Task(Logits(model), loss, data(), whole=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    (folder / "task.py").write_text(TASK)
    return folder


def model_of(place, name="whole"):
    return dss.load_task(f"{place}/task.py:{name}").model.model


def moved(model, seed, size=0.003, only=""):
    """The model with noise on what trains."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and only in name:
                parameter += size * torch.randn(parameter.shape, generator=generator)
    return model


def connect(place, a, b, out, *more, task="whole"):
    return main(["connect", str(a), str(b), "--task", f"{place}/task.py:{task}", "--threshold", "9", "--out", str(out),
                 "--finder", "straight", "--prove", "never", "--json", *more])  # fmt: skip


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def save_bin(model, folder):
    model.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "save",
    [
        lambda model, folder: model.save_pretrained(folder),
        lambda model, folder: model.save_pretrained(folder, max_shard_size="2KB"),
        save_bin,
    ],
    ids=["safetensors", "sharded", "bin"],
)
def test_folders_of_save_pretrained_are_joined_and_exported_back(place, tmp_path, save):
    models = [moved(model_of(place), seed) for seed in (0, 1)]
    for model, name in zip(models, "ab", strict=True):
        save(model, tmp_path / name)
    assert connect(place, tmp_path / "a", tmp_path / "b", tmp_path / "run") == 0
    assert main(["export", str(tmp_path / "run"), "--bead", "-1", "--out", str(tmp_path / "back")]) == 0
    assert same(transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "back"), models[1])


def test_half_precision_is_said_in_the_summary_and_kept_in_the_export(place, tmp_path):
    for seed, name in enumerate("ab"):
        moved(model_of(place), seed).to(torch.bfloat16).save_pretrained(tmp_path / name)
    assert connect(place, tmp_path / "a", tmp_path / "b", tmp_path / "run") == 0
    assert load_run(tmp_path / "run").outcome["dtypes"] == {"files": ["bfloat16"], "beads": "float32"}
    assert main(["export", str(tmp_path / "run"), "--bead", "0", "--out", str(tmp_path / "back")]) == 0
    back = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "back", dtype="auto")
    assert back.dtype == torch.bfloat16 and same(back, transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "a", dtype="auto"))


def test_a_shard_that_is_named_wrongly_is_told_with_what_lies_beside_it(place, tmp_path):
    model_of(place).save_pretrained(tmp_path / "a", max_shard_size="2KB")
    shard = sorted((tmp_path / "a").glob("*.safetensors"))[0]
    shard.rename(tmp_path / "a" / "renamed.safetensors")
    with pytest.raises(dss.CheckpointError, match=r"missing: model-00001-of.*renamed\.safetensors"):
        dss.load_point(tmp_path / "a", dss.ParameterSpace.of(model_of(place)))


def adapters(place, folder):
    """Two adapters of one base as peft writes them, and the models."""
    models = [moved(model_of(place, "lora"), seed, 0.1) for seed in (0, 1)]
    for model, name in zip(models, "ab", strict=True):
        model.save_pretrained(folder / name)
    return models


def test_two_adapters_are_joined_and_their_base_keeps_every_bit(place, tmp_path):
    _, second = adapters(place, tmp_path)
    assert connect(place, tmp_path / "a", tmp_path / "b", tmp_path / "run", "--only", "*lora_*", task="lora") == 0
    run = load_run(tmp_path / "run")
    assert run.question["only"] == "*lora_*" and all("lora_" in name for name in run.question["parameters"])
    assert main(["export", str(tmp_path / "run"), "--bead", "-1", "--out", str(tmp_path / "back")]) == 0
    base = model_of(place)
    before = copy.deepcopy(base.state_dict())
    back = peft.PeftModel.from_pretrained(base, tmp_path / "back")
    assert same(back, second)
    assert all(torch.equal(value, before[n]) for n, value in back.unload().state_dict().items())
    file = tmp_path / "bead.pt"
    assert main(["export", str(tmp_path / "run"), "--bead", "0", "--out", str(file)]) == 0
    start = dss.load_task(f"{place}/task.py:lora").model.state_dict()
    assert all(torch.equal(v, start[n]) for n, v in torch.load(file).items() if "lora_" not in n)


def test_adapters_of_different_bases_are_refused(place, tmp_path, capsys):
    adapters(place, tmp_path)
    for name, base in (("a", "one/base"), ("b", "another/base")):
        file = tmp_path / name / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
    assert connect(place, tmp_path / "a", tmp_path / "b", tmp_path / "run", task="lora") == 2
    assert "adapters of different bases, one/base and another/base" in capsys.readouterr().err


def test_bases_in_two_places_are_compared_by_what_is_in_them(place, tmp_path, capsys):
    adapters(place, tmp_path)
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        moved(model_of(place), seed).save_pretrained(tmp_path / name)
    for (first, second), code in ((("one", "same"), 0), (("one", "other"), 2)):
        for name, base in (("a", first), ("b", second)):
            file = tmp_path / name / "adapter_config.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(tmp_path / base)}))
        assert connect(place, tmp_path / "a", tmp_path / "b", tmp_path / f"run{code}", task="lora") == code
    assert "different bases" in capsys.readouterr().err


def test_a_subset_that_matches_nothing_lists_near_names(place, tmp_path, capsys):
    adapters(place, tmp_path)
    assert connect(place, tmp_path / "a", tmp_path / "b", tmp_path / "run", "--only", "lora_C*", task="lora") == 2
    assert "lora_A" in capsys.readouterr().err


# --- names, on a small network -------------------------------------------------------------------------------------------


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def flat(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


def swa(model):
    return torch.optim.swa_utils.AveragedModel(model).state_dict()


def compiled(model):
    return torch.compile(model, backend="eager").state_dict()


def renamed(pattern):
    return lambda model: {pattern.format(*name.split(".", 1)): value for name, value in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore::dss.adapters.CheckpointNotice")
@pytest.mark.parametrize(
    "save",
    [
        swa,
        compiled,
        lambda model: {"state_dict_ema": model.state_dict()},
        lambda model: {"a": {"b": {"c": model.state_dict()}}},
        lambda model: nn.DataParallel(model).state_dict(),
        renamed("_fsdp_wrapped_module.{}._fsdp_wrapped_module.{}"),
        renamed("{}._checkpoint_wrapped_module.{}"),
        renamed("encoder.body.{}.{}"),
        lambda model: {"state_dict": model.state_dict(), "optimizer": torch.optim.Adam(model.parameters()).state_dict()},
        lambda model: {**{f"net.{n}": v for n, v in model.state_dict().items()}, "loss.weight": torch.ones(2), "epoch": 3},
    ],
)
@pytest.mark.parametrize("wrap", [False, True])
def test_wrappers_words_and_prefixes_are_taken_off_and_put_on(tmp_path, save, wrap):
    model = net()
    torch.save(save(model), tmp_path / "a.pt")
    space = dss.ParameterSpace.of(Wrapper(model) if wrap else model)
    assert torch.equal(dss.load_point(tmp_path / "a.pt", space), flat(model))


def test_two_candidates_are_asked_about_and_either_is_read_by_its_key(tmp_path):
    model, ema = net(), moved(net(), 1)
    torch.save({"model": model.state_dict(), "ema": ema.state_dict()}, tmp_path / "a.pt")
    space = dss.ParameterSpace.of(model)
    with pytest.raises(dss.CheckpointError, match=r"name one of .*:model, .*:ema"):
        dss.load_point(tmp_path / "a.pt", space)
    for key, one in (("model", model), ("ema", ema)):
        assert torch.equal(dss.load_point(f"{tmp_path}/a.pt:{key}", space), flat(one))
    with pytest.raises(dss.CheckpointError, match="nothing under student; it has model, ema"):
        dss.load_point(f"{tmp_path}/a.pt:student", space)


def test_two_networks_under_prefixes_are_asked_about_too(tmp_path):
    model, ema = net(), moved(net(), 1)
    both = {f"net.{n}": v for n, v in model.state_dict().items()} | {f"ema_net.{n}": v for n, v in ema.state_dict().items()}
    torch.save({"state_dict": both}, tmp_path / "a.ckpt")
    space = dss.ParameterSpace.of(model)
    with pytest.raises(dss.CheckpointError, match=r":state_dict\.net, .*:state_dict\.ema_net"):
        dss.load_point(tmp_path / "a.ckpt", space)
    assert torch.equal(dss.load_point(f"{tmp_path}/a.ckpt:state_dict.ema_net", space), flat(ema))


def test_extra_entries_are_named_once_and_passed_over(tmp_path):
    model = net()
    torch.save({**model.state_dict(), "metric.total": torch.ones(3)}, tmp_path / "a.pt")
    with pytest.warns(CheckpointNotice, match=r"passed over: metric\.total") as caught:
        dss.load_point(tmp_path / "a.pt", dss.ParameterSpace.of(model))
    assert len(caught) == 1


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_every_float_is_read_exactly(tmp_path, dtype, name):
    model = net()
    state = {n: v.to(dtype) for n, v in model.state_dict().items()}
    dss.save_state(tmp_path / name, state)
    found = load_checkpoint(tmp_path / name, dss.ParameterSpace.of(model))
    assert found.dtypes == (str(dtype)[6:],)
    assert torch.equal(found.point.double(), torch.cat([v.double().reshape(-1) for v in state.values()]))


def test_weight_norm_is_read_in_either_spelling(tmp_path):
    old, new = net(), net()
    with pytest.warns(FutureWarning, match="deprecated"):
        nn.utils.weight_norm(old[0])
    nn.utils.parametrizations.weight_norm(new[0])
    for saved, reader in ((old, new), (new, old)):
        torch.save(saved.state_dict(), tmp_path / "a.pt")
        space = dss.ParameterSpace.of(reader)
        point = space.unflatten(dss.load_point(tmp_path / "a.pt", space))
        for name, value in reader.state_dict().items():
            assert torch.equal(point[name], value)


def test_the_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(net().state_dict(), tmp_path / "a.pt")
    assert torch.equal(dss.load_point("~/a.pt", dss.ParameterSpace.of(net())), flat(net()))
