"""Rebuild what judged a recorded run."""

from dataclasses import replace

import torch

from dss.base.path import Path
from dss.cli.ends import with_buffers, with_subset
from dss.objectives.network import NetworkObjective
from dss.problem import Problem
from dss.runs import Run, check_data
from dss.tasks import Task, load_task


def task_of(run: Run) -> Task:
    """The task of a run, with its data read, and the buffers that the run judged with.

    Raises:
        TaskError: the task cannot be built any more.
    """
    task = with_subset(load_task(run.question["task"], draws=run.question["seed"]), run.question.get("only"))
    autocast = run.question.get("autocast")  # runs of before do not say
    return replace(with_buffers(task.read(), run.buffers), autocast=None if autocast is None else getattr(torch, autocast))


def objectives_of(run: Run) -> tuple[NetworkObjective, NetworkObjective]:
    """The training objective and the judge that a run used.

    Raises:
        TaskError: the task cannot be built any more.
        RunError: it gives other data than the run had.
    """
    return rebuilt(run, task_of(run))


def rebuilt(run: Run, task: Task) -> tuple[NetworkObjective, NetworkObjective]:
    """The same from the run's task."""
    objectives = task.objectives(buffers=run.question["buffers"])
    run.check_fits(objectives[0].space)
    check_data(run.folder, run.question, digests_of(*objectives))
    return objectives


def digests_of(objective: NetworkObjective, judge: NetworkObjective) -> dict[str, str]:
    """Of the data, as a run keeps them."""
    train = objective.data_digest
    return {"train": train, "judge": judge.data_digest if judge.data is not objective.data else train}


def facts_of(objective: NetworkObjective) -> dict[str, object]:
    """What a summary says of the network: its class, what does not move, how BatchNorm is treated."""
    fixed = sum(value.numel() for value in objective.space.frozen.values())
    return {"model": type(objective.model).__name__, "fixed_parameters": fixed, "buffers": objective.buffers}


def problem_of(run: Run, path: Path) -> tuple[Problem, NetworkObjective, dict[str, str]]:
    """The question that a run answered, its training objective, and the digests of its data."""
    objective, judge = objectives_of(run)
    judged, question = None if judge is objective else judge, run.question
    ends = path.rows[0], path.rows[-1]
    problem = Problem.of(objective, *ends, threshold=question["threshold"], judge=judged, seed=question["seed"], adopt=True)
    return problem, objective, digests_of(objective, judge)
