"""What the records of a run folder must look like: one table a record, and one sentence for whatever else is found.

Every command reads through these tables, so that a file that is valid JSON of another shape is refused where it is read, not
where some figure of it is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from dss.base.errors import RunError
from dss.base.limits import Status
from dss.base.quoting import shown
from dss.runs.layout import FORMAT

MOST = 2**63
"""Whole numbers from here on are nobody's count."""
INFINITE = ("inf", "-inf")
"""What JSON numbers cannot say, as run folders write it."""


@dataclass(frozen=True)
class Kind:
    """A kind of JSON value: how it is called, and which values are of it."""

    words: str
    fits: Callable[[Any], bool]

    def or_null(self) -> "Kind":
        """The same, or nothing."""
        return Kind(f"{self.words}, or null", lambda value: value is None or self.fits(value))

    def listed(self, at_least: int = 0) -> "Kind":
        """A list of them."""
        words = f"a list of at least {at_least} values, each {self.words}"
        return Kind(words, lambda value: isinstance(value, list) and len(value) >= at_least and all(map(self.fits, value)))

    def by_name(self) -> "Kind":
        """An object that has one under every name."""
        return Kind(f"an object of {self.words}", lambda value: isinstance(value, dict) and all(map(self.fits, value.values())))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -MOST < value < MOST


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 10**300  # beyond, a float cannot say it
    return isinstance(value, float) and isfinite(value)


TEXT = Kind("text", lambda value: isinstance(value, str))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE = Kind("a whole number", _is_whole)
COUNT = Kind("a whole number of at least 0", lambda value: _is_whole(value) and value >= 0)
NUMBER = Kind("a finite number", _is_number)
LOSS = Kind("a number, or inf", lambda value: _is_number(value) or value in INFINITE)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))


def one_of(*words: str) -> Kind:
    """One of some words."""
    return Kind(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


@dataclass(frozen=True)
class Schema:
    """The fields of a record; others may stand beside them.

    Attributes:
        needed: what every record has.
        known: what a record may have.
    """

    needed: Mapping[str, Kind] = field(default_factory=dict)
    known: Mapping[str, Kind] = field(default_factory=dict)

    def check(self, record: object, where: object) -> "Record":
        """The record, every field of which is what it must be.

        Raises:
            RunError: it is not; the message names the field, what was found and what is needed.
        """
        if not isinstance(record, dict):
            raise RunError(f"{where} is damaged: {_article(record)} stands where an object of named values is needed; {CURE}")
        for name, kind in (self.needed | self.known).items():  # pyright: ignore[reportOperatorIssue]
            if name not in record and name in self.needed:
                raise RunError(f"{where} is damaged: it says nothing of {name!r}, which must be {kind.words}; {CURE}")
            if name in record and not kind.fits(record[name]):
                raise RunError(f"{where} is damaged: {name!r} must be {kind.words}, got {shown(repr(record[name]))}; {CURE}")
        return Record(record, where)


CURE = "restore it from a copy, or make the run anew"


class Record(dict):
    """A checked record: a field that it lacks, and that a command cannot do without, is told like any other damage."""

    def __init__(self, values: Mapping[str, Any], where: object):
        super().__init__(values)
        self.where = where

    def __missing__(self, name: str) -> Any:
        raise RunError(f"{self.where} says nothing of {name!r}, which this command needs; {CURE}")


def check_format(record: Mapping[str, Any], where: object) -> None:
    """Refuse a format that this version does not know.

    Raises:
        RunError: it is not ours; a newer one is told as such.
    """
    found = record.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise RunError(
            f"{where} has the format {shown(found)}, and this version of dss reads up to {FORMAT}: read it with a newer one"
        )
    if not _is_whole(found) or found != FORMAT:
        raise RunError(f"{where} is damaged: its format must be {FORMAT}, got {shown(repr(found))}; {CURE}")


_DIGESTS = TEXT.by_name()
QUESTION = Schema(
    needed={"format": WHOLE, "threshold": NUMBER, "parameters": TEXT.listed(1)},
    known={
        "task": TEXT,
        "finder": TEXT,
        "seed": WHOLE,
        "buffers": one_of("recalibrate", "frozen"),
        "prove": one_of("auto", "always", "never"),
        "align": TEXT.or_null(),
        "shorten": FLAG,
        "device": TEXT,
        "points": Kind("a whole number of at least 2", lambda value: _is_whole(value) and value >= 2),
        "ends": Kind("two names", lambda value: TEXT.listed(2).fits(value) and len(value) == 2),
        "digests": Kind("two digests", lambda value: TEXT.listed(2).fits(value) and len(value) == 2),
        "data": _DIGESTS,
        "goal": NUMBER,
        "shortened_from": TEXT,
    },
)
_SEARCHED = {"finder": TEXT, "normalized_length": LOSS.or_null(), "max_loss": LOSS, "connected": FLAG, "reason": TEXT}
# Runs of earlier versions have fewer figures: what the verdict rests on is needed, the rest is checked where it is there.
SUMMARY = Schema(
    needed={
        "status": TEXT,
        "reason": TEXT,
        "connected": FLAG,
        "proven": FLAG,
        "threshold": NUMBER,
        "max_loss": LOSS,
        "upper_bound": NUMBER.or_null(),
    },
    known={
        "proof": TEXT.or_null(),
        "normalized_length": LOSS.or_null(),
        "intermediate_beads": COUNT,
        "linear_barrier": LOSS.or_null(),
        "loss_start": LOSS,
        "loss_end": LOSS,
        "objective": TEXT,
        "judge": TEXT,
        "task": TEXT,
        "finder": TEXT,
        "seed": WHOLE,
        "rounds": COUNT,
        "gradient_steps": COUNT,
        "seconds": NUMBER,
        "loss_evaluations": COUNT,
        "gradient_evaluations": COUNT,
        "resolution": NUMBER.or_null(),
        "versions": TEXT.by_name(),
        "shortened": OBJECT,
        "searched": Kind(
            f"an object with {', '.join(_SEARCHED)}",
            lambda value: (
                isinstance(value, dict) and all(name in value and kind.fits(value[name]) for name, kind in _SEARCHED.items())
            ),
        ),
        "obstruction": OBJECT,
        "data": _DIGESTS,
        "aligned": TEXT,
        "model": TEXT,
        "fixed_parameters": COUNT,
        "buffers": TEXT,
        "modulo_symmetry": FLAG,
        "digests": TEXT.or_null().by_name(),
        "varies": TEXT.listed(),
        "seal": TEXT,
    },
)
STEP = Schema(
    needed={
        "round": COUNT,
        "status": one_of(*(status.value for status in Status)),
        "steps": COUNT,
        "beads": TEXT.listed(2),
        "maxima": LOSS.or_null().listed(1),
        "memory": OBJECT,
        "loss_evaluations": COUNT,
        "gradient_evaluations": COUNT,
        "seconds": NUMBER,
    },
    known={"seal": TEXT},
)


def _article(value: object) -> str:
    names = {list: "a list", str: "text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
