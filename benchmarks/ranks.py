"""One connection on one rank and on several: seconds, memory of each rank, and whether the path is the same.

    python -m benchmarks.ranks 1 2 --width 1000      # each count of ranks under torchrun, on this machine (Linux)

Two networks 64-w-w-w-10 trained apart on 400 of scikit-learn's digits are joined by greedy search just above the worse end's loss. Memory is
the most that a rank took while it searched, less what it took before (libraries, data, model and both ends), in models: sizes of one point.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import dss
from benchmarks.records import Record, Records, as_table, figure
from models.mlp import MLP

SAMPLES, DEPTH = 400, 4
FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "scale.md"


def task(width: int) -> dss.Task:
    """What the networks are trained on."""
    x, y = dss.load_task("digits").train
    data = x[:SAMPLES], y[:SAMPLES]
    return dss.Task(MLP(64, 10, width=width, depth=DEPTH), cross_entropy, data, batch_size=50, epochs=15, learning_rate=1e-3)


def ends(width: int) -> torch.Tensor:
    """Two trained networks, from seeds 0 and 1: `(2, p)`."""
    models = [list(dss.train(task(width), seed=seed))[-1].model for seed in range(2)]
    return torch.stack([dss.ParameterSpace.of(model).flatten(model.state_dict()) for model in models])


def resident(field: str) -> int:
    """Bytes that this process has in memory (`VmRSS`), or the most it had since it was last asked to forget that (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def worker(folder: Path, width: int, excess: float, alpha: float) -> None:
    """One rank's search, and what it took."""
    with dss.ranks.joined("cpu"):
        loss = dss.ranks.shared(task(width).objectives()[0])
        start, end = torch.load(folder / "ends.pt", weights_only=True)
        threshold = excess * loss(torch.stack([start, end])).max().item()
        problem = dss.Problem.of(loss, start, end, threshold=threshold, adopt=True)
        finder = dss.ranks.spread_out(dss.GreedyString(alpha=alpha))
        before, began = resident("VmRSS"), time.monotonic()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        step = finder.run(problem)
        found = {
            "seconds": time.monotonic() - began, "models": (resident("VmHWM") - before) / start.nbytes, "beads": len(step.path),
            "held": sum(not row.is_meta for row in step.path.rows), "status": step.status.value, "rounds": step.round,
            "gradient_steps": step.gradient_steps, "parameters": start.numel(), "digests": step.path.digests,
        }  # fmt: skip
    (folder / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))


def measured(folder: Path, ranks: int, *search: str) -> Record:
    """What the ranks took; they end with one path."""
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    subprocess.run([sys.executable, "-m", *launcher, "-m", "benchmarks.ranks", "--worker", str(folder), *search], check=True)
    every = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]
    same = ("beads", "status", "rounds", "gradient_steps", "parameters", "digests")
    assert all(each[name] == every[0][name] for each in every for name in same), "ranks must agree"
    apart = {name: [each[name] for each in every] for name in ("seconds", "models", "held")}
    return {**{name: every[0][name] for name in same}, **apart}


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The table of the page: a row a count of ranks; seconds are the slowest rank's."""
    found = results.get("ranks", {})
    rows = []
    for key, r in found.items():
        width, _, count = key.partition(" / ")
        first = next(other for name, other in found.items() if name.partition(" / ")[0] == width)
        same = "the same, bit for bit" if r["digests"] == first["digests"] else "another"
        held, models = (" and ".join(map(str, each)) for each in (r["held"], map(figure, r["models"])))
        rows.append((count, r["parameters"], r["beads"], held, models, figure(max(r["seconds"])), same if r is not first else ""))
    return {"ranks": as_table(("ranks", "parameters", "beads", "held by each", "memory, models", "seconds", "path"), rows)}


def main() -> None:
    """Measure what is not in the JSON file, and print a line for each count of ranks."""
    if sys.argv[1:2] == ["--worker"]:
        return worker(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranks", type=int, nargs="+")
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--excess", type=float, default=1.02, help="the threshold over the worse end's loss")
    parser.add_argument("--alpha", type=float, default=0.99, help="beads are trained to so much of the threshold")
    parser.add_argument("--out", type=Path, default=FILE, help="the JSON file (default: %(default)s)")
    options = parser.parse_args()
    records = Records(options.out)
    with tempfile.TemporaryDirectory() as name:
        torch.save(ends(options.width), Path(name) / "ends.pt")
        for ranks in options.ranks:
            key = f"{options.width} / {ranks}"
            if not records.has("ranks", key):
                records.add("ranks", key, measured(Path(name), ranks, *map(str, (options.width, options.excess, options.alpha))))
            found = records.results["ranks"][key]
            print(key, {name: value for name, value in found.items() if name != "digests"}, flush=True)
            print(
                "    the same path:",
                found["digests"] == records.results["ranks"][f"{options.width} / {options.ranks[0]}"]["digests"],
            )


if __name__ == "__main__":
    main()
