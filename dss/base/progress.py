"""What is shown of work that takes more than two seconds: nothing, lines of text, or a bar. One meter serves a whole run.

Whoever works opens a stage and reports to it; whoever asked for the work hands in the meter. (The habit of diffrax's
progress meters.)
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

QUIET_SECONDS = 2.0
"""Work that is done sooner shows nothing."""


class ProgressMeter:
    """A meter that shows nothing; the others extend it."""

    @contextmanager
    def stage(self, name: str, unit: str) -> Iterator["ProgressMeter"]:
        """A part of the work, such as the search, within which `report` is called."""
        self.begin(name, unit)
        try:
            yield self
        finally:
            self.end()

    def begin(self, name: str, unit: str) -> None:
        """A stage begins, which counts in `unit`."""

    def report(self, done: int, words: str = "") -> None:
        """So many units are done, and how it stands in a few words."""

    def end(self) -> None:
        """The stage is over."""


class TextProgressMeter(ProgressMeter):
    """A line of text every so often: for logs, where a bar would be a mess.

    Args:
        seconds: between two lines.
        stream: where they go; standard error by default.
    """

    def __init__(self, seconds: float = 30.0, stream: TextIO | None = None):
        self.seconds, self.stream = seconds, stream
        self.name, self.unit, self.spoken = "", "", 0.0

    def begin(self, name: str, unit: str) -> None:
        self.name, self.unit, self.spoken = name, unit, time.monotonic()

    def report(self, done: int, words: str = "") -> None:
        if time.monotonic() - self.spoken >= self.seconds:
            self.spoken = time.monotonic()
            more = f", {words}" if words else ""
            print(f"{self.name}: {done} {self.unit}{more}", file=self.stream or sys.stderr, flush=True)


class TqdmProgressMeter(ProgressMeter):
    """A tqdm bar per stage: for terminals and notebooks."""

    bar: Any = None

    def begin(self, name: str, unit: str) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(desc=name, unit=f" {unit}", delay=QUIET_SECONDS)

    def report(self, done: int, words: str = "") -> None:
        self.bar.set_postfix_str(words, refresh=False)
        self.bar.update(done - self.bar.n)

    def end(self) -> None:
        self.bar.close()
