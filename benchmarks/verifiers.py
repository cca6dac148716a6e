"""Our proof of a path beside auto_LiRPA's: the same beads, judge and threshold, cells and processor seconds.

    python -m benchmarks.verifiers --auto-lirpa CHECKOUT [NET[:IMAGES] ...] [--pairs 3] [--seconds 120] [--methods ours CROWN-IBP]
    python -m benchmarks.verifiers --auto-lirpa CHECKOUT --again ours       # once our proofs are quicker
    python -m benchmarks.tables                                             # docs/proof.md from benchmarks/verifiers.json

The threshold is 1.02 times the largest loss on a grid of 41 points per segment. `benchmarks/auto_lirpa.py` says what is theirs: it
halves cells until all pass, by CROWN and by CROWN-IBP. Ours is `dss.prove`. What is in the file is not measured again unless
`--again` names it, or the path is another one, so a run may be cut into slices. The time in which auto_LiRPA takes a network in is left out.
"""

import argparse
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from types import ModuleType

import torch

import dss
from benchmarks import auto_lirpa
from benchmarks.proof import CASES, NAMES, digits, found, last_bracket, sampled
from benchmarks.records import Record, Records, as_table

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "proof.md"
TABLE = "verifiers"
FACTOR = 1.02
NETS = ("mlp-2", "mlp-4", "mlp-6", "mlp-8", "digits-conv:60", "digits-conv", "mlp-6-tanh", "mlp-6-gelu", "resnet-8:60")
OURS = "ours"
METHODS = (OURS, *auto_lirpa.METHODS)
PROVED = "proved"


def case_of(net: str) -> tuple[str, int | None]:
    """`mlp-4:60` as a net and the number of images, all if none is named.

    Raises:
        InputError: no such net, or not a number.
    """
    name, _, images = net.partition(":")
    ours = [case for case, what in CASES.items() if what.data is digits]
    if name not in ours or not (images == "" or (images.isdecimal() and int(images) > 0)):
        raise dss.InputError(f"NET[:IMAGES] must be one of {', '.join(ours)}, and a number above 0, got {net!r}")
    return name, int(images) if images else None


class Subject:
    """A path between two networks, its judge and its threshold."""

    def __init__(self, name: str, images: int | None, pair: int):
        self.name, self.pair, self.case = name, pair, CASES[name]
        self.judge, self.beads = found(self.case, images, seeds=(2 * pair, 2 * pair + 1))
        self.threshold = FACTOR * sampled(self.judge, self.beads)[0]

    def key(self, method: str) -> str:
        return f"{self.name} / {self.judge.samples} / {self.pair} / {method}"

    def measure(self, records: Records, method: str, options: argparse.Namespace, code: ModuleType) -> None:
        """One result, unless it is there, of this path."""
        path, key = hashlib.sha256(self.beads.numpy().tobytes()).hexdigest()[:12], self.key(method)
        if method in options.again or records.results.get(TABLE, {}).get(key, {}).get("path") != path:
            attempt = self.ours(options.seconds) if method == OURS else self.theirs(code, method, options.seconds)
            what = {"path": path, "segments": len(self.beads) - 1, "threshold": self.threshold}
            records.add(TABLE, key, what | vars(attempt))
        print(key, records.results[TABLE][key], flush=True)

    def ours(self, seconds: float) -> auto_lirpa.Attempt:
        """Cells count, on whichever part of the samples they were bounded."""
        last_bracket(self.judge, self.beads, threshold=self.threshold, max_cells=1)  # what is imported at the first call
        began = time.process_time()
        bracket, _ = last_bracket(self.judge, self.beads, threshold=self.threshold, max_seconds=seconds)
        outcome = PROVED if bracket.verdict is dss.Verdict.PROVEN else f"stopped, {bracket.verdict.name.lower()}"
        return auto_lirpa.Attempt(bracket.cells, time.process_time() - began, outcome)

    def theirs(self, code: ModuleType, method: str, seconds: float) -> auto_lirpa.Attempt:
        """By one of its methods, or in a sentence why not."""
        x, y = (part[: self.judge.samples] for part in self.case.data()[1])
        try:
            verifier = auto_lirpa.Verifier(code, self.case.make(), x, y, method)
            return auto_lirpa.attempt(verifier, self.judge.space, self.beads, self.threshold, seconds)
        except dss.InputError as error:
            return auto_lirpa.Attempt(0, 0.0, str(error))
        except Exception as error:  # whatever it raises about a network that it cannot take is the result
            return auto_lirpa.Attempt(0, 0.0, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}")


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The table of docs/proof.md: medians over the pairs, and ratios over ours."""
    grouped: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for key, record in results[TABLE].items():
        name, images, _, method = key.split(" / ")
        grouped.setdefault((name, images), {}).setdefault(method, []).append(record)
    head = (
        "net",
        "images",
        "pairs",
        *(f"{method}: cells / s" for method in METHODS),
        "fewest cells over ours",
        "least time over ours",
    )
    rows = [
        (NAMES[name], images, len(methods[OURS]), *(cell(methods.get(m, [])) for m in METHODS), *ratios(methods))
        for (name, images), methods in grouped.items()
    ]
    return {TABLE: as_table(head, rows)}


def cell(records: list[Record]) -> str:
    """Medians of what was proved; else how far it came."""
    proved = [r for r in records if r["outcome"] == PROVED]
    if not proved or len(proved) < len(records):
        return "; ".join(dict.fromkeys(map(told, records))) or "-"
    few = "" if len(proved) > 1 else " (one pair)"
    return f"{median(r['cells'] for r in proved):g} / {shown(median(r['seconds'] for r in proved))}{few}"


def told(record: Record) -> str:
    """An outcome, and after which time; what cannot be begun took none."""
    if record["outcome"] == PROVED:
        return f"{record['cells']} / {shown(record['seconds'])}"
    return f"{record['outcome']} in {record['seconds']:.0f} s" if record["cells"] else record["outcome"]


def shown(seconds: float) -> str:
    """Two digits at least."""
    return f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"


def ratios(methods: Mapping[str, list[Record]]) -> tuple[str, str]:
    """Of each pair, the better of theirs over ours; medians, and ranges of several pairs."""
    found = []
    for what in ("cells", "seconds"):
        each = [
            min(record[what] for record in theirs) / ours[what]
            for i, ours in enumerate(methods[OURS])
            if (theirs := [r[i] for m, r in methods.items() if m != OURS and i < len(r) and r[i]["outcome"] == PROVED])
        ]
        span = f" ({min(each):.1f} to {max(each):.1f})" if len(each) > 1 else ""
        found.append(f"{median(each):.1f}{span}" if each else "-")
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET[:IMAGES]", help=f"by default {', '.join(NETS)}")
    parser.add_argument("--auto-lirpa", type=Path, required=True, metavar="CHECKOUT", help="its top folder")
    parser.add_argument("--pairs", type=int, default=3, help="paths between other networks (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the processor for one proof (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="by default all three")
    parser.add_argument("--again", nargs="+", choices=METHODS, default=(), help="measure these anew")
    parser.add_argument("--out", type=Path, default=FILE, help="the JSON file (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dss.keep_freed_memory()
    try:
        code, records = auto_lirpa.load(options.auto_lirpa), Records(options.out)
        for pair in range(options.pairs):
            for name, images in map(case_of, options.nets):
                subject = Subject(name, images, pair)
                for method in options.methods:
                    subject.measure(records, method, options, code)
    except dss.InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
