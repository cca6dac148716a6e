"""The recorded steps of a search: lines that name beads, and the files that hold them under the digests of their bytes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath

import torch
from safetensors import safe_open
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import InputError, RunError
from dss.base.path import Path
from dss.base.quoting import shown
from dss.finders.finder import Status, Step
from dss.objectives.wrappers import Tally
from dss.runs.files import parsed, plainly_named, read_text
from dss.runs.layout import SNAPSHOTS, STEPS
from dss.runs.schema import CURE, STEP, Record
from dss.runs.seal import intact


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One recorded step of a search, with the work done until then."""

    step: Step
    tally: Tally
    seconds: float

    @property
    def path(self) -> Path:
        """The string at that moment."""
        return self.step.path


def snapshots(folder: FilePath) -> Iterator[Snapshot]:
    """The recorded steps; a bead is read when a step first names it.

    Raises:
        RunError: a line or a bead is damaged, or missing.
    """
    places = _bead_places(folder)
    beads: dict[str, Tensor] = {}
    for number, line in enumerate(step_lines(folder), 1):
        beads = {d: beads[d] if d in beads else _read_bead(folder, places, d) for d in line["beads"]}
        maxima = torch.tensor([math.nan if m is None else float(m) for m in line["maxima"]], dtype=torch.float64)
        try:
            path = Path([beads[d] for d in line["beads"]])
        except (RuntimeError, InputError) as error:  # beads that are no string together
            raise RunError(f"{folder / STEPS} is damaged: line {number}: {shown(error, 200)}; {CURE}") from error
        step = Step(path, maxima, Status(line["status"]), line["round"], line["steps"], line["memory"])
        yield Snapshot(step, Tally(line["loss_evaluations"], line["gradient_evaluations"]), line["seconds"])


def resumed(steps: Iterator[Step], folder: FilePath) -> Iterator[Step]:
    """The steps of a search that goes on from the last recorded one.

    Raises:
        RunError: the first cannot be made: what a finder remembers is for the finder alone to read, and this is not it.
    """
    try:
        first = next(steps, None)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        found = shown(f"{type(error).__name__}: {error}")
        raise RunError(f"{folder / STEPS} is damaged: its finder cannot go on from its last line ({found}); {CURE}") from error
    if first is not None:
        yield first
        yield from steps


def step_lines(folder: FilePath) -> list[Record]:
    """The complete lines of the record; the last may have been cut short by the end of the process.

    Raises:
        RunError: another line is damaged, or one says what no search wrote.
    """
    file = folder / STEPS
    if not file.exists():
        return []
    texts = read_text(file).splitlines()
    lines = []
    for number, text in enumerate(texts, 1):
        where = f"line {number} of {file}"
        try:
            line = parsed(text, where)
        except RunError:
            if number == len(texts):
                break
            raise
        lines.append(_checked(line, where))
    return lines


def _checked(line: object, where: str) -> Record:
    record = STEP.check(line, where)
    if len(record["maxima"]) != len(record["beads"]) - 1:
        raise RunError(f"{where} is damaged: {len(record['beads'])} beads and {len(record['maxima'])} maxima of segments; {CURE}")
    if not intact(record):
        raise RunError(f"{where} was changed after it was written; {CURE}")
    return record


def _bead_places(folder: FilePath) -> dict[str, FilePath]:
    """Which snapshot file holds which bead; a file that cannot be read holds none, and is missed when one of its beads is."""
    places = {}
    for file in sorted((folder / SNAPSHOTS).glob("[0-9]*.safetensors")):
        try:
            with plainly_named(file) as plain, safe_open(plain, framework="pt") as content:
                places |= dict.fromkeys(content.keys(), file)
        except Exception:
            continue
    return places


def _read_bead(folder: FilePath, places: dict[str, FilePath], name: str) -> Tensor:
    """A bead `(p,)`, which must be what its name says.

    Raises:
        RunError: it is missing, or another.
    """
    if name not in places:
        raise RunError(
            f"{folder / SNAPSHOTS} lacks the bead {shown(name)} that {STEPS} names: a file in it is damaged or missing; {CURE}"
        )
    try:
        with plainly_named(places[name]) as plain, safe_open(plain, framework="pt") as content:
            bead = content.get_tensor(name)
    except Exception as error:  # as above
        raise RunError(f"{places[name]} is damaged: {shown(error, 200)}; {CURE}") from error
    if bead.ndim != 1 or not bead.is_floating_point() or digest(bead) != name:
        raise RunError(f"{places[name]} was changed: its bead {shown(name)} is not what its name says; {CURE}")
    return bead
