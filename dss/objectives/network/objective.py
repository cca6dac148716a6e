"""A model, its loss and its data as a function of flat points."""

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dss.base.errors import EnclosureError, InputError
from dss.base.space import ParameterSpace
from dss.enclosure import bytes_per_cell, enclose, suited
from dss.objectives.network import probe, statistics
from dss.objectives.network.data import Samples, as_samples
from dss.objectives.network.rows import Loss, RowLosses, Tensors
from dss.objectives.objective import Objective

# Activations of one chunk stay below this, whatever the data's size.
CHUNK_BYTES = 256 * 2**20
# The same for bounds on cells: more memory would only be slower.
CELL_BYTES = 128 * 2**20
# Activations of the plain computation, which knows no chunks.
PLAIN_BYTES = 512 * 2**20
# Above this, several rows under one vmap wait for memory longer than a loop over rows does (measured on 2 cores).
BATCH_BYTES = 48 * 2**20


class NetworkObjective(Objective):
    """The mean loss of a model on data as an objective `(k, p) -> (k,)`; the caller's model is never changed.

    The exact loss reads all samples, in chunks of bounded memory, and sums in float64. Data and buffers follow the
    dtype and device of the points.

    Args:
        model: any module; evaluated in `eval()`.
        loss: `loss(output, target) -> ()`, a mean over the samples of axis 0.
        data: `(inputs, target)` tensors (inputs may be a tuple, the model's positional arguments), a `Dataset` or a
            `DataLoader`.
        batch_size: samples of one minibatch of `estimate`, drawn with replacement and shared by the rows;
            None (the default): a loader's own, else the whole data.
        buffers: what BatchNorm's running statistics are. "recalibrate": recomputed for every point from the
            calibration data; "frozen": the model's own.
        calibration: data of the recalibration; the objective's own by default.
        rows: "vmap" or "loop" over points, or "auto": vmap while several points' activations fit fast memory.
        description: what the loss is and on which data, for people.

    Raises:
        InputError: empty or ill-shaped data, a loss that is random or not a mean over samples, an unknown option.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: object,
        *,
        batch_size: int | None = None,
        buffers: Literal["recalibrate", "frozen"] = "recalibrate",
        calibration: object | None = None,
        rows: Literal["auto", "vmap", "loop"] = "auto",
        description: str | None = None,
    ):
        _check_choice("buffers", buffers, ("recalibrate", "frozen"))
        _check_choice("rows", rows, ("auto", "vmap", "loop"))
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        self.space = ParameterSpace.of(model)
        self._rows, self._choice = RowLosses(model, loss), rows
        self._samples = as_samples(data)
        self._norms = statistics.tracked_norms(self._rows.template) if buffers == "recalibrate" else {}
        statistics.make_differentiable(self._norms)
        self._calibration = self._samples if calibration is None else as_samples(calibration)
        self._own_calibration = calibration is None
        self.samples = len(self._samples)
        batch_size = batch_size or getattr(data, "batch_size", None)
        self.batch_samples = min(batch_size or self.samples, self.samples)
        self.description = description or f"{getattr(loss, '__name__', type(loss).__name__)} on {self.samples} samples"
        self._casts: dict[tuple, Samples] = {}
        self._suited: dict[str, bool] | None = None  # not asked yet
        self._probe(model)

    @property
    def exact_estimate(self) -> bool:
        return self.batch_samples == self.samples and not self._norms

    @property
    def recalibrates(self) -> bool:
        """Whether running statistics are recomputed for every point."""
        return bool(self._norms)

    @property
    def buffers(self) -> str:
        """How BatchNorm's running statistics are treated: "recalibrate", "frozen", or "none" where there are none."""
        if not statistics.tracked_norms(self._rows.template):
            return "none"
        return "recalibrate" if self._norms else "frozen"

    def calibrated_by(self, training: Objective) -> Objective:
        """This objective with running statistics from `training`'s data, unless it was given calibration data."""
        training = training.unwrapped
        if not (isinstance(training, NetworkObjective) and self._norms and self._own_calibration):
            return self
        calibrated = copy.copy(self)
        calibrated._calibration, calibrated._casts = training._calibration, {}
        return calibrated

    def state(self, point: Tensor) -> Tensors:
        """A full state dict at a point `(p,)`: parameters under all their names, and the buffers it is judged with."""
        parameters = self.space.unflatten(point)
        tied = {alias: parameters[name] for alias, name in self.space.aliases.items()}
        return parameters | tied | self._point_buffers(point[None], training=False)

    def __call__(self, points: Tensor) -> Tensor:
        return _RowLoss.apply(points, self._exact, self._exact_gradient)

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        if self.exact_estimate:
            return self(points)
        samples = self._data(points)
        if self.batch_samples < self.samples:
            index = torch.randint(self.samples, (self.batch_samples,), generator=generator)
            samples = samples.take(index.to(points.device))
        return _RowLoss.apply(
            points,
            lambda p: self._losses(p, samples, training=True),
            lambda p: self._gradient(p, samples, training=True),
        )

    def part(self, samples: int) -> "NetworkObjective":
        """The same loss on samples at equal distances in the data."""
        return self.on_samples(torch.arange(samples) * self.samples // samples)

    def on_samples(self, index: Tensor) -> "NetworkObjective":
        part = copy.copy(self)
        part._samples = self._samples.take(index.to(self._samples.target.device))
        part.samples, part._casts = len(index), {}
        part.batch_samples = min(self.batch_samples, len(index))
        return part

    @property
    def samples_at_once(self) -> int:
        return min(self.samples, max(1, PLAIN_BYTES // self._bytes))

    def plain(self, points: Tensor) -> Tensor:
        data, buffers = self._data(points), self._rows.buffers_like(points)
        return torch.cat([self._plain(row, buffers, data)[None] for row in points]).double()

    def _plain(self, point: Tensor, buffers: Tensors, data: Samples) -> Tensor:
        """The loss `()` at one point; the network gets copies, into which it may write."""
        tensors = {name: value[0].clone() for name, value in self.space.unflatten(point[None]).items()}
        tensors |= {name: value.clone() for name, value in buffers.items()}
        with torch.no_grad():
            output = functional_call(self._rows.template, tensors, tuple(x.clone() for x in data.inputs))
            return self._rows.loss(output, data.target.clone())

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        if self._norms:
            raise EnclosureError(
                "running statistics that are recalibrated for every point cannot be enclosed; use buffers='frozen' to prove"
            )
        # All samples of a few cells go together, or, where that is too much, some samples of one cell.
        fitting = CELL_BYTES // bytes_per_cell(self._bytes * self.samples, parameters=self.space.size)
        cells = (x.split(max(1, fitting)) for x in (starts, ends, lower, upper))
        return torch.cat([self._enclose(*part) for part in zip(*cells, strict=True)])

    def _enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Bounds on cells that fit memory, over the data in chunks."""
        start, end = self.space.unflatten(starts), self.space.unflatten(ends)
        rows, buffers = self._rows, self._rows.buffers_like(starts)
        each = len(starts) * bytes_per_cell(self._bytes, parameters=0)
        # Recurrent networks take thousands of operations: with a few samples they would wait for Python.
        size = max(1, CELL_BYTES // each, min(16, 4 * CELL_BYTES // each))
        data = self._data(starts)
        if self._suited is None:
            point = {name: value[0] for name, value in start.items()}
            self._suited = suited(rows.template, rows.loss, point | buffers, data.inputs, data.target)
        return enclose(
            rows.template, rows.loss, start, end, lower, upper, data.inputs, data.target,
            buffers=buffers, chunk=size, **self._suited,
        )  # fmt: skip

    def _probe(self, model: nn.Module) -> None:
        """Ask once what the model allows, at its own parameters."""
        parameters = {name: value.detach() for name, value in model.named_parameters()}
        few = self._samples.take(slice(0, 8)).cast(self.space.dtype, self.space.device)
        probe.check_judgeable(self._rows, parameters, few)
        self._bytes = probe.bytes_per_sample(self._rows, parameters, few)
        if self._choice == "loop" or self._norms:
            self._rows.can_batch = False
        else:
            stacked = {name: value.expand(2, *value.shape).clone() for name, value in parameters.items()}
            self._rows.probe_batching(stacked, few)
        if self._choice == "vmap" and not self._rows.can_batch:
            raise InputError("rows='vmap' was asked for, but this model has no batching rule; use rows='auto'")

    def _data(self, points: Tensor) -> Samples:
        return self._cast(self._samples, points)

    def _cast(self, samples: Samples, points: Tensor) -> Samples:
        """The samples in the dtype and on the device of the points; made once."""
        key = (samples, points.dtype, points.device)
        if key not in self._casts:
            self._casts[key] = samples.cast(points.dtype, points.device, channels_last=self._rows.channels_last)
        return self._casts[key]

    def _groups(self, points: Tensor, samples: Samples) -> list[Tensor]:
        """Rows to be evaluated together: as many as fit fast memory under vmap, one by one in a loop."""
        fitting = BATCH_BYTES // (self._bytes * len(samples))
        together = self._rows.can_batch and (fitting > 1 or self._choice == "vmap")
        return list(points.split(max(fitting, 2) if together else 1))

    def _exact(self, points: Tensor) -> Tensor:
        return self._losses(points, self._data(points), training=False)

    def _exact_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self._gradient(points, self._data(points), training=False)

    def _losses(self, points: Tensor, samples: Samples, *, training: bool) -> Tensor:
        """Losses `(k,)` without gradient."""
        with torch.no_grad():
            return torch.cat([self._group_losses(group, samples, training) for group in self._groups(points, samples)])

    def _group_losses(self, group: Tensor, samples: Samples, training: bool) -> Tensor:
        parameters = self.space.unflatten(group)
        buffers = self._point_buffers(group, training)
        total = torch.zeros(len(group), dtype=torch.float64, device=group.device)
        for part in samples.chunks(self._chunk(group)):
            total += self._rows_loss(parameters, buffers, part, training).double() * len(part)
        return total / len(samples)

    def _gradient(self, points: Tensor, samples: Samples, *, training: bool) -> tuple[Tensor, Tensor]:
        """Losses `(k,)` and gradients `(k, p)`."""
        gradients = torch.empty_like(points)
        losses, row = [], 0
        for group in self._groups(points, samples):
            loss = self._group_gradient(group, samples, gradients[row : row + len(group)], training)
            losses.append(loss)
            row += len(group)
        return torch.cat(losses), gradients

    def _group_gradient(self, group: Tensor, samples: Samples, out: Tensor, training: bool) -> Tensor:
        """Losses of one group; its gradient goes to `out`."""
        # Leaves are the named tensors, not the flat row: slicing a row costs autograd a full-size copy per tensor.
        leaves = {name: value.detach().requires_grad_() for name, value in self.space.unflatten(group).items()}
        buffers = self._point_buffers(group, training)
        moving = [b.requires_grad_() for name, b in buffers.items() if self._is_statistic(name) and not training]
        total = torch.zeros(len(group), dtype=torch.float64, device=group.device)
        sums: list[Tensor] | None = None
        with torch.enable_grad():
            for part in samples.chunks(self._chunk(group)):
                losses = self._rows_loss(leaves, buffers, part, training)
                _check_differentiable(losses)
                total += losses.detach().double() * len(part)
                share = losses.sum() * (len(part) / len(samples))
                found = torch.autograd.grad(share, [*leaves.values(), *moving], materialize_grads=True)
                sums = list(found) if sums is None else [s.add_(f) for s, f in zip(sums, found, strict=True)]
            if moving:
                cotangents = dict(zip(filter(self._is_statistic, buffers), sums[len(leaves) :], strict=True))
                self._add_pull_back(group, leaves, cotangents, sums)
        for target, value in zip(self.space.unflatten(out).values(), sums, strict=False):
            target.copy_(value)
        return total / len(samples)

    def _add_pull_back(self, group: Tensor, leaves: Tensors, cotangents: Tensors, sums: list[Tensor]) -> None:
        """Add the part of the gradient that goes through the recalibrated statistics of a single row."""
        rows = {name: leaf[0] for name, leaf in leaves.items()}
        data = self._cast(self._calibration, group)
        found = statistics.pull_back(self._rows, self._norms, rows, data, self._chunk(group), cotangents)
        for sum_, value in zip(sums, found, strict=False):
            sum_[0] += value

    def _rows_loss(self, parameters: Tensors, buffers: Tensors, part: Samples, training: bool) -> Tensor:
        if training and self._norms:
            return statistics.batch_losses(self._rows, self._norms, parameters, part)
        if self._rows.can_batch and len(next(iter(parameters.values()))) > 1:
            return self._rows.batch(parameters, buffers, part)
        return self._rows.loop(parameters, buffers, part)

    def _point_buffers(self, group: Tensor, training: bool) -> Tensors:
        """Buffers to judge one group with: recalibrated ones belong to a single row."""
        buffers = self._rows.buffers_like(group)
        if self._norms and not training:
            row = {name: value[0] for name, value in self.space.unflatten(group).items()}
            data = self._cast(self._calibration, group)
            buffers |= statistics.recalibrated(self._rows, self._norms, row, data, self._chunk(group))
        return buffers

    def _is_statistic(self, name: str) -> bool:
        layer, _, kind = name.rpartition(".")
        return layer in self._norms and kind in ("running_mean", "running_var")

    def _chunk(self, group: Tensor) -> int:
        return max(1, CHUNK_BYTES // (self._bytes * len(group)))


class _RowLoss(torch.autograd.Function):
    """Losses of independent rows whose gradient is computed with them, chunk by chunk, in one chunk's memory."""

    @staticmethod
    def forward(ctx, points: Tensor, losses: Callable, gradient: Callable) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return losses(points.detach())
        values, gradients = gradient(points.detach())
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        if not (cotangent == 1).all():  # the sum of the losses, the usual case, needs no pass over the gradients
            gradients = gradients * cotangent.to(gradients.dtype)[:, None]
        return gradients, None, None


def _check_differentiable(losses: Tensor) -> None:
    if not losses.requires_grad:
        raise InputError("the loss has no gradient; train with a differentiable objective and give this one as the judge")


def _check_choice(name: str, got: str, choices: tuple[str, ...]) -> None:
    if got not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {got!r}")
