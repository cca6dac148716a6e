"""The options of a search, and the finder that they describe."""

import argparse
from dataclasses import fields, replace
from functools import partial

from dss.base.adam import Adam
from dss.base.errors import InputError
from dss.finders import FINDERS, GreedyString, default_finder
from dss.finders.descent import Descent
from dss.finders.finder import Finder, Limits

# Options that only some finders have: `greedy` has all of them.
FINDER_OPTIONS = ("insertion", "schedule", "alpha", "margin")
DESCENT_OPTIONS = ("lr", "bead_steps")
# Limits by their flag.
LIMITS = {
    "max_rounds": "rounds", "max_beads": "beads", "max_steps": "gradient_steps", "max_evaluations": "evaluations", "max_seconds": "seconds",
}  # fmt: skip


def add_search(group: argparse._ArgumentGroup) -> None:
    """The options of the search; None leaves the finder its own default."""
    group.add_argument("--insertion", choices=("midpoint", "argmax"), help="where a new bead starts")
    group.add_argument("--schedule", choices=("breadth", "depth"), help="beads of a round together, or one after the other")
    group.add_argument("--alpha", type=float, help="a bead's target is alpha times the threshold")
    group.add_argument("--margin", type=float, help="a bead's target is the threshold less this")
    group.add_argument("--lr", type=float, help="Adam's rate for beads (default: 1e-3)")
    group.add_argument("--bead-steps", type=int, help="steps after which a bead has failed (default: 5000)")
    group.add_argument("--max-rounds", type=int, help="rounds of the search (default: 40)")
    group.add_argument("--max-beads", type=int, help="intermediate beads (default: 200)")
    group.add_argument("--max-steps", type=int, help="gradient steps of all beads together")
    group.add_argument("--max-evaluations", type=int, help="judged losses of single points")
    group.add_argument("--max-seconds", type=float, help="of search, shortening and proof together; gives up reproducibility")


def name_default(options: argparse.Namespace, size: int) -> str:
    """The finder where none is named, for points of `size` coordinates: an option that only greedy insertion has asks for it."""
    default = default_finder(size, on_disk=options.beads_on_disk)
    known = {field.name for field in fields(FINDERS[default.name])}
    asked = [name for name in FINDER_OPTIONS if getattr(options, name) is not None]
    return default.name if known.issuperset(asked) else GreedyString.name


def make_finder(options: argparse.Namespace) -> Finder:
    """The finder that the options describe.

    Raises:
        InputError: an option that this finder does not have.
    """
    kind = FINDERS[options.finder]
    known = {field.name for field in fields(kind)}
    given = {name: value for name in FINDER_OPTIONS if (value := getattr(options, name)) is not None}
    descent = {name: value for name in DESCENT_OPTIONS if (value := getattr(options, name)) is not None}
    foreign = sorted(given.keys() - known) + sorted(descent if "descent" not in known else ())
    if foreign:
        flags = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise InputError(f"the finder {options.finder} has no {flags}; leave it out, or choose another finder")
    limits = {field: value for name, field in LIMITS.items() if (value := getattr(options, name)) is not None}
    if "grid" in known:
        given["grid"] = options.grid
    if descent:
        given["descent"] = _descent(**descent)
    return kind(**given, limits=Limits(**limits))


def _descent(lr: float | None = None, bead_steps: int | None = None) -> Descent:
    descent = Descent() if lr is None else Descent(optimizer=partial(Adam, lr=lr))
    return descent if bead_steps is None else replace(descent, max_steps=bead_steps)
