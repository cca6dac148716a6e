"""Half networks of residual networks: the stream and the inner units of every block are halved, and halves change places.

With S and T the halves of the stream, U and V those of a block's inner units, and A kept on S and U first: for the blocks from
the last to the first,

 a. T of the block's stream is written to read U, and the blocks above to run on T and U (nobody reads them: constant); the
    last layer moves to T (convex);
 b. V of the block is written to read S of the stream below, S of the block's stream to read V, and the blocks above to run on
    S and V (constant); the last layer moves back to S (convex).

A unit keeps its role, for the identity ties a channel of the stream to itself in the blocks above. It is the construction of
`dss.finders.writing` for a graph in which a stream joins layers; 8 blocks + 5 pieces.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dss.finders.halves import Activations, Chain, Tensors, written
from dss.finders.writing import Writing
from dss.objectives.network import NetworkObjective
from dss.objectives.tracing import wiring
from dss.objectives.wiring import DATA, Layer, Mixture

Plan = dict[int, tuple[Tensor, Tensor]]
"""For layers by index: the rows to write, and a mask of the columns that they may read."""


@dataclass(frozen=True, eq=False)
class Block:
    """A residual block, its layers by index.

    Attributes:
        first, second: the layers beside the stream.
        shortcut: the projection of the stream; None for the identity.
        before, after: ids of the stream's channels below and above, in the order of the second layer's rows.
    """

    first: int
    second: int
    shortcut: int | None
    before: Tensor
    after: Tensor

    @property
    def onto_stream(self) -> list[int]:
        """The layers whose sum the stream becomes."""
        return [self.second] if self.shortcut is None else [self.second, self.shortcut]


def has_streams(network: NetworkObjective) -> bool:
    """Whether layers of a network are joined by sums."""
    few = network.data.take(slice(0, 3)).cast(network.space.dtype, network.space.device)
    found = wiring(network.model, few.inputs)
    return not found.opaque and any(isinstance(part, Mixture) and part.columns.shape[1] == 2 for part in found.parts)


class Residual(Chain):
    """A residual network of basic blocks: a stem, blocks of two layers beside a stream, and a last layer on the stream.

    Attributes:
        blocks: in order.
    """

    blocks: list[Block]

    def _cause(self) -> str | None:
        """Why this is no such network; None if it is one."""
        for check in (self._movable, self._last, self._kinds):
            cause = check()
            if cause is not None:
                return cause
        self.blocks = []
        first, *parts = self.wiring.parts
        if not isinstance(first, Layer) or not (first.columns == DATA).all():
            return "it does not begin with a layer that reads the data"
        stream, pending = first.rows, []
        for part in parts:
            if isinstance(part, Layer):
                pending.append(part)
                continue
            block = self._block(pending, part, stream)
            if block is None:
                return "layers are joined by something else than the sum of a stream and a block of two layers"
            self.blocks.append(block)
            stream, pending = block.after, []
        reads_stream = pending == [self.layers[-1]] and torch.isin(self.layers[-1].columns, stream).all()
        return None if reads_stream else "its last layer does not read the stream alone"

    def _block(self, layers: list[Layer], total: Mixture, stream: Tensor) -> Block | None:
        """The block that ends in a sum, if it is one."""
        if len(layers) not in (2, 3) or total.columns.ndim != 2 or total.columns.shape[1] != 2:
            return None
        inner = [layer for layer in layers if any(torch.isin(other.columns, layer.rows).all() for other in layers)]
        second = [layer for layer in layers if inner and torch.isin(layer.columns, inner[0].rows).all()]
        if len(inner) != 1 or len(second) != 1:
            return None
        shortcut = next((layer for layer in layers if layer not in (inner[0], second[0])), None)
        beside = stream if shortcut is None else shortcut.rows
        readers = [layer for layer in layers if layer is not second[0]]
        pairs = torch.stack([second[0].rows, beside], 1).sort(1).values if len(beside) == len(second[0].rows) else None
        if pairs is None or not all(torch.isin(layer.columns, stream).all() for layer in readers):
            return None
        found = (pairs[:, None] == total.columns.sort(1).values[None]).all(2)
        if not (found.sum(1) == 1).all() or found.shape[0] != found.shape[1]:
            return None
        index = self.layers.index
        after = total.rows[found.long().argmax(1)]
        return Block(index(inner[0]), index(second[0]), None if shortcut is None else index(shortcut), stream, after)

    @cached_property
    def top(self) -> Tensor:
        """Ids of the stream's channels that the last layer reads."""
        return self.blocks[-1].after

    def activations(self, tensors: Tensors) -> Activations:
        return self.passed(tensors, {}, None, 0.0)

    def passed(self, tensors: Tensors, plan: Plan, own: Activations | None, ridge: float) -> Activations:
        """One pass of the data; rows of a plan are fitted to the network's own pre-activations as soon as their input is there.

        Args:
            tensors: parameters by name; written to.
            plan: what to write; nothing without `own`.
            own: what the rows are fitted to.
            ridge: penalty of the regressions.
        """
        self.first_input()
        values, seen = self._values, Activations([], [])
        index = {layer.node: i for i, layer in enumerate(self.layers)}
        norms = {norm.name: norm for norm in self.wiring.norms}
        for node in self.wiring.graph.graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            if node in index:
                x = values[node.args[0]]  # type: ignore[index]
                if own is not None and index[node] in plan:
                    self._write(index[node], x, tensors, plan, own, ridge)
                seen.inputs.append(x.clone())
                seen.outputs.append(self.apply(index[node], tensors, x))
                values[node] = seen.outputs[-1].clone()  # a ReLU may work in place
            elif node.op == "call_module" and str(node.target) in norms:
                values[node] = self._normalised(norms[str(node.target)], tensors, values[node.args[0]])  # type: ignore[index]
            else:
                values[node] = self.computed(node)
        return seen

    def _write(self, index: int, x: Tensor, tensors: Tensors, plan: Plan, own: Activations, ridge: float) -> None:
        rows, columns = plan[index]
        axis = 1 if own.outputs[index].ndim == 4 else -1
        weights, bias = self.fit(index, x, columns, own.outputs[index].index_select(axis, rows), ridge)
        written(tensors, self, index, rows, weights, bias)


@dataclass(frozen=True, eq=False)
class _Halves:
    """What one end keeps: of the stream below the first block and above each, and of each block's inner units."""

    streams: list[Tensor]
    inner: list[Tensor]


class ResidualWriting(Writing):
    """A path between residual networks in the making."""

    chain: Residual

    def __init__(self, finder: Any, problem: Any, network: Residual):
        super().__init__(finder, problem, network)
        first, second = zip(*self._stream_halves(), strict=True)
        inner = [(self.keeps[0][block.first], self.keeps[1][block.first]) for block in network.blocks]
        self.halves = (
            _Halves(list(first), [a for a, _ in inner]),
            _Halves(list(second), [b for _, b in inner]),
        )

    @property
    def stages(self) -> int:
        return 2 * len(self.chain.blocks)

    def _stream_halves(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Halves of the stream below the first block and above each; an identity keeps them."""
        halves = self.keeps[0][0], self.keeps[1][0]
        yield halves
        for block in self.chain.blocks:
            if block.shortcut is not None:
                halves = self.keeps[0][block.second], self.keeps[1][block.second]
            yield halves

    def _side(self, end: Tensor, side: int) -> list[Tensor]:
        """From an end to its half network, one block lower at each pair of stages."""
        own = self.chain.activations(self.space.unflatten(end))
        columns = self._read(self.halves[side].streams, len(self.chain.blocks))
        head = self._with_head(end, own.inputs[-1], columns, own.outputs[-1])
        beads = [self._trained(head, end, self._mask({}, columns), (side, self.stages))[1]]
        for stage in range(self.stages):
            low, back = len(self.chain.blocks) - 1 - stage // 2, stage % 2 == 1
            plan, columns = self._plan(side, low, back=back)
            point = beads[-1].clone()
            seen = self.chain.passed(self.space.unflatten(point), plan, own, self.finder.ridge)
            read = self._with_head(point, seen.inputs[-1], columns, own.outputs[-1])
            beads += self._trained(read, beads[-1], self._mask(plan, columns), (side, self.stages - 1 - stage))
        return beads

    def _plan(self, side: int, low: int, *, back: bool) -> tuple[Plan, Tensor]:
        """What is written at one stage, and which columns the last layer reads then.

        Args:
            side: whose half network.
            low: the lowest block that is written to.
            back: whether it goes back to the stream's half that is kept, by the inner units that are not.
        """
        kept, other = self.halves[side], self.halves[1 - side]
        streams, inner = (kept.streams, other.inner) if back else (other.streams, kept.inner)
        plan: Plan = {}
        for number, block in enumerate(self.chain.blocks[low:], low):
            if number > low or back:
                for layer, rows in ((block.first, inner[number]), (block.shortcut, streams[number + 1])):
                    if layer is not None:
                        plan[layer] = rows, torch.isin(self.chain.layers[layer].columns, block.before[streams[number]])
            units = self.chain.layers[block.first].rows[inner[number]]
            plan[block.second] = streams[number + 1], torch.isin(self.chain.layers[block.second].columns, units)
        return plan, self._read(streams, len(self.chain.blocks))

    def _read(self, streams: list[Tensor], number: int) -> Tensor:
        """Which columns of the last layer read the stream's half."""
        return torch.isin(self.chain.layers[-1].columns, self.chain.top[streams[number]])

    def _mask(self, plan: Plan, columns: Tensor) -> Tensor:
        """A mask `(p,)` of what may be trained: rows of a plan where they may read, and the last layer."""
        mask = torch.zeros(self.space.size, dtype=torch.bool)
        tensors, head = self.space.unflatten(mask), self.chain.layers[-1]
        for layer, (rows, read) in plan.items():
            for name in self._rows(layer):
                if name == self.chain.layers[layer].weight:
                    tensors[name][rows[:, None], read.nonzero()[:, 0]] = True
                else:
                    tensors[name][rows] = True
        tensors[head.weight][:, columns] = True
        if head.bias is not None:
            tensors[head.bias][:] = True
        return mask

    def _resting(self, side: int) -> list[Tensor]:
        """What an end's half network stands on at the end of its side, layer by layer."""
        kept, other = self.halves[side], self.halves[1 - side]
        rows = {0: kept.streams[0]}
        for number, block in enumerate(self.chain.blocks):
            rows[block.first] = other.inner[number]
            rows |= dict.fromkeys(block.onto_stream, kept.streams[number + 1])
        return [rows[layer] for layer in range(len(self.chain.layers) - 1)]

    def _matters(self, tensors: Tensors, layer: int) -> Tensor:
        """How much each unit matters: the logarithm of its incoming times its outgoing weights, over all that read it."""
        own = self.chain.layers[layer]
        places = {int(unit): i for i, unit in enumerate(own.rows)}
        for block in self.chain.blocks:  # a channel of the stream has an id in every block
            if layer in block.onto_stream:
                places |= {unit: i for i, unit in enumerate(block.after.tolist())}
            elif block.shortcut is None and int(block.before[0]) in places:
                places |= {unit: places[before] for before, unit in zip(block.before.tolist(), block.after.tolist())}
        incoming = tensors[own.weight].double().flatten(1).square().sum(1)
        outgoing = torch.zeros(len(own.rows), dtype=torch.float64)
        for reader in self.chain.layers:
            squares = tensors[reader.weight].double().transpose(0, 1).flatten(1).square().sum(1)
            for column, unit in enumerate(reader.columns.tolist()):
                if unit in places:
                    outgoing[places[unit]] += squares[column]
        return (incoming * outgoing).clamp_min(torch.finfo(torch.float64).tiny).log() / 2
