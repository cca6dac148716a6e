"""Questions asked of a model and its loss once, before anything relies on the answers.

A path's loss is proved, searched and printed in pieces of the data, in any order of points, many times. That is the number
the user would compute only if the model and the loss are a fixed function of parameters and data, made of samples that do
not know of each other. What is not is refused here with its cause, on samples spread over the data, at the model's own
parameters and at generic ones (`trials`); how a loss adds up is tried on every target (`additive`).
"""

import copy
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dss.base.errors import InputError, TaskError
from dss.objectives.network.additive import ALONE, Additivity, AllTargets, NoSum, tolerance
from dss.objectives.network.beside import check_hooks, check_memory, check_reads
from dss.objectives.network.blame import located, told
from dss.objectives.network.loss import Loss, SampleLoss, read_by_result, read_whole, weight_of
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.samples import Samples
from dss.objectives.network.torch_losses import recognised
from dss.objectives.network.trials import Outputs, Trial, alike, cloned, close, moved, same, spread

STEPS = (1.0, 0.1)
"""How far generic points lie from the model's own, in parameters' own sizes."""


class Probe(Trial):
    """One model and loss under question.

    Args:
        rows: the copy of the model; it learns what the loss adds up to, and whether anything writes in place.
        model: the caller's, which is not run.
        loss: as the caller gave it.
        samples: all the data, as given.
        own: the model's parameters that move, in the dtype of points.
        whole: whether the loss is one of all samples at once.
    """

    def __init__(self, rows: RowLosses, model: nn.Module, loss: Loss, samples: Samples, own: Tensors, whole: bool):
        one = next(iter(own.values()))
        some = samples if whole else samples.take(spread(samples.targets))
        super().__init__(rows, model, own, some.cast(one.dtype, one.device), tolerance(rows.precision(one.dtype)))
        self.samples, self.whole, self.dtype = samples, whole, one.dtype
        self.known = None if whole else recognised(loss)
        self.called: Loss = self.known or loss
        self.targets: AllTargets | None = None

    def ask(self) -> None:
        """Ask everything.

        Raises:
            InputError: the model or the loss fails, is random, remembers, reads other weights than it is given, mixes samples,
                or does not add up over them.
        """
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as torch's of broadcasting, which is refused or meant
            self._first()
            points = [self.own, *self._generic()]
            outputs = [self.output(point) for point in points]
            for point, found in zip(points, outputs, strict=True):
                self._check_fixed(point, found)
            check_reads(self)
            check_memory(self, points, outputs)
            check_hooks(self, points[-1], outputs[-1])
            if not self.whole and len(self.few) > 1:
                self._check_samples(points, outputs)

    def ask_finely(self) -> None:
        """In float64, whether losses of single samples add up: readings of a model's own loss may be closer than float32 tells.

        Raises:
            NoSum: they do not.
        """
        few, share = (
            self.samples.take(spread(self.samples.targets)).cast(torch.float64, self.few.device),
            tolerance(self.rows.precision(torch.float64)),
        )
        for point in (self.own, *self._generic()):
            fine = {name: value.double() for name, value in point.items()}
            constants = self.rows.constants_like(next(iter(fine.values())))
            try:
                with torch.no_grad():
                    together, *apart = (
                        self.rows.one(cloned(fine), cloned(constants), some.clone()).item() * self.rows.loss.factor(len(some))
                        for some in (few, *few.chunks(1))
                    )
            except TaskError:  # it casts to float32 in its midst, and cannot be asked
                return
            if abs(together - sum(apart)) > max(ALONE, share) * abs(together):
                raise NoSum(f"the losses of single samples add up to {sum(apart):.9g}, and together they have {together:.9g}")

    def _first(self) -> None:
        """The first call, from which is learnt how the loss adds up, and whether anything writes in place."""
        given, constants, data = cloned(self.own), cloned(self.constants), self.fresh()
        watched = [*given.values(), *constants.values(), *data.leaves]
        before = [(x._version, x.clone()) for x in watched]
        output = self.rows.output(given, constants, data.inputs)
        detached = pytree.tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, output)
        with told(self.rows.names[1]):
            self.rows.loss = self._read(self.called(output, data.target))
        self.rows.looks_back = self._needs_history(detached)
        if self.rows.autocast is not None:
            self._check_autocast(detached)
        with told(self.rows.names[1]):
            leaves = {name: value.clone().requires_grad_() for name, value in self.own.items()}
            self.rows.can_differentiate = self.judged(self.output(leaves)).requires_grad
        self.rows.writes = any(
            x._version != version or not same(x, value) for x, (version, value) in zip(watched, before, strict=True)
        )

    def _check_autocast(self, output: Any) -> None:
        """What is asked for must be of use."""
        plain = copy.copy(self.rows)
        plain.autocast = None
        if alike(self.output(self.own, rows=plain), output):
            raise InputError(
                f"autocast to {self.rows.autocast} changes nothing of what this model computes in {self.dtype}; leave it out"
            )

    def _needs_history(self, output: Any) -> bool:
        """Whether the loss fails on an output of which nothing tells how it was computed."""
        try:
            self.called(output, self.few.own_target)
        except Exception:  # whatever the caller's code raises
            return True
        return False

    def _read(self, found: object) -> SampleLoss:
        """How the loss adds up over samples."""
        if self.whole:
            return read_whole(self.called)
        if self.known is not None and self.known.reduction != "none":
            return self.known.as_sums(self.samples)
        return read_by_result(self.called, found, len(self.few), getattr(self.called, "weigh", self._weigh))

    def _weigh(self, samples: Samples) -> float:
        """The sum of the weights in pairs: by drawn outputs, or by the model's own where they cannot be drawn."""
        if self.targets is not None:
            return self.targets.weigh(samples)
        parts = (part.cast(self.dtype, self.few.device) for part in samples.chunks(256))
        return sum(weight_of(self.called(self.output(self.own, part), part.target)) for part in parts)

    def _generic(self) -> Iterator[Tensors]:
        """Points away from the model's own at which it can be evaluated."""
        generator = torch.Generator().manual_seed(0)
        for scale in STEPS:
            point = moved(self.own, generator, scale)
            try:
                value = self.judged(self.output(point))
            except Exception:  # whatever the caller's code raises where it is not defined
                continue
            if value.isfinite():
                yield point

    def _check_fixed(self, point: Tensors, output: Any) -> None:
        """The same parameters and data must give the same loss twice."""
        again = self.output(point)
        first, second = self.judged(output).item(), self.judged(again).item()
        if alike(output, again) and (first == second or first != first):
            return
        raise InputError(
            f"the loss is random: {first:.9g} and {second:.9g} for the same parameters and data, in eval(); "
            "make dropout and noise depend on self.training"
        )

    def _check_samples(self, points: list[Tensors], outputs: list[Any]) -> None:
        """Samples must not know of each other, in the model or in the loss."""
        bank = None
        for point, output in zip(points, outputs, strict=True):
            parts = Outputs.of(output, len(self.few))
            if parts is not None:
                self._check_model_apart(point, parts)
                bank = parts if bank is None else bank.joined(parts)
        adding = Additivity(self.rows.loss, self.called)
        for point in points:
            adding.check(self.few, lambda some, point=point: self.output(point, some), apart=not self.rows.looks_back)
        if bank is not None and not self.rows.loss.known and not self.rows.looks_back:
            self.targets = AllTargets(adding, bank)
            self.targets.check(self.samples)
        self.rows.rounds_as = adding.dtype

    def _check_model_apart(self, point: Tensors, whole: Outputs) -> None:
        """What the model makes of a sample must not depend on those it is evaluated with."""
        order = torch.randperm(whole.samples, generator=torch.Generator().manual_seed(1)).to(self.few.device)
        sizes = (1, (whole.samples - 1) // 3, whole.samples - 1 - (whole.samples - 1) // 3)
        for index in order.split([size for size in sizes if size]):
            with located("some of the samples alone"):
                part = self.output(point, self.few.take(index))
            if Outputs.of(part, len(index)) is None or not close(part, whole.take(index), self.room):
                raise InputError(
                    "what the model makes of a sample depends on the samples it is evaluated with (statistics of a batch? "
                    "samples along another axis than the first?); the loss of a part of the data would be another one. "
                    "Use stored statistics in eval(), or give whole=True"
                )


def ask_in_turn(probes: Iterable[Probe], *, several: bool) -> None:
    """Ask until one of several readings of a loss adds up.

    Raises:
        InputError: none does; the first one's reason.
    """
    refusal: InputError | None = None
    for probe in probes:
        try:
            probe.ask()
            return probe.ask_finely() if several else None
        except NoSum as error:
            refusal = refusal or error
    assert refusal is not None  # there is one reading at least
    raise refusal
