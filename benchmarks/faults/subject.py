"""What is damaged: two tiny trained networks, and runs between them."""

import contextlib
import io
import itertools
import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

import dss

TASK = """
import torch
from torch import nn
import dss

def task():
    x = torch.linspace(-1, 1, 24)[:, None]
    net = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))
    return dss.Task(net, nn.functional.mse_loss, (x, x.abs()), name="abs")
"""
THRESHOLD = 0.02
QUICK = ("--lr", "0.01", "--grid", "8", "--prove", "always", "--quiet")


class Subject:
    """A folder with a task file and three checkpoints.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "task.py").write_text(TASK, encoding="utf-8")
        for seed, name in enumerate("abc"):
            torch.save(trained(seed).state_dict(), folder / f"{name}.pt")

    @property
    def task(self) -> str:
        return f"{self.folder}/task.py:task"

    def connect(self, out: Path, *more: str) -> list[str]:
        """The arguments of a connection that takes some rounds, and is proved."""
        ends = [str(self.folder / "a.pt"), str(self.folder / "b.pt")]
        return ["connect", *ends, "--task", self.task, "--threshold", str(THRESHOLD), "--out", str(out), *QUICK, *more]

    def compare(self, out: Path) -> list[str]:
        """The arguments of a comparison."""
        ends = [str(self.folder / "a.pt"), str(self.folder / "b.pt")]
        return [
            "compare",
            *ends,
            "--task",
            self.task,
            "--threshold",
            str(THRESHOLD),
            "--out",
            str(out),
            "--finders",
            "straight",
            "geodesic",
            "-q",
        ]

    def tree(self, out: Path, *more: str) -> list[str]:
        """The arguments of a tree of the three."""
        points = [str(self.folder / f"{name}.pt") for name in "abc"]
        return [
            "tree",
            *points,
            "--task",
            self.task,
            "--out",
            str(out),
            "--grid",
            "8",
            "--prove",
            "never",
            "--no-pages",
            "-q",
            *more,
        ]

    def largest_loss(self, run: Path, places: int = 40) -> float:
        """The largest loss on a recorded path, by the plain network: an oracle that knows nothing of the package."""
        net, (x, y) = network().double(), (part.double() for part in data())
        beads = {name: value.double() for name, value in load_file(run / "path.safetensors").items()}
        count, worst = len(next(iter(beads.values()))), 0.0
        for first, second in itertools.pairwise(range(count)):
            for t in torch.linspace(0, 1, places, dtype=torch.float64):
                state = {name: torch.lerp(value[first], value[second], t) for name, value in beads.items()}
                with torch.no_grad():
                    out = torch.func.functional_call(net, state, (x,))
                worst = max(worst, nn.functional.mse_loss(out, y).item())
        return worst


def network() -> nn.Module:
    """That of the task file."""
    return nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """That of the task file."""
    x = torch.linspace(-1, 1, 24)[:, None]
    return x, x.abs()


@cache
def trained(seed: int) -> nn.Module:
    """A network whose loss is well below the threshold."""
    torch.manual_seed(seed)
    net, (x, y) = network(), data()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    while (loss := nn.functional.mse_loss(net(x), y)).item() > THRESHOLD / 5:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def called(arguments: list[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = dss.cli.main(arguments)
        except SystemExit as end:  # argparse's way to refuse
            code = end.code if isinstance(end.code, int) else 1
    return code, out.getvalue(), err.getvalue()


def summary_of(run: Path) -> dict:
    """What a run folder says of its outcome; nothing where that is no object."""
    try:
        found = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
