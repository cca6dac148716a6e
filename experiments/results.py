"""Results of an experiment as one JSON file beside its script: written after every piece of work, and resumed from."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dss

Record = dict[str, object]
Piece = tuple[str, float]
NO_END = "an end did not come down to the threshold"


class Results:
    """Records per variant and threshold; a file that is there already is continued.

    Args:
        path: the JSON file.
        settings: what the records depend on, as JSON values.

    Raises:
        InputError: the file was made with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, object]):
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.records: dict[str, dict[str, list[Record]]] = {}
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            differ = sorted(k for k in self.settings if stored["settings"].get(k) != self.settings[k])
            if differ:
                raise dss.InputError(
                    f"{path} holds results with other settings ({', '.join(differ)}); move it away to start anew"
                )
            self.records = stored["records"]

    def has(self, variant: str, threshold: float) -> bool:
        """Whether this piece of work is done."""
        return repr(threshold) in self.records.get(variant, {})

    def of_pair(self, pair: int) -> "OfPair":
        """The records of one pair of ends, where pairs are measured one after the other."""
        return OfPair(self, pair)

    def add(self, variant: str, threshold: float, records: list[Record]) -> None:
        """Keep a piece of work, on disk too."""
        self.records.setdefault(variant, {})[repr(threshold)] = records
        self._write()

    def sort(self, variants: Sequence[str]) -> None:
        """Put the variants into this order, whoever was done first."""
        names = [name for name in dict.fromkeys([*variants, *self.records]) if name in self.records]
        if names != list(self.records):
            self.records = {name: self.records[name] for name in names}
            self._write()

    def _write(self) -> None:
        ordered = {v: dict(sorted(levels.items(), key=lambda item: float(item[0]))) for v, levels in self.records.items()}
        content = json.dumps({"settings": self.settings, "records": ordered}, indent=None, separators=(",", ":"))
        # One line per piece of work: a readable difference when some of it is done again.
        temporary = self.path.with_suffix(".partial")
        temporary.write_text(content.replace('":[{', '":\n[{') + "\n", encoding="utf-8")
        temporary.replace(self.path)  # a reader, or a run that is killed, meets all of it or none


@dataclass(frozen=True)
class OfPair:
    """What `results` hold of one pair: more pairs go on in the same file, and every figure is kept once it is known."""

    results: Results
    pair: int

    def has(self, variant: str, threshold: float) -> bool:
        """Whether this piece of work is done for this pair."""
        return self.pair in by_pair(self.results.records.get(variant, {}).get(repr(threshold), []))

    def add(self, variant: str, threshold: float, records: list[Record]) -> None:
        """Keep this pair's record among those of the others; no record says that an end never came down to the threshold."""
        known = by_pair(self.results.records.get(variant, {}).get(repr(threshold), []))
        known[self.pair] = records[0] if records else {"status": NO_END}
        self.results.add(variant, threshold, [{"pair": pair} | record for pair, record in sorted(known.items())])

    def sort(self, variants: Sequence[str]) -> None:
        """As `Results.sort`."""
        self.results.sort(variants)


def by_pair(records: Sequence[Record]) -> dict[int, Record]:
    """Records by their pair; those that name none stand in the order of their pairs."""
    return {record.get("pair", i): record for i, record in enumerate(records)}


def arrived(records: Sequence[Record]) -> list[Record]:
    """The records of pairs that have both ends."""
    return [record for record in records if record.get("status") != NO_END]


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error; NaN for the error of fewer than two values."""
    n = len(values)
    if not n:
        return math.nan, math.nan
    mean = sum(values) / n
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else math.nan


def connected(records: Sequence[Record], key: str) -> list[float]:
    """One figure of the pairs that were connected: the paper averages over these alone."""
    return [record[key] for record in arrived(records) if record["connected"]]


def work(
    results: Results | OfPair,
    pieces: Sequence[Piece],
    measure: Callable[[str, float], list[Record]],
    *,
    label: str,
    executor: Executor | None = None,
) -> None:
    """Do what is not done yet, the given order, and say after every piece how long the rest may take.

    Args:
        measure: the records of one piece; something that can be pickled, if there is an executor.
        executor: where pieces are measured. Those of one threshold stay together, in order: some need what others left.
    """
    left = [piece for piece in pieces if not results.has(*piece)]
    alone = executor is None
    groups = [[piece] for piece in left] if alone else [[p for p in left if p[1] == t] for t in dict.fromkeys(t for _, t in left)]
    began, done = time.monotonic(), 0
    for _, found in dss.parallel.as_done(executor, [partial(_measured, measure, group) for group in groups]):
        for (variant, threshold), records in found:
            results.add(variant, threshold, records)
            done, spent = done + 1, time.monotonic() - began
            rest = spent / done * (len(left) - done)
            print(
                f"{label} {variant} L0={threshold:g}: {describe(records)}; {done}/{len(left)}, {_clock(spent)}, {_clock(rest)} left",
                flush=True,
            )
    results.sort([variant for variant, _ in pieces])


def _measured(measure: Callable[[str, float], list[Record]], group: Sequence[Piece]) -> list[tuple[Piece, list[Record]]]:
    """The records of some pieces, one after the other, in whatever process this is."""
    return [(piece, measure(*piece)) for piece in group]


def fill(
    results: Results,
    parts: Mapping[Piece, Callable[[], list[Record]]],
    words: Callable[[Piece, list[Record]], str],
    executor: Executor | None = None,
) -> Results:
    """Do the parts that are not done yet, say of each what came of it, and return the results."""
    left = [piece for piece in parts if not results.has(*piece)]
    for number, records in dss.parallel.as_done(executor, [parts[piece] for piece in left]):
        results.add(*left[number], records)
        print(words(left[number], results.records[left[number][0]][repr(left[number][1])]), flush=True)
    results.sort([variant for variant, _ in parts])
    return results


def describe(records: Sequence[Record]) -> str:
    """Pairs connected, and their mean length and beads, in words."""
    parts = [f"{len(connected(records, 'beads'))} of {len(arrived(records))} pairs connected"]
    for key, name in (("length", "length"), ("beads", "beads")):
        mean, error = mean_and_error(connected(records, key))
        if not math.isnan(mean):
            parts.append(f"{name} {mean:.4g} +- {error:.2g}")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m{seconds:02d}s"
