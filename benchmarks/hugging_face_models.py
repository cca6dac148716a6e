"""Small models of Hugging Face's architectures, made from configurations with random weights, and a batch for each."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as tf
from torch import Tensor, nn

SAMPLES, LENGTH, WORDS, CLASSES = 4, 8, 40, 3
SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT = {"vocab_size": WORDS, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**SMALL, "num_key_value_heads": 1}
SPEECH = {**SMALL, "conv_dim": (8,), "conv_kernel": (4,), "conv_stride": (4,), "num_feat_extract_layers": 1, "num_conv_pos_embeddings": 4,
          "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8, "apply_spec_augment": False}  # fmt: skip

Batch = dict[str, Tensor]
Made = Callable[[], tuple[nn.Module, Batch]]


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def texts() -> Batch:
    """Padded texts of two lengths, and all of their words as labels."""
    words = torch.randint(3, WORDS, (SAMPLES, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(LENGTH) < torch.tensor([4, 6, 4, 6])[:, None]).long()
    return {"input_ids": words, "attention_mask": mask, "labels": torch.where(mask == 1, words, -100)}


def classes() -> Tensor:
    return torch.arange(SAMPLES) % CLASSES


def model(kind: str, config: str, **options: Any) -> nn.Module:
    return getattr(tf, kind)(getattr(tf, config)(**options))


def writer(name: str, kind: str = "ForCausalLM", **options: Any) -> Made:
    """A language model."""
    return lambda: (model(f"{name}{kind}", f"{name}Config", **TEXT | SMALL | options), texts())


def reader(name: str, **options: Any) -> Made:
    """A classifier of texts."""
    options = TEXT | SMALL | {"num_labels": CLASSES} | options
    return lambda: (model(f"{name}ForSequenceClassification", f"{name}Config", **options), texts() | {"labels": classes()})


def translator(name: str, **options: Any) -> Made:
    """From texts to texts."""

    def made() -> tuple[nn.Module, Batch]:
        batch = texts()
        batch["labels"] = batch["input_ids"]
        return model(f"{name}ForConditionalGeneration", f"{name}Config", decoder_start_token_id=1, **options), batch

    return made


def viewer(name: str, size: int, **options: Any) -> Made:
    """A classifier of images."""
    batch = {"pixel_values": drawn(SAMPLES, 3, size, size), "labels": classes()}
    return lambda: (model(f"{name}ForImageClassification", f"{name}Config", num_labels=CLASSES, **options), batch)


def listener(name: str) -> Made:
    """A classifier of sounds."""
    batch = {"input_values": drawn(SAMPLES, 64), "labels": classes()}
    return lambda: (model(f"{name}ForSequenceClassification", f"{name}Config", num_labels=CLASSES, **SPEECH), batch)


def without_mask(made: Made) -> Made:
    """The same on texts that are not padded."""

    def whole() -> tuple[nn.Module, Batch]:
        found, batch = made()
        return found, {"input_ids": batch["input_ids"], "labels": batch["input_ids"]}

    return whole


_BLOCKS = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
           "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 16, "vocab_size": WORDS, "pad_token_id": 0,
           "eos_token_id": 2}  # fmt: skip
_GPT = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
_PATCHES = {"image_size": 8, "patch_size": 4}
_SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2], "window_size": 2}

MODELS: dict[str, Made] = {
    "GPT-2": writer("GPT2", "LMHeadModel", **_GPT), "GPT-Neo": writer("GPTNeo", num_hidden_layers=2, window_size=4, attention_types=[[["global", "local"], 1]]),
    "GPT-J": writer("GPTJ", **_GPT, rotary_dim=4), "GPT-NeoX": writer("GPTNeoX"), "GPT-BigCode": writer("GPTBigCode", **_GPT),
    "Llama": writer("Llama", **GROUPED), "Mistral": writer("Mistral", **GROUPED), "Mixtral": writer("Mixtral", **GROUPED, num_local_experts=2, num_experts_per_tok=1),
    "Qwen2": writer("Qwen2", **GROUPED), "Qwen3": writer("Qwen3", **GROUPED, head_dim=8), "Phi": writer("Phi"), "Phi-3": writer("Phi3", **GROUPED),
    "Gemma": writer("Gemma", **GROUPED, head_dim=8), "Gemma 2": writer("Gemma2", **GROUPED, head_dim=8), "OLMo 2": writer("Olmo2", **GROUPED),
    "StableLM": writer("StableLm", **GROUPED), "StarCoder2": writer("Starcoder2", **GROUPED), "Cohere": writer("Cohere", **GROUPED),
    "Granite": writer("Granite", **GROUPED), "SmolLM3": writer("SmolLM3", **GROUPED), "Falcon": writer("Falcon"),
    "OPT": writer("OPT", ffn_dim=16, word_embed_proj_dim=16), "BLOOM": writer("Bloom", n_layer=1, n_head=2), "MPT": writer("Mpt", d_model=16, n_layers=1, n_heads=2, max_seq_len=16),
    "Mamba": without_mask(writer("Mamba", state_size=4)), "Mamba 2": without_mask(writer("Mamba2", state_size=4, num_heads=4, head_dim=8, n_groups=1, chunk_size=4)),
    "BERT": reader("Bert"), "RoBERTa": reader("Roberta"), "DistilBERT": reader("DistilBert", dim=16, n_layers=1, n_heads=2, hidden_dim=16), "ALBERT": reader("Albert", embedding_size=8),
    "ELECTRA": reader("Electra", embedding_size=8), "DeBERTa-v2": reader("DebertaV2"), "MPNet": reader("MPNet"), "FNet": reader("FNet"),
    "ModernBERT": reader("ModernBert"), "RoFormer": reader("RoFormer", embedding_size=16),
    "ConvBERT": reader("ConvBert", embedding_size=16, head_ratio=1, conv_kernel_size=3), "ESM": reader("Esm", mask_token_id=1),
    "T5": translator("T5", vocab_size=WORDS, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2), "BART": translator("Bart", **_BLOCKS), "Pegasus": translator("Pegasus", **_BLOCKS),
    "ViT": viewer("ViT", 8, **_PATCHES, **SMALL), "DeiT": viewer("DeiT", 8, **_PATCHES, **SMALL), "BEiT": viewer("Beit", 8, **_PATCHES, **SMALL, use_relative_position_bias=True),
    "DINOv2": viewer("Dinov2", 8, **_PATCHES, hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    "Swin": viewer("Swin", 16, **_SWIN), "Swin v2": viewer("Swinv2", 16, **_SWIN), "ConvNeXt": viewer("ConvNext", 16, hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, patch_size=2),
    "ConvNeXt v2": viewer("ConvNextV2", 16, hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, patch_size=2),
    "ResNet": viewer("ResNet", 16, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"), "RegNet": viewer("RegNet", 16, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], groups_width=4),
    "BiT": viewer("Bit", 32, embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_groups=2), "MobileNet v1": viewer("MobileNetV1", 32, depth_multiplier=0.25, min_depth=4),
    "MobileNet v2": viewer("MobileNetV2", 32, depth_multiplier=0.25, min_depth=4), "EfficientNet": viewer("EfficientNet", 32, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320),
    "PoolFormer": viewer("PoolFormer", 32, depths=[1, 1], hidden_sizes=[4, 8], patch_sizes=[3, 3], strides=[2, 2], padding=[1, 1], num_encoder_blocks=2),
    "FocalNet": viewer("FocalNet", 16, image_size=16, patch_size=2, embed_dim=8, depths=[1, 1], focal_levels=[1, 1], focal_windows=[3, 3]),
    "LeViT": viewer("Levit", 32, image_size=32, hidden_sizes=[8, 8, 8], num_attention_heads=[2, 2, 2], depths=[1, 1, 1], key_dim=[4, 4, 4], down_ops=[["Subsample", 4, 2, 4, 2, 2]] * 2),
    "wav2vec 2.0": listener("Wav2Vec2"), "HuBERT": listener("Hubert"),
}  # fmt: skip
