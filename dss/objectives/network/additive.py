"""Whether a loss adds up over samples: tried on few samples of a model, and on all targets with outputs drawn from those.

How a loss adds up has nothing to do with the model: any outputs that the model may have will do. So all targets can be
tried for the price of the loss alone, and the padding that begins late, or the class that comes last, is among them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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


class NoSum(InputError):
    """A loss that was taken to add up over samples does not."""


@dataclass(eq=False)
class Additivity:
    """A loss whose sums are compared.

    Attributes:
        loss: how it is taken to add up.
        called: what the caller gave, or torch's loss.
    """

    loss: SampleLoss
    called: Loss

    def check(self, few: Samples, output: Callable[[Samples], Any], *, apart: bool = True) -> None:
        """Sums over single samples and over unequal parts, in another order, must be that of all.

        Args:
            output: of samples at one point.
            apart: whether the output of samples may be cut out of that of all.
        """
        places = torch.arange(len(few), device=few.device)
        all_ = output(few)
        outputs = Outputs.of(all_, len(few)) if apart else None

        def sums(index: Tensor) -> tuple[float, float]:
            some = few.take(index)
            return self.sums(output(some) if outputs is None else outputs.take(index), some)

        with told("the loss"):
            whole = sums(places)
            for parts in (places.split(1), halves(few.targets, places)):
                self.compare(whole, list(map(sums, parts)), few, outputs)

    def sums(self, output: Any, samples: Samples) -> tuple[float, float]:
        """Sum and weight of some samples; the loss may write over the target."""
        target = samples.own_target
        if self.loss.known or self.loss.averaged:
            value = self.loss.value(output, target)
            return value.double().item() * self.loss.factor(len(samples)), self.loss.weigh(samples)
        found = self.called(output, target)
        return found[0].double().sum().item(), weight_of(found)

    def compare(
        self, whole: tuple[float, float], parts: list[tuple[float, float]], data: Samples, outputs: Outputs | None
    ) -> None:
        """Refuse a loss whose parts do not add up, up to rounding of the outputs."""
        total, weight = sum(part[0] for part in parts), sum(part[1] for part in parts)
        if whole[0] != whole[0]:  # not a number with all samples together: nothing to compare
            return
        reals = [x for x in (*data.targets, *(outputs.tensors if outputs else ())) if x.is_floating_point()]
        eps = max((torch.finfo(x.dtype).eps for x in reals), default=torch.finfo(torch.float32).eps)
        size = (1 + outputs.size if outputs else 1.0) * max(len(data), *(x.numel() for x in data.targets))
        room = max(1024 * eps, 1e-10) * sum(abs(part[0]) for part in parts) + 16 * eps * size
        if _near(total, whole[0], room) and _near(weight, whole[1], 1e-5 * abs(whole[1])):
            return
        shapes = f" (outputs {[tuple(x.shape) for x in outputs.tensors]}, targets {describe(data.target)})" if outputs else ""
        together, apart = (a / b if b else float("nan") for a, b in (whole, (total, weight)))
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
            return self._in_double(lambda dtype: sum(self._drawn(block, 0, dtype)[1] for block in self._blocks(samples)))

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

    def _drawn(self, block: Samples, seed: int, dtype: torch.dtype) -> tuple[float, float]:
        return self.adding.sums(*self._draw(block, seed, dtype))

    def _check_block(self, block: Samples, dtype: torch.dtype) -> None:
        output, given = self._draw(block, 1, dtype)
        outputs, places = Outputs.of(output, len(given)), torch.arange(len(given), device=given.device)
        assert outputs is not None  # they were drawn sample by sample

        def sums(index: Tensor) -> tuple[float, float]:
            return self.adding.sums(outputs.take(index), given.take(index))

        whole = sums(places)
        shuffled = torch.randperm(len(given), generator=torch.Generator().manual_seed(2)).to(places.device)
        for parts in (halves(given.targets, places), shuffled.tensor_split([1, 1 + len(given) // 7])):
            self.adding.compare(whole, [sums(index) for index in parts if len(index)], given, outputs)
        other = self._drawn(block, 3, dtype)[1]
        if not _near(other, whole[1], 1e-5 * abs(other)):
            raise InputError(
                f"the weight of a pair (sum, weight) must depend on targets alone; for the same targets it was {whole[1]:.6g} "
                f"and {other:.6g}; give whole=True if the model is to change it"
            )


def halves(targets: Sequence[Tensor], places: Tensor) -> tuple[Tensor, ...]:
    """Two unequal parts that differ as much as targets do: those with small ones and those with large ones."""
    rows = [target.reshape(len(target), -1) for target in targets if target.numel() and not target.is_complex()]
    sizes = sum((flat.double().mean(1) for flat in rows), torch.zeros(len(places), dtype=torch.float64, device=places.device))
    return sizes.argsort(stable=True).tensor_split([max(1, len(places) * 2 // 5)])


def _near(one: float, other: float, room: float) -> bool:
    return one == other or abs(one - other) <= room
