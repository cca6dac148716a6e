"""Bounds on a model's loss on cells of segments: what of cells and samples goes together through an enclosure."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_map

from dss.base.errors import EnclosureError
from dss.base.space import ParameterSpace
from dss.enclosure import Blocks, bytes_per_cell, enclose, suited, weighted_mean
from dss.enclosure.cells import ratio_of_sums
from dss.objectives.network.batches import Tree
from dss.objectives.network.rows import RowLosses
from dss.objectives.network.samples import Samples
from dss.objectives.network.trials import cloned


def check_bounded(rows: RowLosses, recalibrated: Collection[str], samples: Samples) -> None:
    """Refuse losses that cannot be enclosed.

    Args:
        recalibrated: layers whose statistics are recomputed for every point.

    Raises:
        EnclosureError: it names the cause and the way out.
    """
    if rows.autocast is not None:
        raise EnclosureError("what autocast rounds cannot be enclosed; judge without it to prove")
    if recalibrated:
        raise EnclosureError(
            "statistics recalibrated for every point cannot be enclosed; to prove, freeze them: --buffers frozen, buffers='frozen' in Python"
        )
    if samples.obstacle is not None:
        raise EnclosureError(samples.obstacle)


class Bounds:
    """The enclosure of one model and loss.

    Args:
        rows: the model and its loss.
        space: names of the coordinates.
        bytes_per_sample: what a forward pass takes.
    """

    def __init__(self, rows: RowLosses, space: ParameterSpace, bytes_per_sample: int):
        self.rows, self.space, self.bytes = rows, space, bytes_per_sample
        self._suited: dict[str, Any] | None = None  # not asked yet

    def on_cells(
        self,
        starts: Tensor,
        ends: Tensor,
        lower: Tensor,
        upper: Tensor,
        data: Samples,
        weight: float,
        memory: int,
        *,
        negated: bool = False,
    ) -> Tensor:
        """Bounds `(k, c)` as `Objective.enclose` has them.

        Args:
            data: all samples, in the dtype of the points.
            weight: the sum of their weights.
            memory: bytes that may be used, roughly.
            negated: bound the negative of the loss.
        """
        # All samples of a few cells go together, or, where that is too much, some samples of one cell.
        together = 1 if len(self._options(starts, data)["fixed"]) == len(data.leaves) else len(data)
        fitting = max(1, memory // bytes_per_cell(self.bytes * together, parameters=self.space.size))
        cells = (x.split(fitting) for x in (starts, ends, lower, upper))
        return torch.cat([self._on_fitting(part, data, weight, memory, negated=negated) for part in zip(*cells, strict=True)])

    def on_samples(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor, data: Samples, index: Tensor,
                   memory: int, blocks: Blocks | None) -> Tensor:  # fmt: skip
        """Bounds `(k, m, c)` on the losses of the samples `index` `(k, m)`, each alone; the rest as `on_cells` has it.

        Args:
            blocks: how they go together, for this data; without it as memory allows.
        """
        if blocks is not None and blocks.can_record:
            return self._on_fitting((starts, ends, lower, upper), data, 1.0, memory, index, blocks)
        fitting = max(1, memory // bytes_per_cell(self.bytes * index.shape[1], parameters=self.space.size))
        cells = (x.split(fitting) for x in (starts, ends, lower, upper, index))
        return torch.cat([self._on_fitting(part[:4], data, 1.0, memory, part[4]) for part in zip(*cells, strict=True)])

    def _on_fitting(self, cells: tuple[Tensor, ...], data: Samples, weight: float, memory: int,
                    index: Tensor | None = None, blocks: Blocks | None = None, *, negated: bool = False) -> Tensor:  # fmt: skip
        """Bounds on cells that fit memory, over the data in chunks."""
        starts, ends, lower, upper = cells
        start, end = self.space.unflatten(starts), self.space.unflatten(ends)
        rows, constants, loss = self.rows, self.rows.constants_like(starts), self.rows.loss
        # Blocks take one cell after the other.
        each = (len(starts) if blocks is None else 1) * bytes_per_cell(self.bytes, parameters=0)
        # Recurrent networks take thousands of operations: with a few samples they would wait for Python.
        size = max(1, memory // each, min(16, 4 * memory // each))
        if rows.writes:
            data, constants = data.take(torch.arange(len(data))), cloned(constants)
        value = (lambda output, target: -loss.value(output, target)) if negated else loss.value
        return enclose(
            rows.template, value, start, end, lower, upper, data.inputs, data.target, buffers=constants, chunk=size,
            weight=None if loss.averaged else weight, whole=loss.whole, index=index, blocks=blocks, **self._options(starts, data),
        )  # fmt: skip

    def go_apart(self, points: Tensor, data: Samples) -> bool:
        """Whether the way through the model depends on the samples' numbers, so that not all go through it together."""
        return bool(self._options(points, data)["fixed"])

    def _options(self, points: Tensor, data: Samples) -> dict[str, Any]:
        """What suits the model, asked once."""
        if self._suited is None:
            rows, constants = self.rows, self.rows.constants_like(points)
            if rows.writes:
                data, constants = data.take(torch.arange(len(data))), cloned(constants)
            tensors = {name: value[0] for name, value in self.space.unflatten(points).items()} | constants
            self._suited = suited(rows.template, rows.loss.value, tensors, data.inputs, data.target, whole=rows.loss.whole)
        return self._suited

    def mean(self, values: Tensor, weight: float) -> Tensor:
        """Bounds `(c,)` on the loss of all samples, from theirs `(n, c)`."""
        if self.rows.loss.averaged:
            return weighted_mean(values, torch.ones(len(values), device=values.device))
        return ratio_of_sums(values, weight)

    def losses(self, point: Tensor, data: Samples) -> Tensor:
        """The losses `(n,)` of all samples at a point `(p,)`, each alone, computed and not bounded."""
        rows, tensors = self.rows, self.rows.constants_like(point[None])
        tensors = tensors | {name: value[0] for name, value in self.space.unflatten(point[None]).items()}

        def of_sample(target: Tree, *sample: Tensor) -> Tensor:
            output = functional_call(rows.template, tensors, tuple(part[None] for part in sample))
            return rows.loss.value(output, tree_map(lambda part: part[None], target))

        with torch.no_grad():
            if rows.can_batch:
                return torch.vmap(of_sample)(data.target, *data.inputs)
            # Recurrent layers have no batching rule, but take all samples at once.
            output, single = functional_call(rows.template, tensors, tuple(x.clone() for x in data.inputs)), list(data.chunks(1))
            if isinstance(output, Tensor) and len(output) == len(data):
                return torch.stack(
                    [rows.loss.value(*one) for one in zip(output.split(1), (one.target for one in single), strict=True)]
                )
            outputs = (functional_call(rows.template, tensors, one.inputs) for one in single)
            return torch.stack([rows.loss.value(output, one.target) for output, one in zip(outputs, single)])
