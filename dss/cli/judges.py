"""Rebuild what judged a recorded run."""

from dss.base.path import Path
from dss.cli.ends import with_buffers
from dss.objectives.network import NetworkObjective
from dss.problem import Problem
from dss.runs import Run
from dss.tasks import Task, load_task


def task_of(run: Run) -> Task:
    """The task of a run, with the buffers that the run judged with.

    Raises:
        TaskError: the task cannot be built any more.
    """
    return with_buffers(load_task(run.question["task"]), run.buffers)


def objectives_of(run: Run) -> tuple[NetworkObjective, NetworkObjective]:
    """The training objective and the judge that a run used."""
    return task_of(run).objectives(buffers=run.question["buffers"])


def problem_of(run: Run, path: Path) -> tuple[Problem, NetworkObjective]:
    """The question that a run answered, and its training objective."""
    objective, judge = objectives_of(run)
    judged, question = None if judge is objective else judge, run.question
    ends = path.beads[0], path.beads[-1]
    return Problem.of(objective, *ends, threshold=question["threshold"], judge=judged, seed=question["seed"]), objective
