"""Two fine-tunings of one small GPT-2, as transformers saves them, joined below a threshold.

    python examples/gpt2.py runs/gpt2           # fine-tunes twice from one start: runs/gpt2/a and runs/gpt2/b
    dss connect runs/gpt2/a runs/gpt2/b --task examples/gpt2.py:task --threshold 1.2x --out runs/gpt2/path
    dss export runs/gpt2/path --bead -1 --out runs/gpt2/end      # GPT2LMHeadModel.from_pretrained("runs/gpt2/end")

The model is made from a configuration: nothing is downloaded.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

import dss

WORDS, LENGTH, STEPS, RATE = 23, 12, 60, 1e-2
CONFIG = GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
                    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)  # fmt: skip


class NextWord(nn.Module):
    """Words in, logits of the next word out: what a loss of tensors reads."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, words: Tensor) -> Tensor:
        """Logits `(samples, words of the vocabulary, positions)`, as `cross_entropy` wants them."""
        return self.model(words, use_cache=False).logits.transpose(1, 2)


def start() -> GPT2LMHeadModel:
    """The network that both fine-tunings begin with."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(CONFIG)


def sentences() -> tuple[Tensor, Tensor]:
    """Rows in which each word is the one before plus a step: `(samples, positions)`, and the words that follow."""
    first = torch.arange(24)[:, None] % WORDS
    step = 1 + torch.arange(24)[:, None] % 3
    words = (first + step * torch.arange(LENGTH + 1)) % WORDS
    return words[:, :-1], words[:, 1:]


def fine_tuned(model: nn.Module, seed: int) -> nn.Module:
    """The model after some steps on sentences that a seed draws; only what requires gradients moves."""
    (words, following), draw = sentences(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], RATE)
    net = NextWord(model).train()
    for _ in range(STEPS):
        rows = torch.randint(len(words), (8,), generator=draw)
        optimizer.zero_grad()
        cross_entropy(net(words[rows]), following[rows]).backward()
        optimizer.step()
    return model.eval()


def task() -> dss.Task:
    """What `dss connect` is asked about."""
    return dss.Task(NextWord(start()), cross_entropy, sentences(), name="next word")


def main(folder: Path) -> None:
    """Make the two ends."""
    for seed, name in enumerate("ab"):
        fine_tuned(start(), seed).save_pretrained(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
