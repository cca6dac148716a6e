"""What a page may show of a recorded run: the judge, and what else its task can measure cheaply."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from dss.cli.ends import with_buffers
from dss.losses import error_rate
from dss.network import NetworkObjective
from dss.objective import Objective
from dss.runs import Run
from dss.tasks import load_task

JUDGE, TRAINING, ERRORS = "judged loss", "training loss", "error rate"
# Parameters times samples of one look, above which a metric that is not the judge must be asked for.
CHEAP = 1e9


def metrics_of(run: Run, *, every: bool = False) -> dict[str, NetworkObjective]:
    """By name: the judge, then the training loss and, for classifiers, the share of judged samples that are wrong.

    Args:
        every: also those that cost more than the judge is worth.

    Raises:
        TaskError: the task cannot be built any more.
    """
    task, buffers = with_buffers(load_task(run.question["task"]), run.buffers), run.question["buffers"]
    training, judge = task.objectives(buffers=buffers)
    found = {JUDGE: judge}
    if training is not judge:
        found[TRAINING] = training
    if task.loss is cross_entropy and task.judge_loss is None:
        errors = replace(task, judge_loss=error_rate).judge_of(task.model, buffers).calibrated_by(training)
        errors.description = f"{task.name}, error rate on the judge's data"
        found[ERRORS] = errors
    return {name: metric for name, metric in found.items() if name == JUDGE or every or is_cheap(run, metric)}


def is_cheap(run: Run, metric: Objective) -> bool:
    """Whether one look at a metric is so cheap that hundreds need not be asked for."""
    return metric.samples * run.path.beads.shape[1] <= CHEAP


class Watched(Objective):
    """`objective` with a bar that counts the points it evaluates."""

    def __init__(self, objective: Objective, bar: tqdm):
        self.objective, self.bar = objective, bar
        self.description, self.samples = objective.description, objective.samples

    def __call__(self, points: Tensor) -> Tensor:
        losses = []
        for row in points.split(8):
            losses.append(self.objective(row))
            self.bar.update(len(row))
        return torch.cat(losses)


def watched(metrics: Mapping[str, Objective], bar: tqdm) -> dict[str, Objective]:
    """All metrics with one bar."""
    return {name: Watched(metric, bar) for name, metric in metrics.items()}
