"""How many networks hang together: K nets trained on digits, the tree grown from few pairs beside the tree of all pairs.

`python -m experiments.many_networks` trains ten 64-48-48-10 nets and prints, for both trees, the heights, the time and how far
they differ; `--count 30 --no-all` and `--align weights` are the larger map. The loss is the cross-entropy on the 1,200 training
digits. Heights are proved unless it says otherwise.
"""

import argparse
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss

WIDTH = 48
EPOCHS = 40
LEARNING_RATE = 2e-3
BATCH = 128


def network() -> nn.Module:
    """The net of the trial: two hidden layers of 48 units."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))


def trained(count: int, first_seed: int) -> tuple[dss.NetworkObjective, torch.Tensor]:
    """So many networks, each from its own seed: their loss, and their points `(count, p)`."""
    data, points = dss.load_task("digits").train, []
    for seed in range(first_seed, first_seed + count):
        torch.manual_seed(seed)
        task = dss.Task(network(), cross_entropy, data, batch_size=BATCH, epochs=EPOCHS, learning_rate=LEARNING_RATE)
        *_, last = dss.train(task, seed=seed)
        points.append(dss.ParameterSpace.of(last.model).flatten(last.model.state_dict()))
    return dss.NetworkObjective(network(), cross_entropy, data, batch_size=BATCH), torch.stack(points)


def grown(objective: dss.Objective, points: torch.Tensor, pairs: str, align: str | None) -> dss.MergeTree:
    """A tree, with what it took printed."""
    began, spent = time.monotonic(), time.process_time()
    tree = dss.merge_tree(objective, points, pairs=pairs, align=align)
    wall, cpu = time.monotonic() - began, time.process_time() - spent
    proved = sum(merge.proven for merge in tree.merges)
    print(
        f"{pairs:<5} align={align}: {len(tree.searches)} searches, {wall:.1f} s ({cpu:.1f} s of CPU), {proved} of {len(tree.merges)} proved"
    )
    print("      heights", " ".join(f"{merge.height:.4f}" for merge in tree.merges))
    return tree


def counts(tree: dss.MergeTree) -> str:
    """Components at a few thresholds."""
    top = tree.births.max().item()
    return "; ".join(f"{factor * top:.4f}: {tree.components_in_words(factor * top)}" for factor in (0.8, 0.9, 1.0, 1.05))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--align", choices=("weights", "activations"))
    parser.add_argument("--no-all", action="store_true", help="leave out the tree of all pairs")
    options = parser.parse_args()
    objective, points = trained(options.count, options.first_seed)
    tree = grown(objective, points, "tree", options.align)
    print("births", " ".join(f"{birth:.4f}" for birth in tree.births.sort().values.tolist()))
    between = tree.straight[~torch.eye(len(tree), dtype=torch.bool)]
    print(f"straight lines: {between.min():.4f} to {between.max():.4f}, median {between.median():.4f}")
    print("components", counts(tree))
    if not options.no_all:
        every = grown(objective, points, "all", options.align)
        off = max(abs(a.height - b.height) for a, b in zip(tree.merges, every.merges, strict=True))
        print(f"largest difference of a height: {off:.5f}")


if __name__ == "__main__":
    main()
