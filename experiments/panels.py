"""The tables of docs/paper.md, from the JSON beside the scripts. `python -m benchmarks.tables` writes them into the page."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.compare import Row, comparable_points, load, rows
from experiments.results import arrived, mean_and_error

HERE = Path(__file__).parent
# So many values are told one by one; more as their mean and its standard error.
FEW = 3
FINDERS = ("greedy", "constrained", "geodesic", "band", "curve", "chain", "straight", "band from bent starts")
# The units of panels that are not error rates.
PERPLEXITY = "ptb"


def panels() -> dict[str, Callable[[], str]]:
    """Every table by its name: that of its file of results."""
    polynomials = {name: lambda name=name: polynomials_table(name) for name in ("quadratics", "cubics")}
    files = sorted(file for task in ("mnist", "cifar10", PERPLEXITY) for file in HERE.glob(f"{task}*.json"))
    panels = {file.stem: lambda file=file: network_table(file) for file in files}
    return polynomials | panels | {"counterexample": counterexample_table}


def polynomials_table(task: str) -> str:
    """The protocol's lengths and beads beside the paper's points, and strict and shortened lengths."""
    data, variants = load(HERE / f"{task}.json")
    lengths = rows(variants["paper"], "length", comparable_points(data, task, "normalized_length"))
    beads = rows(variants["paper"], "beads", comparable_points(data, task, "num_beads"))
    strict, shortened, bent = (rows(variants[name], "length", {}) for name in ("strict", "shortened", "bend"))
    lines = [
        "| L0 | connected | ours | paper | within | beads: ours | paper | within | strict (connected) | shortened | bend (connected) |",
        "|---" * 11 + "|",
    ]
    for length, bead, hard, tight, bends in zip(lengths, beads, strict, shortened, bent, strict=True):
        lines.append(
            f"| {length.threshold:g} | {share(length)} | {' | '.join(beside(length))} | {' | '.join(beside(bead))} "
            f"| {with_error(hard)} ({share(hard)}) | {with_error(tight)} | {with_error(bends)} ({share(bends)}) |"
        )
    return "\n".join(lines)


def share(row: Row) -> str:
    return f"{row.connected}/{row.pairs}"


def with_error(row: Row) -> str:
    return f"{row.mean:.4g} ± {row.error:.2g}"


def beside(row: Row) -> tuple[str, str, str]:
    """Ours, the paper's, and whether they agree."""
    paper = "" if row.paper is None else f"{row.paper:.4g} ± {row.paper_error:.2g}"
    return with_error(row), paper, {True: "yes", False: "no", None: ""}[row.agrees]


def network_table(file: Path) -> str:
    """Images and text: what was measured at each threshold, from the easiest down."""
    _, variants = load(file)
    perplexity = file.stem.startswith(PERPLEXITY)
    unit, name = (math.exp, "perplexity") if perplexity else (float, "error")
    lines = [f"| {name} | variant | connected | normalized length | beads | largest {name} seen |", "|---" * 6 + "|"]
    for level in sorted({level for records in variants.values() for level in records}, reverse=True):
        for variant, records in variants.items():
            found = arrived(records.get(level, []))
            passed = [record for record in found if record["connected"]]
            if found:
                seen = values(passed, "max_loss", ".0f" if perplexity else ".3f", unit)
                what = f"{values(passed, 'length', '.4f')} | {values(passed, 'beads', 'g')} | {seen}"
                lines.append(f"| {unit(level):.4g} | {variant} | {len(passed)}/{len(found)} | {what} |")
    return "\n".join(lines)


def values(records: Sequence[Mapping[str, Any]], key: str, form: str, unit: Callable[[float], float] = float) -> str:
    """One figure of some pairs: each, or the mean of many."""
    found = [unit(record[key]) for record in records if record.get(key) is not None]
    if len(found) <= FEW:
        return ", ".join(f"{value:{form}}" for value in found) or "-"
    mean, error = mean_and_error(found)
    return f"{mean:{form}} ± {error:.2g}"


def counterexample_table() -> str:
    """How far down each finder gets towards 1/12, and where it stops."""
    records = json.loads((HERE / "counterexample.json").read_text(encoding="utf-8"))["records"]
    lines = ["| finder | swapped copy: lowest | stopped at | swapped and rescaled: lowest | stopped at |", "|---" * 5 + "|"]
    for finder in FINDERS:
        cells = [lowest(records[f"{finder} to the {copy}"]) for copy in ("copy", "rescaled copy")]
        lines.append(f"| {finder} | {' | '.join(cells)} |")
    return "\n".join(lines)


def lowest(levels: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The lowest factor of 1/12 with a proved path, and the barrier that is left at the next one."""
    (tried,) = levels.values()
    above = sorted((record for record in tried if record["factor"] > 1), key=lambda record: -record["factor"])
    passed = [record["factor"] for record in above if record["proven"]]
    failed = [record for record in above if not record["proven"]]
    stopped = f"{failed[0]['barrier_over_exact']:.2f}" if failed else "-"
    return f"{min(passed):g} | {stopped}" if passed else f"none | {stopped}"
