"""Run folders: a search that is killed at any moment resumes, and a finished one can be read by any tool.

A folder holds `run.json` (the question), `buffers.safetensors` (the model's, if it has any), `steps.jsonl` and `snapshots/` (how the string grew), and at the end
`path.safetensors` and `summary.json`. Beads are stored once each, under a digest of their bytes.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dss.certificate import Certificate
from dss.connect import Connection
from dss.errors import RunError
from dss.files import write_atomically, write_text
from dss.finder import Status, Step
from dss.objective import Tally
from dss.path import Path
from dss.space import ParameterSpace

FORMAT = 1
QUESTION, BUFFERS, STEPS, SNAPSHOTS = "run.json", "buffers.safetensors", "steps.jsonl", "snapshots"
PATH, STAIRS, SUMMARY = "path.safetensors", "stairs.safetensors", "summary.json"
REPORT, PROFILE = "report.html", "profile.json"


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
    def buffers(self) -> dict[str, Tensor]:
        """The buffers of the model that the run judged with; empty if it has none."""
        return _tensors(self.folder / BUFFERS) if (self.folder / BUFFERS).exists() else {}

    @property
    def history(self) -> Iterator[Snapshot]:
        """Every recorded step, from the straight line on; read from disk as they are asked for."""
        return _snapshots(self.folder)


class RunRecorder:
    """Writes one run folder: a step at a time, then the outcome."""

    def __init__(self, folder: FilePath, known: set[str]):
        self.folder, self._known = folder, known

    @classmethod
    def start(
        cls, folder: str | FilePath, question: dict, *, buffers: dict[str, Tensor] | None = None, overwrite: bool = False
    ) -> "RunRecorder":
        """A new run; `buffers` are the model's, for those who rebuild it.

        Raises:
            RunError: the folder holds a run, or other files, and must not be overwritten.
        """
        folder = FilePath(folder)
        check_free(folder, overwrite=overwrite)
        _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if buffers:
            write_atomically(folder / BUFFERS, lambda file: save_file(buffers, file))
        write_text(folder / QUESTION, _json({"format": FORMAT, **question}))
        (folder / SNAPSHOTS).mkdir()
        return cls(folder, set())

    @classmethod
    def resume(cls, folder: str | FilePath, question: dict) -> tuple["RunRecorder", Snapshot | None]:
        """An interrupted run of the same question, and its last recorded step.

        Raises:
            RunError: there is no run in the folder, or it asked another question.
        """
        folder = FilePath(folder)
        before = _read_json(folder / QUESTION)
        after = json.loads(_json({"format": FORMAT, **question}))
        differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        if differing:
            raise RunError(
                f"{folder} holds a run with another {', '.join(differing)}: it cannot be resumed with these; "
                "give the same options, or another --out"
            )
        (folder / SNAPSHOTS).mkdir(exist_ok=True)
        lines = _step_lines(folder)
        # A line that was cut short by the end of the process is written anew.
        write_text(folder / STEPS, "".join(_json_line(line) for line in lines))
        last = None
        for last in _snapshots(folder):
            pass
        return cls(folder, {digest for line in lines for digest in line["beads"]}), last

    def record(self, step: Step, tally: Tally, seconds: float) -> None:
        """Add a step: first its new beads, then its line, so that a line never names a bead that is not there."""
        digests = [_digest(bead) for bead in step.path.beads]
        fresh = {d: b.cpu().clone() for d, b in zip(digests, step.path.beads, strict=True) if d not in self._known}
        if fresh:
            number = len(list((self.folder / SNAPSHOTS).glob("*.safetensors")))
            write_atomically(self.folder / SNAPSHOTS / f"{number:06d}.safetensors", lambda file: save_file(fresh, file))
            self._known |= fresh.keys()
        line = {
            "round": step.round,
            "status": step.status.value,
            "steps": step.steps,
            "beads": digests,
            "maxima": [_number(m) for m in step.maxima.tolist()],
            "memory": step.memory,
            **asdict(tally),
            "seconds": seconds,
        }
        with (self.folder / STEPS).open("a", encoding="utf-8") as file:
            file.write(_json_line(line))
            file.flush()
            os.fsync(file.fileno())

    def finish(self, connection: Connection, space: ParameterSpace, **extra: object) -> None:
        """Write the path and, last of all, the summary: a folder with a summary is complete."""
        beads = {name: value.cpu().contiguous() for name, value in space.unflatten(connection.path.beads).items()}
        write_atomically(self.folder / PATH, lambda file: save_file(beads, file))
        _write_outcome(self.folder, connection.certificate, connection.summary | extra)


def record_certificate(folder: str | FilePath, certificate: Certificate) -> None:
    """Let a later certificate of a run's path, at the run's own threshold, take the place of the first."""
    folder = FilePath(folder)
    status = {} if certificate.passed else {"status": "refuted"}
    figures = {
        "connected": certificate.passed,
        "proven": certificate.proven,
        "upper_bound": certificate.upper,
        "max_loss": certificate.max_loss,
        "resolution": certificate.resolution,
        "reason": certificate.reason,
    }
    _write_outcome(folder, certificate, _read_json(folder / SUMMARY) | status | figures)


def _write_outcome(folder: FilePath, certificate: Certificate, summary: dict) -> None:
    """The cells of a proof, then the summary that speaks of them."""
    if certificate.stairs is None:
        (folder / STAIRS).unlink(missing_ok=True)
    else:
        stairs = {"stairs": certificate.stairs.contiguous()}
        write_atomically(folder / STAIRS, lambda file: save_file(stairs, file))
    figures = {key: _number(value) if isinstance(value, float) else value for key, value in summary.items()}
    write_text(folder / SUMMARY, _json(figures))


def check_free(folder: FilePath, *, overwrite: bool) -> None:
    """Refuse a folder in which a run would destroy something.

    Raises:
        RunError: it holds a run and `overwrite` is False, or it holds files that are not a run's.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(f"{folder} is a file; a folder for the run is needed")
    if (folder / QUESTION).exists() and not overwrite:
        raise RunError(f"{folder} holds a run already; say --resume to go on with it, --overwrite to replace it, or name another")
    # What a process that was killed at its very start may have left does not count.
    foreign = [file for file in folder.iterdir() if file.name != BUFFERS and not file.name.startswith(".")]
    if foreign and not (folder / QUESTION).exists():
        raise RunError(f"{folder} is not empty and holds no run; name a new folder")


def load_run(folder: str | FilePath) -> Run:
    """Read a run folder, finished or not.

    Raises:
        RunError: there is no run, or its files are damaged.
    """
    folder = FilePath(folder)
    question = _read_json(folder / QUESTION)
    summary = _read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else None
    if (folder / PATH).exists():
        return Run(folder, question, summary, _stacked(_tensors(folder / PATH), question["parameters"]))
    last = None
    for last in _snapshots(folder):
        pass
    if last is None:
        raise RunError(f"{folder} holds a run that recorded no step yet; resume it with dss connect --resume")
    return Run(folder, question, summary, last.path)


def load_path(file: str | FilePath, space: ParameterSpace) -> Path:
    """A path from any safetensors file with one entry (n_beads, *shape) per parameter.

    Raises:
        RunError: names or shapes do not fit the model.
    """
    tensors = _tensors(FilePath(file))
    shapes = dict(zip(space.names, space.shapes, strict=True))
    wrong = [name for name in shapes if name not in tensors or tuple(tensors[name].shape[1:]) != shapes[name]]
    if wrong or len({len(tensors[name]) for name in shapes}) != 1:
        raise RunError(f"{file} needs one entry (n_beads, *shape) per parameter of the model; wrong or missing: {', '.join(wrong) or 'unequal bead counts'}")
    return _stacked(tensors, list(shapes))


def _snapshots(folder: FilePath) -> Iterator[Snapshot]:
    """The recorded steps; a bead is read when a step first names it."""
    places = _bead_places(folder)
    beads: dict[str, Tensor] = {}
    for line in _step_lines(folder):
        beads = {d: beads[d] if d in beads else _read_bead(folder, places, d) for d in line["beads"]}
        maxima = torch.tensor([math.nan if m is None else float(m) for m in line["maxima"]], dtype=torch.float64)
        path = Path(torch.stack([beads[d] for d in line["beads"]]))
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


def _step_lines(folder: FilePath) -> list[dict]:
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
    return Path(torch.cat([tensors[name].reshape(len(tensors[name]), -1) for name in names], 1))


def _tensors(file: FilePath) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{file} is not a readable safetensors file: {error}") from error


def _read_json(file: FilePath) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{file.parent} holds no run: {file.name} is missing") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is damaged: {error}") from error


def _clear(folder: FilePath) -> None:
    """Remove an earlier run and nothing else."""
    for name in (QUESTION, BUFFERS, STEPS, PATH, STAIRS, SUMMARY, REPORT, PROFILE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / SNAPSHOTS, ignore_errors=True)


def _digest(bead: Tensor) -> str:
    """Of the bead's bytes: equal beads are stored once."""
    return hashlib.sha256(bead.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:32]


def _number(value: float) -> float | str | None:
    """Standard JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None if math.isnan(value) else str(value)


def _json(value: dict) -> str:
    return json.dumps(value, indent=2) + "\n"


def _json_line(value: dict) -> str:
    return json.dumps(value) + "\n"
