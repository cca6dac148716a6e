"""Questions asked of a model and its loss once, before anything relies on the answers.

A path's loss is proved, searched and printed in pieces of the data, in any order of points, many times. That is the number
the user would compute only if the model and the loss are a fixed function of parameters and data, made of samples that do
not know of each other. What is not is refused here with its cause, on samples spread over the data, at the model's own
parameters and at generic ones (`trials`); how a loss adds up is tried on every target (`additive`).
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from dss.base.errors import InputError
from dss.objectives.network.additive import Additivity, AllTargets, tolerance
from dss.objectives.network.copies import quiet_copy, watched_copy
from dss.objectives.network.data import Samples
from dss.objectives.network.loss import Loss, SampleLoss, read_by_result, read_whole, weight_of
from dss.objectives.network.rows import RowLosses, Tensors
from dss.objectives.network.torch_losses import recognised
from dss.objectives.network.trials import Outputs, alike, cloned, close, copy_of, has_reals, moved, same, spread, told

STEPS = (1.0, 0.1)
"""How far generic points lie from the model's own, in parameters' own sizes."""


@dataclass(eq=False)
class Probe:
    """One model and loss under question.

    Attributes:
        rows: the copy of the model; it learns what the loss adds up to, and whether anything writes in place.
        model: the caller's, which is not run.
        loss: as the caller gave it.
        samples: all the data, as given.
        own: the model's parameters that move, in the dtype of points.
        whole: whether the loss is one of all samples at once.
    """

    rows: RowLosses
    model: nn.Module
    loss: Loss
    samples: Samples
    own: Tensors
    whole: bool

    def __post_init__(self):
        one = next(iter(self.own.values()))
        some = self.samples if self.whole else self.samples.take(spread(self.samples.target))
        self.few, self.dtype = some.cast(one.dtype, one.device), one.dtype
        self.room, self.targets = tolerance(one.dtype), None
        self.known = None if self.whole else recognised(self.loss)
        self.called: Loss = self.known or self.loss

    def ask(self) -> None:
        """Ask everything.

        Raises:
            InputError: the model or the loss fails, is random, remembers, reads other weights than it is given, mixes samples,
                or does not add up over them.
        """
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # such as torch's of broadcasting, which is refused or meant
            self._first()
            points = [self.own, *self._generic()]
            outputs = [self._output(self.rows, point) for point in points]
            for point, found in zip(points, outputs, strict=True):
                self._check_fixed(point, found)
            self._check_reads_what_it_is_given()
            self._check_memory(points, outputs)
            self._check_hooks(points[-1], outputs[-1])
            if not self.whole and len(self.few) > 1:
                self._check_samples(points, outputs)

    def _first(self) -> None:
        """The first call, from which is learnt how the loss adds up, and whether anything writes in place."""
        given, constants, data = cloned(self.own), cloned(self._constants(self.rows)), self._fresh()
        watched = [*given.values(), *constants.values(), *data.inputs, data.target]
        before = [(x._version, x.clone()) for x in watched]
        with told("the model"):
            output = self.rows.output(given, constants, data.inputs)
        with told("the loss"):
            self.rows.loss = self._read(self.called(output, data.target))
        with torch.enable_grad(), told("the loss"):
            leaves = {name: value.clone().requires_grad_() for name, value in self.own.items()}
            self.rows.can_differentiate = self._judged(self._output(self.rows, leaves)).requires_grad
        self.rows.writes = any(
            x._version != version or not same(x, value) for x, (version, value) in zip(watched, before, strict=True)
        )

    def _read(self, found: object) -> SampleLoss:
        """How the loss adds up over samples."""
        if self.whole:
            return read_whole(self.called)
        if self.known is not None and self.known.reduction != "none":
            return self.known.as_sums(self.samples)
        return read_by_result(self.called, found, len(self.few), self._weigh)

    def _weigh(self, samples: Samples) -> float:
        """The sum of the weights in pairs: by drawn outputs, or by the model's own where they cannot be drawn."""
        if self.targets is not None:
            return self.targets.weigh(samples)
        parts = (part.cast(self.dtype, self.few.target.device) for part in samples.chunks(256))
        with torch.no_grad():
            return sum(weight_of(self.called(self._output(self.rows, self.own, part), part.target)) for part in parts)

    def _generic(self) -> Iterator[Tensors]:
        """Points away from the model's own at which it can be evaluated."""
        generator = torch.Generator().manual_seed(0)
        for scale in STEPS:
            point = moved(self.own, generator, scale)
            try:
                value = self._judged(self._output(self.rows, point))
            except Exception:  # whatever the caller's code raises where it is not defined
                continue
            if value.isfinite():
                yield point

    def _constants(self, rows: RowLosses) -> Tensors:
        return rows.constants_like(next(iter(self.own.values())))

    def _fresh(self) -> Samples:
        """The few samples, for once."""
        return Samples(tuple(x.clone() for x in self.few.inputs), self.few.target.clone())

    def _output(self, rows: RowLosses, point: Tensors, samples: Samples | None = None) -> Any:
        samples = self._fresh() if samples is None else samples
        return rows.output(cloned(point), cloned(self._constants(rows)), samples.inputs)

    def _judged(self, output: Any) -> Tensor:
        """The loss of an output for the few samples, of which it may write over a copy."""
        return self.rows.loss.value(copy_of(output), self.few.target.clone())

    def _check_fixed(self, point: Tensors, output: Any) -> None:
        """The same parameters and data must give the same loss twice."""
        again = self._output(self.rows, point)
        first, second = self._judged(output).item(), self._judged(again).item()
        if alike(output, again) and (first == second or first != first):
            return
        raise InputError(
            f"the loss is random: {first:.9g} and {second:.9g} for the same parameters and data, in eval(); "
            "make dropout and noise depend on self.training"
        )

    def _check_reads_what_it_is_given(self) -> None:
        """Weights that come from elsewhere would be the same at every point."""
        moving = self.own.keys()
        outside = [p for owner in (self.model, self.rows.template) for name, p in owner.named_parameters() if name in moving]
        given, constants, data = cloned(self.own), cloned(self._constants(self.rows)), self._fresh()
        with torch.enable_grad():
            values = [self._judged(self._output(self.rows, self.own)) for _ in range(2)]
            with _Reads(outside) as reads, suppress(Exception):  # what is compiled may refuse to be watched
                self.rows.loss.value(self.rows.output(given, constants, data.inputs), data.target)
        # A leaf that is the same tensor in two passes was there before them: it is nothing that forward made for itself.
        if reads.found or _leaves(values[0]) & _leaves(values[1]):
            what = "reads the model's own weights" if reads.found else "has a gradient with respect to other tensors"
            raise InputError(
                f"the loss {what} beside the parameters it is given, which would be the same at every point of a path; write "
                "a term of the weights (L2, ...) into the model's output, detach what is constant, or leave it out"
            )

    def _check_memory(self, points: list[Tensors], outputs: list[Any]) -> None:
        """Neither order of two points may change what is computed at either, and the point must matter."""
        if len(points) < 2:
            return
        fresh = copy.copy(self.rows)
        fresh.template = quiet_copy(self.model).requires_grad_(False)
        pairs = [(self._output(rows, points[i]), outputs[i]) for rows, i in ((fresh, 1), (fresh, 0), (self.rows, 0))]
        if not all(close(again, first, self.room) for again, first in pairs):
            raise InputError(
                "the model remembers: what it computes at one point depends on which points came before (does it keep a "
                "tensor computed from its weights?); compute it anew in every forward"
            )
        if has_reals(outputs[0]) and all(alike(output, outputs[0]) for output in outputs[1:]):
            raise InputError(
                "the model's output stays the same when all its parameters change (does it use a tensor computed from its "
                "weights before?); compute it anew in every forward"
            )

    def _check_hooks(self, point: Tensors, output: Any) -> None:
        """Hooks are left out, so they must not matter."""
        template = watched_copy(self.model)
        if template is None:
            return
        watched = copy.copy(self.rows)
        watched.template = template.requires_grad_(False)
        with told("a forward hook of the model"):
            found = self._output(watched, point)
        if not close(found, output, self.room):
            raise InputError(
                "a forward hook changes what the model computes, and hooks of yours are not run; put what it does into forward"
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
            adding.check(self.few, lambda some, point=point: self._output(self.rows, point, some))
        if bank is not None and not self.rows.loss.known:
            self.targets = AllTargets(adding, bank)
            self.targets.check(self.samples)

    def _check_model_apart(self, point: Tensors, whole: Outputs) -> None:
        """What the model makes of a sample must not depend on those it is evaluated with."""
        order = torch.randperm(whole.samples, generator=torch.Generator().manual_seed(1)).to(self.few.target.device)
        sizes = (1, (whole.samples - 1) // 3, whole.samples - 1 - (whole.samples - 1) // 3)
        for index in order.split([size for size in sizes if size]):
            with told("the model, given some of the samples alone,"):
                part = self._output(self.rows, point, self.few.take(index))
            if Outputs.of(part, len(index)) is None or not close(part, whole.take(index), self.room):
                raise InputError(
                    "what the model makes of a sample depends on the samples it is evaluated with (statistics of a batch? "
                    "samples along another axis than the first?); the loss of a part of the data would be another one. "
                    "Use stored statistics in eval(), or give whole=True"
                )


class _Reads(TorchDispatchMode):
    """Notices operations on tensors that share memory with some given ones."""

    def __init__(self, tensors: Sequence[Tensor]):
        super().__init__()
        self.places = {x.untyped_storage().data_ptr() for x in tensors} - {0}
        self.found = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = pytree.tree_leaves((args, kwargs or {}))
        self.found |= any(isinstance(x, Tensor) and x.untyped_storage().data_ptr() in self.places for x in leaves)
        return func(*args, **(kwargs or {}))


def _leaves(value: Tensor) -> set[int]:
    """The tensors with respect to which a value has a gradient, by identity."""
    if value.grad_fn is None:
        return {id(value)} if value.requires_grad else set()
    found, waiting, seen = set(), [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.add(id(leaf))
        waiting += [child for child, _ in node.next_functions if child is not None and child not in seen]
        seen.update(waiting)
    return found


def bytes_per_sample(rows: RowLosses, parameters: Tensors, samples: Samples) -> int:
    """Memory that one more sample takes in a forward pass with gradients: what autograd keeps of it."""
    count = min(len(samples), 4)
    one, several = (_saved_bytes(rows, parameters, samples.take(slice(0, n))) for n in (1, 1 + count))
    return max((several - one) // count, 1)


def _saved_bytes(rows: RowLosses, parameters: Tensors, samples: Samples) -> int:
    """Bytes that autograd saves in one forward pass, each storage counted once."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    constants = rows.constants_like(next(iter(leaves.values())))
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # A loss of the whole data may have none for a part of it.
        _kept = rows.output(leaves, constants, samples.inputs) if rows.loss.whole else rows.one(leaves, constants, samples)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def can_batch(rows: RowLosses, parameters: Tensors, samples: Samples) -> bool:
    """Whether `vmap` has a rule for every operation, and computes what a loop does."""
    stacked = {name: torch.stack([value, 1.1 * value]) for name, value in parameters.items()}
    constants = rows.constants_like(next(iter(stacked.values())))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop")  # torch's loop in place of a rule
            found, expected = rows.batch(stacked, constants, samples), rows.loop(stacked, constants, samples)
    except (RuntimeError, ValueError, UserWarning):  # no batching rule, or control flow that depends on values
        return False
    share = tolerance(found.dtype)
    return torch.allclose(found, expected, rtol=share, atol=share * 1e-2, equal_nan=True)
