"""What a page may show of a recorded run: the judge, and what else its task can measure cheaply."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dss.base.errors import InputError
from dss.base.progress import ProgressMeter
from dss.cli.judges import rebuilt, task_of
from dss.objectives.judges import Perplexity, error_rate
from dss.objectives.network import NetworkObjective
from dss.objectives.network.data import as_samples
from dss.objectives.network.loss import Loss
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Wrapped
from dss.runs import Run
from dss.tasks import Task

JUDGE, TRAINING, ERRORS, PERPLEXITY = "judged loss", "training loss", "error rate", "perplexity"
# What cross-entropy ignores unless it is told otherwise.
PADDING = -100
# Parameters times samples of one evaluation, above which a metric that is not the judge must be asked for.
CHEAP = 1e9

Judged = tuple[Task, NetworkObjective, NetworkObjective]
"""What a run was judged with: its task, the training objective and the judge."""


def metrics_of(run: Run, *, every: bool = False, judged: Judged | None = None) -> dict[str, Objective]:
    """By name: the judge, then the training loss, and what else the task can be measured by.

    Args:
        every: also those that cost more than the judge is worth.
        judged: what this process has judged the run with; otherwise it is rebuilt.

    Raises:
        TaskError: the task cannot be built any more.
        RunError: it gives other data than the run had.
    """
    if judged is None:
        task = task_of(run)
        training, judge = rebuilt(run, task)
    else:
        task, training, judge = judged
        # As it was read: a stream is read once.
        task = replace(task, train=training.data, judge=None if task.judge is None else judge.data)
    found = metrics_for(task, training, judge, run.question["buffers"])
    size = run.path.size
    return {name: metric for name, metric in found.items() if name == JUDGE or every or is_cheap(metric, size)}


def metrics_for(
    task: Task, training: NetworkObjective, judge: NetworkObjective, buffers: Literal["recalibrate", "frozen"]
) -> dict[str, Objective]:
    """By name: the judge, then all else that a task can be measured by, whatever it costs.

    Args:
        training, judge: the task's objectives.
        buffers: how they treat running statistics.
    """
    found: dict[str, Objective] = {JUDGE: judge}
    if training is not judge:
        found[TRAINING] = training
    if task.perplexity:
        found[PERPLEXITY] = Perplexity(judge)
    for name, loss in _extra_losses(task).items():
        try:
            metric = replace(task, judge_loss=loss).judge_of(task.model, buffers, called=f"the metric {name}")
        except InputError:
            if name in task.metrics:
                raise
            continue  # nobody asked for it, and soft labels have no error rate
        metric.description = f"{task.name}, {name} on the judge's data"
        found[name] = metric.calibrated_by(training)
    return found


def _extra_losses(task: Task) -> dict[str, Loss]:
    """The task's own metrics, and for a plain classifier the share of samples that are wrong."""
    classifier = task.loss is cross_entropy and task.judge_loss is None
    return ({ERRORS: _errors(task)} if classifier else {}) | dict(task.metrics)


def _errors(task: Task) -> Loss:
    """The error rate, without the places that cross-entropy leaves out."""
    target = as_samples(task.train if task.judge is None else task.judge).target
    padded = isinstance(target, Tensor) and bool((target == PADDING).any())
    return partial(error_rate, ignore_index=PADDING) if padded else error_rate


def is_cheap(metric: Objective, size: int) -> bool:
    """Whether one evaluation of a metric, of points of this size, is so cheap that hundreds need not be asked for."""
    return metric.samples * size <= CHEAP


class Watched(Wrapped):
    """`objective`, whose evaluations of points are counted on a meter."""

    def __init__(self, objective: Objective, count: "Count"):
        super().__init__(objective)
        self.count = count

    def __call__(self, points: Tensor) -> Tensor:
        losses = []
        for row in points.split(8):
            losses.append(self.objective(row))
            self.count.add(len(row))
        return torch.cat(losses)


class Count:
    """Points evaluated so far by all metrics of a page together."""

    def __init__(self, meter: ProgressMeter):
        self.meter, self.points = meter, 0

    def add(self, points: int) -> None:
        """So many more."""
        self.points += points
        self.meter.report(self.points)


def watched(metrics: Mapping[str, Objective], meter: ProgressMeter) -> dict[str, Objective]:
    """All metrics with one meter, whose stage has begun."""
    count = Count(meter)
    return {name: Watched(metric, count) for name, metric in metrics.items()}
