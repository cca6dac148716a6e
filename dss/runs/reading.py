"""Read run folders, finished or not."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from dss.base.errors import RunError
from dss.base.iteration import last
from dss.base.path import Path
from dss.base.space import ParameterSpace
from dss.finders.finder import Status, Step
from dss.objectives.wrappers import Tally
from dss.runs.layout import BUFFERS, PATH, QUESTION, SNAPSHOTS, STEPS, SUMMARY


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


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder as read.

    Attributes:
        folder: where it lies.
        question: what was asked: task, threshold, finder and its options, seed, digests of the ends.
        summary: the key figures, or None while the search has not ended.
        path: the final string, or the last one recorded.
    """

    folder: FilePath
    question: dict
    summary: dict | None
    path: Path

    @property
    def outcome(self) -> dict:
        """The summary of a run that has ended.

        Raises:
            RunError: it has not.
        """
        if self.summary is None:
            raise RunError(f"{self.folder} holds a run that has not ended; finish it with dss connect --resume")
        return self.summary

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The buffers of the model that the run judged with; empty if it has none."""
        return _tensors(self.folder / BUFFERS) if (self.folder / BUFFERS).exists() else {}

    @property
    def data(self) -> dict[str, str]:
        """Digests of the data that it was judged with ("train", "judge"); "unknown" in runs that kept none."""
        return self.question.get("data") or dict.fromkeys(("train", "judge"), "unknown")

    @property
    def history(self) -> Iterator[Snapshot]:
        """Every recorded step, from the straight line on; read from disk as they are asked for."""
        return snapshots(self.folder)


def load_run(folder: str | FilePath) -> Run:
    """Read a run folder, finished or not.

    Raises:
        RunError: there is no run, or its files are damaged.
    """
    folder = FilePath(folder)
    question = read_json(folder / QUESTION)
    summary = read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else None
    if (folder / PATH).exists():
        return Run(folder, question, summary, _stacked(_tensors(folder / PATH), question["parameters"]))
    recorded = last(snapshots(folder))
    if recorded is None:
        raise RunError(f"{folder} holds a run that recorded no step yet; resume it with dss connect --resume")
    return Run(folder, question, summary, recorded.path)


def check_data(folder: str | FilePath, question: Mapping, data: Mapping[str, str]) -> None:
    """Refuse to go on with other data than a run's; a run that kept no digest makes no claim.

    Args:
        question: the run's.
        data: digests of the data that its task gives now.

    Raises:
        RunError: they differ.
    """
    before = question.get("data")
    if before is None or before == data:
        return
    differing = [f"the {kind} data has the digest {data.get(kind)}, the run's had {before.get(kind)}"
                 for kind in sorted(before.keys() | data.keys()) if before.get(kind) != data.get(kind)]  # fmt: skip
    raise RunError(
        f"{folder} was made with other data than the task gives now: {'; '.join(differing)}; let the task give the same samples "
        "in the same order (seed what it draws), or make a new run with another --out"
    )


def load_path(file: str | FilePath, space: ParameterSpace) -> Path:
    """A path from any safetensors file with one entry (n_beads, *shape) per parameter.

    Raises:
        RunError: names or shapes do not fit the model.
    """
    tensors = _tensors(FilePath(file))
    shapes = dict(zip(space.names, space.shapes, strict=True))
    wrong = [name for name in shapes if name not in tensors or tuple(tensors[name].shape[1:]) != shapes[name]]
    if wrong or len({len(tensors[name]) for name in shapes}) != 1:
        raise RunError(
            f"{file} needs one entry (n_beads, *shape) per parameter of the model; wrong or missing: {', '.join(wrong) or 'unequal bead counts'}"
        )
    return _stacked(tensors, list(shapes))


def snapshots(folder: FilePath) -> Iterator[Snapshot]:
    """The recorded steps; a bead is read when a step first names it."""
    places = _bead_places(folder)
    beads: dict[str, Tensor] = {}
    for line in step_lines(folder):
        beads = {d: beads[d] if d in beads else _read_bead(folder, places, d) for d in line["beads"]}
        maxima = torch.tensor([math.nan if m is None else float(m) for m in line["maxima"]], dtype=torch.float64)
        path = Path([beads[d] for d in line["beads"]])
        step = Step(path, maxima, Status(line["status"]), line["round"], line["steps"], line["memory"])
        yield Snapshot(step, Tally(line["loss_evaluations"], line["gradient_evaluations"]), line["seconds"])


def _bead_places(folder: FilePath) -> dict[str, FilePath]:
    """Which snapshot file holds which bead."""
    places = {}
    for file in sorted((folder / SNAPSHOTS).glob("[0-9]*.safetensors")):
        with safe_open(file, framework="pt") as content:
            places |= dict.fromkeys(content.keys(), file)
    return places


def _read_bead(folder: FilePath, places: dict[str, FilePath], digest: str) -> Tensor:
    if digest not in places:
        raise RunError(f"{folder} lacks a bead that its steps name: its snapshots are damaged")
    with safe_open(places[digest], framework="pt") as content:
        return content.get_tensor(digest)


def step_lines(folder: FilePath) -> list[dict]:
    """The complete lines of the record; the last may have been cut short."""
    if not (folder / STEPS).exists():
        return []
    lines = []
    for text in (folder / STEPS).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _stacked(tensors: dict[str, Tensor], names: list[str]) -> Path:
    count = len(tensors[names[0]])
    return Path([torch.cat([tensors[name][i].reshape(-1) for name in names]) for i in range(count)])


def _tensors(file: FilePath) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{file} is not a readable safetensors file: {error}") from error


def read_json(file: FilePath) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{file.parent} holds no run: {file.name} is missing") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is damaged: {error}") from error
