"""Hugging Face's models as they are: masks, dict batches, their own loss; two short fine-tunings of one start are joined."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

import dss

tf = pytest.importorskip("transformers")
N, LENGTH, VOCABULARY = 12, 8, 40
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def texts():
    """Padded texts, whose padding no loss counts."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, VOCABULARY, (N, LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) < torch.arange(N)[:, None] % 5 + 4).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask == 1, ids, -100)}


def gpt2():
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    return tf.GPT2LMHeadModel(
        tf.GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2, **ends)
    ), texts()


def llama():
    return tf.LlamaForCausalLM(
        tf.LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=1, max_position_embeddings=LENGTH, **SMALL)
    ), texts()


def bert():
    config = tf.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **SMALL)
    return tf.BertForSequenceClassification(config), texts() | {"labels": torch.arange(N) % 2}


def vit():
    config = tf.ViTConfig(image_size=8, patch_size=4, num_labels=3, **SMALL)
    images = torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return tf.ViTForImageClassification(config), {"pixel_values": images, "labels": torch.arange(N) % 3}


def t5():
    config = tf.T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    return tf.T5ForConditionalGeneration(config), texts()


def tuned(model, batch, seed):
    """A few steps of the model's own training."""
    torch.manual_seed(seed)
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(4):
        chosen = torch.randperm(N)[: N // 2]
        optimizer.zero_grad()
        model(**{name: value[chosen] for name, value in batch.items()}).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("build", [gpt2, llama, bert, vit, t5])
def test_two_tunings_are_joined_by_the_models_own_loss(build):
    torch.manual_seed(0)
    model, batch = build()
    ends = [tuned(model, batch, seed) for seed in (1, 2)]
    objective = dss.NetworkObjective(model, dss.own_loss, batch)
    with torch.no_grad():
        expected = [end(**batch).loss.item() for end in ends]
    found = dss.connect(objective, *(end.state_dict() for end in ends), threshold=max(expected) * 1.01, prove="always")
    assert [found.problem.loss_start, found.problem.loss_end] == pytest.approx(expected, rel=1e-5)
    assert found.connected and found.certificate.proven


def test_a_loss_over_words_that_are_not_padding_is_proved():
    torch.manual_seed(0)
    model, batch = gpt2()
    ends = [tuned(model, batch, seed) for seed in (1, 2)]

    def next_words(output, labels):
        logits, wanted = output.logits[:, :-1].transpose(1, 2), labels[:, 1:]
        return cross_entropy(logits, wanted, ignore_index=-100, reduction="sum"), (wanted != -100).sum()

    objective = dss.NetworkObjective(model, next_words, batch)
    top = max(objective(objective.flatten(end.state_dict())[None]).item() for end in ends)
    with torch.no_grad():
        assert top == pytest.approx(max(end(**batch).loss.item() for end in ends), rel=1e-5)
    found = dss.connect(objective, *(end.state_dict() for end in ends), threshold=1.01 * top, prove="always")
    assert found.connected and found.certificate.proven


def test_a_model_without_a_loss_or_whose_labels_are_missing_is_refused():
    model, batch = gpt2()
    with pytest.raises(dss.InputError, match="no loss of its own"):
        dss.NetworkObjective(model, dss.own_loss, {name: batch[name] for name in ("input_ids", "attention_mask")})


def test_a_loss_that_the_model_rounds_to_float32_can_be_asked_in_float64():
    torch.manual_seed(0)
    model, batch = llama()
    objective = dss.NetworkObjective(model.eval(), dss.own_loss, batch)
    point = objective.flatten(model.state_dict())[None]
    assert objective(point.double()).item() == pytest.approx(objective(point).item(), rel=1e-5)


def test_a_models_own_loss_may_be_of_the_whole_data():
    torch.manual_seed(0)
    model, batch = llama()
    objective = dss.NetworkObjective(model.eval(), dss.own_loss, batch, whole=True)
    with torch.no_grad():
        expected = model(**batch).loss.item()
    assert objective(objective.flatten(model.state_dict())[None]).item() == pytest.approx(expected, rel=1e-5)


class Single(torch.nn.Module):
    """Its own loss, by a head that is float32 whatever the rest is."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(4, 4)
        self.register_buffer("head", torch.randn(3, 4))

    def forward(self, x, labels):
        return {"loss": cross_entropy(self.body(x).float() @ self.head.float().T.to(torch.float32), labels)}


def test_nearly_equal_samples_are_averaged_as_the_model_does():
    torch.manual_seed(0)
    model, batch = llama()
    objective = dss.NetworkObjective(model.eval(), dss.own_loss, batch)
    with torch.no_grad():
        expected = model.double()(**batch).loss.item()
        single = [model(**{name: value[i : i + 1] for name, value in batch.items()}).loss.item() for i in range(N)]
        words = (batch["labels"][:, 1:] != -100).sum(1).double()
    assert objective.weight == words.sum()
    assert (torch.tensor(single).double() @ words / words.sum()).item() == pytest.approx(expected, rel=1e-6)


def test_a_model_that_cannot_be_float64_is_asked_in_its_own_dtype():
    class Narrow(Single):
        def forward(self, x, labels):
            return {"loss": cross_entropy(self.body(x) @ torch.eye(4, 3, dtype=torch.float32), labels)}

    for kind in (Single, Narrow):
        torch.manual_seed(0)
        model, batch = kind(), {"x": torch.randn(6, 4), "labels": torch.arange(6) % 3}
        objective = dss.NetworkObjective(model, dss.own_loss, batch)
        with torch.no_grad():
            expected = model(**batch)["loss"].item()
        assert objective(objective.flatten(model.state_dict())[None]).item() == pytest.approx(expected, rel=1e-5)
