"""The two ends of a path as the command line gets them: files, for a task."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import CheckpointError, InputError
from dss.base.space import agree
from dss.cli.arithmetic import HERE, Arithmetic
from dss.objectives.network.statistics import KINDS, tracked_norms
from dss.runs.checkpoints import Checkpoint, load_checkpoint
from dss.tasks import Task


@dataclass(frozen=True, eq=False)
class Ends:
    """Both ends `(p,)` in one dtype on one device, the task with the first one's buffers and frozen parameters in its model,
    and those of these that a run must keep to rebuild it."""

    start: Tensor
    end: Tensor
    task: Task
    buffers: dict[str, Tensor]

    @property
    def digests(self) -> list[str]:
        """Of the two points: a run resumes only between the same ones."""
        return [digest(self.start), digest(self.end)]


def load_ends(start: Path, end: Path, task: Task, arithmetic: Arithmetic = HERE) -> Ends:
    """Read both files; frozen parameters, and buffers other than BatchNorm's statistics, must agree, for both ends share one
    model.

    Raises:
        CheckpointError: a file cannot be used, or they disagree.
        InputError: autocast is asked for, and the files hold no float32.
    """
    space = task.space
    a, b = (load_checkpoint(file, space, adopt=True) for file in (start, end))
    _check_constants(task, start, a, end, b)
    dtype, place = arithmetic.dtype or torch.promote_types(a.point.dtype, b.point.dtype), arithmetic.device
    if arithmetic.autocast is not None and dtype != torch.float32:
        raise InputError(f"--autocast casts float32 alone, and the files hold {dtype}; say --dtype float32, or leave it out")
    own = {name for name, value in space.frozen.items() if name in a.buffers and agree(a.buffers[name], value)}
    kept = {name: value for name, value in a.buffers.items() if name not in own}
    task = replace(with_buffers(task, kept), autocast=arithmetic.autocast)
    task.model.to(place)
    return Ends(a.point.to(place, dtype), b.point.to(place, dtype), task, kept)


def with_buffers(task: Task, buffers: dict[str, Tensor]) -> Task:
    """The task with these values in its model's buffers and frozen parameters."""
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
            f"{start} and {end} have different values of the {kind} {', '.join(differing)}: "
            f"a path needs one model for both ends{cure}"
        )
