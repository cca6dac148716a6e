"""A model, its loss and its data as a function of flat points."""

import copy
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from dss.base.errors import EnclosureError, InputError
from dss.base.space import ParameterSpace, Selection
from dss.objectives.network import capacity, statistics
from dss.objectives.network.apart import SamplesApart
from dss.objectives.network.batches import Target
from dss.objectives.network.bounds import Bounds
from dss.objectives.network.data import as_samples, check_same_layout
from dss.objectives.network.evaluation import Evaluation, RowLoss, check_same, even_chunks
from dss.objectives.network.loss import Loss, SampleLoss, check_weight, name_of
from dss.objectives.network.options import check_options
from dss.objectives.network.probe import Probe
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples, Slices
from dss.objectives.objective import Objective

# Activations of one chunk stay below this, whatever the data's size.
CHUNK_BYTES = 256 * 2**20
# Activations of the plain computation, which knows no chunks.
PLAIN_BYTES = 512 * 2**20
# The same for bounds on cells: more memory would only be slower.
CELL_BYTES = 128 * 2**20
# Above this, several rows under one vmap wait for memory longer than a loop over rows does (measured on 2 cores).
BATCH_BYTES = 48 * 2**20


class NetworkObjective(Objective):
    """The loss of a model on data as an objective `(k, p) -> (k,)`; the caller's model, data and hooks are never touched.

    The loss is a ratio of sums over samples, sum s_i / sum w_i, with weights that depend on targets alone (see
    `dss.objectives.network.loss`). Its exact value is that of `loss(model(inputs), target)` on all the data at once, computed
    in chunks of bounded memory and added up in float64. Data, buffers and frozen parameters follow the dtype and device of
    the points.

    Args:
        model: any module; evaluated in `eval()`. Its parameters with `requires_grad=False` are constants.
        loss: `loss(output, target)`: the mean `()` over the samples of axis 0, their losses `(n,)`, or the pair
            (sum of losses, sum of weights). torch's own losses, as modules, functions or `functools.partial`, may be
            reduced and weighted as they allow.
        data: `(inputs, target)` tensors or arrays, a data set, or a loader, which is iterated as it is; see
            `dss.objectives.network.data.as_samples` and docs/data.md. A dict's entries are the model's keyword arguments.
        whole: the loss is one of all samples at once (contrastive, a maximum, Dice): a scalar that is always computed in
            one piece, never of a part of the data. `batch_size` cannot be given then, and a loader's own is not used.
        target: which part of a batch is the loss's, if that is not the last of a tuple or one of the usual keys of a dict.
        seed: of what the data draws at random (its order, augmentation), once.
        batch_size: samples of one minibatch of `estimate`, drawn with replacement and shared by the rows;
            None (the default): a loader's own, else the whole data.
        only, trainable: which parameters move; see `ParameterSpace.of`.
        buffers: what BatchNorm's running statistics are. "recalibrate": recomputed for every point from the
            calibration data; "frozen": the model's own.
        calibration: data of the recalibration; the objective's own by default.
        rows: "vmap" or "loop" over points, or "auto": vmap while several points' activations fit fast memory.
        description: what the loss is and on which data, for people.

    Raises:
        InputError: empty or ill-shaped data, an unknown option, nothing that moves, or a model or loss that is no fixed
            function of parameters and data with samples that add up; the message names the cause and the way out.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        data: object,
        *,
        whole: bool = False,
        target: Target = None,
        seed: int = 0,
        batch_size: int | None = None,
        only: Selection | None = None,
        trainable: bool = True,
        buffers: Literal["recalibrate", "frozen"] = "recalibrate",
        calibration: object | None = None,
        rows: Literal["auto", "vmap", "loop"] = "auto",
        description: str | None = None,
    ):
        check_options(buffers=buffers, rows=rows, batch_size=batch_size, whole=whole)
        self._samples = as_samples(data, target=target, seed=seed)
        model = self._samples.fitted(model)
        self.space = ParameterSpace.of(model, only=only, trainable=trainable)
        self._rows, self._choice = RowLosses(model, self.space), rows
        self._tracked = statistics.tracked_norms(self._rows.template)
        self._norms = self._tracked if buffers == "recalibrate" else {}
        statistics.make_differentiable(self._norms)
        self._evaluation = Evaluation(self._rows, self.space, self._norms)
        self._calibration = self._samples if calibration is None else as_samples(calibration, target=target, seed=seed)
        check_same_layout(self._samples, self._calibration)
        self._own_calibration = calibration is None
        self.size, self.samples = self.space.size, len(self._samples)
        batch_size = None if whole else batch_size or self._samples.batch_size
        self.batch_samples = min(batch_size or self.samples, self.samples)
        self.description = description or f"{name_of(loss)} on {self.samples} samples"
        self._casts: dict[tuple, Samples] = {}
        self._ask(model, loss, whole)
        self._weight, self._tried = check_weight(self._rows.loss.weigh(self._samples)), self._rows.loss.whole

    @property
    def exact_estimate(self) -> bool:
        return self.batch_samples == self.samples and not self._norms

    @property
    def model(self) -> nn.Module:
        """The copy of the model that is evaluated, in `eval()`: parameters are handed to it at every call."""
        return self._rows.template

    @property
    def loss(self) -> SampleLoss:
        """What is added up over samples."""
        return self._rows.loss

    @property
    def weight(self) -> float:
        """What the sum over all samples is divided by."""
        return self._weight

    def constants_like(self, points: Tensor) -> Tensors:
        """What the model reads beside the coordinates, buffers and frozen parameters, for points of that dtype and device."""
        return self._rows.constants_like(points)

    @property
    def recalibrates(self) -> bool:
        """Whether running statistics are recomputed for every point."""
        return bool(self._norms)

    @property
    def data(self) -> Samples:
        """The samples as they were read."""
        return self._samples

    @property
    def recalibrated_norms(self) -> frozenset[str]:
        """Names of the layers whose running statistics are recomputed for every point."""
        return frozenset(self._norms)

    @property
    def data_digest(self) -> str:
        """32 hexadecimal digits for the samples as they were read, in their order."""
        return self._samples.digest()

    @property
    def buffers(self) -> str:
        """How BatchNorm's running statistics are treated: "recalibrate", "frozen", or "none" where there are none."""
        if not self._tracked:
            return "none"
        return "recalibrate" if self._norms else "frozen"

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """The point `(p,)` of a state dict; see `ParameterSpace.flatten`."""
        return self.space.flatten(state)

    def calibrated_by(self, training: Objective) -> Objective:
        """This objective with running statistics from `training`'s data, unless it was given calibration data."""
        training = training.unwrapped
        if not (isinstance(training, NetworkObjective) and self._norms and self._own_calibration):
            return self
        check_same_layout(self._samples, training._calibration)
        calibrated = copy.copy(self)
        calibrated._calibration, calibrated._casts = training._calibration, {}
        return calibrated

    def state(self, point: Tensor) -> Tensors:
        """A full state dict at a point `(p,)`: parameters, frozen ones too, under all their names, and the buffers that it
        is judged with."""
        constants = self._point_constants(point[None], training=False)
        named = constants | self._rows.frozen | self.space.unflatten(point)
        named |= {alias: named[name] for alias, name in self.space.aliases.items()}
        return {name: named[name] for name in self._rows.template.state_dict() if name in named}

    def __call__(self, points: Tensor) -> Tensor:
        return RowLoss.apply(points, self._exact, self._exact_gradient)

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        """Losses `(k,)` whose mean over draws is the exact loss: the sum over the minibatch, scaled to all samples, over the
        weight of all. With recalibrated statistics every layer normalises by the minibatch instead, as in training."""
        if self.exact_estimate:
            return self(points)
        samples = self._cast(self._samples, points)
        if self.batch_samples < self.samples:
            index = torch.randint(self.samples, (self.batch_samples,), generator=generator)
            samples = samples.take(index.to(points.device))
        batch = {"samples": samples, "training": True}
        return RowLoss.apply(points, partial(self._losses, **batch), partial(self._gradient, **batch))

    def part(self, samples: int) -> "NetworkObjective | None":
        """The same loss on samples at equal distances in the data; None if they have no loss of their own."""
        return self.on_samples(torch.arange(samples) * self.samples // samples)

    def on_samples(self, index: Tensor) -> "NetworkObjective | None":
        """The same loss on the samples numbered `index` `(m,)`; None if they have no loss of their own."""
        if self._rows.loss.whole:
            return None
        part = copy.copy(self)
        part._samples = self._samples.take(index.cpu())
        part.samples, part._casts = len(index), {}
        part.batch_samples = min(self.batch_samples, len(index))
        part._weight = self._rows.loss.weigh(part._samples)
        return part if part._weight > 0 else None

    @property
    def samples_at_once(self) -> int:
        """How many samples `plain` can take in bounded memory; all of them where the loss has no parts."""
        return self.samples if self._rows.loss.whole else min(self.samples, max(1, PLAIN_BYTES // self._bytes))

    def plain(self, points: Tensor) -> Tensor:
        """Losses `(k,)` of points `(k, p)` as the user would compute them: all samples through the model in one piece, and the
        loss called once, as it was given. Everything that a forward pass may write into is a copy."""
        data = self._cast(self._samples, points)
        with torch.no_grad():
            return torch.stack([self._evaluation.plain(p, self._point_constants(p[None], False), data) for p in points])

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return self._enclosed(starts, ends, lower, upper, negated=False)

    def floor(self, starts: Tensor, ends: Tensor, t: Tensor) -> Tensor:
        return -self._enclosed(starts, ends, t, t, negated=True).amax(1)

    def _enclosed(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor, *, negated: bool) -> Tensor:
        if self._norms:
            raise EnclosureError("statistics recalibrated for every point cannot be enclosed; use buffers='frozen' to prove")
        if self._samples.obstacle is not None:
            raise EnclosureError(self._samples.obstacle)
        cells, data = (starts, ends, lower, upper), self._cast(self._samples, starts)
        return self._bounds.on_cells(*cells, data, self._weight, CELL_BYTES, negated=negated)

    def apart(self, points: Tensor) -> SamplesApart | None:
        plain = type(self._samples) is Samples and isinstance(self._samples.target, Tensor)
        if self._norms or self._rows.loss.whole or self._rows.writes or not plain:
            return None
        return SamplesApart(self._bounds, self._cast(self._samples, points), self._weight, CELL_BYTES)

    def _ask(self, model: nn.Module, loss: Loss, whole: bool) -> None:
        """Ask once what the model and the loss allow, at the model's own parameters and away from them."""
        dtype, rows = torch.promote_types(self.space.dtype, torch.float32), self._rows
        parameters = {n: p.detach().to(dtype) for n, p in model.named_parameters() if n in set(self.space.names)}
        Probe(rows, model, loss, self._samples, parameters, whole).ask()
        few = self._samples.take(torch.arange(min(8, self.samples))).cast(dtype, self.space.device)
        self._bytes = max(capacity.bytes_per_sample(rows, parameters, few), self._samples.overhead)
        self._bounds = Bounds(rows, self.space, self._bytes)
        some = self._cast(self._samples, next(iter(parameters.values()))) if whole else few
        rows.can_batch &= self._choice != "loop" and not self._norms
        rows.can_batch = rows.can_batch and capacity.can_batch(rows, parameters, some)
        if self._choice == "vmap" and not rows.can_batch:
            raise InputError("rows='vmap' was asked for, but this model has no batching rule; use rows='auto'")

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
        expected = self._tried_otherwise(points)
        losses = self._losses(points, self._cast(self._samples, points), training=False)
        check_same(losses, expected, points.dtype)
        return losses

    def _exact_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        expected = self._tried_otherwise(points)
        losses, gradients = self._gradient(points, self._cast(self._samples, points), training=False)
        check_same(losses, expected, points.dtype)
        return losses, gradients

    def _tried_otherwise(self, points: Tensor) -> float | None:
        """Before the first exact evaluation: the loss of its first point in other chunks. None ever after."""
        if self._tried or self.samples < 2:
            return None
        self._tried, group, chunk = True, points[:1].detach().clone(), min(self._chunk(points[:1]), self.samples)
        writes, self._rows.writes = self._rows.writes, True  # perhaps; the trial itself will tell
        constants, self._rows.writes = self._point_constants(group, False), writes
        parts = even_chunks(self._cast(self._samples, points), max(1, math.ceil(0.6 * chunk)))
        return self._evaluation.tried(group, constants, parts, self._weight)

    def _losses(self, points: Tensor, samples: Samples, *, training: bool) -> Tensor:
        """Losses `(k,)` without gradient."""
        found, weight = [], self._weight * len(samples) / self.samples  # a minibatch stands for all samples
        with torch.no_grad():
            for group in self._groups(points, samples):
                constants, parts = self._point_constants(group, training), self._parts(group, samples, training)
                found.append(self._evaluation.losses(group, constants, parts, weight, training))
        return torch.cat(found)

    def _gradient(self, points: Tensor, samples: Samples, *, training: bool) -> tuple[Tensor, Tensor]:
        """Losses `(k,)` and gradients `(k, p)`."""
        gradients, weight = torch.empty_like(points), self._weight * len(samples) / self.samples
        losses, row = [], 0
        for group in self._groups(points, samples):
            constants, parts = self._point_constants(group, training), self._parts(group, samples, training)
            out = gradients[row : row + len(group)]

            def pull_back(leaves: Tensors, cotangents: Tensors, group: Tensor = group) -> list[Tensor]:
                return statistics.pull_back(self._rows, self._norms, self._calibrating(group), leaves, cotangents)

            losses.append(self._evaluation.gradient(group, constants, parts, weight, training, out, pull_back))
            row += len(group)
        return torch.cat(losses), gradients

    def _parts(self, group: Tensor, samples: Samples, training: bool) -> Iterator[Samples]:
        """The samples in chunks that fit memory; all at once where the loss is of the whole."""
        if self._rows.loss.whole:
            return iter([samples.take(slice(None))])
        if training and self._norms:  # layers normalise by what they see, which must be two samples at least
            return iter(even_chunks(samples, self._chunk(group), least=2))
        return samples.chunks(self._chunk(group))

    def _calibrating(self, group: Tensor) -> Slices:
        """The calibration data in chunks."""
        return even_chunks(self._cast(self._calibration, group), self._chunk(group), least=2)

    def _point_constants(self, group: Tensor, training: bool) -> Tensors:
        """Constants to judge one group with: recalibrated statistics belong to a single row."""
        constants = self._rows.constants_like(group)
        if self._norms and not training:
            row = {name: value[0] for name, value in self.space.unflatten(group).items()}
            constants |= statistics.recalibrated(self._rows, self._norms, row, self._calibrating(group))
        return constants

    def _chunk(self, group: Tensor) -> int:
        return max(1, CHUNK_BYTES // (self._bytes * len(group)))
