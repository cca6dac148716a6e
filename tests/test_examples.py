"""The examples with other libraries: the ends they make, and the commands in their head comments."""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch

from dss.cli import main
from dss.runs import load_run

FOLDER = Path(__file__).parent.parent / "examples"

for library in ("transformers", "peft", "lightning"):
    pytest.importorskip(library)


def made(name, folder):
    """The ends, made by the example in a process of its own, as a user does."""
    subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), str(folder)], check=True, capture_output=True)
    return folder


def connected(name, a, b, folder, *more, threshold="1.2x"):
    command = ["connect", str(a), str(b), "--task", f"{FOLDER / name}.py:task", "--threshold", threshold]
    return main([*command, "--out", str(folder / "path"), "--prove", "never", "--json", *more])


@pytest.mark.slow
def test_two_fine_tunings_of_gpt2_are_joined(tmp_path):
    from transformers import GPT2LMHeadModel

    made("gpt2", tmp_path)
    assert connected("gpt2", tmp_path / "a", tmp_path / "b", tmp_path, "--max-seconds", "5") in (0, 1)
    assert main(["export", str(tmp_path / "path"), "--bead", "-1", "--out", str(tmp_path / "end")]) == 0
    back, end = (GPT2LMHeadModel.from_pretrained(tmp_path / name).state_dict() for name in ("end", "b"))
    assert all(torch.equal(back[name], end[name]) for name in end)


@pytest.mark.slow
def test_two_adapters_of_one_base_are_joined(tmp_path):
    from peft import PeftModel
    from transformers import GPT2LMHeadModel

    made("lora", tmp_path)
    arguments = tmp_path / "a", tmp_path / "b", tmp_path
    assert connected("lora", *arguments, "--only", "lora_*", "--max-seconds", "5") in (0, 1)
    assert all("lora_" in name for name in load_run(tmp_path / "path").question["parameters"])
    assert main(["export", str(tmp_path / "path"), "--bead", "-1", "--out", str(tmp_path / "end")]) == 0
    back, end = (
        PeftModel.from_pretrained(GPT2LMHeadModel.from_pretrained(tmp_path / "base"), tmp_path / name).state_dict()
        for name in ("end", "b")
    )
    assert all(torch.equal(back[name], end[name]) for name in end)


@pytest.mark.slow
def test_two_lightning_runs_are_joined(tmp_path, capsys):
    made("lightning_run", tmp_path)
    stored = torch.load(tmp_path / "a.ckpt", weights_only=False)["state_dict"]
    assert "loss.weight" in stored
    code = connected("lightning_run", tmp_path / "a.ckpt", tmp_path / "b.ckpt", tmp_path, "--lr", "0.01", threshold="0.5")
    out, err = capsys.readouterr()
    assert code == 0 and json.loads(out)["connected"]
    assert err.count("passed over: loss.weight") == 2
    first = load_run(tmp_path / "path").path.beads[0]
    assert torch.equal(first, torch.cat([v.reshape(-1) for n, v in stored.items() if n.startswith("network.")]))
