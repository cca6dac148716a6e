"""Results beside the paper's own points: a table and a figure. `python -m experiments.compare quadratics` prints and draws.

Results on other data than the paper's are shown alone: a figure never mixes two kinds.

The paper's error bars are standard deviations over its pairs or errors of the mean, its scripts do not say which; a mean
of ours agrees when it lies within the bar widened by two of our standard errors.
"""

import argparse
import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from dss import InputError, figures
from experiments.results import Record, arrived, by_pair, connected, mean_and_error

HERE = Path(__file__).parent
# From which threshold down to which the growth of strings is looked at.
GROWTHS = {"quadratics": (0.025, 0.0025), "cubics": (0.05, 0.01)}
QUANTITIES = {"normalized_length": "length", "num_beads": "beads"}
# The data of the paper's points, as results name them.
PAPER_DATA = {"quadratics": "quadratics", "cubics": "cubics", "mnist": "MNIST", "cifar10": "CIFAR-10", "ptb": "Penn Treebank"}
# The panels' percents and perplexities in the units of the thresholds: error rates and cross-entropies.
UNITS = {"mnist": lambda x: round(x / 100, 9), "cifar10": lambda x: round(x / 100, 9), "ptb": math.log}


@dataclass(frozen=True)
class Row:
    """One threshold: ours, the paper's, and whether they agree (None where the paper has no point)."""

    threshold: float
    pairs: int
    connected: int
    mean: float
    error: float
    paper: float | None
    paper_error: float | None

    @property
    def agrees(self) -> bool | None:
        if self.paper is None:
            return None
        return abs(self.mean - self.paper) <= self.paper_error + 2 * (0.0 if math.isnan(self.error) else self.error)


def paper_points(task: str, quantity: str) -> dict[float, tuple[float, float]]:
    """The paper's mean and error bar per threshold, in the units of our thresholds."""
    unit = UNITS.get(task, float)
    with (HERE / "paper_figures.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == task and row["quantity"] == quantity]
    return {unit(float(row["x"])): (float(row["mean"]), float(row["error"])) for row in rows}


def comparable_points(data: str, task: str, quantity: str) -> dict[float, tuple[float, float]]:
    """The paper's points if the results ran on the paper's data, else none."""
    return paper_points(task, quantity) if data.startswith(PAPER_DATA[task]) else {}


def load(path: Path) -> tuple[str, dict[str, dict[float, list[Record]]]]:
    """What the results ran on, and the records per variant and threshold.

    Raises:
        InputError: there are no results yet.
    """
    if not path.exists():
        raise InputError(f"there are no results in {path}; run the experiment first")
    stored = json.loads(path.read_text(encoding="utf-8"))
    records = {v: {float(k): r for k, r in levels.items()} for v, levels in stored["records"].items()}
    return stored["settings"]["data"], records


def rows(records: Mapping[float, Sequence[Record]], key: str, paper: Mapping[float, tuple[float, float]]) -> list[Row]:
    """One row per threshold, rising."""
    found = []
    for level in sorted(records):
        values = connected(records[level], key)
        point = paper.get(level, (None, None))
        found.append(Row(level, len(arrived(records[level])), len(values), *mean_and_error(values), *point))
    return found


@dataclass(frozen=True)
class Growth:
    """How strings lengthen between two thresholds, over the pairs that both variants connected at both.

    Attributes:
        pairs: how many.
        strict, shortened: mean growth of the normalized length.
        kept: their ratio, and `interval` its 95 % interval when pairs are drawn anew.
    """

    pairs: int
    strict: float
    shortened: float
    kept: float
    interval: tuple[float, float]


def growth(variants: Mapping[str, Mapping[float, Sequence[Record]]], high: float, low: float, draws: int = 10_000) -> Growth:
    """Growth of strict and of shortened strings from one threshold down to another, paired.

    Raises:
        InputError: fewer than two pairs are connected at both thresholds by both variants.
    """
    ends = [by_pair(variants[name][level]) for name in ("strict", "shortened") for level in (high, low)]
    pairs = [i for i in ends[0] if all(records.get(i, {}).get("connected") for records in ends)]
    if len(pairs) < 2:
        raise InputError(f"two pairs connected at {high:g} and {low:g} are needed for a growth, got {len(pairs)}")
    lengths = np.array([[records[i]["length"] for i in pairs] for records in ends])
    grown = np.stack([lengths[1] - lengths[0], lengths[3] - lengths[2]])
    means = grown[:, np.random.default_rng(0).integers(len(pairs), size=(draws, len(pairs)))].mean(2)
    low_end, high_end = np.quantile(means[1] / means[0], [0.025, 0.975])
    strict, shortened = grown.mean(1)
    return Growth(len(pairs), float(strict), float(shortened), float(shortened / strict), (float(low_end), float(high_end)))


def table(found: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = ["| L0 | connected | ours | paper | within |", "|---|---|---|---|---|"]
    for row in found:
        paper = "" if row.paper is None else f"{row.paper:.4g} ± {row.paper_error:.2g}"
        within = {True: "yes", False: "no", None: ""}[row.agrees]
        lines.append(
            f"| {row.threshold:g} | {row.connected}/{row.pairs} | {row.mean:.4g} ± {row.error:.2g} | {paper} | {within} |"
        )
    return "\n".join(lines)


def figure(data: str, variants: Mapping[str, Mapping[float, Sequence[Record]]], task: str, quantity: str) -> go.Figure:
    """Means with error bars by threshold: the paper's points if the data are the paper's, and every variant of ours."""
    paper = comparable_points(data, task, quantity)
    traces = [_trace("Freeman & Bruna 2017", paper, figures.style.SERIES[6])] if paper else []
    for i, (name, records) in enumerate(variants.items()):
        found = rows(records, QUANTITIES[quantity], {})
        points = {row.threshold: (row.mean, row.error) for row in found if row.connected}
        traces.append(_trace(f"{name}, ours", points, figures.style.SERIES[i % 6], dash="solid" if i < 6 else "dash"))
    x = figures.style.axis(
        f"threshold L₀ · {data}", type="log", **figures.style.log_ticks([v for trace in traces for v in trace.x])
    )
    ticks = (
        {"type": "log", **figures.style.log_ticks([v for trace in traces for v in trace.y])} if quantity == "num_beads" else {}
    )
    return go.Figure(traces).update_layout(
        figures.style.layout(xaxis=x, yaxis=figures.style.axis(quantity.replace("_", " "), **ticks), margin={"t": 70})
    )


def _trace(name: str, points: Mapping[float, tuple[float, float]], colour: str, dash: str = "solid") -> go.Scatter:
    means, errors = ([point[i] for point in points.values()] for i in (0, 1))
    bars = {"type": "data", "array": [0.0 if math.isnan(e) else e for e in errors], "thickness": 1}
    return go.Scatter(
        x=list(points), y=means, error_y=bars, mode="lines+markers", name=name, line={"color": colour, "dash": dash}
    )


def show(task: str, path: Path) -> None:
    """Print the tables of one file of results, and draw its figures into `runs/`."""
    data, variants = load(path)
    (HERE / "runs").mkdir(exist_ok=True)
    if task in GROWTHS and {"strict", "shortened"} <= variants.keys():
        found = growth(variants, *GROWTHS[task])
        print(
            f"\ngrowth from L0 = {GROWTHS[task][0]:g} to {GROWTHS[task][1]:g} over {found.pairs} pairs: strict {found.strict:.3f}, "
            f"shortened {found.shortened:.3f}, kept {found.kept:.2f} ({found.interval[0]:.2f} to {found.interval[1]:.2f})"
        )
    for quantity, key in QUANTITIES.items():
        paper = comparable_points(data, task, quantity)
        for variant, records in variants.items():
            print(f"\n{path.stem} ({data}), {quantity.replace('_', ' ')}, {variant}\n")
            print(table(rows(records, key, paper if variant == "paper" else {})))
        figure(data, variants, task, quantity).write_html(HERE / "runs" / f"{path.stem}-{quantity}.html", include_plotlyjs=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="results beside the paper's own points")
    parser.add_argument("task", choices=PAPER_DATA)
    parser.add_argument("--results", type=Path, help="the JSON file (by default all of the task beside the script)")
    options = parser.parse_args()
    found = sorted((*HERE.glob(f"{options.task}.json"), *HERE.glob(f"{options.task}-*.json")))
    for path in [options.results] if options.results else found or [HERE / f"{options.task}.json"]:
        show(options.task, path)


if __name__ == "__main__":
    main()
