"""Every finder on the same ends at the same threshold, under the same certificate.

    python -m benchmarks.rivals digits:0.5 digits:0.35 quadratics:0.0025 cubics:0.05 --seeds 3 --out rivals.jsonl

For each task and threshold it trains ends, runs every finder in one process, and prints a table of medians: seconds of
processor time to the path, samples read in gradients and losses, intermediate beads, normalized length, and what
shortening makes of it. A row counts only if its path passes its certificate; "found" says how many did. Seconds are those to the
first string that passed the finder's own test; `bend` pulls it tight afterwards, for "tight seconds" in all. A second table has
ratios: seconds over those of `bend` on the same ends, median and quartiles. Rows that the file of results has already are not
measured again, so a run may be cut into slices. Checkouts of the published code of two rivals run beside them: see
`published.py`.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path as File
from statistics import median, quantiles

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from benchmarks import published

# Epochs between two looks at an end: it stops training at a share of the threshold.
LOOK = {"digits": 1, "quadratics": 20, "cubics": 20, "fashion": 1, "fashion-small": 1}
COLUMNS = (
    "found",
    "seconds",
    "tight seconds",
    "gradients",
    "losses",
    "beads",
    "first length",
    "length",
    "shortened",
    "shorten seconds",
)
# Rates at which the chain, the quickest rival, is tuned, over that of the ends.
TUNED = (1.0, 2.5, 5.0)


def fashion_small() -> dss.Task:
    """A conv net of 6,346 parameters on the first 10,000 training images of Fashion-MNIST, judged on 2,000 test images."""
    fashion = dss.load_task("fashion")
    (x, y), (x_test, y_test) = fashion.train, fashion.judge
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 10)),
    )
    train, judge = (x[:10_000], y[:10_000]), (x_test[:2000], y_test[:2000])
    return dss.Task(net, cross_entropy, train, judge, batch_size=128, name="fashion-small", epochs=40, learning_rate=2e-3)


TASKS = {name: partial(dss.load_task, name) for name in ("digits", "quadratics", "cubics", "fashion")}
TASKS |= {"fashion-small": fashion_small}


def finders(rate: float, minutes: float) -> dict[str, dss.Finder]:
    """The rivals, all with Adam at the rate the ends were trained with, and with the same time to succeed in."""
    descent = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=rate), max_steps=2000)
    limits = dss.Limits(rounds=200, seconds=60 * minutes)
    greedy = dss.GreedyString(descent=descent)
    chains = {f"polygonal chain, rate x{factor:g}": tuned_chain(factor * rate, limits) for factor in TUNED[1:]}
    return {
        "bend": dss.BendString(fallback=greedy, limits=limits),
        "greedy": dss.GreedyString(descent=descent, limits=limits),
        "greedy, midpoint": dss.GreedyString(insertion="midpoint", descent=descent, limits=limits),
        "geodesic": dss.GeodesicString(descent=descent, limits=limits),
        "constrained": dss.ConstrainedString(descent=descent, limits=limits),
        "constrained, falling": dss.ConstrainedString(levels=5, descent=descent, limits=limits),
        "band (AutoNEB)": dss.ElasticBand(descent=descent, limits=limits),
        "Bezier curve": dss.BezierCurve(descent=descent, limits=limits),
        "polygonal chain": dss.PolygonalChain(descent=descent, limits=limits),
        **chains,
    }


def tuned_chain(rate: float, limits: dss.Limits) -> dss.Finder:
    """The chain at another rate, judged twice as often: it may stop sooner."""
    descent = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=rate))
    return dss.PolygonalChain(cycle=50, descent=descent, limits=limits)


def fresh(name: str, seed: int) -> dss.Task:
    """The task with initial weights of its own: `load_task` draws those of a built-in one under its own seed."""
    torch.manual_seed(seed)
    return TASKS[name]() if name == "fashion-small" else dss.load_task(name, seed=seed)


def end(name: str, seed: int, stop: float) -> torch.Tensor:
    """A trained end: the first network, from this seed on, that gets down to `stop`."""
    while True:
        task = fresh(name, seed)
        for epoch in dss.train(task, seed=seed):
            if epoch.number % LOOK[name] == 0 and task.judged_loss(epoch.model) <= stop:
                return dss.ParameterSpace.of(task.model).flatten(epoch.model.state_dict())
        seed += 1000


def measure(name: str, threshold: float, seed: int, options: argparse.Namespace) -> None:
    """One pair of ends, every finder that has no row yet; one row each."""
    key = {"task": name, "threshold": threshold, "seed": seed}
    done = {row["finder"] for row in recorded(options.out) if key.items() <= row.items()}
    task = TASKS[name]()
    checkouts = {"garipov": options.garipov, "autoneb": options.autoneb}
    rivals = finders(task.learning_rate, options.minutes)
    rivals |= published.finders(task, **checkouts, seconds=60 * options.minutes)
    rivals = {k: v for k, v in rivals.items() if k not in done and (not options.only or k in options.only)}
    if not rivals:
        return
    objective, judge = task.objectives()
    stop = options.ends * threshold
    start, stop_point = end(name, 2 * seed, stop), end(name, 2 * seed + 1, stop)
    for label, finder in rivals.items():
        problem = dss.Problem.of(objective, start, stop_point, threshold=threshold, judge=judge, seed=seed)
        figures, path = searched(problem, finder)
        row = key | {"finder": label} | figures | (shortened(problem, path, options) if figures["found"] else {})
        with options.out.open("a") as file:
            print(json.dumps(row), file=file, flush=True)


def searched(problem: dss.Problem, finder: dss.Finder | published.PublishedFinder) -> tuple[dict, dss.Path]:
    """One search: what it cost, to the first string that passed and in all, and the path it ended with."""
    began, first = time.process_time(), {}
    last = None
    for last in finder.steps(problem):
        passed = last.status is dss.Status.FOUND or "pull" in last.memory
        if passed and not first:
            first = {"seconds": time.process_time() - began, "first length": last.path.normalized_length}
    assert last is not None, "a search has a first step"
    spent = time.process_time() - began
    figures = {"seconds": spent} | first | {
        "tight seconds": spent,
        "gradients": problem.tally.gradient_evaluations,
        "losses": problem.tally.loss_evaluations,
        "status": last.status.value,
        "found": dss.certify(problem.judge, last.path, threshold=problem.threshold).passed,
        "beads": last.path.intermediate_beads,
        "length": last.path.normalized_length,
    }  # fmt: skip
    return figures, last.path


def recorded(file: File) -> list[dict]:
    """The rows measured so far."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def shortened(problem: dss.Problem, path: dss.Path, options: argparse.Namespace) -> dict:
    """What shortening makes of a path that passes."""
    if options.no_shorten:
        return {}
    began = time.process_time()
    judge = None if problem.judge is problem.objective else problem.judge
    result = dss.shorten(
        problem.objective, path, threshold=problem.threshold, judge=judge, options=dss.Shortening(doublings=options.doublings)
    )
    seconds = time.process_time() - began
    return {"shortened": result.path.normalized_length, "shorten seconds": seconds, "change": result.change}


def table(rows: list[dict]) -> str:
    """Medians over the pairs that were connected, in Markdown."""
    lines = []
    for task, threshold in dict.fromkeys((row["task"], row["threshold"]) for row in rows):
        lines += [
            f"\n### {task}, L0 = {threshold:g}\n",
            "| finder | " + " | ".join(COLUMNS) + " |",
            "|---" * (len(COLUMNS) + 1) + "|",
        ]
        here = [row for row in rows if (row["task"], row["threshold"]) == (task, threshold)]
        for label in dict.fromkeys(row["finder"] for row in here):
            mine = [row for row in here if row["finder"] == label]
            lines.append(f"| {label} | " + " | ".join(cell(mine, column) for column in COLUMNS) + " |")
    return "\n".join(lines)


def ratios(rows: list[dict]) -> str:
    """Seconds of every finder over those of `bend` on the same ends, where both found a path, in Markdown."""
    lines = ["\n| task | finder | pairs | seconds / bend's | tight seconds of bend / seconds |", "|---" * 5 + "|"]
    keyed = {(r["task"], r["threshold"], r["finder"], r["seed"]): r for r in rows if r["found"]}
    for task, threshold, label in dict.fromkeys(key[:3] for key in keyed):
        pairs = [(keyed[key], keyed[(task, threshold, "bend", key[3])]) for key in keyed
                 if key[:3] == (task, threshold, label) and (task, threshold, "bend", key[3]) in keyed]  # fmt: skip
        if label != "bend" and pairs:
            cells = spread([other["seconds"] / bend["seconds"] for other, bend in pairs])
            tight = spread([bend["tight seconds"] / other["seconds"] for other, bend in pairs])
            lines.append(f"| {task} at {threshold:g} | {label} | {len(pairs)} | {cells} | {tight} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def cell(rows: list[dict], column: str) -> str:
    found = [row for row in rows if row["found"]]
    if column == "found":
        return f"{len(found)}/{len(rows)}"
    values = [row[column] for row in found if column in row]
    if not values:
        return "-"
    middle = median(values)
    if column in ("gradients", "losses"):
        return f"{middle / 1e3:.0f}k"
    return f"{middle:.3f}" if column in ("first length", "length", "shortened") else f"{middle:.1f}"


def warm_up() -> None:
    """The first step of an optimizer imports for a second: no finder shall pay for it."""
    parameter = torch.zeros(1, requires_grad=True)
    parameter.sum().backward()
    torch.optim.Adam([parameter]).step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="TASK:THRESHOLD")
    parser.add_argument("--seeds", type=int, default=3, help="pairs of ends (default: %(default)s)")
    parser.add_argument(
        "--ends", type=float, default=0.6, help="ends train to this share of the threshold (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of one search, at most (default: %(default)s)")
    parser.add_argument("--doublings", type=int, default=1, help="of the beads while shortening (default: %(default)s)")
    parser.add_argument("--no-shorten", action="store_true", help="only search")
    parser.add_argument("--only", nargs="*", help="labels of finders")
    parser.add_argument("--garipov", type=File, help="checkout of timgaripov/dnn-mode-connectivity, to run too")
    parser.add_argument("--autoneb", type=File, help="checkout of fdraxler/PyTorch-AutoNEB, to run too")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument(
        "--out", type=File, required=True, help="rows as JSON lines; those that are there count and are not measured again"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warm_up()
    cases = []
    for case in options.cases:
        name, _, threshold = case.partition(":")
        cases.append((name, float(threshold)))
        for seed in range(options.seeds):
            try:
                measure(name, float(threshold), seed, options)
            except dss.InputError as error:
                parser.error(str(error))
    rows = [row for row in recorded(options.out) if (row["task"], row["threshold"]) in cases]
    print(table(rows))
    print(ratios(rows))


if __name__ == "__main__":
    main()
