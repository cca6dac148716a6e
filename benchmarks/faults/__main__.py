"""Run the parts of the campaign; see the package."""

import argparse
import importlib
import json
import pkgutil
import sys
import time
import warnings

from benchmarks import faults

COUNTS = {"checkpoints": 3000, "runs": 1000, "kills": 100, "disk": 20, "machine": 200, "writers": 10}
"""How often each part tries, unless it is told."""
SLICES = {"checkpoints": 300, "runs": 100, "kills": 20, "disk": 5, "machine": 10**6, "writers": 5}
"""How many tries are made before the clock is looked at; connections are all made in one process."""


def main() -> int:
    """Run the parts, print what they counted; 1 if anything should not have been."""
    options = _options()
    warnings.simplefilter("ignore")
    deadline = time.monotonic() + 60 * options.minutes
    counted = {part: _part(part, options.count or COUNTS[part], options.seed, deadline) for part in options.part}
    if options.json:
        print(json.dumps(counted, indent=2))
    else:
        print(*(line for part, figures in counted.items() for line in _lines(part, figures)), sep="\n")
    return 1 if any(figures["failures"] for figures in counted.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=faults.__doc__)
    there = {module.name for module in pkgutil.iter_modules(faults.__path__)}
    parts = [part for part in COUNTS if part in there]
    parser.add_argument("--part", nargs="+", choices=parts, default=parts, help="which (default: all)")
    parser.add_argument("--count", type=int, help=f"how often each tries (default: {COUNTS})")
    parser.add_argument(
        "--minutes", type=float, default=30, help="of all parts; what is left out is not counted (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    return parser.parse_args()


def _part(part: str, count: int, seed: int, deadline: float) -> dict:
    """The sum of what slices of a part counted, for as long as there is time."""
    module = importlib.import_module(f"benchmarks.faults.{part}")
    size, total = SLICES[part], {"failures": []}
    for i, begun in enumerate(range(0, count, size)):
        if time.monotonic() >= deadline:
            total["failures"] = [*total["failures"], f"out of time after {begun} of {count}"]
            break
        for name, figure in module.run(min(size, count - begun), 1000 * seed + i).items():
            total[name] = total[name] + figure if name in total else figure
    return total


def _lines(part: str, figures: dict) -> list[str]:
    """A part as lines of a table, its failures last."""
    rows = [f"{part:<12} {name:<28} {figure}" for name, figure in sorted(figures.items()) if name != "failures"]
    return [
        *rows,
        f"{part:<12} {'failures':<28} {len(figures['failures'])}",
        *(f"    {failure}" for failure in figures["failures"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
