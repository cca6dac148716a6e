"""Two LoRA adapters of one base, as peft saves them; the path moves them alone, and the base keeps every bit.

python examples/lora.py runs/lora           # the base and two adapters: runs/lora/base, runs/lora/a, runs/lora/b
dss connect runs/lora/a runs/lora/b --task examples/lora.py:task --only 'lora_*' --threshold 1.2x --out runs/lora/path
dss export runs/lora/path --bead -1 --out runs/lora/end      # PeftModel.from_pretrained(base, "runs/lora/end")
"""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy

import dss

sys.path.insert(0, str(Path(__file__).parent))
from gpt2 import NextWord, fine_tuned, sentences, start


def adapted() -> PeftModel:
    """The base with an adapter that does nothing yet."""
    model = start()
    torch.manual_seed(1)
    return get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True))


def task() -> dss.Task:
    """What `dss connect` is asked about."""
    return dss.Task(NextWord(adapted()), cross_entropy, sentences(), name="next word, adapted")


def main(folder: Path) -> None:
    """Make the base and the two ends."""
    start().save_pretrained(folder / "base")
    for seed, name in enumerate("ab"):
        model = fine_tuned(adapted(), seed)
        model.peft_config["default"].base_model_name_or_path = str(folder / "base")
        model.save_pretrained(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
