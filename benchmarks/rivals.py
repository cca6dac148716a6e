"""Every finder on the same ends at the same threshold, under the same certificate.

    python -m benchmarks.rivals digits:0.5 digits:0.35 quadratics:0.0025 cubics:0.05 --seeds 10
    python -m benchmarks.tables          # docs/finders.md from benchmarks/rivals.json

For each task and threshold it trains ends and runs every finder in one process, with processor seconds. A row counts only if its path
passes its certificate; "found" says how many did. "First" is the first string that passed the finder's own test, "end" what the
search ended with: `bend` pulls it tight. Ratios are of seconds over those of `bend` to its first string on the same ends; "the best chain"
is the quickest, pair by pair, of the chains at all rates and batches. What is in the file is not measured again, so a run may be cut
into slices. Checkouts of the published code of three rivals run beside them: see `published.py` and `published_moves.py`.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path as File
from statistics import median, quantiles

import torch

import dss
from benchmarks import published, published_moves
from benchmarks.records import Record, Records, as_table
from benchmarks.rival_tasks import TASKS, end

FILE = File(__file__).with_suffix(".json")
PAGE = File(__file__).parent.parent / "docs" / "finders.md"
COLUMNS = (
    "found",
    "first, s",
    "end, s",
    "gradients",
    "losses",
    "beads",
    "first length",
    "length",
    "shortened",
    "shorten seconds",
)
# Rates over that of the ends, and samples of a minibatch (None: the task's), at which the chain, the quickest rival, is tuned.
TUNED = [(rate, batch) for rate in (1.0, 2.5, 5.0) for batch in (None, 64)]
BEND, BEST = "bend", "the best chain"


def finders(rate: float, minutes: float) -> dict[str, dss.Finder]:
    """The rivals, with Adam at the rate the ends were trained with, and with the same time to succeed in."""
    descent = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=rate), max_steps=2000)
    limits = dss.Limits(rounds=200, seconds=60 * minutes)
    greedy = dss.GreedyString(descent=descent)
    return {
        BEND: dss.BendString(fallback=greedy, limits=limits),
        "bend, six times the pulling": dss.BendString(fallback=greedy, tighten=9.0, limits=limits),
        "greedy": dss.GreedyString(descent=descent, limits=limits),
        "greedy, midpoint": dss.GreedyString(insertion="midpoint", descent=descent, limits=limits),
        "geodesic": dss.GeodesicString(descent=descent, limits=limits),
        "constrained": dss.ConstrainedString(descent=descent, limits=limits),
        "constrained, falling": dss.ConstrainedString(levels=5, descent=descent, limits=limits),
        "band (AutoNEB)": dss.ElasticBand(descent=descent, limits=limits),
        "Bezier curve": dss.BezierCurve(descent=descent, limits=limits),
        **{chain_name(*tuned): chain(tuned[0] * rate, limits) for tuned in TUNED},
    }


def chain_name(rate: float, batch: int | None) -> str:
    return f"chain, rate x{rate:g}" + ("" if batch is None else f", batch {batch}")


def chain(rate: float, limits: dss.Limits) -> dss.Finder:
    """The chain at a rate, judged twice as often as by default: it may stop sooner."""
    descent = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=rate))
    return dss.PolygonalChain(cycle=50, descent=descent, limits=limits)


def measure(name: str, threshold: float, seed: int, options: argparse.Namespace, records: Records) -> None:
    """One pair of ends, every finder that has no row yet; one row each."""
    table, task = f"{name} at {threshold:g}", TASKS[name]()
    checkouts = {"garipov": options.garipov, "autoneb": options.autoneb}
    rivals = finders(task.learning_rate, options.minutes)
    rivals |= published.finders(task, **checkouts, seconds=60 * options.minutes)
    if options.llpf is not None:
        rivals |= published_moves.finders(task, options.llpf, seconds=60 * options.minutes)
    rivals = {k: v for k, v in rivals.items() if not options.only or k in options.only}
    rivals = {k: v for k, v in rivals.items() if not records.has(table, key_of(seed, k))}
    if not rivals:
        return
    objective, judge = task.objectives()
    stop = options.ends * threshold
    start, stop_point = end(name, 2 * seed, stop), end(name, 2 * seed + 1, stop)
    batches = {chain_name(*tuned): tuned[1] for tuned in TUNED}
    for label, finder in rivals.items():
        batch = batches.get(label)
        trained = objective if batch is None else objective.with_batches_of(batch)
        problem = dss.Problem.of(trained, start, stop_point, threshold=threshold, judge=judge, seed=seed)
        figures, path = searched(problem, finder)
        records.add(table, key_of(seed, label), figures | (shortened(problem, path, options) if figures["found"] else {}))
        print(table, key_of(seed, label), figures, flush=True)


def key_of(seed: int, finder: str) -> str:
    return f"{seed} / {finder}"


def searched(problem: dss.Problem, finder: dss.Finder | published.PublishedFinder) -> tuple[dict, dss.Path]:
    """One search: what it cost, to the first string that passed and in all, and the path it ended with."""
    began, first = time.process_time(), {}
    last = None
    for last in finder.steps(problem):
        passed = last.status is dss.Status.FOUND or "pull" in last.memory
        if passed and not first:
            first = {"first, s": time.process_time() - began, "first length": last.path.normalized_length}
    assert last is not None, "a search has a first step"
    spent = time.process_time() - began
    figures = {"first, s": spent} | first | {
        "end, s": spent,
        "gradients": problem.tally.gradient_evaluations,
        "losses": problem.tally.loss_evaluations,
        "status": last.status.value,
        "found": dss.certify(problem.judge, last.path, threshold=problem.threshold).passed,
        "beads": last.path.intermediate_beads,
        "length": last.path.normalized_length,
    }  # fmt: skip
    return figures, last.path


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


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The tables of docs/finders.md: medians, and ratios."""
    return {"rivals": "\n\n".join(f"### {case}\n\n{medians(rows)}" for case, rows in results.items()), "ratios": ratios(results)}


def medians(rows: Mapping[str, Record]) -> str:
    """Medians over the pairs that were connected."""
    by_finder: dict[str, list[Record]] = {}
    for key, row in rows.items():
        by_finder.setdefault(key.partition(" / ")[2], []).append(row)
    return as_table(
        ("finder", *COLUMNS), [(name, *(cell(mine, column) for column in COLUMNS)) for name, mine in by_finder.items()]
    )


def ratios(results: Mapping[str, Mapping[str, Record]]) -> str:
    """Other finders' seconds over those of `bend` to its first string, and in all, where both found a path; and lengths."""
    lines = []
    for case, rows in results.items():
        pairs = with_best(rows)
        for finder in dict.fromkeys(finder for _, finder in pairs if not finder.startswith(BEND)):
            both = [(row, pairs[seed, BEND]) for (seed, name), row in pairs.items() if name == finder and (seed, BEND) in pairs]
            if both:
                columns = (
                    [bend["first, s"] / other["first, s"] for other, bend in both],
                    [bend["end, s"] / other["end, s"] for other, bend in both],
                    [bend["length"] - other["length"] for other, bend in both],
                )
                lines.append((case, finder, len(both), *map(spread, columns)))
    head = ("task", "finder", "pairs", "bend's first s / its s", "bend's s in all / its s", "bend's length - its length")
    return as_table(head, lines)


def with_best(rows: Mapping[str, Record]) -> dict[tuple[str, str], Record]:
    """Rows that found a path, by seed and finder, and the quickest chain of each pair."""
    found = {(seed, name): row for key, row in rows.items() if row["found"] for seed, _, name in [key.partition(" / ")]}
    for seed in dict.fromkeys(seed for seed, _ in found):
        chains = [row for (its, name), row in found.items() if its == seed and name.startswith("chain")]
        if chains:
            found[seed, BEST] = min(chains, key=lambda row: row["first, s"])
    return found


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def cell(rows: list[Record], column: str) -> str:
    found = [row for row in rows if row["found"]]
    if column == "found":
        return f"{len(found)}/{len(rows)}"
    values = [row[column] for row in found if column in row]
    if not values:
        return "-"
    middle = median(values)
    if column in ("gradients", "losses"):
        return f"{middle / 1e3:.0f}k"
    if column == "beads":
        return f"{middle:.0f}"
    return f"{middle:.3f}" if "length" in column or column == "shortened" else f"{middle:.2f}"


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
    parser.add_argument("--llpf", type=File, help="checkout of twoentartian/DFL_torch, to run too")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--out", type=File, default=FILE, help="the file of results (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dss.keep_freed_memory()
    warm_up()
    records = Records(options.out)
    for seed in range(options.seeds):
        for case in options.cases:
            name, _, threshold = case.partition(":")
            try:
                measure(name, float(threshold), seed, options, records)
            except dss.InputError as error:
                parser.error(str(error))
    print("\n\n".join(pages_of(records.results).values()))


if __name__ == "__main__":
    main()
