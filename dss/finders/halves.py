"""Half networks by least squares: what a network's units do, done again by half of them.

A chain of layers is taken apart; its rows are written anew by ridge regression onto the pre-activations that they are to
have, layer by layer. Nothing is descended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from dss.base.errors import InputError
from dss.objectives.network import NetworkObjective
from dss.objectives.operations import compute
from dss.objectives.tracing import wiring
from dss.objectives.wiring import DATA, Layer, Mixture, Norm

Tensors = dict[str, Tensor]

# Rows of one regression stay below this many numbers; Gram matrices are summed over chunks of samples.
CHUNK = 2**23


@dataclass(frozen=True, eq=False)
class Activations:
    """What a network computes on the data, layer by layer from 0.

    Attributes:
        inputs: of every layer.
        outputs: pre-activations; the last are the network's outputs.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]


class Chain:
    """A network as a chain of `Linear` and `Conv2d` layers, each of which reads the one before.

    Attributes:
        layers: in order; the last is affine into the outputs.
        widths: of the hidden layers.
        norms: of every hidden layer.
    """

    def __init__(self, network: NetworkObjective, *, samples: int):
        self.network = network
        count = len(network.data)
        taken = torch.arange(min(samples, count)) * count // min(samples, count)
        self.data = network.data.take(taken).cast(network.space.dtype, network.space.device)
        few = network.data.take(slice(0, 3)).cast(network.space.dtype, network.space.device)
        self.wiring = wiring(network.model, few.inputs)
        self.layers = self.wiring.layers
        self._check()
        self.widths = [len(layer.rows) for layer in self.layers[:-1]]
        self.norms = [[n for n in self.wiring.norms if n.units[0] in layer.rows] for layer in self.layers[:-1]]

    def _check(self) -> None:
        """Whether it is a chain of layers that can be fitted."""
        cause = self._cause()
        if cause is not None:
            raise InputError(
                f"a chain of Linear and Conv2d layers with a linear output is needed to write a path down, but {cause}; "
                "use another finder, such as dss.GreedyString()"
            )

    def _cause(self) -> str | None:
        """Why this is no chain; None if it is one."""
        for check in (self._movable, self._unmixed, self._last, self._kinds, self._order):
            cause = check()
            if cause is not None:
                return cause
        return None

    def _movable(self) -> str | None:
        """Whether the role of every parameter is known, and rows can be written."""
        if self.wiring.opaque:
            known = (_never_free(self.network.model, name) for name in sorted(self.wiring.opaque))
            unknown = f"nothing is known of the role of {', '.join(sorted(self.wiring.opaque))}"
            return next((cause for cause in known if cause is not None), unknown)
        fixed = sorted({n for layer in self.layers for n in (layer.weight, layer.bias) if n} & set(self.network.space.frozen))
        return f"{', '.join(fixed)} cannot move" if fixed else None

    def _unmixed(self) -> str | None:
        if any(isinstance(part, Mixture) for part in self.wiring.parts):
            return "units are mixed by something else than a weighted layer (a sum of streams, a softmax, a whole-layer norm)"
        return None

    def _last(self) -> str | None:
        if self.wiring.head is None or self.wiring.head is not self.layers[-1]:
            return "its outputs are not those of its last layer"
        return None

    def _kinds(self) -> str | None:
        """Whether all layers and norms can be fitted, and halved."""
        for layer in self.layers:
            kind = self._module(layer)
            if not (isinstance(kind, nn.Linear) or (isinstance(kind, nn.Conv2d) and kind.groups == 1)):
                return f"{layer.node.target} is a {type(kind).__name__}" + (" in groups" if layer.groups > 1 else "")
        for norm in self.wiring.norms:
            if not self.network.recalibrates and (norm.weight is None or norm.bias is None):
                return f"{norm.name} has no scale and shift that could make up for frozen statistics"
        narrow = [str(layer.node.target) for layer in self.layers[:-1] if len(layer.rows) < 2]
        return f"{narrow[0]} has a single unit, which has no half" if narrow else None

    def _order(self) -> str | None:
        before = torch.tensor([DATA])
        for layer in self.layers:
            if not torch.isin(layer.columns, before).all():
                return f"{layer.node.target} does not read the layer before it alone"
            before = layer.rows
        return None

    def _module(self, layer: Layer) -> nn.Module:
        return self.wiring.graph.get_submodule(str(layer.node.target))

    @cached_property
    def _stages(self) -> list[list[fx.Node]]:
        """The nodes from each layer, itself left out, to the next; before the first come those of the data."""
        stages: list[list[fx.Node]] = [[]]
        nodes = {layer.node for layer in self.layers}
        for node in self.wiring.graph.graph.nodes:
            if node in nodes:
                stages.append([])
            elif node.op not in ("placeholder", "output"):
                stages[-1].append(node)
        return stages

    def units(self, layer: int, block: Tensor) -> Tensor:
        """The columns of the layer after this one that read a block of its units."""
        return torch.isin(self.layers[layer + 1].columns, self.layers[layer].rows[block])

    def first_input(self) -> Tensor:
        """What the first layer reads."""
        self._values: dict[fx.Node, Any] = {}
        given = iter([x.clone() for x in self.data.inputs])  # the model may work in place
        for node in self.wiring.graph.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = next(given, node.args[0] if node.args else None)
        return self._run(self._stages[0], {}, self.layers[0])

    def activations(self, tensors: Tensors) -> Activations:
        """All inputs and pre-activations at one point."""
        inputs, outputs = [self.first_input()], []
        for index in range(len(self.layers)):
            outputs.append(self.apply(index, tensors, inputs[-1]))
            if index < len(self.layers) - 1:
                inputs.append(self.after(index, tensors, outputs[-1]))
        return Activations(inputs, outputs)

    def apply(self, index: int, tensors: Tensors, x: Tensor) -> Tensor:
        """Pre-activations of a layer."""
        layer, module = self.layers[index], self._module(self.layers[index])
        weight = tensors[layer.weight]
        bias = None if layer.bias is None else tensors[layer.bias]
        if isinstance(module, nn.Conv2d):
            return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation)
        return F.linear(x, weight, bias)

    def after(self, index: int, tensors: Tensors, z: Tensor) -> Tensor:
        """What the next layer reads, from a hidden layer's pre-activations."""
        self._values[self.layers[index].node] = z.clone()  # a ReLU may work in place
        return self._run(self._stages[index + 1], tensors, self.layers[index + 1])

    def _run(self, stage: list[fx.Node], tensors: Tensors, until: Layer) -> Tensor:
        norms = {norm.name: norm for norm in self.wiring.norms}
        for node in stage:
            norm = norms.get(str(node.target)) if node.op == "call_module" else None
            if norm is None:
                self._values[node] = self.computed(node)
            else:
                self._values[node] = self._normalised(norm, tensors, self._values[node.args[0]])  # type: ignore[index]
        return self._values[until.node.args[0]]  # type: ignore[index]

    def computed(self, node: fx.Node) -> Any:
        """The value of a node without parameters."""
        return compute(self.wiring.graph, node, self._values)

    def statistics(self, norm: Norm) -> tuple[Tensor, Tensor]:
        """Frozen mean and deviation of a norm's channels."""
        module: Any = self.wiring.graph.get_submodule(norm.name)
        return module.running_mean, (module.running_var + module.eps).sqrt()

    def _normalised(self, norm: Norm, tensors: Tensors, x: Tensor) -> Tensor:
        along = (1, -1) + (1,) * (x.ndim - 2)
        if self.network.recalibrates:
            variance, mean = torch.var_mean(x, [axis for axis in range(x.ndim) if axis != 1])
            deviation = (variance + self.wiring.graph.get_submodule(norm.name).eps).sqrt()  # type: ignore[operator]
        else:
            mean, deviation = self.statistics(norm)
        x = (x - mean.view(along)) / deviation.view(along)
        if norm.weight is not None:
            x = x * tensors[norm.weight].view(along)
        return x if norm.bias is None else x + tensors[norm.bias].view(along)

    def fit(self, index: int, x: Tensor, columns: Tensor, targets: Tensor, ridge: float) -> tuple[Tensor, Tensor | None]:
        """Rows of a layer that make `targets` out of some columns of its input by ridge regression, bias unpenalised.

        Args:
            index: of the layer.
            x: its input, all columns.
            columns: mask of those that may be read; the weights of others are zero.
            targets: `(n, m)`, `(n, m, height, width)` or `(n, ..., m)`: pre-activations of m rows.
            ridge: penalty, relative to the mean diagonal of the Gram matrix.

        Returns:
            Weights `(m, in, ...)` and biases `(m,)`, None for a layer without.
        """
        module: Any = self._module(self.layers[index])
        moments = _Moments()
        for xs, zs in self._samples(module, x, columns, targets):
            moments.add(xs, zs)
        weights, bias = moments.solve(ridge, bias=self.layers[index].bias is not None)
        shape: tuple[int, ...] = tuple(module.weight.shape)
        rows = weights.new_zeros(len(weights), *shape[1:])
        rows[:, columns] = weights.view(len(weights), int(columns.sum()), *shape[2:])  # type: ignore[arg-type]
        return rows, bias

    @staticmethod
    def _samples(module: nn.Module, x: Tensor, columns: Tensor, targets: Tensor):
        """Rows of regressors and of targets, a chunk of samples at a time."""
        convolution = isinstance(module, nn.Conv2d)
        x = x[:, columns] if convolution else x[..., columns]
        each = x[0].numel() * (module.weight[0, 0].numel() if convolution else 1)  # type: ignore[operator]
        for xs, zs in zip(x.split(max(1, CHUNK // each)), targets.split(max(1, CHUNK // each)), strict=True):
            if convolution:
                places = _unfolded(module, xs).transpose(1, 2)
                yield places.flatten(0, 1).double(), zs.double().flatten(2).transpose(1, 2).flatten(0, 1)
            else:
                yield xs.double().flatten(0, -2), zs.double().flatten(0, -2)


def _never_free(model: nn.Module, parameter: str) -> str | None:
    """Why no half of the units behind a parameter is ever unread, where that is what stands in the way."""
    owner = parameter.rpartition(".")[0]
    module = dict(model.named_modules()).get(owner)
    causes = (
        ((nn.RNNBase, nn.RNNCellBase), "its units read one another from step to step"),
        ((nn.LayerNorm, nn.RMSNorm, nn.GroupNorm), "its statistics read other units beside each unit's own"),
    )
    for kinds, cause in causes:
        if isinstance(module, kinds):
            return f"{owner} ({type(module).__name__}) cannot be halved: {cause}, so that none of them is ever unread"
    return None


def _unfolded(module: nn.Conv2d, x: Tensor) -> Tensor:
    """The patches `(n, columns, places)` that a convolution reads."""
    padding: Any = module.padding
    if isinstance(padding, str):  # "same" pads by half the reach, more of it behind
        reach = [d * (k - 1) if padding == "same" else 0 for d, k in zip(module.dilation, module.kernel_size)]
        x = F.pad(x, [reach[1] // 2, reach[1] - reach[1] // 2, reach[0] // 2, reach[0] - reach[0] // 2])
        padding = 0
    return F.unfold(x, module.kernel_size, module.dilation, padding, module.stride)  # type: ignore[arg-type]


class _Moments:
    """Sums over samples, for regressions whose rows do not fit memory together."""

    def __init__(self):
        self.count, self.sums = 0, []

    def add(self, x: Tensor, z: Tensor) -> None:
        """Take more rows `(r, d)` and their targets `(r, m)`."""
        self.count += len(x)
        new = [x.T @ x, x.T @ z, x.sum(0), z.sum(0)]
        self.sums = new if not self.sums else [a + b for a, b in zip(self.sums, new)]

    def solve(self, ridge: float, *, bias: bool) -> tuple[Tensor, Tensor | None]:
        """Weights `(m, d)` and biases `(m,)`."""
        gram, cross, x, z = self.sums
        if bias:
            gram = gram - torch.outer(x, x) / self.count
            cross = cross - torch.outer(x, z) / self.count
        # Regressors that are all zero (dead units) leave nothing to divide by: any penalty gives weights of zero.
        penalty = max(ridge * gram.diagonal().mean().item(), torch.finfo(torch.float64).tiny)
        weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), cross).T
        return weights, (z - weights @ x) / self.count if bias else None


def written(
    tensors: Mapping[str, Tensor], chain: Chain, index: int, block: Tensor | slice, rows: Tensor, bias: Tensor | None
) -> None:
    """Write rows of a layer in place."""
    layer = chain.layers[index]
    tensors[layer.weight][block] = rows.to(tensors[layer.weight])
    if layer.bias is not None and bias is not None:
        tensors[layer.bias][block] = bias.to(tensors[layer.bias])
