"""What several test files share: a tiny task in a file, and two trained ends of it."""

import os
from pathlib import Path

# The nets of the tests are tiny: a second thread only waits for the first.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

TINY_TASK = """
import torch
from torch import nn
import dss

def task():
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    return dss.Task(net, nn.functional.cross_entropy, (x, y), name="xor", epochs=400, learning_rate=0.03)

def broken():
    raise RuntimeError("no such data")

def wrong():
    return 3

fixed = task()
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with `task.py` and two trained ends, `a.pt` and `b.safetensors`."""
    from dss.cli import main

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "task.py").write_text(TINY_TASK)
    for seed, name in enumerate(("a.pt", "b.safetensors")):
        assert main(["train", f"{folder}/task.py:task", "--seed", str(seed), "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless chromium; see `browsing`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    from browsing import SOFTWARE_GL, chromium

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SOFTWARE_GL)
        yield browser
        browser.close()
