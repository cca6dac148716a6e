"""Whether a loss adds up over samples: tried on few samples of a model, and on all targets with outputs drawn from those.

How a loss adds up has nothing to do with the model: any outputs that the model may have will do. So all targets can be
tried for the price of the loss alone, and the padding that begins late, or the class that comes last, is among them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.network.batches import describe
from dss.objectives.network.blame import told
from dss.objectives.network.loss import Loss, SampleLoss, weight_of
from dss.objectives.network.samples import Samples
from dss.objectives.network.trials import Outputs

BLOCK_BYTES = 64 * 2**20
"""Outputs drawn at once."""

BLOCKS = 8
"""Most blocks of targets that are tried; all are weighed."""


def tolerance(dtype: torch.dtype) -> float:
    """Relative difference that rounding may make between two ways to compute a loss in `dtype`."""
    return min(max(8192 * torch.finfo(dtype).eps, 1e-9), 0.1)


ALONE = 64 * torch.finfo(torch.float32).eps
"""Relative difference between samples that are evaluated alone and together, in float64: models cast to float32 on their way."""

NARROW = (torch.bfloat16, torch.float16, torch.float32)
"""What a loss may compute in though outputs and result are wider, from the coarsest on."""

COARSEST = 1 / 32
"""Relative difference that rounding is believed to make at most: four units of bfloat16."""


class NoSum(InputError):
    """A loss that was taken to add up over samples does not."""


class Sum(NamedTuple):
    """What a loss says of some samples.

    Attributes:
        total: the sum of the s_i.
        weight: the sum of the w_i.
        value: as the loss returned it, a mean or a sum.
        dtype: in which it returned it.
    """

    total: float
    weight: float
    value: float
    dtype: torch.dtype


def computed_in(sums: Sequence[Sum]) -> torch.dtype:
    """The dtype as which a loss rounds: that of what it returned, or a narrower one of which all its values are numbers.

    `cross_entropy(output.float(), target)` of float64 outputs rounds as float32 does, whatever the dtype of what it returns.
    Values of a few bits alone, such as 0 and 1, tell nothing.
    """
    own = max((found.dtype for found in sums), key=_spacing)
    values = torch.tensor([found.value for found in sums], dtype=torch.float64)
    mantissas = values[values.isfinite()].frexp().mantissa

    def fit(bits: int) -> bool:
        return bool((mantissas * 2.0**bits).frac().eq(0).all())

    for dtype in NARROW:
        bits = 1 - round(log2(_spacing(dtype)))
        if _spacing(dtype) > _spacing(own) and fit(bits) and not fit(bits // 2):
            return dtype
    return own


def coarser(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """Of two dtypes of real numbers that with fewer bits."""
    return max(one, other, key=_spacing)


def _spacing(dtype: torch.dtype) -> float:
    """Relative, of neighbouring numbers."""
    return torch.finfo(dtype).eps


@dataclass(eq=False)
class Additivity:
    """A loss whose sums are compared.

    Attributes:
        loss: how it is taken to add up.
        called: what the caller gave, or torch's loss.
        dtype: the coarsest as which it was seen to round, of those that are coarser than what it was given.
    """

    loss: SampleLoss
    called: Loss
    dtype: torch.dtype = torch.float64

    def check(self, few: Samples, output: Callable[[Samples], Any], *, apart: bool = True) -> None:
        """Sums over single samples and over unequal parts, in another order, must be that of all.

        Args:
            output: of samples at one point.
            apart: whether the output of samples may be cut out of that of all.
        """
        places = torch.arange(len(few), device=few.device)
        all_ = output(few)
        outputs = Outputs.of(all_, len(few)) if apart else None

        def sums(index: Tensor) -> Sum:
            some = few.take(index)
            return self.sums(output(some) if outputs is None else outputs.take(index), some)

        with told("the loss"):
            whole = sums(places)
            for parts in (places.split(1), halves(few.targets, places)):
                self.compare(whole, list(map(sums, parts)), few, outputs)

    def sums(self, output: Any, samples: Samples) -> Sum:
        """What the loss says of some samples; it may write over the target."""
        target = samples.own_target
        if self.loss.known or self.loss.averaged:
            value = self.loss.value(output, target)
            number = value.double().item()
            return Sum(number * self.loss.factor(len(samples)), self.loss.weigh(samples), number, value.dtype)
        found = self.called(output, target)
        number = found[0].double().sum().item()
        return Sum(number, weight_of(found), number, found[0].dtype)

    def compare(self, whole: Sum, parts: list[Sum], data: Samples, outputs: Outputs | None) -> None:
        """Refuse a loss whose parts do not add up, up to rounding of the outputs and of the loss."""
        total, weight = sum(part.total for part in parts), sum(part.weight for part in parts)
        if whole.total != whole.total:  # not a number with all samples together: nothing to compare
            return
        given, own = _given(data, outputs), computed_in([whole, *parts])
        if _spacing(own) > given:
            self.dtype = coarser(self.dtype, own)
        size = (1 + outputs.size if outputs else 1.0) * max(len(data), *(x.numel() for x in data.targets))
        room = _room(parts, given, _spacing(own), size)
        if _near(total, whole.total, room) and _near(weight, whole.weight, 1e-5 * abs(whole.weight)):
            return
        shapes = f" (outputs {[tuple(x.shape) for x in outputs.tensors]}, targets {describe(data.target)})" if outputs else ""
        together, apart = (a / b if b else float("nan") for a, b in (whole[:2], (total, weight)))
        sums = self.loss.known or self.loss.averaged
        must = (
            "the loss must be a mean over samples (axis 0)" if sums else "both of a pair (sum, weight) must add up over samples"
        )
        raise NoSum(
            f"{must}: {len(data)} samples together give {together:.6g}, the same samples "
            f"in {len(parts)} parts {apart:.6g}{shapes}. For class weights, ignore_index, sums or masks give torch's own loss "
            "(functools.partial(cross_entropy, ignore_index=0)) or return the pair (sum, weight); a loss of the whole data at "
            "once needs whole=True"
        )


@dataclass(eq=False)
class AllTargets:
    """Every target, with outputs drawn for it.

    Attributes:
        adding: the loss.
        bank: outputs of the model at some samples and points.
    """

    adding: Additivity
    bank: Outputs

    def check(self, samples: Samples) -> None:
        """Parts must add up, and the weights of pairs must not depend on the outputs."""
        targets, count = samples.without_inputs(), len(samples)
        size = len(next(self._blocks(samples)))
        starts = [*range(0, count, size * -(-count // (size * BLOCKS))), max(0, count - size)]
        with told("the loss"):
            self._in_double(lambda dtype: [self._check_block(targets.take(slice(i, i + size)), dtype) for i in starts])

    def weigh(self, samples: Samples) -> float:
        """The sum of the weights that a loss of pairs gives to the targets."""
        with told("the loss"):
            return self._in_double(lambda dtype: sum(self._drawn(block, 0, dtype).weight for block in self._blocks(samples)))

    def _blocks(self, samples: Samples) -> Iterator[Samples]:
        """Consecutive targets, without inputs."""
        return samples.without_inputs().chunks(max(2, BLOCK_BYTES // self.bank.bytes_each))

    def _in_double(self, compute: Callable[[torch.dtype], Any]) -> Any:
        """In float64, where rounding hides nothing, or in the precision of the model if the loss has constants of that."""
        try:
            return compute(torch.float64)
        except (RuntimeError, TypeError):
            return compute(self.bank.dtype)

    def _draw(self, block: Samples, seed: int, dtype: torch.dtype) -> tuple[Any, Samples]:
        """An output for each target, of the model at other samples and points."""
        generator = torch.Generator().manual_seed(seed)
        index = torch.randint(self.bank.samples, (len(block),), generator=generator)
        return self.bank.take(index.to(self.bank.device), dtype), block.cast(dtype, self.bank.device)

    def _drawn(self, block: Samples, seed: int, dtype: torch.dtype) -> Sum:
        return self.adding.sums(*self._draw(block, seed, dtype))

    def _check_block(self, block: Samples, dtype: torch.dtype) -> None:
        output, given = self._draw(block, 1, dtype)
        outputs, places = Outputs.of(output, len(given)), torch.arange(len(given), device=given.device)
        assert outputs is not None  # they were drawn sample by sample

        def sums(index: Tensor) -> Sum:
            return self.adding.sums(outputs.take(index), given.take(index))

        whole = sums(places)
        shuffled = torch.randperm(len(given), generator=torch.Generator().manual_seed(2)).to(places.device)
        for parts in (halves(given.targets, places), shuffled.tensor_split([1, 1 + len(given) // 7])):
            self.adding.compare(whole, [sums(index) for index in parts if len(index)], given, outputs)
        other = self._drawn(block, 3, dtype).weight
        if not _near(other, whole.weight, 1e-5 * abs(other)):
            raise InputError(
                f"the weight of a pair (sum, weight) must depend on targets alone; for the same targets it was {whole.weight:.6g} "
                f"and {other:.6g}; give whole=True if the model is to change it"
            )


def halves(targets: Sequence[Tensor], places: Tensor) -> tuple[Tensor, ...]:
    """Two unequal parts that differ as much as targets do: those with small ones and those with large ones."""
    rows = [target.reshape(len(target), -1) for target in targets if target.numel() and not target.is_complex()]
    sizes = sum((flat.double().mean(1) for flat in rows), torch.zeros(len(places), dtype=torch.float64, device=places.device))
    return sizes.argsort(stable=True).tensor_split([max(1, len(places) * 2 // 5)])


def _given(data: Samples, outputs: Outputs | None) -> float:
    """Relative spacing of the numbers that a loss is given."""
    reals = [x for x in (*data.targets, *(outputs.tensors if outputs else ())) if x.is_floating_point()]
    return max((_spacing(x.dtype) for x in reals), default=_spacing(torch.float32))


def _room(parts: Sequence[Sum], given: float, own: float, size: float) -> float:
    """How far the sum over parts may lie from that of all.

    Args:
        given, own: relative spacings of what the loss was given, and of what it computed in.
        size: of all numbers that it was given, added up.
    """
    share = max(1024 * given, min(1024 * own, COARSEST), 1e-10)
    # Sums are taken in float32 at least, whatever their result is rounded to.
    return share * sum(abs(part.total) for part in parts) + 16 * max(given, min(own, _spacing(torch.float32))) * size


def _near(one: float, other: float, room: float) -> bool:
    return one == other or abs(one - other) <= room
