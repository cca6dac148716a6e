"""What every part of the campaign begins and ends with: a folder, random draws, a subject, and counts."""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.subject import Subject


@dataclass
class Trial:
    """A part under way.

    Attributes:
        place: a folder that is gone when the part is done.
        draw: what is random.
        subject: what is damaged.
        found: counts by what was counted.
        failures: a sentence for everything that should not have been.
    """

    place: Path
    draw: random.Random
    subject: Subject
    found: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, failure: str | None) -> None:
        """Keep a sentence, if there is one."""
        if failure:
            self.failures.append(failure)

    @property
    def counted(self) -> dict:
        """What `run` returns."""
        return dict(self.found) | {"failures": self.failures}


@contextmanager
def trial(seed: int) -> Iterator[Trial]:
    """A part, whose draws are those of the seed."""
    with tempfile.TemporaryDirectory() as name:
        yield Trial(Path(name), random.Random(seed), Subject(Path(name) / "models"))
