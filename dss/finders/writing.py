"""The beads of a path that is written down, for a chain of layers."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from dss.base.path import Path
from dss.certificates.sampling import as_losses
from dss.finders.descent import Descent, descend
from dss.finders.halves import Activations, Chain, Tensors, written
from dss.problem import Problem


class Recipe(Protocol):
    """How a path is written; see `ConvexPath`."""

    @property
    def fit(self) -> str: ...

    @property
    def ridge(self) -> float: ...

    @property
    def halves(self) -> str: ...

    @property
    def descent(self) -> Descent: ...


class Writing:
    """One path in the making.

    Attributes:
        keeps: for either end, what it keeps of each hidden layer.
        steps: gradient steps so far.
    """

    def __init__(self, finder: Recipe, problem: Problem, chain: Chain):
        self.finder, self.problem, self.chain = finder, problem, chain
        self.space = chain.network.space
        self.steps = 0
        blocks = [self._split(layer) for layer in range(len(chain.widths))]
        self.keeps = [first for first, _ in blocks], [second for _, second in blocks]

    @property
    def stages(self) -> int:
        """Half networks that are written for either end."""
        return len(self.chain.widths) - 1

    def beads(self) -> Iterator[Tensor]:
        """From start to end: down the first end's side, over, and up the second's."""
        problem = self.problem
        if not self.chain.widths:
            yield from (problem.start, problem.end)
            return
        first, second = self._side(problem.start, 0), self._side(problem.end, 1)
        yield problem.start
        yield from first
        yield from self._over(first[-1], second[-1])
        yield from reversed(second)
        yield problem.end

    def losses(self, path: Path) -> Tensor:
        """Judged losses `(n,)` at the beads; those that a constant piece leads to are known from the bead before."""
        half = [True, *[False, True] * self.stages] if self.chain.widths else []
        convex = torch.tensor([*half, False, True, False, *reversed(half)] if half else [True])
        group = torch.cat([torch.zeros(1, dtype=torch.long), convex.cumsum(0)])
        first = torch.cat([torch.zeros(1, dtype=torch.long), convex.nonzero()[:, 0] + 1])
        return as_losses(torch.cat([self.problem.judge(bead[None]) for bead in path.beads[first]]))[group]

    def _side(self, end: Tensor, side: int) -> list[Tensor]:
        """From an end to its half network on every other half, one layer lower at each stage."""
        chain, hidden = self.chain, len(self.chain.widths)
        own, last = chain.activations(self.space.unflatten(end)), len(self.chain.widths) - 1
        keep, other = self.keeps[side], self.keeps[1 - side]
        head = self._with_head(end, own.inputs[-1], chain.units(last, keep[-1]), own.outputs[-1])
        beads = [self._trained(head, end, self._free(keep, last), (side, last))[1]]
        for low in reversed(range(last)):
            blocks = [other[k] if (k - low) % 2 else keep[k] for k in range(hidden)]
            written, x = self._rewritten(beads[-1], own, low, blocks, keep)
            read = self._with_head(written, x, chain.units(last, blocks[-1]), own.outputs[-1])
            beads += self._trained(read, beads[-1], self._free(blocks, low), (side, low))
        return beads

    def _trained(self, point: Tensor, before: Tensor, free: Tensor, key: tuple[int, int]) -> list[Tensor]:
        """A half network, trained where its loss is above the threshold: the bead at which it is written but not read, and the
        one at which it is read.

        Args:
            point: where it is read.
            before: where it is not: a bead with the last layer as it was.
            free: mask `(p,)` of what may be trained.
            key: of its random numbers.
        """
        problem, head = self.problem, self.chain.layers[-1]
        if self.finder.fit == "train" and self.problem.judge(point[None]).item() > problem.threshold:
            result = descend(
                problem.objective, problem.judge, point[None], problem.threshold, options=self.finder.descent,
                generator=problem.generator("half", *key), project=lambda moved, _: torch.where(free, moved, point),
            )  # fmt: skip
            self.steps += result.gradient_steps
            point = result.points[0]
        written = point.clone()
        for name in (head.weight, head.bias):
            if name is not None:
                self.space.unflatten(written)[name].copy_(self.space.unflatten(before)[name])
        return [written, point]

    def _free(self, blocks: list[Tensor], low: int) -> Tensor:
        """A mask `(p,)` of what may be trained: rows above layer `low` where they read their own half network, and the head."""
        mask = torch.zeros(self.space.size, dtype=torch.bool)
        tensors, chain = self.space.unflatten(mask), self.chain
        for k in range(low + 1, len(blocks)):
            for name in self._rows(k):
                rows = tensors[name]
                if name == chain.layers[k].weight:
                    columns = chain.units(k - 1, blocks[k - 1])
                    rows[blocks[k][:, None], columns.nonzero()[:, 0]] = True
                else:
                    rows[blocks[k]] = True
        head = chain.layers[-1]
        tensors[head.weight][:, chain.units(len(blocks) - 1, blocks[-1])] = True
        if head.bias is not None:
            tensors[head.bias][:] = True
        return mask

    def _rewritten(
        self, point: Tensor, own: Activations, low: int, blocks: list[Tensor], keep: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The half network above layer `low` written into units that nobody reads; and what the last layer reads then."""
        chain, point = self.chain, point.clone()
        tensors, x = self.space.unflatten(point), own.inputs[low + 1]
        for k in range(low + 1, len(blocks)):
            axis = 1 if own.outputs[k].ndim == 4 else -1
            targets = own.outputs[k].index_select(axis, keep[k])
            below = keep[low] if k == low + 1 else blocks[k - 1]
            rows, bias = chain.fit(k, x, chain.units(k - 1, below), targets, self.finder.ridge)
            order = nearest(rows, tensors[chain.layers[k].weight][blocks[k]])
            written(tensors, chain, k, blocks[k], rows[order], None if bias is None else bias[order])
            self._imitate(tensors, k, blocks[k], keep[k][order])
            z = chain.apply(k, tensors, x)
            x = chain.after(k, tensors, z)
        return point, x

    def _imitate(self, tensors: Tensors, layer: int, block: Tensor, roles: Tensor) -> None:
        """Scale and shift of a norm for units that stand in for others, whose frozen statistics are not their own."""
        for norm in self.chain.norms[layer]:
            if norm.weight is None or norm.bias is None:
                continue
            weight, bias = tensors[norm.weight], tensors[norm.bias]
            scale, shift = weight[roles].clone(), bias[roles].clone()
            if not self.chain.network.recalibrates:
                mean, deviation = (s.to(weight) for s in self.chain.statistics(norm))
                shift += scale * (mean[block] - mean[roles]) / deviation[roles]
                scale *= deviation[block] / deviation[roles]
            weight[block], bias[block] = scale, shift

    def _with_head(self, point: Tensor, x: Tensor, columns: Tensor, outputs: Tensor) -> Tensor:
        """The last layer fitted to the full network's outputs, reading some of its columns."""
        point, last = point.clone(), len(self.chain.layers) - 1
        rows, bias = self.chain.fit(last, x, columns, outputs, self.finder.ridge)
        written(self.space.unflatten(point), self.chain, last, slice(None), rows, bias)
        return point

    def _over(self, first: Tensor, second: Tensor) -> Iterator[Tensor]:
        """From the first end's half network to the second's: written beside it, then read instead of it."""
        beside = second.clone()
        before, after = self.space.unflatten(first), self.space.unflatten(beside)
        head = self.chain.layers[-1]
        for k, block in enumerate(self._resting(0)):
            for name in self._rows(k):
                after[name][block] = before[name][block]
        over = beside.clone()
        for name in (head.weight, head.bias):
            if name is not None:
                after[name].copy_(before[name])
        yield from (beside, over)

    def _resting(self, side: int) -> list[Tensor]:
        """The halves on which an end's half network stands at the end of its side."""
        keep, other = self.keeps[side], self.keeps[1 - side]
        return [other[k] if k % 2 else keep[k] for k in range(len(keep))]

    def _rows(self, layer: int) -> list[str]:
        """Names of the parameters of which a unit of a hidden layer owns a row."""
        own = self.chain.layers[layer]
        names = [own.weight, own.bias, *(name for norm in self.chain.norms[layer] for name in (norm.weight, norm.bias))]
        return [name for name in names if name is not None]

    def _split(self, layer: int) -> tuple[Tensor, Tensor]:
        """Two halves of a layer's units: what the first end keeps, and what the second keeps."""
        half = self.chain.widths[layer] // 2
        if self.finder.halves == "random":
            order = torch.randperm(self.chain.widths[layer], generator=self.problem.generator("halves", layer))
        else:
            matters = [self._matters(self.space.unflatten(end), layer) for end in (self.problem.start, self.problem.end)]
            order = (matters[0] - matters[1]).argsort(descending=True, stable=True)
        return order[:half].sort().values, order[len(order) - half :].sort().values

    def _matters(self, tensors: Tensors, layer: int) -> Tensor:
        """How much each unit of a hidden layer matters, on the CPU: the logarithm of its incoming times its outgoing weights."""
        own, above = self.chain.layers[layer], self.chain.layers[layer + 1]
        incoming = tensors[own.weight].double().flatten(1).square().sum(1)
        if own.bias is not None:
            incoming += tensors[own.bias].double().square()
        columns = tensors[above.weight].double().transpose(0, 1).flatten(1).square().sum(1)
        places = (above.columns - own.rows[0]).to(columns.device)
        outgoing = columns.new_zeros(len(own.rows)).index_add(0, places, columns)
        return (incoming * outgoing).clamp_min(torch.finfo(torch.float64).tiny).log().cpu() / 2


def nearest(rows: Tensor, units: Tensor) -> Tensor:
    """Which row each unit is to hold, so that the squared distance from what they hold is least: an order `(m,)` of rows."""
    from scipy.optimize import linear_sum_assignment

    gain = units.double().flatten(1) @ rows.double().flatten(1).T  # of squared distances all else is constant
    return torch.from_numpy(linear_sum_assignment(gain.cpu().numpy(), maximize=True)[1])
