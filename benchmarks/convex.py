"""A constructed path and its proof beside what rivals need for a sampled path, on the same ends in the same run.

    python -m benchmarks.convex --pairs 6 --threshold 0.35

For a conv net and an MLP of four hidden layers on digits it trains ends and lets `convex`, `greedy` and `chain` connect each
pair in turn, in one process. Seconds are of the processor: for `convex` to a path that is *proved* to stay below the
threshold, for the others to a path that a sampled certificate passes, without and with the time of that certificate. The
ratios are of one pair each; their median and quartiles are printed.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss


def mlp() -> dss.Task:
    """64-64-64-64-64-10 with ReLU on scikit-learn's digits, judged on 597 test images."""
    digits = dss.load_task("digits")
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(4):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(64, 10))
    return dss.Task(net, cross_entropy, digits.train, digits.judge, batch_size=128, name="mlp", epochs=40, learning_rate=2e-3)


def conv_net() -> dss.Task:
    """The built-in task, its weights drawn where a task of one's own would draw them: `load_task` seeds its draws by itself."""
    return dss.load_task("digits", seed=int(torch.randint(2**31, ())))


TASKS: dict[str, Callable[[], dss.Task]] = {"digits": conv_net, "mlp": mlp}


def finders(rate: float) -> dict[str, dss.Finder]:
    """The constructed path, and two rivals with Adam at the rate that the ends were trained with."""
    descent = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=rate), max_steps=2000)
    limits = dss.Limits(rounds=200, seconds=60)
    return {
        "convex": dss.ConvexPath(),
        "greedy": dss.GreedyString(descent=descent, limits=limits),
        "chain": dss.PolygonalChain(descent=descent, limits=limits),
    }


def end(name: str, seed: int) -> torch.Tensor:
    """A trained end with initial weights of its own."""
    torch.manual_seed(seed)
    # `load_task` draws a built-in task's initial weights under its own seed, not under the one above.
    task = dss.load_task(name, seed=seed) if name == "digits" else TASKS[name]()
    *_, last = dss.train(task, seed=seed)
    return dss.ParameterSpace.of(last.model).flatten(last.model.state_dict())


def measure(name: str, seed: int, threshold: float) -> dict[str, dict[str, float]]:
    """One pair of ends: for each finder, seconds to the path and through its certificate, and what was certified."""
    task = TASKS[name]()
    objective, judge = task.objectives(buffers="frozen")
    start, stop = end(name, 2 * seed + 1), end(name, 2 * seed + 2)
    rows = {}
    for label, finder in finders(task.learning_rate).items():
        problem = dss.Problem.of(objective, start, stop, threshold=threshold, judge=judge, seed=seed)
        began = time.process_time()
        step = finder.run(problem)
        found = time.process_time()
        certificate = dss.certify(problem.recalled, step.path, threshold=threshold, prove=label == "convex")
        certified = time.process_time()
        rows[label] = {
            "path": found - began,
            "certified": certified - began,
            "passed": certificate.passed,
            "proven": certificate.proven,
            "max": certificate.max_loss,
            "upper": certificate.upper or float("nan"),
            "length": step.path.normalized_length,
            "ends": max(problem.loss_start, problem.loss_end),
        }
    return rows


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    if len(values) < 2:
        return f"{values[0]:.3g}" if values else "–"
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{median(values):.3g} ({low:.3g} to {high:.3g})"


def table(pairs: list[dict[str, dict[str, float]]]) -> str:
    """One row a finder, in Markdown; a pair that a rival did not connect gives no ratio."""
    lines = ["| finder | passed | proved | s to the path | s with certificate | s / convex's proof | max loss | length |"]
    lines.append("|" + "---|" * 8)
    for label in pairs[0]:
        rows = [pair[label] for pair in pairs]
        ratios = [pair[label]["certified" if label == "convex" else "path"] / pair["convex"]["certified"]
                  for pair in pairs if pair[label]["passed"] and pair["convex"]["proven"]]  # fmt: skip
        cells = [sum(row["passed"] for row in rows), sum(row["proven"] for row in rows)]
        cells += [spread([row[key] for row in rows]) for key in ("path", "certified")]
        cells += [spread(ratios), *(spread([row[key] for row in rows]) for key in ("max", "length"))]
        lines.append(f"| {label} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--pairs", type=int, default=6, help="pairs of ends (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.35, help="L0 (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.tasks:
        measure(name, options.pairs, options.threshold)  # what is loaded and compiled at the first call counts for nobody
        pairs = [measure(name, seed, options.threshold) for seed in range(options.pairs)]
        ends = spread([pair["convex"]["ends"] for pair in pairs])
        print(f"\n### {name}, L0 = {options.threshold:g}, {options.pairs} pairs, larger end {ends}\n\n{table(pairs)}")


if __name__ == "__main__":
    main()
