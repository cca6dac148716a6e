"""Networks of the transformers library, from small configurations: groups, heads, and the function kept."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from dss.symmetry import Specification
from dss.symmetry.evaluation import difference

transformers = pytest.importorskip("transformers")

WORDS = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_positions=16, n_embd=24, n_layer=2, n_head=3, **WORDS))


def llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=32,
            **WORDS,
        )
    )


def vit():
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=40,
            image_size=16,
            patch_size=4,
            num_labels=5,
        )
    )


def sequences():
    return torch.randint(50, (3, 6), generator=torch.Generator().manual_seed(0))


def images():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


LAYER = [3, (3, 8), (3, 8)]
# Rotary embeddings hold queries and keys; two query heads share one of values.
GROUPED = [3, (3, 2), (3, 4), 40]
NETWORKS = {
    "gpt2": (gpt2, sequences, [24, *LAYER, 96, *LAYER, 96]),
    "llama": (llama, sequences, [24, *GROUPED, *GROUPED]),
    "vit": (vit, images, [24, *LAYER, 40, *LAYER, 40]),
}


def perturbed(model):
    """With noise, so that no bias is zero and no scale one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_units_heads_and_features_are_found_and_the_function_is_kept(name):
    torch.manual_seed(0)
    make, inputs, expected = NETWORKS[name]
    specification = Specification.of(perturbed(make()), inputs())
    groups = specification.groups.values()
    assert [g.size if g.within is None else g.shape for g in groups] == expected and not specification.unknown_ops
    network = specification.network
    before = network.outputs(network.state)
    for seed in range(5):
        orders = specification.random(torch.Generator().manual_seed(seed))
        assert difference(before, network.outputs(specification.apply(network.state, orders))) < 1e-12


@pytest.mark.parametrize("name", ["gpt2", "vit"])
def test_the_librarys_own_forward_agrees_in_float64(name):
    """The oracle: plain models, with their state dicts reordered, tied embeddings and all. (Llama's norm computes in float32.)"""
    torch.manual_seed(0)
    make, inputs, _ = NETWORKS[name]
    model, x = perturbed(make()), inputs()
    specification = Specification.of(model, x)
    model, x = model.double(), x.double() if x.is_floating_point() else x
    other = copy.deepcopy(model)
    other.load_state_dict(specification.apply(model.state_dict(), specification.random(torch.Generator().manual_seed(1))))
    with torch.no_grad():
        first, second = model(x).logits, other(x).logits
    assert (first - second).abs().max() < 1e-12 * first.abs().max()


class Logits(nn.Module):
    """Last logits of a language model: what an objective's loss reads."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits[:, -1] if x.ndim == 2 else self.model(x).logits


@pytest.mark.parametrize("name", NETWORKS)
def test_shuffled_copies_are_restored_bit_for_bit(name):
    torch.manual_seed(0)
    make, inputs, _ = NETWORKS[name]
    model = Logits(perturbed(make()))
    network = dss.NetworkObjective(model, cross_entropy, (inputs().repeat(4, *[1] * (inputs().ndim - 1)), torch.arange(12) % 5))
    point = network.space.flatten(model.state_dict())
    specification = dss.align(network, point, point).specification
    for seed in range(3):
        other = specification.apply(point, specification.random(torch.Generator().manual_seed(seed)))
        assert torch.equal(dss.align(network, point, other, seed=seed).point, point)
