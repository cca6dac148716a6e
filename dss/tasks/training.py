"""Train one end of a path for a task, plainly: Adam, minibatches, a fixed number of epochs."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from dss.base.adam import Adam
from dss.base.errors import TaskError
from dss.objectives.network.data import Samples
from dss.objectives.network.images import takes_channels_last
from dss.objectives.network.loss import as_number
from dss.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Epoch:
    """One pass over the training data: its number from 1, the mean loss of its batches, the model so far."""

    number: int
    loss: float
    model: nn.Module


def train(task: Task, *, seed: int, epochs: int | None = None, learning_rate: float | None = None) -> Iterator[Epoch]:
    """Train a copy of the task's model, yielding after every epoch.

    Dropout and the order of the samples follow `seed`; the initial weights are the task's own (see `load_task`).

    Raises:
        TaskError: the loss stopped being finite.
    """
    model, samples = task.fresh_model().train(), task.samples
    parameter = next(model.parameters())
    samples = samples.cast(parameter.dtype, parameter.device, channels_last=_takes_channels_last(task, model, samples))
    optimizer = Adam(model.parameters(), lr=learning_rate or task.learning_rate)
    size = min(task.batch_size or samples.batch_size or len(samples), len(samples))
    generator = torch.Generator().manual_seed(seed)
    for number in range(1, (epochs or task.epochs) + 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            loss = _epoch(task, model, optimizer, samples, size)
        if not loss < float("inf"):
            raise TaskError(f"training diverged in epoch {number}: the loss is {loss}; lower the learning rate")
        yield Epoch(number, loss, model)


def _takes_channels_last(task: Task, model: nn.Module, samples: Samples) -> bool:
    """Whether images may lie in the order that convolutions are quicker in: tried on a copy, for layers may remember what they saw."""
    trial, parameter = copy.deepcopy(model).eval(), next(model.parameters())
    few = samples.take(torch.arange(min(8, len(samples)))).cast(parameter.dtype, parameter.device)
    return takes_channels_last(trial, few, lambda some: as_number(task.loss, some.given_to(trial), some.target))


def _epoch(task: Task, model: nn.Module, optimizer, samples: Samples, size: int) -> float:
    """One pass in a random order, the last short batch left out unless it is the only one; the mean loss."""
    order = torch.randperm(len(samples)).to(next(model.parameters()).device)
    total, batches = 0.0, list(order.split(size))
    batches = batches[: len(samples) // size] or batches
    for index in batches:
        batch = samples.take(index)
        optimizer.zero_grad()
        loss = as_number(task.loss, batch.given_to(model), batch.target)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)
