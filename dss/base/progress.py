"""What is shown of work that takes more than two seconds: nothing, lines of text, or a bar. One meter serves a whole run.

Whoever works opens a stage and reports to it; whoever asked for the work hands in the meter. (The habit of diffrax's
progress meters.)
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

log = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
"""Work that is done sooner shows nothing."""


class ProgressMeter:
    """A meter that shows nothing; the others extend it."""

    @contextmanager
    def stage(self, name: str, unit: str) -> Iterator["ProgressMeter"]:
        """A part of the work, such as the search, within which `report` is called."""
        began = time.monotonic()
        self.begin(name, unit)
        try:
            yield self
        finally:
            self.end()
            log.info("%s took %.1f s", name, time.monotonic() - began)

    def begin(self, name: str, unit: str) -> None:
        """A stage begins, which counts in `unit`."""

    def expect(self, total: int, done: int = 0) -> None:
        """So many units will have been done when the stage ends, of which some were done before it began."""

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
        self.name, self.unit, self.began, self.spoken = "", "", 0.0, 0.0
        self.total: int | None = None
        self.before = 0

    def begin(self, name: str, unit: str) -> None:
        self.name, self.unit, self.began, self.total = name, unit, time.monotonic(), None
        self.spoken = self.began

    def expect(self, total: int, done: int = 0) -> None:
        self.total, self.before = total, done

    def report(self, done: int, words: str = "") -> None:
        if time.monotonic() - self.spoken >= self.seconds:
            self.spoken = time.monotonic()
            of = "" if self.total is None else f" of {self.total}"
            more = "".join(f", {part}" for part in (words, self._left(done)) if part)
            print(f"{self.name}: {done}{of} {self.unit}{more}", file=self.stream or sys.stderr, flush=True)

    def _left(self, done: int) -> str:
        """The time left, if what was done so far can tell."""
        if self.total is None or done <= self.before:
            return ""
        seconds = (time.monotonic() - self.began) * (self.total - done) / (done - self.before)
        return f"about {_clock(seconds)} left"


class TqdmProgressMeter(ProgressMeter):
    """A tqdm bar per stage: for terminals and notebooks."""

    bar: Any = None

    def begin(self, name: str, unit: str) -> None:
        from tqdm.auto import tqdm

        # Without tqdm's rate: rounds take longer and longer, and "1.60s/ rounds" says nothing.
        self.bar = tqdm(desc=name, unit=unit, delay=QUIET_SECONDS, bar_format="{desc}: {n_fmt} {unit} [{elapsed}{postfix}]")

    def expect(self, total: int, done: int = 0) -> None:
        self.bar.total, self.bar.n, self.bar.initial = total, done, done
        self.bar.bar_format = "{desc}: {n_fmt} of {total_fmt} {unit} |{bar:20}| [{elapsed}, about {remaining} left{postfix}]"

    def report(self, done: int, words: str = "") -> None:
        self.bar.set_postfix_str(words, refresh=False)
        self.bar.update(done - self.bar.n)

    def end(self) -> None:
        self.bar.close()


def say_above(line: str) -> None:
    """A line on standard error, above a bar if one is there."""
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)


def _clock(seconds: float) -> str:
    """A duration in the two largest units that it fills."""
    for size, unit, smaller, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} {seconds % size // smaller:.0f} {less}"
    return f"{seconds:.0f} s"
