"""How many networks hang together: K nets trained apart, the tree grown from few pairs beside the tree of all pairs.

`python -m experiments.many_networks` trains ten 64-48-48-10 nets on digits and prints, for both trees, the heights, the time and
how far they differ; `--count 30 --no-all` and `--align weights` are the larger map. `--data fashion` takes small convolutional
nets on the first 200 images of Fashion-MNIST. The loss is the cross-entropy on the training data; heights are proved
unless it says otherwise. `--workers N` and `--dask ADDRESS` train and search elsewhere; the results are the same. `--keep FILE`
adds what was found to a JSON file.
"""

import argparse
import json
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from experiments.workers import add_workers, executor_of

WIDTH = 48
FASHION_IMAGES = 200


@dataclass(frozen=True)
class Nets:
    """What is trained on what: a built-in task's name, how many of its samples, and how."""

    data: str
    samples: int
    epochs: int
    learning_rate: float
    batch: int

    def model(self) -> nn.Module:
        """Two hidden layers of 48 units on digits; two convolutions of 8 and 16 channels on Fashion-MNIST."""
        if self.data == "digits":
            layers = [nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10)]
            return nn.Sequential(*layers)
        first, second = nn.Conv2d(1, 8, 5, stride=2), nn.Conv2d(8, 16, 5, stride=2)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))

    def task(self) -> dss.Task:
        """The task that they are trained by."""
        samples = dss.load_task(self.data).samples.take(slice(self.samples))
        data = (samples.inputs[0], samples.target)
        return dss.Task(
            self.model(), cross_entropy, data, batch_size=self.batch, epochs=self.epochs, learning_rate=self.learning_rate
        )

    def objective(self) -> dss.NetworkObjective:
        """The loss of all of them."""
        return self.task().objectives()[0]


NETS = {
    "digits": Nets("digits", 1200, epochs=40, learning_rate=2e-3, batch=128),
    "fashion": Nets("fashion", FASHION_IMAGES, epochs=40, learning_rate=3e-3, batch=50),
}


def trained(nets: Nets, seed: int) -> torch.Tensor:
    """One network from its own seed: its point `(p,)`."""
    torch.manual_seed(seed)
    *_, last = dss.train(nets.task(), seed=seed)
    return dss.ParameterSpace.of(last.model).flatten(last.model.state_dict())


def points_of(nets: Nets, seeds: range, file: Path | None, executor: Executor | None) -> torch.Tensor:
    """All networks `(count, p)`, from the file if it is there."""
    if file is not None and file.exists():
        return torch.load(file, weights_only=True)
    points = torch.stack(dss.parallel.in_order(executor, [partial(trained, nets, seed) for seed in seeds]))
    if file is not None:
        torch.save(points, file)
    return points


def grown(nets: Nets, points: torch.Tensor, pairs: str, options: argparse.Namespace, executor: Executor | None) -> dict:
    """A tree, with what it took: printed, and as JSON values."""
    began, spent = time.monotonic(), time.process_time()
    tree = dss.merge_tree(
        nets.objective(),
        points,
        pairs=pairs,
        align=options.align,
        executor=executor,
        prove="never" if options.sampled else "auto",
    )
    seconds = {"wall": round(time.monotonic() - began, 1), "processor": round(time.process_time() - spent, 1)}
    heights = [merge.height for merge in tree.merges]
    levels, counts = dss.figures.component_counts(tree)
    between = tree.straight[~torch.eye(len(tree), dtype=torch.bool)]
    found = {
        "align": options.align, "pairs": pairs, "searches": len(tree.searches), "seconds": seconds,
        "proved": sum(merge.proven for merge in tree.merges), "births": tree.births.tolist(), "heights": heights,
        "straight": [between.min().item(), between.median().item(), between.max().item()],
        "components": {"thresholds": levels.tolist(), "least_most_straight": counts.tolist()},
    }  # fmt: skip
    print(
        f"{pairs:<5} align={options.align}: {len(tree.searches)} searches, {seconds}, {found['proved']} of {len(heights)} proved"
    )
    print("      heights", " ".join(f"{height:.4f}" for height in heights))
    print("      straight lines (least, median, most)", " ".join(f"{value:.4f}" for value in found["straight"]))
    print("      components", _counts(tree), flush=True)
    return found


def _counts(tree: dss.MergeTree) -> str:
    """Components at a few thresholds."""
    top = tree.births.max().item()
    return "; ".join(f"{factor * top:.4f}: {tree.components_in_words(factor * top)}" for factor in (0.8, 0.9, 1.0, 1.05))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=NETS, default="digits")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--align", choices=("weights", "activations"))
    parser.add_argument("--no-all", action="store_true", help="leave out the tree of all pairs")
    parser.add_argument("--sampled", action="store_true", help="do not prove heights")
    parser.add_argument("--points", type=Path, help="a file of trained networks, written if it is not there")
    parser.add_argument("--keep", type=Path, help="a JSON file to which the results are added")
    add_workers(parser)
    options = parser.parse_args()
    nets, seeds = NETS[options.data], range(options.first_seed, options.first_seed + options.count)
    with executor_of(options) as executor:
        points = points_of(nets, seeds, options.points, executor)
        found = [grown(nets, points, pairs, options, executor) for pairs in (("tree",) if options.no_all else ("tree", "all"))]
    if not options.no_all:
        off = max(abs(a - b) for a, b in zip(found[0]["heights"], found[1]["heights"], strict=True))
        print(f"largest difference of a height: {off:.5f}")
    if options.keep is not None:
        before = json.loads(options.keep.read_text()) if options.keep.exists() else []
        entry = {"data": options.data, "samples": nets.samples, "first_seed": options.first_seed, "trees": found}
        options.keep.write_text(json.dumps([*before, entry], indent=1) + "\n")


if __name__ == "__main__":
    main()
