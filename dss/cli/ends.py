"""The two ends of a path as the command line gets them: files, for a task."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import CheckpointError, InputError
from dss.base.space import ParameterSpace
from dss.runs.checkpoints import Checkpoint, load_checkpoint
from dss.tasks import Task

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Ends:
    """Both ends `(p,)` in one dtype on one device, the task with the first one's buffers in its model, and these."""

    start: Tensor
    end: Tensor
    task: Task
    buffers: dict[str, Tensor]

    @property
    def digests(self) -> list[str]:
        """Of the two points: a run resumes only between the same ones."""
        return [digest(self.start), digest(self.end)]


def load_ends(start: Path, end: Path, task: Task, device: str) -> Ends:
    """Read both files; buffers other than BatchNorm's statistics must agree, for both ends share one model.

    Raises:
        CheckpointError: a file cannot be used, or the buffers disagree.
        InputError: the device is not there.
    """
    space = ParameterSpace.of(task.model)
    a, b = load_checkpoint(start, space), load_checkpoint(end, space)
    _check_buffers(start, a, end, b)
    dtype, place = torch.promote_types(a.point.dtype, b.point.dtype), _device(device)
    return Ends(a.point.to(place, dtype), b.point.to(place, dtype), with_buffers(task, a.buffers), a.buffers)


def with_buffers(task: Task, buffers: dict[str, Tensor]) -> Task:
    """The task with these values in its model's buffers."""
    model = task.fresh_model()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])
    return replace(task, model=model)


def _check_buffers(start: Path, a: Checkpoint, end: Path, b: Checkpoint) -> None:
    differing = [
        name
        for name in a.buffers.keys() & b.buffers.keys()
        if name.rpartition(".")[2] not in _STATISTICS and not torch.equal(a.buffers[name], b.buffers[name])
    ]
    if differing:
        raise CheckpointError(
            f"{start} and {end} have different values of the buffers {', '.join(sorted(differing))}: "
            "a path needs one model for both ends"
        )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device
