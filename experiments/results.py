"""Results of an experiment as one JSON file beside its script: written after every piece of work, and resumed from."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dss import InputError

Record = dict[str, object]


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
                raise InputError(f"{path} holds results with other settings ({', '.join(differ)}); move it away to start anew")
            self.records = stored["records"]

    def has(self, variant: str, threshold: float) -> bool:
        """Whether this piece of work is done."""
        return repr(threshold) in self.records.get(variant, {})

    def add(self, variant: str, threshold: float, records: list[Record]) -> None:
        """Keep a piece of work, on disk too."""
        self.records.setdefault(variant, {})[repr(threshold)] = records
        ordered = {v: dict(sorted(levels.items(), key=lambda item: float(item[0]))) for v, levels in self.records.items()}
        content = json.dumps({"settings": self.settings, "records": ordered}, indent=None, separators=(",", ":"))
        # One line per piece of work: a readable difference when some of it is done again.
        temporary = self.path.with_suffix(".partial")
        temporary.write_text(content.replace('":[{', '":\n[{') + "\n", encoding="utf-8")
        temporary.replace(self.path)  # a reader, or a run that is killed, meets all of it or none


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error; NaN for the error of fewer than two values."""
    n = len(values)
    if not n:
        return math.nan, math.nan
    mean = sum(values) / n
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n) if n > 1 else math.nan


def connected(records: Sequence[Record], key: str) -> list[float]:
    """One figure of the pairs that were connected: the paper averages over these alone."""
    return [record[key] for record in records if record["connected"]]


def work(
    results: Results, pieces: Sequence[tuple[str, float]], measure: Callable[[str, float], list[Record]], *, label: str
) -> None:
    """Do what is not done yet, the given order, and say after every piece how long the rest may take."""
    left = [piece for piece in pieces if not results.has(*piece)]
    began = time.monotonic()
    for done, (variant, threshold) in enumerate(left, 1):
        records = measure(variant, threshold)
        results.add(variant, threshold, records)
        spent = time.monotonic() - began
        rest = spent / done * (len(left) - done)
        print(
            f"{label} {variant} L0={threshold:g}: {describe(records)}; {done}/{len(left)}, {_clock(spent)}, {_clock(rest)} left",
            flush=True,
        )


def describe(records: Sequence[Record]) -> str:
    """Pairs connected, and their mean length and beads, in words."""
    parts = [f"{len(connected(records, 'beads'))} of {len(records)} pairs connected"]
    for key, name in (("length", "length"), ("beads", "beads")):
        mean, error = mean_and_error(connected(records, key))
        if not math.isnan(mean):
            parts.append(f"{name} {mean:.4g} +- {error:.2g}")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}m" if minutes >= 60 else f"{minutes}m{seconds:02d}s"
