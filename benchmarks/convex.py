"""A constructed path and its proof beside what rivals need for a sampled path, on the same ends in the same run.

    python -m benchmarks.convex --pairs 10
    python -m benchmarks.tables          # docs/finders.md from benchmarks/convex.json

For a conv net and an MLP of four hidden layers on digits it trains ends and lets `fastest` (which writes a path down), `greedy` and the
quickest of the tuned chains of `benchmarks.rivals` connect each pair in turn, in one process. Seconds are of the processor: to
the path, and through its certificate: a proof for `fastest` and `greedy`, samples for the chains. Ratios are pair by pair: a
finder's seconds to its path, without its certificate, over those of `fastest` with its proof. What is in the file is not measured again.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from benchmarks.records import Record, Records, as_table, figure
from benchmarks.rivals import chain, chain_name

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "finders.md"
FASTEST, BEST = "fastest", "the quickest chain"
PROVED = (FASTEST, "greedy")
# Rate over that of the ends, and minibatch, of the chains that were quickest on digits at 0.35.
CHAINS = [(2.5, None), (2.5, 64)]


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
    """The constructed path, and rivals with Adam at the rate that the ends were trained with, or a multiple."""
    descent = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=rate), max_steps=2000)
    limits = dss.Limits(rounds=200, seconds=60)
    chains = {chain_name(*tuned): chain(tuned[0] * rate, limits) for tuned in CHAINS}
    return {FASTEST: dss.FastestPath(), "greedy": dss.GreedyString(descent=descent, limits=limits)} | chains


def end(name: str, seed: int) -> torch.Tensor:
    """A trained end with initial weights of its own."""
    torch.manual_seed(seed)
    # `load_task` draws a built-in task's initial weights under its own seed, not under the one above.
    task = dss.load_task(name, seed=seed) if name == "digits" else TASKS[name]()
    *_, last = dss.train(task, seed=seed)
    return dss.ParameterSpace.of(last.model).flatten(last.model.state_dict())


def measure(name: str, seed: int, threshold: float) -> dict[str, Record]:
    """One pair of ends: for each finder, seconds to the path and through its certificate, and what was certified."""
    task = TASKS[name]()
    objective, judge = task.objectives(buffers="frozen")
    start, stop = end(name, 2 * seed + 1), end(name, 2 * seed + 2)
    batches, rows = {chain_name(*tuned): tuned[1] for tuned in CHAINS}, {}
    for label, finder in finders(task.learning_rate).items():
        trained = objective if (batch := batches.get(label)) is None else objective.with_batches_of(batch)
        problem = dss.Problem.of(trained, start, stop, threshold=threshold, judge=judge, seed=seed)
        began = time.process_time()
        step = finder.run(problem)
        found = time.process_time()
        certificate = dss.certify(problem.recalled, step.path, threshold=threshold, prove=label in PROVED)
        certified = time.process_time()
        rows[label] = {
            "path": found - began,
            "certified": certified - began,
            "passed": certificate.passed,
            "proven": certificate.proven,
            "by": finder.proposer(step),
            "max": certificate.max_loss,
            "upper": certificate.upper,
            "length": step.path.normalized_length,
            "ends": max(problem.loss_start, problem.loss_end),
        }
    return rows


def key_of(seed: int, finder: str) -> str:
    return f"{seed} / {finder}"


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The tables of the page, one a task."""
    return {"proven": "\n\n".join(f"### {case}\n\n{table(pairs_of(rows))}" for case, rows in results.items())}


def pairs_of(rows: Mapping[str, Record]) -> list[dict[str, Record]]:
    """Rows by finder, one dictionary a pair, with the quickest chain that passed beside the others."""
    pairs: dict[str, dict[str, Record]] = {}
    for key, row in rows.items():
        seed, finder = key.split(" / ")
        pairs.setdefault(seed, {})[finder] = row
    for pair in pairs.values():
        passed = [row for finder, row in pair.items() if finder not in PROVED and row["passed"]]
        if passed:
            pair[BEST] = min(passed, key=lambda row: row["path"])
    return list(pairs.values())


def table(pairs: list[dict[str, Record]]) -> str:
    """One row a finder; a pair that a rival did not connect gives no ratio."""
    head = (
        "finder",
        "passed",
        "proved",
        "s to the path",
        "s with certificate",
        "s to the path / s of fastest's proof",
        "max loss",
        "length",
    )
    rows = []
    for label in (FASTEST, "greedy", *(chain_name(*tuned) for tuned in CHAINS), BEST):
        own = [pair[label] for pair in pairs if label in pair]
        ratios = [pair[label]["path"] / pair[FASTEST]["certified"]
                  for pair in pairs if label in pair and pair[label]["passed"] and pair[FASTEST]["proven"]]  # fmt: skip
        counts = [f"{sum(row[key] for row in own)}/{len(pairs)}" for key in ("passed", "proven")]
        seconds, facts = (
            [spread([row[key] for row in own]) for key in keys] for keys in (("path", "certified"), ("max", "length"))
        )
        rows.append((label, *counts, *seconds, spread(ratios) if label != FASTEST else "1", *facts))
    return as_table(head, rows)


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    if len(values) < 2:
        return figure(values[0]) if values else "-"
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{figure(median(values))} ({figure(low)} to {figure(high)})"


def main() -> None:
    """Measure what is not in the file, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--pairs", type=int, default=10, help="pairs of ends (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.35, help="L0 (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(FILE)
    for name in options.tasks:
        case = f"{name}, L0 = {options.threshold:g}"
        wanted = [seed for seed in range(options.pairs) if not records.has(case, key_of(seed, FASTEST))]
        if wanted:
            measure(name, options.pairs, options.threshold)  # what is loaded and compiled at the first call counts for nobody
        for seed in wanted:
            for label, row in reversed(
                measure(name, seed, options.threshold).items()
            ):  # the row that says it is there comes last
                records.add(case, key_of(seed, label), row)
            print(case, seed, records.results[case][key_of(seed, FASTEST)], flush=True)
        print(f"\n### {case}\n\n{table(pairs_of(records.results[case]))}")


if __name__ == "__main__":
    main()
