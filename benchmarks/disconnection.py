"""How soon each string says that it cannot get through, where no path exists.

    python -m benchmarks.disconnection --pairs 10

A bias-free 2-3-2 ReLU network on the vertices of a triangle, `y = (x2, x3, x1)`, and its copy with two hidden units
swapped: below a mean squared error of 1/12 no path joins them. Above it one should be found. For both thresholds:
how many searches end in a path, and the median of gradient evaluations, beads and lengths. What is in the JSON file is not measured
again; `python -m benchmarks.tables` draws docs/finders.md from it.
"""

import argparse
from math import pi
from pathlib import Path
from statistics import median

import torch

import dss
from benchmarks.records import Records, as_table

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "finders.md"
TABLE = "disconnection"
SWAP = torch.tensor([1, 0, 2])
DESCENT = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=0.01), max_steps=2000)
LIMITS = dss.Limits(rounds=12, beads=100, gradient_steps=100_000)
FINDERS = {
    "greedy": dss.GreedyString(descent=DESCENT, limits=LIMITS),
    "constrained": dss.ConstrainedString(descent=DESCENT, limits=LIMITS),
    "constrained, penalty": dss.ConstrainedString(form="penalty", descent=DESCENT, limits=LIMITS),
    "constrained, falling": dss.ConstrainedString(levels=5, descent=DESCENT, limits=LIMITS),
    "geodesic": dss.GeodesicString(descent=DESCENT, limits=LIMITS),
}


class Triangle(dss.Objective):
    """Mean squared error over the six entries; a point is (first layer 3x2, second layer 2x3)."""

    description = "2-3-2 network on a triangle"

    def __init__(self):
        angles = torch.arange(3, dtype=torch.float64) * 2 * pi / 3
        self.x = torch.stack([angles.cos(), angles.sin()], dim=1)
        self.y = self.x[[1, 2, 0]]

    def __call__(self, points):
        first, second = points[:, :6].view(-1, 3, 2), points[:, 6:].view(-1, 2, 3)
        hidden = (self.x @ first.mT).relu()
        return (hidden @ second.mT - self.y).square().mean((1, 2))


def trained(objective, seed):
    """The first network from this seed on that fits the three points."""
    while True:
        start = torch.randn(1, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        generator = torch.Generator()
        found = dss.descend(objective, objective, start, 1e-4, options=DESCENT, generator=generator)
        if found.reached.all():
            return found.points[0]
        seed += 1000


def swapped(point):
    """The same function with the first two hidden units exchanged."""
    first, second = point[:6].view(3, 2), point[6:].view(2, 3)
    return torch.cat([first[SWAP].reshape(-1), second[:, SWAP].reshape(-1)])


def measure(objective, threshold, finder, ends):
    """One row: the figures of all pairs."""
    found = [dss.connect(objective, a, swapped(a), threshold=threshold, finder=finder, prove="never") for a in ends]
    return {
        "pairs": len(found),
        "gradients": [f.tally.gradient_evaluations for f in found],
        "beads": [f.path.intermediate_beads for f in found],
        "lengths": [f.path.normalized_length for f in found if f.connected],
    }


def pages_of(results):
    """The table of docs/finders.md."""
    rows = []
    for key, row in results[TABLE].items():
        threshold, finder = key.split(" / ")
        length = f"{median(row['lengths']):.3f}" if row["lengths"] else "-"
        connected = f"{len(row['lengths'])}/{row['pairs']}"
        rows.append((threshold, finder, connected, f"{median(row['gradients']):.0f}", f"{median(row['beads']):g}", length))
    return {TABLE: as_table(("threshold", "finder", "connected", "gradients", "beads", "length"), rows)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.06, 0.12])
    parser.add_argument("--out", type=Path, default=FILE, help="the JSON file; what is there is not measured again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    objective, records = Triangle(), Records(options.out)
    ends = [trained(objective, seed) for seed in range(options.pairs)]
    for threshold in options.thresholds:
        for label, finder in FINDERS.items():
            key = f"{threshold:g} / {label}"
            if records.results.get(TABLE, {}).get(key, {}).get("pairs") != options.pairs:
                records.add(TABLE, key, measure(objective, threshold, finder, ends))
                print(key, records.results[TABLE][key], flush=True)


if __name__ == "__main__":
    main()
