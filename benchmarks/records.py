"""Measured figures as one JSON file, `{"environment": ..., "results": ...}`, and the tables that pages draw from it.

A file is written after every result, and what is in it is not measured again. A page says where a table begins and ends:

    <!-- NAME, drawn by python -m benchmarks.tables -->
    <!-- end of NAME -->
"""

import json
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dss

Record = dict[str, Any]
Row = Sequence[object]


# What figures of one file have in common. The date and the commit are those of the last one.
COMMON = ("torch", "python", "processor", "cores", "threads")


def environment() -> Record:
    """Where and when figures are measured, as far as it may change them."""
    return {
        "dss": dss.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit that is measured, with a `+` if the package or the benchmarks differ from it; None outside a checkout."""

    def git(*words: str) -> str:
        there = Path(__file__).parent.parent
        return subprocess.run(["git", *words], cwd=there, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "dss", "benchmarks/*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


class Records:
    """Results by table and by what they are of; the file is continued if it is there."""

    def __init__(self, file: Path):
        self.file, self.environment, self.results = file, None, {}
        if file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            self.environment, self.results = stored["environment"], stored["results"]

    def has(self, table: str, key: str) -> bool:
        """Whether this was measured."""
        return key in self.results.get(table, {})

    def add(self, table: str, key: str, record: Mapping[str, Any]) -> None:
        """Keep a result, on disk too: a reader, or a run that is killed, meets all of the file or none.

        Raises:
            InputError: what is in the file was measured elsewhere.
        """
        self.environment = self._of_one_place(environment())
        self.results.setdefault(table, {})[key] = dict(record)
        temporary = self.file.with_suffix(".partial")
        temporary.write_text(_text(self.environment, self.results), encoding="utf-8")
        temporary.replace(self.file)

    def _of_one_place(self, here: Record) -> Record:
        """The environment of what is to be added."""
        there = self.environment or here
        if differ := [f"{name} {there.get(name)}" for name in COMMON if there.get(name) != here[name]]:
            raise dss.InputError(f"{self.file} was measured elsewhere ({', '.join(differ)}); give another file, or move it away")
        return here


def _text(environment: Record, results: Mapping[str, Mapping[str, Record]]) -> str:
    """JSON with a line for each result, so that differences can be read."""
    tables = []
    for table, records in results.items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(record)}" for key, record in records.items())
        tables.append(f"{json.dumps(table)}: {{\n{lines}\n}}")
    inner = ",\n".join(tables)
    return f'{{"environment": {json.dumps(environment)},\n"results": {{\n{inner}\n}}}}\n'


def as_table(head: Row, rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows))


def redrawn(page: str, tables: Mapping[str, str]) -> str:
    """The page with new tables between its marks.

    Raises:
        InputError: the page has no place for one of them.
    """
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {re.escape(name)}, drawn by .*? -->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
        if not place.search(page):
            raise dss.InputError(f"the page has no place for the table {name!r}: mark its beginning and its end")
        page = place.sub(lambda marks, table=table: f"{marks[1]}\n{table}\n\n{marks[2]}", page)
    return page


def figure(value: float, *, up: bool | None = None) -> str:
    """A number as tables show it: to three decimals, or three digits from 1 on, without a leading zero.

    Args:
        up: what is proved is not rounded to the side on which it would not be: True for upper sides, False for lower ones.
    """
    decimals = 3 if abs(value) < 1 else max(0, 2 - math.floor(math.log10(abs(value))))
    if up is not None:
        scale = 10**decimals
        value = (math.ceil if up else math.floor)(value * scale) / scale
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{decimals}f}")
