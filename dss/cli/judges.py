"""Rebuild the objectives of a recorded run."""

from pathlib import Path

from dss.cli.ends import with_buffers
from dss.network import NetworkObjective
from dss.runs import Run
from dss.tasks import load_task


def objectives_of(run: Run) -> tuple[NetworkObjective, NetworkObjective]:
    """The training objective and the judge that a run used, its model's buffers included.

    Raises:
        TaskError: the task cannot be built any more.
    """
    task = load_task(run.question["task"])
    return with_buffers(task, run.buffers).objectives(buffers=run.question["buffers"])
