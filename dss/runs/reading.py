"""Read run folders, finished or not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path as FilePath

from torch import Tensor

from dss.base.errors import RunError
from dss.base.iteration import last
from dss.base.path import Path
from dss.base.quoting import listed
from dss.base.space import ParameterSpace
from dss.runs.files import read_json, read_path, read_tensors, stacked
from dss.runs.history import Snapshot, snapshots, step_lines
from dss.runs.layout import BOUNDS, BUFFERS, PATH, QUESTION, SUMMARY
from dss.runs.schema import CURE, Record, check_format
from dss.runs.schema import QUESTION as QUESTIONS
from dss.runs.schema import SUMMARY as SUMMARIES
from dss.runs.seal import digest_of_path, digest_of_tensors, intact


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder as read.

    Attributes:
        folder: where it lies.
        question: what was asked: task, threshold, finder and its options, seed, digests of the ends.
        summary: the key figures, or None while the search has not ended.
        path: the final string, or the last one recorded.
        shapes: of the parameters by name, or None where no final string says them.
    """

    folder: FilePath
    question: Record
    summary: Record | None
    path: Path
    shapes: Mapping[str, tuple[int, ...]] | None = field(default=None, repr=False)

    @property
    def ended(self) -> Record:
        """The summary of a run that has ended, whatever became of its files since.

        Raises:
            RunError: it has not.
        """
        if self.summary is None:
            raise RunError(f"{self.folder} holds a run that has not ended; finish it with dss connect --resume")
        return self.summary

    @property
    def outcome(self) -> Record:
        """The summary of a run that has ended, and whose files are those that its certificate speaks of.

        Raises:
            RunError: it has not, or they are not.
        """
        summary = self.ended
        if self.changes:
            raise RunError(
                f"{self.folder}: {' and '.join(self.changes)} changed after its certificate, which says nothing of it now; "
                f"dss certify {self.folder} judges it anew"
            )
        return summary

    @cached_property
    def changes(self) -> tuple[str, ...]:
        """What is no longer what it was when the path was certified; runs of earlier versions kept no digests, and make no claim."""
        if self.summary is None:
            return ()
        kept = self.summary.get("digests", {})
        changed = {
            "the path": kept.get("path") not in (None, digest_of_path(self.path)),
            "the model's buffers": kept.get("buffers") not in (None, digest_of_tensors(self.buffers)),
            "the summary": not intact(self.summary, with_seal="digests"),
        }
        return tuple(what for what, differs in changed.items() if differs)

    @cached_property
    def buffers(self) -> dict[str, Tensor]:
        """The buffers of the model that the run judged with; empty if it has none."""
        return read_tensors(self.folder / BUFFERS) if (self.folder / BUFFERS).exists() else {}

    @property
    def bounds(self) -> Tensor | None:
        """The cells `(c, 4)` of the proof that the summary speaks of; None where there is none.

        Raises:
            RunError: they are damaged.
        """
        file = self.folder / BOUNDS
        if self.summary is None or self.changes or not file.exists():
            return None
        tensors = read_tensors(file)
        # A certificate that was cut short leaves cells of which no summary speaks.
        if self.summary.get("digests", {}).get("bounds") not in (None, digest_of_tensors(tensors)):
            return None
        cells = tensors.get("stairs")
        if cells is None or cells.ndim != 2 or cells.shape[1] != 4 or not cells.is_floating_point() or not cells.isfinite().all():
            raise RunError(f"{file} needs cells (c, 4) of finite numbers under the name 'stairs'; {CURE}")
        return cells

    @property
    def data(self) -> dict[str, str]:
        """Digests of the data that it was judged with ("train", "judge"); "unknown" in runs that kept none."""
        return dict.fromkeys(("train", "judge"), "unknown") | self.question.get("data", {})

    @property
    def recorded(self) -> int:
        """How many steps are recorded."""
        return len(step_lines(self.folder))

    @property
    def history(self) -> Iterator[Snapshot]:
        """Every recorded step, from the straight line on; read from disk as they are asked for."""
        return snapshots(self.folder)

    def check_fits(self, space: ParameterSpace) -> None:
        """Refuse a path that is none of a model.

        Raises:
            RunError: the model's parameters have other names or shapes.
        """
        wrong = sorted(set(space.names) ^ set(self.question["parameters"])) or (
            [] if list(space.names) == self.question["parameters"] else list(space.names)
        )
        if self.shapes is not None and not wrong:
            wrong = [n for n, shape in zip(space.names, space.shapes, strict=True) if self.shapes[n] != shape]
        if wrong or self.path.size != space.size:
            raise RunError(
                f"{self.folder} holds a path of {self.path.size} parameters, and the model of its task has {space.size}; "
                f"of other names or shapes are: {listed(wrong) or 'none'}; let the task give the model that it gave, or {CURE}"
            )


def load_run(folder: str | FilePath) -> Run:
    """Read a run folder, finished or not.

    Raises:
        RunError: there is no run, or its files are damaged.
    """
    folder = FilePath(folder)
    question = load_question(folder)
    summary = SUMMARIES.check(read_json(folder / SUMMARY), folder / SUMMARY) if (folder / SUMMARY).exists() else None
    if (folder / PATH).exists():
        path, shapes = read_path(folder / PATH, question["parameters"])
    elif summary is not None:
        raise RunError(f"{folder} has a summary and no {PATH}; {CURE}")
    else:
        path, shapes = _last_path(folder), None
    run = Run(folder, question, summary, path, shapes)
    _check_ends(run)
    _check_verdict(run)
    return run


def load_question(folder: FilePath) -> Record:
    """What a run folder was asked.

    Raises:
        RunError: there is no run, it is damaged, or of a version to come.
    """
    where = folder / QUESTION
    found = read_json(where)
    if isinstance(found, dict):
        check_format(found, where)
    question = QUESTIONS.check(found, where)
    if len(set(question["parameters"])) != len(question["parameters"]):
        raise RunError(f"{where} is damaged: it names a parameter twice; {CURE}")
    return question


def _last_path(folder: FilePath) -> Path:
    recorded = last(snapshots(folder))
    if recorded is None:
        raise RunError(f"{folder} holds a run that recorded no step yet; resume it with dss connect --resume")
    return recorded.path


def _check_ends(run: Run) -> None:
    """A run joins two points that it knows by their digests; a path between others is not its answer."""
    ends = run.path.digests[0], run.path.digests[-1]
    for name, kept, now in zip("AB", run.question.get("digests", ()), ends, strict=False):
        if now != kept:
            raise RunError(
                f"{run.folder}: the end {name} of the path is not the one that the run joins (digest {now}, the run's is "
                f"{kept[:40]!r}): its files were changed; {CURE}"
            )


def _check_verdict(run: Run) -> None:
    """A summary that contradicts itself, its question or its path is nobody's."""
    s = run.summary
    if s is None:
        return
    bound = s["upper_bound"]
    wrong = {
        "its threshold is not the run's": s["threshold"] != run.question["threshold"],
        "it is proved without a bound": s["proven"] and bound is None,
        "it has a bound and is not proved": not s["proven"] and bound is not None,
        "it is proved and not connected": s["proven"] and not s["connected"],
        "its bound is above its threshold": s["proven"] and bound is not None and bound > s["threshold"],
        "it is connected above its threshold": s["connected"] and float(s["max_loss"]) > s["threshold"],
        "its path has another number of beads": s.get("intermediate_beads", len(run.path) - 2) != len(run.path) - 2,
    }
    found = [words for words, is_so in wrong.items() if is_so]
    if found:
        raise RunError(f"{run.folder / SUMMARY} is damaged: {'; '.join(found)}; {CURE}")


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
    file = FilePath(file)
    tensors = read_tensors(file)
    shapes = dict(zip(space.names, space.shapes, strict=True))
    wrong = [name for name in shapes if name not in tensors or tuple(tensors[name].shape[1:]) != shapes[name]]
    if wrong:
        raise RunError(f"{file} needs one entry (n_beads, *shape) per parameter of the model; wrong or missing: {listed(wrong)}")
    return stacked(tensors, list(shapes), file)
