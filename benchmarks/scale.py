"""What many checkpoints cost: recorded times of a grown tree, scheduled onto more workers.

`python benchmarks/scale.py runs/tree/tree.json --line-seconds 0.004` draws the searches of larger trees from the recorded times
(with replacement, seed 0), gives each to the worker that is free first, as a pool or a Dask cluster does, and prints hours.
Nothing is searched: it says what the scheduler would do, not what a shared folder or a network adds.
"""

import argparse
import heapq
import json
import random
from pathlib import Path

WORKERS = (1, 2, 16, 128)
CHECKPOINTS = (10, 100, 1000)
# A worker reads the task and its data before its first pair.
START_SECONDS = 4.0


def makespan(seconds: list[float], workers: int) -> float:
    """When the last task ends if each goes to the worker that is free first."""
    free = [START_SECONDS] * min(workers, len(seconds))
    for task in seconds:
        heapq.heapreplace(free, free[0] + task)
    return max(free)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, help="the tree.json of a grown tree, whose pairs were timed")
    parser.add_argument("--line-seconds", type=float, required=True, help="of one straight line")
    options = parser.parse_args()
    recorded = [searched["seconds"] for searched in json.loads(options.tree.read_text())["searches"]]
    print(f"{len(recorded)} pairs recorded, {sum(recorded) / len(recorded):.2f} s on average, {max(recorded):.2f} s at most")
    draw = random.Random(0)
    for count in CHECKPOINTS:
        lines = count * (count - 1) // 2
        for name, pairs in (("tree", count - 1), ("all pairs", lines)):
            tasks = [*([16 * options.line_seconds] * (lines // 16 + 1)), *draw.choices(recorded, k=pairs)]
            hours = "  ".join(f"{workers} workers {makespan(tasks, workers) / 3600:.3f} h" for workers in WORKERS)
            print(f"{count:>5} checkpoints, {name:<9} {lines:>7} lines, {pairs:>7} searches: {hours}")


if __name__ == "__main__":
    main()
