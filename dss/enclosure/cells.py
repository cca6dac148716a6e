"""From the ends of segments to bounds on the loss of a model on cells of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_unflatten

from dss.base.errors import EnclosureError
from dss.enclosure.blocks import Blocks
from dss.enclosure.fresh import FreshMemory
from dss.enclosure.passes import CURVED, DEEP, MODERATE, WINDING, Pass, under_way
from dss.enclosure.rounding import TINY, UNIT, UNIT32, above, gamma
from dss.enclosure.standin import StandIn, constant, value_of
from dss.enclosure.value import Enclosure, ceiling, lift
from dss.enclosure.ways import Fixed, groups_of, together, way_of

Tensors = dict[str, Tensor]

GRAIN = 2.0**-45
"""Middles and halves of cells in [0, 1] that begin and end at multiples of it are exact in float64."""


def enclose(
    model: nn.Module,
    loss: Callable[..., Tensor],
    start: Tensors,
    end: Tensors,
    lower: Tensor,
    upper: Tensor,
    inputs: Tensor | tuple[Tensor, ...],
    target: Any,
    *,
    buffers: Tensors | None = None,
    rough: bool = True,
    third: bool = False,
    inside: bool = False,
    fixed: Fixed = (),
    chunk: int | None = None,
    weight: float | None = None,
    whole: bool = False,
    index: Tensor | None = None,
    blocks: Blocks | None = None,
) -> Tensor:
    """Rigorous bounds on the mean loss of samples along cells of segments in parameter space.

    Cell i is {start[i] + t (end[i] - start[i]) : lower[i] <= t <= upper[i]}. The network is taken over the real
    numbers, at the stored values of ends, buffers and data. A bound that cannot be had is infinite.

    Args:
        model: a template, run in eval on one sample at a time and never changed.
        loss: `loss(output, target)`, a scalar: of one sample, or of all samples if `whole`.
        start, end: by parameter name, `(k, *shape)`.
        lower, upper: `(k,)` float64, 0 <= lower <= upper <= 1.
        inputs: the data, or the tuple of the model's positional arguments; axis 0 counts the samples.
        target: the second argument of `loss`, by samples too: a tensor, or a tuple, list or dict of such.
        buffers: values to use instead of the model's own.
        rough: whether the smaller parts of convolutions are computed in float32.
        third: whether parts of third order are kept.
        inside: whether errors are traced back at places inside the network, too.
        fixed: on which of the tensors of `target` and `inputs`, in this order, the way through the model depends: samples that
            agree in them go through it together. For the four see `suited`.
        chunk: how many samples go through the model together; all by default.
        weight: what the sum over samples of their losses is divided by; their number by default.
        whole: whether the loss is called once, with all samples.
        index: `(k, m)`, which samples of every cell are bounded, each alone. Then `lower` and `upper` must be multiples of
            `GRAIN`, so that tau is exactly (2 t - lower - upper) / (upper - lower), and bounds on cells inside cells fit together.
        blocks: how they are put together, and what was recorded of earlier calls for this model, loss and data; without it those of all cells
            go together.

    Returns:
        With `index` `(k, m, c)` for every sample, else `(k, c)` for their mean, float64: the values at `CORNERS` of a function convex in (tau, 2 tau^2 - 1), tau in [-1, 1], that lies
        above the loss on the whole cell. The largest of a row bounds the cell.

    Raises:
        EnclosureError: an operation has no rule, or anything else keeps the network from being enclosed; the message
            names it, and the module that calls it.
    """
    if fixed and index is not None:
        raise ValueError("samples that go ways of their own are not bounded apart")
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    targets, nest = tree_flatten(target)
    data = [*targets, *inputs]
    stored = dict(model.named_buffers()) | (buffers or {})

    dtype = _dtype(start)

    def bound(start: Tensors, end: Tensors, lower: Tensor, upper: Tensor, *chosen: Tensor) -> Tensor:
        weights = {name: moving(start[name], end[name], lower, upper, exact=bool(chosen)) for name in start}

        def of_samples(*samples: Tensor) -> Tensor:
            with only_refusals(), under_way(rough=rough, third=third, inside=inside):
                # New ones for every pass: a forward may write into them.
                tensors = {name: StandIn(weight, dtype) for name, weight in weights.items()}
                tensors |= {name: constant(value) for name, value in stored.items()}
                given = tuple(constant(part, dtype) for part in samples[len(targets) :])
                with FreshMemory():
                    output = functional_call(model, tensors, given)
                return torch.stack(_values(loss(output, _target(samples[: len(targets)], nest))))

        def of_sample(*sample: Tensor) -> Tensor:
            return of_samples(*(part[None] for part in sample))

        if whole:
            return of_samples(*data)
        if chosen:
            return together(of_sample, [x.index_select(0, chosen[0]) for x in data], chunk=chunk)
        groups = groups_of([data[i] for i in fixed]) if fixed else [slice(None)]
        values = torch.cat([together(of_sample, [x[rows] for x in data], fixed, chunk) for rows in groups])
        if weight is not None:
            return ratio_of_sums(values, weight)
        return weighted_mean(values, torch.ones(len(values), device=values.device))

    lower, upper, rows = lower.to(torch.float64), upper.to(torch.float64), () if index is None else (index,)
    if rows and bool(((lower % GRAIN != 0) | (upper % GRAIN != 0)).any()):
        raise ValueError("cells of samples apart must begin and end at multiples of GRAIN")
    with _evaluation(model), torch.no_grad():
        if blocks is None or index is None:
            bounds = torch.vmap(bound)(start, end, lower, upper, *rows)
        else:
            bounds = _in_blocks(bound, blocks, start, end, lower, upper, index)
    known = _finite(list(start.values()), rows=True) & _finite(list(end.values()), rows=True)
    # A mask may shut out by -inf, which no saturating function turns into a bound: every rule but a choice makes it NaN.
    known &= _finite([x.where(x != -torch.inf, 0) for x in stored.values()] + data, rows=False)
    known = known.view(-1, *[1] * (bounds.dim() - 1))
    return torch.where(known & ~bounds.isnan(), bounds, torch.inf)


def _in_blocks(bound: Callable[..., Tensor], blocks: Blocks, start: Tensors, end: Tensors, lower: Tensor, upper: Tensor,
               index: Tensor) -> Tensor:  # fmt: skip
    """Bounds on the samples of one cell after another."""
    names = list(start)

    def of_block(*given: Tensor) -> Tensor:
        rows = [part[None] for part in given]
        starts, ends = (dict(zip(names, part)) for part in (rows[: len(names)], rows[len(names) : -3]))
        # Under `vmap` for a single cell too: no rule can then branch on its numbers.
        return torch.vmap(bound)(starts, ends, *rows[-3:])[0]

    sides = [*start.values(), *end.values(), lower, upper]
    return torch.stack([blocks.values(of_block, [side[i] for side in sides], rows) for i, rows in enumerate(index)])


def suited(model: nn.Module, loss: Callable[..., Tensor], tensors: Tensors, inputs: tuple[Tensor, ...],
           target: Any, *, whole: bool = False) -> dict[str, Any]:  # fmt: skip
    """The options `rough`, `third`, `inside` and `fixed` of `enclose` that pay for a network, by its depth and its way.

    Errors are multiplied by absolute weights layer after layer. In many layers that, and what float32 loses, inflates the ranges
    inside beyond use, unless errors are traced back on the way; in a few it costs more than it spares cells. For the way see `ways`.

    Args:
        tensors: parameters and buffers by name, of one point; they are needed for their shapes.
        whole: whether the loss is one of all samples; else it is asked for a few.

    Raises:
        EnclosureError: an operation has no rule.
    """
    targets, nest = tree_flatten(target)
    data = [*targets, *inputs]

    def passed(*samples: Tensor) -> Pass:
        return _trial(model, loss, tensors, _target(samples[: len(targets)], nest), samples[len(targets) :])

    with _evaluation(model), torch.no_grad():
        fixed, state = ((), passed(*data)) if whole else way_of(passed, data, len(targets))
    inside = state.kinks > DEEP or state.curves >= WINDING
    return {"rough": state.bends <= MODERATE, "third": state.curves >= CURVED, "inside": inside, "fixed": fixed}


def _trial(model: nn.Module, loss: Callable[..., Tensor], tensors: Tensors, target: Any, inputs: Sequence[Tensor]) -> Pass:
    """What a pass of samples meets, at a point."""
    dtype = _dtype(tensors)
    given = {name: StandIn(lift(x), x.dtype) if x.is_floating_point() else x.clone() for name, x in tensors.items()}
    with only_refusals(), under_way() as state:
        samples = tuple(constant(part, dtype) for part in inputs)
        with FreshMemory():
            output = functional_call(model, given, samples)
        loss(output, target)
    return state


def _target(leaves: Sequence[Tensor], nest: Any) -> Any:
    """The second argument of the loss, which may write over it."""
    return tree_unflatten([leaf.clone() for leaf in leaves], nest)


def _finite(tensors: list[Tensor], *, rows: bool) -> Tensor:
    """Whether all entries are finite: in each row, or altogether. Saturating functions would hide others."""
    checks = [x.isfinite() for x in tensors if isinstance(x, Tensor) and x.is_floating_point()]
    checks = checks or [torch.tensor(True)]
    return torch.stack([check.reshape(len(check), -1).all(1) if rows else check.all() for check in checks]).all(0)


def moving(start: Tensor, end: Tensor, lower: Tensor, upper: Tensor, *, exact: bool = False) -> Enclosure:
    """The points of a segment for t in [lower, upper], with the rounding of center and slope.

    t = m + h tau covers the cell once h is a little too large; center start + m (end - start) and slope h (end - start)
    then take at most six roundings of numbers no larger than 2 (|start| + |end|). It is exact for ends that are multiples of `GRAIN`.
    """
    start, end = start.to(torch.float64), end.to(torch.float64)
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    half = half if exact else half * (1 + 8 * UNIT) + 4 * UNIT
    step = end - start
    size = (start.abs() + end.abs()).amax() if start.numel() else start.new_zeros(())
    return Enclosure(start + middle * step, half * step, 16 * UNIT * size + TINY)


def weighted_mean(bounds: Tensor, weights: Tensor) -> Tensor:
    """Means over axis 0 of bounds `(b, ...)` with weights `(b,)` > 0, rounded up: bounds again."""
    shares = (weights.to(torch.float64) / weights.sum().to(torch.float64)).reshape(-1, *[1] * (bounds.dim() - 1))
    terms = bounds * shares
    return above(terms.sum(0), terms.abs().sum(0), gamma(len(bounds)))


def ratio_of_sums(bounds: Tensor, weight: float) -> Tensor:
    """Sums over axis 0 of bounds `(b, ...)` over a constant > 0, rounded up: bounds again.

    The constant is itself a sum of weights, which may be off by as many roundings, of float32 where the loss made it of such.
    """
    total, size = bounds.sum(0) / weight, bounds.abs().sum(0) / weight
    return above(total, size, gamma(2 * len(bounds)) + 2 * gamma(0, UNIT32))


def bytes_per_cell(model_bytes: int, *, parameters: int) -> int:
    """A generous estimate of the memory that one cell takes, from the bytes of the activations of one evaluation.

    Center, slope, error and the temporaries of a rule: about twelve float64 arrays for every float32 one.
    """
    return 24 * model_bytes + 80 * parameters


def _dtype(tensors: Tensors) -> torch.dtype:
    """The floating type of a network's parameters, which is that of its data and buffers too."""
    return next((x.dtype for x in tensors.values() if x.is_floating_point()), torch.get_default_dtype())


@contextmanager
def only_refusals() -> Iterator[None]:
    """Turn what a forward or a loss raises on enclosures into a refusal that names it: then samples can judge.

    Memory that runs out says nothing about the network, and passes through, as does what stops the program.
    """
    try:
        yield
    except (EnclosureError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        if "allocate memory" in str(error):
            raise
        cause = str(error).strip().partition("\n")[0] or "no message"
        raise EnclosureError(
            f"the network or its loss cannot be enclosed, because it raises {type(error).__name__}: {cause}"
        ) from error


def _values(loss: Any) -> tuple[Tensor, ...]:
    loss = value_of(loss)
    if not isinstance(loss, Enclosure) or loss.dim() != 0:
        kind = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise EnclosureError(f"the loss must return one number that depends on the parameters, got {kind}")
    return ceiling(loss)


class _evaluation:
    """Run modules in eval and give every one its own mode back."""

    def __init__(self, model: nn.Module):
        self.model = model

    def __enter__(self) -> None:
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()

    def __exit__(self, *_) -> None:
        for module, training in self.modes:
            module.training = training
