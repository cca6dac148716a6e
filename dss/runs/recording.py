"""Write run folders, so that a search that is killed at any moment resumes."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Protocol

from safetensors.torch import save_file
from torch import Tensor

from dss.base.errors import RunError
from dss.base.files import write_atomically, write_text
from dss.base.iteration import last
from dss.base.limits import Status
from dss.base.path import Path
from dss.base.plain_json import plain
from dss.base.space import ParameterSpace
from dss.base.stacked import save_stacked
from dss.certificates.certificate import Certificate
from dss.finders.finder import Step
from dss.objectives.wrappers import Tally
from dss.runs.files import read_tensors
from dss.runs.history import Snapshot, snapshots, step_lines
from dss.runs.layout import (
    BOUNDS,
    BUFFERS,
    FORMAT,
    OPTIONS,
    PATH,
    PROFILE,
    QUESTION,
    REPORT,
    SNAPSHOTS,
    STEPS,
    SUMMARY,
)
from dss.runs.reading import Run, check_data, load_question
from dss.runs.seal import digest_of_path, digest_of_tensors, sealed

VARIES = ("seconds", "loss_evaluations", "gradient_evaluations")
"""What a summary says of work: it may differ where a run was interrupted, because what was in memory is computed again."""


class Outcome(Protocol):
    """How a search ended, such as a `Connection`: what a run folder keeps of it."""

    @property
    def path(self) -> Path: ...

    @property
    def certificate(self) -> Certificate: ...

    @property
    def summary(self) -> dict[str, object]: ...


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
            RunError: there is no run in the folder, or it asked another question or had other data.
        """
        folder = FilePath(folder)
        before = load_question(folder)
        after = json.loads(_json({"format": FORMAT, **question}))
        check_data(folder, before, after.get("data", {}))
        keys = (before.keys() | after.keys()) - {"data"}
        differing = sorted(key for key in keys if before.get(key) != after.get(key))
        if differing:
            raise RunError(
                f"{folder} holds a run with another {', '.join(differing)}: it cannot be resumed with these; "
                "give the same options, or another --out"
            )
        (folder / SNAPSHOTS).mkdir(exist_ok=True)
        lines = step_lines(folder)
        # A line that was cut short by the end of the process is written anew.
        write_text(folder / STEPS, "".join(_json_line(line) for line in lines))
        recorder = cls(folder, {digest for line in lines for digest in line["beads"]})
        return recorder, recorder.latest()

    def record(self, step: Step, tally: Tally, seconds: float) -> None:
        """Add a step: first its new beads, then its line, so that a line never names a bead that is not there."""
        digests = step.path.digests
        self.keep(dict(zip(digests, step.path.rows, strict=True)))
        line = {
            "round": step.round,
            "status": step.status.value,
            "steps": step.gradient_steps,
            "beads": list(digests),
            "maxima": plain(step.maxima.tolist()),
            "memory": step.memory,
            **asdict(tally),
            "seconds": seconds,
        }
        line = sealed(line)
        with (self.folder / STEPS).open("a", encoding="utf-8") as file:
            file.write(_json_line(line))
            file.flush()
            os.fsync(file.fileno())

    def keep(self, beads: Mapping[str, Tensor]) -> None:
        """Write the beads `(p,)`, given by their digests, that were not written before."""
        fresh = {name: bead.cpu().contiguous() for name, bead in beads.items() if name not in self._known}
        if fresh:
            number = len(list((self.folder / SNAPSHOTS).glob("*.safetensors")))
            write_atomically(self.folder / SNAPSHOTS / f"{number:06d}.safetensors", lambda file: save_file(fresh, file))
            self._known |= fresh.keys()

    def latest(self) -> Snapshot | None:
        """The last recorded step, read from the folder."""
        return last(snapshots(self.folder))

    def finish(self, outcome: Outcome, space: ParameterSpace, *, source: str | None = None, **extra: object) -> None:
        """Write the path and, last of all, the summary: a folder with a summary is complete, but for pages drawn of it.

        Args:
            source: digest of the task's source, if it is known.
            extra: what else the summary says.
        """
        rows = [space.unflatten(row) for row in outcome.path.rows]
        beads = {name: [row[name] for row in rows] for name in space.names}
        write_atomically(self.folder / PATH, lambda file: save_stacked(beads, file))
        buffers = read_tensors(self.folder / BUFFERS) if (self.folder / BUFFERS).exists() else {}
        digests = {"path": digest_of_path(outcome.path), "buffers": digest_of_tensors(buffers), "task": source}
        summary = outcome.summary | extra | {"varies": list(VARIES), "digests": digests}
        _write_outcome(self.folder, outcome.certificate, summary)

    def settle(self, **changes: object) -> None:
        """Let the question say what the search itself has led to, such as its threshold."""
        write_text(self.folder / QUESTION, _json(load_question(self.folder) | changes))


def record_certificate(run: Run, certificate: Certificate, *, source: str | None = None) -> None:
    """Let a later certificate of a run's path, at the run's own threshold, take the place of the first.

    Args:
        source: digest of the task's source as it is now, if it is known.
    """
    kept = run.ended
    figures = {
        "connected": certificate.passed,
        "proven": certificate.proven,
        "proof": certificate.proof,
        "threshold": certificate.threshold,
        "upper_bound": certificate.upper,
        "max_loss": certificate.max_loss,
        "resolution": certificate.resolution,
        "normalized_length": run.path.normalized_length,
        "intermediate_beads": run.path.intermediate_beads,
    }
    # A wall is known of all paths: that this one fails says less.
    if certificate.passed or kept["status"] != Status.DISCONNECTED.value:
        figures |= {"status": "connected" if certificate.passed else "refuted", "reason": certificate.reason}
    digests = {"path": digest_of_path(run.path), "buffers": digest_of_tensors(run.buffers), "task": source}
    _write_outcome(run.folder, certificate, kept | figures | {"digests": digests})


def _write_outcome(folder: FilePath, certificate: Certificate, summary: Mapping) -> None:
    """The cells of a proof, then the summary that speaks of them."""
    digests = summary["digests"]
    if certificate.bounds is None:
        (folder / BOUNDS).unlink(missing_ok=True)
    else:
        bounds = {"stairs": certificate.bounds.contiguous()}
        write_atomically(folder / BOUNDS, lambda file: save_file(bounds, file))
        digests = digests | {"bounds": digest_of_tensors(bounds)}
    write_text(folder / SUMMARY, _json(sealed(plain({**summary, "digests": digests}))))


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


def _clear(folder: FilePath) -> None:
    """Remove an earlier run and nothing else: its question last, so that what a kill leaves is still a run."""
    for name in (SUMMARY, REPORT, PROFILE, PATH, BOUNDS, STEPS, OPTIONS):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / SNAPSHOTS, ignore_errors=True)
    for name in (BUFFERS, QUESTION):
        (folder / name).unlink(missing_ok=True)


def _json(value: dict) -> str:
    return json.dumps(value, indent=2) + "\n"


def _json_line(value: dict) -> str:
    return json.dumps(value) + "\n"
