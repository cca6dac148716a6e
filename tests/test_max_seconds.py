"""`--max-seconds` bounds a whole command within one look, its page included. The clock is the test's: a loss takes a second."""

import json
import sys
import time
from types import ModuleType

import pytest

from dss.cli import main
from dss.objectives.network.replays import Replays

# One look: what has begun may end. Points are looked at in groups of a few; a step of a proof bounds some cells and checks them.
LOOK, STEP = 8, 24
TASK = """
import slow_clock, torch
from torch import nn
import dss

def loss(output, target):
    slow_clock.tick()
    return nn.functional.cross_entropy(output, target)

def task():
    x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    return dss.Task(net, loss, (x, y), name="slow xor")
"""


class Clock(ModuleType):
    """A clock that a task can import; it stands still but for the losses."""

    def __init__(self):
        super().__init__("slow_clock")
        self.now, self.began = 1000.0, []

    def tick(self):
        """A loss is computed: when it began, and that it took a second."""
        self.began.append(self.now)
        self.now += 1


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setitem(sys.modules, "slow_clock", clock)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(Replays, "takes", lambda *_: False)  # a pass that is played calls no loss that could take a second
    return clock


@pytest.fixture
def place(tiny, clock, tmp_path):
    """A folder with the slow task and a finished run of it."""
    (tmp_path / "slow.py").write_text(TASK)
    assert (
        main(["connect", *ends(tiny), *task(tmp_path), "--lr", "0.01", "--out", str(tmp_path / "run"), "--prove", "never"]) == 0
    )
    return tmp_path


def ends(tiny):
    return [f"{tiny}/a.pt", f"{tiny}/b.safetensors"]


def task(folder, threshold="0.25"):
    return ["--task", f"{folder}/slow.py:task", *(["--threshold", threshold] if threshold else [])]


def words(name, tiny, place, out):
    return {
        "connect": ["connect", *ends(tiny), *task(place), "--lr", "0.01", "--out", str(out)],
        "connect and shorten": ["connect", *ends(tiny), *task(place), "--lr", "0.01", "--shorten", "--out", str(out)],
        "connect and prove": ["connect", *ends(tiny), *task(place, "9x"), "--prove", "always", "--out", str(out)],
        "shorten": ["shorten", str(place / "run"), "--out", str(out)],
        "certify": ["certify", str(place / "run")],
        "bracket": ["certify", str(place / "run"), "--tolerance", "1e-4"],
        "check": ["check", *ends(tiny), *task(place, None)],
        "check and prove": ["check", *ends(tiny), *task(place, None), "--prove"],
    }[name]


NAMES = ["connect", "connect and shorten", "connect and prove", "shorten", "certify", "bracket", "check", "check and prove"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_loss_begins_after_the_limit_and_the_command_ends_in_words(name, tiny, place, clock, capsys):
    clock.began.clear()
    began = clock.now
    assert main([*words(name, tiny, place, place / "none"), "--max-seconds", "0"]) in (1, 2)
    # With no time at all there is what reading and asking the task takes.
    asking = len(clock.began)
    capsys.readouterr()
    for seconds in (asking + 20, asking + 90, asking + 250):
        clock.began.clear()
        began, out = clock.now, place / f"out{seconds}"
        code = main([*words(name, tiny, place, out), "--max-seconds", str(seconds), "--json"])
        assert max(clock.began) - began <= seconds + (LOOK if name in ("connect", "check") else STEP)
        said = capsys.readouterr()
        assert code in (0, 1, 2) and (json.loads(said.out) if code < 2 else "limit on seconds" in said.err)
        assert name.startswith(("certify", "bracket", "check")) or (code < 2 and (out / "report.html").exists())


@pytest.mark.slow
def test_without_a_limit_the_command_takes_what_it_takes(tiny, place, clock):
    began = clock.now
    assert main(words("connect", tiny, place, place / "free")) == 0
    assert clock.now - began > 300
