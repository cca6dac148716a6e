"""What the command line needs to know of a model and its data."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn

from dss.base.space import ParameterSpace, Selection
from dss.objectives.network import NetworkObjective
from dss.objectives.network.batches import Target
from dss.objectives.network.data import Samples, as_samples
from dss.objectives.network.loss import Loss, name_of
from dss.objectives.network.own_loss import target_for
from dss.theory.obstruction import Obstruction

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Task:
    """A model, its loss and its data.

    Attributes:
        model: any module; it is never changed.
        loss: of the samples, see docs/losses.md; gradients come from it.
        train: `(inputs, target)` tensors or arrays, a data set, or a loader; see docs/data.md.
        judge: data of the loss that must stay below the threshold; the training data by default.
        judge_loss: the judge's loss if it differs; it needs no gradient.
        metrics: other losses by name, for the page; evaluated on the judge's data.
        perplexity: whether the page should also show the exponential of the judged loss.
        batch_size: minibatch of the training; None is a loader's own, else the full batch.
        whole: the losses are of all samples at once; see `NetworkObjective`.
        only, trainable: which parameters move; see `ParameterSpace.of`.
        target: which part of a batch the loss compares with, where that is not plain; see `NetworkObjective`.
        seed: of what the data draws at random; the command line sets it to the run's.
        name: for people and run folders.
        epochs, learning_rate: how `dss train` trains an end, with Adam.
        obstructions: for the judged loss; with one, `dss connect` may answer "proved disconnected".
        origin: how errors call it: where the command line found it.
        autocast: a dtype in which `torch.autocast` computes what it may; the command line's `--autocast`.
    """

    model: nn.Module
    loss: Loss
    train: object
    judge: object | None = None
    judge_loss: Loss | None = None
    metrics: Mapping[str, Loss] = field(default_factory=dict)
    perplexity: bool = False
    batch_size: int | None = None
    whole: bool = False
    only: Selection | None = None
    trainable: bool = True
    target: Target = None
    seed: int = 0
    name: str = "task"
    epochs: int = 20
    learning_rate: float = 1e-3
    obstructions: tuple[Obstruction, ...] = ()
    origin: str | None = None
    autocast: torch.dtype | None = None

    def objectives(
        self, *, buffers: Literal["recalibrate", "frozen"] = "recalibrate"
    ) -> tuple[NetworkObjective, NetworkObjective]:
        """The training objective and the judge; one and the same when the task judges by its training loss.

        Raises:
            InputError: the data or the loss cannot be used.
        """
        task = self.read()
        train = NetworkObjective(
            self.model,
            self.loss,
            task.train,
            whole=self.whole,
            batch_size=self.batch_size,
            only=self.only,
            trainable=self.trainable,
            buffers=buffers,
            description=f"{self.name}, training loss",
            names=self._names("the loss"),
            autocast=self.autocast,
        )
        log.info(
            "%s: %s with %s parameters that move in %d tensors, %s fixed; loss %s, %s training samples",
            self.origin or self.name, type(self.model).__name__, f"{train.space.size:,}", len(train.space.names),
            f"{sum(value.numel() for value in train.space.frozen.values()):,}", name_of(self.loss), f"{train.samples:,}",
        )  # fmt: skip
        if self.judge is None and self.judge_loss is None:
            log.info("the training loss judges: the task names no other")
            return train, train
        judge = task.judge_of(self.model, buffers).calibrated_by(train)
        assert isinstance(judge, NetworkObjective)
        log.info("judged by %s on %s samples", name_of(self.judge_loss or self.loss), f"{judge.samples:,}")
        return train, judge

    @property
    def samples(self) -> Samples:
        """The training data, read."""
        return as_samples(self.train, target=target_for(self.loss, self.target), seed=self.seed)

    def read(self) -> "Task":
        """The task with its data read: once, whatever is asked of it then.

        Raises:
            InputError: the data cannot be used.
        """
        judge = None if self.judge is None else as_samples(self.judge, target=target_for(self.loss, self.target), seed=self.seed)
        return replace(self, train=self.samples, judge=judge)

    def judge_of(
        self, model: nn.Module, buffers: Literal["recalibrate", "frozen"], *, called: str = "the judge's loss"
    ) -> NetworkObjective:
        """The judge of another model of this architecture, with that model's buffers.

        Args:
            called: what errors call its loss.
        """
        loss, data = self.judge_loss or self.loss, self.train if self.judge is None else self.judge
        return NetworkObjective(
            model,
            loss,
            data,
            whole=self.whole,
            target=self.target,
            seed=self.seed,
            only=self.only,
            trainable=self.trainable,
            buffers=buffers,
            description=f"{self.name}, judged loss",
            names=self._names(called if self.judge_loss else "the loss"),
            autocast=self.autocast,
        )

    def _names(self, loss: str) -> tuple[str, str]:
        """What errors call the model and the loss."""
        return tuple(f"{what} of {self.origin or self.name}" for what in ("the model", loss))  # pyright: ignore[reportReturnType]

    @property
    def space(self) -> ParameterSpace:
        """The parameters that move."""
        return ParameterSpace.of(self.model, only=self.only, trainable=self.trainable)

    def judged_loss(self, model: nn.Module) -> float:
        """The judged loss of a trained model, at its own parameters and buffers."""
        judge = self.judge_of(model, "frozen")
        return judge(judge.space.flatten(model.state_dict())[None]).item()

    def fresh_model(self) -> nn.Module:
        """A copy of the model to train."""
        return copy.deepcopy(self.model)
