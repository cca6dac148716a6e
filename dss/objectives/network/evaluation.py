"""Sums of a loss over chunks of samples, for a group of parameter rows, with or without their gradient."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.base.space import ParameterSpace
from dss.objectives.network import statistics
from dss.objectives.network.blame import located, told
from dss.objectives.network.replays import Replays
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples, Slices
from dss.objectives.network.trials import cloned


def even_chunks(samples: Samples, size: int, *, least: int = 1) -> Slices:
    """Consecutive slices of `size` samples at most, of nearly equal length, and of `least` if there are so many."""
    count = max(1, min(-(-len(samples) // size), len(samples) // least))
    cuts = [len(samples) * i // count for i in range(count + 1)]
    return Slices(samples, cuts)


class Tried(NamedTuple):
    """The loss of a point, and the dtype in which it came: a model's own loss may be rounded to float32 whatever it is given."""

    loss: float | None
    dtype: torch.dtype


class Evaluation:
    """The sums of one model and loss.

    Args:
        rows: the model and its loss.
        space: names of the coordinates.
        norms: BatchNorm layers whose statistics are recomputed for every point.
    """

    def __init__(self, rows: RowLosses, space: ParameterSpace, norms: statistics.Norms):
        self.rows, self.space, self.norms = rows, space, norms
        self.replays = Replays(rows)

    def losses(self, group: Tensor, constants: Tensors, parts: Iterable[Samples], total: float, training: bool) -> Tensor:
        """Losses `(k,)` of points `(k, p)`: what the parts add up to, over the `total` weight of the samples."""
        found = torch.zeros(len(group), dtype=torch.float64, device=group.device)
        for part, which in _numbered(parts, training):
            with located(which):
                losses = self.replays.of(partial(self._losses, training), ("losses", training), group, constants, part)
            found += losses.double() * self.rows.loss.factor(len(part))
        return found / total

    def plain(self, point: Tensor, constants: Tensors, samples: Samples) -> Tensor:
        """The loss `()` of a point `(p,)` on all samples at once, in float64, without what this package makes of losses."""
        tensors = cloned(self.space.unflatten(point) | constants)
        given = samples.clone()
        with told(self.rows.names[0]), self.rows.casting(tensors):
            output = functional_call(self.rows.template, tensors, given.inputs)
        with told(self.rows.names[1]), self.rows.casting(tensors):
            return self.rows.loss.plain(output, given.target).detach().double()

    def tried(self, group: Tensor, constants: Tensors, parts: Iterable[Samples], total: float) -> Tried:
        """The loss of a single point on copies of the data, which show whether anything is written to: what wrote to none
        of the samples that were probed may do so to others. None for losses that jump, which rounding may move by a sample."""
        parameters, found = {name: value[0] for name, value in self.space.unflatten(group).items()}, 0.0
        dtype = group.dtype
        for part, which in _numbered(parts, False):
            given = part.clone()
            watched = [group, *constants.values(), *given.leaves]
            before = [x._version for x in watched]
            with located(which):
                value = self.rows.one(parameters, constants, given)
                found, dtype = found + value.item() * self.rows.loss.factor(len(part)), value.dtype
            self.rows.writes |= before != [x._version for x in watched]
        return Tried(found / total if self.rows.can_differentiate else None, dtype)

    def gradient(
        self,
        group: Tensor,
        constants: Tensors,
        parts: Iterable[Samples],
        total: float,
        training: bool,
        out: Tensor,
        pull_back: Callable[[Tensors, Tensors], list[Tensor]],
    ) -> Tensor:
        """The same; the gradient goes to `out` `(k, p)`, one chunk in memory at a time.

        Args:
            pull_back: from parameters of a single row, and the gradient with respect to its recalibrated statistics, to
                the gradient that goes through them.
        """
        single = len(group) == 1
        statistic = {} if training else {n: b for n, b in constants.items() if statistics.is_of(self.norms, n)}
        moving = {name: value.detach().requires_grad_() for name, value in statistic.items()}
        found = torch.zeros(len(group), dtype=torch.float64, device=group.device)
        sums: list[Tensor] = []
        for part, which in _numbered(parts, training):
            with located(which):
                factor = self.rows.loss.factor(len(part))
                share = factor / total
                if moving or not self.replays.takes(group, part):
                    losses, grads = self._gradients(training, share, group, constants, part, moving)
                else:
                    flat = partial(self._flat_gradient, training, share)
                    played = self.replays.of(flat, ("gradient", training, share), group, constants, part)
                    losses, grads = played[:, 0], list(self._named(played[:, 1:].to(group.dtype), single).values())
            found += losses.double() * factor
            sums = list(grads) if not sums else [s.add_(g) for s, g in zip(sums, grads, strict=True)]
            del grads
        if moving:
            cotangents = dict(zip(moving, sums[len(self.space.names) :], strict=True))
            for sum_, value in zip(sums, pull_back(self._leaves(group), cotangents), strict=False):
                sum_ += value
        with torch.no_grad():
            for target in self._named(out, single).values():
                target.copy_(sums.pop(0))  # and let go of it: all of both would be two models
        return found / total

    def _losses(self, training: bool, group: Tensor, constants: Tensors, part: Samples) -> Tensor:
        """What the loss adds up, `(k,)`, or `()` for a single row."""
        single = len(group) == 1
        of = self._of_row if single else self._of_rows
        return of(self._named(group, single), constants, part, training).detach()

    def _gradients(
        self, training: bool, share: float, group: Tensor, constants: Tensors, part: Samples, moving: Tensors
    ) -> tuple[Tensor, list[Tensor]]:
        """The same, and the gradients of a share of it with respect to the named parameters, then to the statistics that move."""
        single, leaves = len(group) == 1, self._leaves(group)
        with self.rows.kept() if single else nullcontext():
            losses = (self._of_row if single else self._of_rows)(leaves, constants | moving, part, training)
            _check_differentiable(losses)
            with told(f"the gradient of {self.rows.names[1]}"):
                return losses.detach(), gradients_of(losses.sum() * share, [*leaves.values(), *moving.values()])

    def _flat_gradient(self, training: bool, share: float, group: Tensor, constants: Tensors, part: Samples) -> Tensor:
        """The same in one tensor `(k, 1 + p)`: each row's loss, then its gradient."""
        losses, grads = self._gradients(training, share, group, constants, part, {})
        return torch.cat([losses.view(-1, 1), *(g.reshape(len(group), -1) for g in grads)], 1)

    def _leaves(self, group: Tensor) -> Tensors:
        """Named parameters of a group to take gradients by: these and not the flat row, of which slices cost autograd a full-size
        copy per tensor. For the same reason a single row's have no axis for rows."""
        return {name: value.detach().requires_grad_() for name, value in self._named(group, len(group) == 1).items()}

    def _named(self, group: Tensor, single: bool) -> Tensors:
        """Named views of the points of a group; of a `single` one without the axis for rows."""
        return self.space.unflatten(group[0] if single else group)

    def _of_row(self, parameters: Tensors, constants: Tensors, part: Samples, training: bool) -> Tensor:
        """What the loss adds up with one set of parameters, `()`."""
        if training and self.norms:
            return statistics.batch_loss(self.rows, self.norms, parameters, part)
        return self.rows.one(parameters, constants, part)

    def _of_rows(self, parameters: Tensors, constants: Tensors, part: Samples, training: bool) -> Tensor:
        """What the loss adds up, `(k,)`: in training every layer normalises by the batch."""
        if training and self.norms:
            return statistics.batch_losses(self.rows, self.norms, parameters, part)
        return (self.rows.batch if self.rows.can_batch else self.rows.loop)(parameters, constants, part)


def gradients_of(value: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a value `()`, dense, and zero where it does not depend on a leaf."""
    found = torch.autograd.grad(value, leaves, materialize_grads=True)
    return [g if g.layout is torch.strided else g.to_dense() for g in found]


def _numbered(parts: Iterable[Samples], training: bool) -> Iterator[tuple[Samples, str]]:
    """Parts of the data, and which samples they are, in words."""
    first = 0
    for part in parts:
        yield part, f"{len(part)} samples of a minibatch" if training else f"samples {first}-{first + len(part) - 1}"
        first += len(part)


class RowLoss(torch.autograd.Function):
    """Losses of independent rows whose gradient is computed with them, chunk by chunk, in one chunk's memory."""

    @staticmethod
    @with_gradients()
    def forward(ctx, points: Tensor, losses: Callable, gradient: Callable) -> Tensor:
        given = points.clone() if points.is_inference() else points.detach()
        if not ctx.needs_input_grad[0]:
            return losses(given)
        values, gradients = gradient(given)
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    def backward(ctx, cotangent: Tensor) -> tuple[Tensor, None, None]:
        (gradients,) = ctx.saved_tensors
        if not (cotangent == 1).all():  # the sum of the losses, the usual case, needs no pass over the gradients
            gradients = gradients * cotangent.to(gradients.dtype)[:, None]
        return gradients, None, None


def check_same(losses: Tensor, expected: float | None, share: float) -> None:
    """The first of the losses must be what other chunks gave, up to a share of it for rounding.

    Raises:
        InputError: it is not.
    """
    if expected is None or not math.isfinite(expected + losses[0].item()):
        return
    found = losses[0].item()
    if not math.isclose(found, expected, rel_tol=share, abs_tol=share * 1e-2):
        raise InputError(
            f"the loss depends on how the data is cut into chunks: {found:.9g} and {expected:.9g} for the same parameters and "
            "data, although samples spread over it add up; if samples depend on each other, give whole=True"
        )


def _check_differentiable(losses: Tensor) -> None:
    if not losses.requires_grad:
        raise InputError("the loss has no gradient; train with a differentiable objective and give this one as the judge")
