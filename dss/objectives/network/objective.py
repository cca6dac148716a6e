"""A model, its loss and its data as a function of flat points."""

import copy
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.memory import fitting
from dss.base.space import ParameterSpace, Selection
from dss.objectives.network import capacity, statistics
from dss.objectives.network.additive import ALONE, tolerance
from dss.objectives.network.apart import SamplesApart
from dss.objectives.network.batches import Target
from dss.objectives.network.bounds import Bounds, check_bounded
from dss.objectives.network.copies import uncompiled
from dss.objectives.network.data import as_samples, check_same_layout
from dss.objectives.network.evaluation import Evaluation, RowLoss, Tried, check_same, even_chunks
from dss.objectives.network.images import takes_channels_last
from dss.objectives.network.loss import Loss, SampleLoss, check_weight, name_of
from dss.objectives.network.options import check_options
from dss.objectives.network.own_loss import readings, target_for
from dss.objectives.network.pieces import Pieces
from dss.objectives.network.probe import Probe, ask_in_turn
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples
from dss.objectives.objective import Objective

# Activations of the plain computation, which knows no chunks.
PLAIN_BYTES = 512 * 2**20
# The same for bounds on cells: more memory would only be slower.
CELL_BYTES = 128 * 2**20
# All results of one pass that is recorded.
RECORD_BYTES = 2**30


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
        rows: "vmap" or "loop" over points, or "auto": vmap while several points' activations fit fast memory, except for
            convolutions on a CPU.
        description: what the loss is and on which data, for people.
        names: what the model and the loss are called in errors.
        autocast: a dtype in which model and loss compute what `torch.autocast` lets them; points stay in theirs, and nothing
            is proved.

    Raises:
        InputError: empty or ill-shaped data, an unknown option, nothing that moves, or a model or loss that is no fixed
            function of parameters and data with samples that add up; the message names the cause and the way out.
    """

    @with_gradients()
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
        names: tuple[str, str] = ("the model", "the loss"),
        autocast: torch.dtype | None = None,
    ):
        check_options(buffers=buffers, rows=rows, batch_size=batch_size, whole=whole, autocast=autocast)
        target = target_for(loss, target)
        self._samples = as_samples(data, target=target, seed=seed)
        model = self._samples.fitted(uncompiled(model))
        self.space = ParameterSpace.of(model, only=only, trainable=trainable)
        self._rows, self._choice = RowLosses(model, self.space, names, autocast), rows
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
        self._alone_is_same = False
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

    def samples_like(self, points: Tensor) -> Samples:
        """The samples as they are judged: in the dtype and on the device of `points`."""
        return self._cast(self._samples, points)

    def output(self, point: Tensor, samples: Samples) -> Any:
        """What the model makes of samples at a point `(p,)`, with the buffers that the point is judged with."""
        return self._rows.output(self.space.unflatten(point), self._constants(point), samples.inputs)

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

    def state(self, point: Tensor, *, calibration: Samples | None = None) -> Tensors:
        """A full state dict at a point `(p,)`: parameters, frozen ones too, under all their names, and the buffers that it
        is judged with.

        Args:
            calibration: samples of which running statistics are taken instead of the objective's own, where they are
                recomputed for every point.
        """
        given = self._calibration_like(point) if calibration is None else self._cast(calibration, point)
        constants = self._pieces.constants(point[None], given)
        named = constants | self._rows.frozen | self.space.unflatten(point)
        named |= {alias: named[name] for alias, name in self.space.aliases.items()}
        return {name: named[name] for name in self._rows.template.state_dict() if name in named}

    def __call__(self, points: Tensor) -> Tensor:
        self.space.check(points)
        given = points if torch.is_grad_enabled() else points.detach()
        return RowLoss.apply(given, partial(self._exact, gradient=False), partial(self._exact, gradient=True))

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        """Losses `(k,)` whose mean over draws is the exact loss: the sum over the minibatch, scaled to all samples, over the
        weight of all. With recalibrated statistics every layer normalises by the minibatch instead, as in training."""
        if self.exact_estimate:
            return self(points)
        self.space.check(points)
        sums = partial(self._sums, samples=self._drawn(points, generator), training=True)
        return RowLoss.apply(points, partial(sums, gradient=False), partial(sums, gradient=True))

    @with_gradients()
    def _drawn(self, points: Tensor, generator: torch.Generator) -> Samples:
        """A minibatch, or all samples, in the dtype and on the device of the points."""
        samples = self.samples_like(points)
        if self.batch_samples == self.samples:
            return samples
        index = torch.randint(self.samples, (self.batch_samples,), generator=generator, device=generator.device)
        return samples.take(index.to(points.device))

    def part(self, samples: int) -> "NetworkObjective | None":
        """The same loss on samples at equal distances in the data; None if they have no loss of their own."""
        return self.on_samples(torch.arange(samples) * self.samples // samples)

    def on_samples(self, index: Tensor) -> "NetworkObjective | None":
        """The same loss on the samples numbered `index` `(m,)`; None if they have no loss of their own."""
        if self._rows.loss.whole:
            return None
        part = copy.copy(self)
        part._samples, part._casts = self._samples.take(index.cpu()), {}
        part.samples, part.batch_samples = len(index), min(self.batch_samples, len(index))
        part._weight = self._rows.loss.weigh(part._samples)
        return part if part._weight > 0 else None

    def with_calibration_of(self, samples: int) -> "NetworkObjective":
        given = len(self._calibration)
        if not self._norms or given <= samples:
            return self
        quicker = copy.copy(self)
        quicker._calibration, quicker._casts = self._calibration.take(torch.arange(samples) * given // samples), {}
        return quicker

    def with_batches_of(self, samples: int) -> "NetworkObjective":
        """The same loss in smaller minibatches. Exact estimates stay so: they have no noise to be traded for time."""
        if self.batch_samples == self.samples or self.batch_samples <= samples:
            return self
        smaller = copy.copy(self)
        smaller.batch_samples = samples
        return smaller

    @property
    def evaluates_apart(self) -> bool:
        return self._pieces.rows(self._samples) == 1

    @property
    def samples_at_once(self) -> int:
        """How many samples `plain` can take in bounded memory; all of them where the loss has no parts."""
        return self.samples if self._rows.loss.whole else min(self.samples, max(1, fitting(PLAIN_BYTES) // self._pieces.bytes))

    @with_gradients()
    def plain(self, points: Tensor) -> Tensor:
        """Losses `(k,)` of points `(k, p)` as the user would compute them: all samples through the model in one piece, and the
        loss called once, as it was given. Everything that a forward pass may write into is a copy."""
        data = self.samples_like(points)
        return torch.stack([self._evaluation.plain(p, self._constants(p), data) for p in points.detach()])

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return self._enclosed(starts, ends, lower, upper, negated=False)

    def floor(self, starts: Tensor, ends: Tensor, t: Tensor) -> Tensor:
        return -self._enclosed(starts, ends, t, t, negated=True).amax(1)

    def _enclosed(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor, *, negated: bool) -> Tensor:
        check_bounded(self._rows, self._norms, self._samples)
        cells, data = (starts, ends, lower, upper), self.samples_like(starts)
        if not self._alone_is_same and self._bounds.go_apart(starts, data):
            self._check_alone(starts[:1])
        return self._bounds.on_cells(*cells, data, self._weight, fitting(CELL_BYTES), negated=negated)

    def _check_alone(self, point: Tensor) -> None:
        """Samples that take ways of their own must add up to the loss of those that went together."""
        point = point.double()  # a few of many samples change less than float32 loses
        found = self._evaluation.tried(point, self._constants(point[0]), even_chunks(self.samples_like(point), 1), self._weight)
        check_same(self(point), found.loss, max(ALONE, tolerance(self._rows.precision(point.dtype))))
        self._alone_is_same = True

    def apart(self, points: Tensor) -> SamplesApart | None:
        if self._rows.autocast is not None or self._norms or self._rows.loss.whole or self._rows.writes:
            return None
        data = self.samples_like(points)
        if type(self._samples) is not Samples or self._bounds.go_apart(points[:1], data):
            return None
        return SamplesApart(self._bounds, data, self._weight, fitting(CELL_BYTES), fitting(RECORD_BYTES))

    def _ask(self, model: nn.Module, loss: Loss, whole: bool) -> None:
        """Ask once what the model and the loss allow, at the model's own parameters and away from them."""
        dtype, rows = torch.promote_types(self.space.dtype, torch.float32), self._rows
        own = dict(rows.template.named_parameters())
        parameters = {name: own[name].detach().to(dtype) for name in self.space.names}
        probes = (Probe(rows, model, one, self._samples, parameters, whole) for one in readings(loss))
        ask_in_turn(probes, several=len(readings(loss)) > 1 and not whole)
        few = self._samples.take(torch.arange(min(8, self.samples))).cast(dtype, self.space.device)
        constants = rows.constants_like(next(iter(parameters.values())))
        rows.channels_last = takes_channels_last(rows.template, few, lambda some: rows.one(parameters, constants, some))
        size = max(capacity.bytes_per_sample(rows, parameters, few), self._samples.overhead)
        self._evaluation.replays.bytes = size
        self._pieces = Pieces(self._evaluation, size, self._choice == "vmap")
        self._bounds = Bounds(rows, self.space, size)
        some = self._cast(self._samples, next(iter(parameters.values()))) if whole else few
        looped = self._choice == "loop" or (self._choice == "auto" and rows.convolves and self.space.device.type == "cpu")
        rows.can_batch &= not looped and not self._norms
        rows.can_batch = rows.can_batch and capacity.can_batch(rows, parameters, some)
        if self._choice == "vmap" and not rows.can_batch:
            raise InputError("rows='vmap' was asked for, but this model has no batching rule; use rows='auto'")

    @with_gradients()
    def _cast(self, samples: Samples, points: Tensor) -> Samples:
        """The samples in the dtype and on the device of the points; made once."""
        key = (samples, points.dtype, points.device)
        if key not in self._casts:
            self._casts[key] = samples.cast(points.dtype, points.device, channels_last=self._rows.channels_last)
        return self._casts[key]

    def _calibration_like(self, points: Tensor) -> Samples | None:
        """The samples of which running statistics are taken, in the dtype and on the device of `points`; None if of none."""
        return self._cast(self._calibration, points) if self._norms else None

    def _constants(self, point: Tensor) -> Tensors:
        """What a point `(p,)` is judged with beside its coordinates."""
        return self._pieces.constants(point[None], self._calibration_like(point))

    def _exact(self, points: Tensor, *, gradient: bool) -> Any:
        """Sums over all the data; the first loss ever is compared with that in other chunks."""
        other = self._tried_otherwise(points)
        found = self._sums(points, self.samples_like(points), gradient=gradient)
        if other is not None:
            share = tolerance(self._rows.precision(points.dtype))
            check_same(found[0] if gradient else found, other.loss, share if other.dtype == points.dtype else max(share, ALONE))
        return found

    def _tried_otherwise(self, points: Tensor) -> Tried | None:
        """Before the first exact evaluation: the loss of its first point in other chunks. None ever after."""
        if self._tried or self.samples < 2:
            return None
        self._tried, group, chunk = True, points[:1].detach().clone(), min(self._pieces.size(points[:1]), self.samples)
        writes, self._rows.writes = self._rows.writes, True  # perhaps; the trial itself will tell
        constants, self._rows.writes = self._pieces.constants(group, self._calibration_like(group)), writes
        parts = even_chunks(self.samples_like(points), max(1, math.ceil(0.6 * chunk)))
        return self._evaluation.tried(group, constants, parts, self._weight)

    def _sums(self, points: Tensor, samples: Samples, *, gradient: bool, training: bool = False) -> Any:
        """Losses `(k,)`, with their gradients `(k, p)` if asked; a minibatch stands for all samples."""
        compute = self._pieces.gradient if gradient else self._pieces.losses
        weight, calibration = self._weight * len(samples) / self.samples, None if training else self._calibration_like(points)
        return compute(points, samples, weight, training=training, calibration=calibration)
