"""The two ends of a path as the command line gets them: files or folders, for a task."""

import argparse
import logging
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from dss.adapters import Checkpoint, CheckpointNotice, load_checkpoint
from dss.adapters.reading import dtype_words
from dss.base.allocator import keep_freed_memory
from dss.base.digest import digest
from dss.base.errors import CheckpointError, InputError
from dss.base.quoting import listed, shown
from dss.base.space import ParameterSpace, agree
from dss.cli.arithmetic import HERE, Arithmetic
from dss.objectives.network.statistics import KINDS, tracked_norms
from dss.tasks import Task

log = logging.getLogger(__name__)

# From here on, memory that is kept for the next step costs more than it saves.
LARGE_POINT = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Ends:
    """Both ends `(p,)` in one dtype on one device, the task with the first one's buffers and frozen parameters in its model,
    those of these that a run must keep to rebuild it, and the dtypes of the files and of the beads."""

    start: Tensor
    end: Tensor
    task: Task
    buffers: dict[str, Tensor]
    dtypes: dict[str, object] = field(default_factory=dict)

    @property
    def digests(self) -> list[str]:
        """Of the two points: a run resumes only between the same ones."""
        return [digest(self.start), digest(self.end)]


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How ends are read: the subset that moves, and what a pickle may hold."""
    parser.add_argument(
        "--only", metavar="PATTERN", help='move these parameters alone, such as "lora_*" or "head.*"; the rest is constant'
    )
    add_allow(parser)


def add_buffers(parser: argparse.ArgumentParser) -> None:
    """How BatchNorm's running statistics are treated."""
    parser.add_argument(
        "--buffers", choices=("recalibrate", "frozen"), default="recalibrate",
        help="BatchNorm's running statistics: recomputed for every point, or frozen at the first model's (default: %(default)s)",
    )  # fmt: skip


def add_allow(parser: argparse.ArgumentParser) -> None:
    """What pickles may hold."""
    parser.add_argument(
        "--allow", action="append", default=[], metavar="MODULE.CLASS",
        help="pass over objects of this class in a pickle instead of refusing it; no code of it is run; may be repeated",
    )  # fmt: skip


def with_subset(task: Task, only: str | None) -> Task:
    """The task with another subset of parameters that move, where one is named."""
    return task if only is None else replace(task, only=only)


def read(file: str | Path, space: ParameterSpace, *, allow: Iterable[str] = ()) -> Checkpoint:
    """A checkpoint whose constants the task is to take over; what was passed over is said on the standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_checkpoint(file, space, adopt=True, allow=allow)
    for one in caught:
        if issubclass(one.category, CheckpointNotice):
            print(f"dss: {one.message}", file=sys.stderr)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return found


def load_ends(start: Path, end: Path, task: Task, arithmetic: Arithmetic = HERE, *, allow: Iterable[str] = ()) -> Ends:
    """Read both ends; frozen parameters, and buffers other than BatchNorm's statistics, must agree, for both ends share one
    model.

    Raises:
        CheckpointError: a file cannot be used, or they disagree.
        InputError: autocast is asked for, and the files hold no float32.
    """
    space, allow = task.space, tuple(allow)
    a, b = (read(file, space, allow=allow) for file in (start, end))
    _check_bases(start, a, end, b)
    _check_constants(task, start, a, end, b)
    dtype, place = arithmetic.dtype or torch.promote_types(a.point.dtype, b.point.dtype), arithmetic.device
    if arithmetic.autocast is not None and dtype != torch.float32:
        raise InputError(f"--autocast casts float32 alone, and the files hold {dtype}; say --dtype float32, or leave it out")
    own = {name for name, value in space.frozen.items() if name in a.buffers and agree(a.buffers[name], value)}
    kept = {name: value for name, value in a.buffers.items() if name not in own}
    task = replace(with_buffers(task, kept), autocast=arithmetic.autocast)
    task.model.to(place)
    ends = Ends(a.point.to(place, dtype), b.point.to(place, dtype), task, kept, dtype_words(a, b, beads=dtype))
    log.info("%s holds %s, %s holds %s: points are %s on %s", start, a.point.dtype, end, b.point.dtype, dtype, place)
    if ends.start.nbytes > LARGE_POINT:
        keep_freed_memory(False)
    return ends


def _check_bases(start: Path, a: Checkpoint, end: Path, b: Checkpoint) -> None:
    """Adapters mean something on their own base only."""
    if a.base is not None and b.base is not None and a.base != b.base:
        raise CheckpointError(
            f"{shown(start)} and {shown(end)} are adapters of different bases, {shown(a.base)} and {shown(b.base)}: "
            "merge each into its base (merge_and_unload) and join the whole models"
        )


def with_buffers(task: Task, buffers: dict[str, Tensor]) -> Task:
    """The task with these values in its model's buffers and frozen parameters; the task itself where there are none."""
    if not buffers:
        return task
    model = task.fresh_model()
    with torch.no_grad():
        for name, value in (*model.named_buffers(), *model.named_parameters()):
            if name in buffers:
                value.copy_(buffers[name])
    return replace(task, model=model)


def _check_constants(task: Task, start: Path, a: Checkpoint, end: Path, b: Checkpoint) -> None:
    """What both ends share must be the same in both, but for statistics that are recomputed for every point."""
    statistics = {f"{layer}.{kind}" for layer in tracked_norms(task.model) for kind in KINDS}
    frozen = dict(task.model.named_parameters())

    def differ(name: str) -> bool:
        one, other = (x.buffers.get(name, frozen.get(name)) for x in (a, b))
        return one is not None and other is not None and not agree(one, other)

    differing = sorted(name for name in a.buffers.keys() | b.buffers.keys() if name not in statistics and differ(name))
    if differing:
        fixed = [name for name in differing if name in frozen]
        kind = "frozen parameters" if len(fixed) == len(differing) else "frozen parameters and buffers" if fixed else "buffers"
        cure = "; let the task's model train these parameters (requires_grad=True) to move them" if fixed else ""
        raise CheckpointError(
            f"{shown(start)} and {shown(end)} have different values of the {kind} {listed(differing)}: "
            f"a path needs one model for both ends{cure}"
        )
