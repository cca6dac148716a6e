"""The loss at single points with all rounding enclosed: one pass in float64 and one error a layer.

`NetworkObjective.enclose` bounds cells, in which parameters move; at a point, much less work is enough. If the input of a
layer is off by at most e in every entry, its output is off by at most L e + gamma (L M + B), where L is the largest row sum
of |weights|, M the largest |input|, B the largest |bias| and gamma the relative error of a sum of so many products (Higham
2002, eq. 3.4 and 3.5). ReLU and max-pooling round nothing and expand nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from dss.base.errors import EnclosureError
from dss.enclosure import Enclosure
from dss.enclosure.cells import ratio_of_sums
from dss.enclosure.passes import under_way
from dss.enclosure.rounding import TINY, ULPS, UNIT, WIDE, gamma, largest
from dss.enclosure.rules.arithmetic import ceiling
from dss.objectives.network import NetworkObjective
from dss.objectives.operations import IDENTITIES, IDENTITY_MODULES, MEANS, MOVES, SUMS, compute, is_question
from dss.objectives.wiring import Layer, Norm, Wiring

# Samples that go through together: their activations stay in fast memory.
CHUNK = 256
_EXACT = (
    MOVES | IDENTITIES | {F.relu, torch.relu, "relu", "relu_", F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d}
)
_EXACT_MODULES = (*IDENTITY_MODULES, nn.Flatten, nn.Unflatten, nn.ReLU, nn.MaxPool1d, nn.MaxPool2d)
# Means of entries, each of a sample's own; by what sums are divided is not an argument of these.
_MEAN_MODULES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
# Values in [-1, 1], slopes in [-1, 1].
_SATURATING = {torch.tanh, F.tanh, "tanh", torch.sigmoid, F.sigmoid, "sigmoid"}
_SATURATING_MODULES = (nn.Tanh, nn.Sigmoid)


class _Known(NamedTuple):
    """A computed value, and how far any entry may be from the real number that it stands for."""

    value: Any
    error: float = 0.0


def bound_points(network: NetworkObjective, layout: Wiring, points: Tensor) -> Tensor:
    """Rigorous upper bounds `(k,)` on the losses at points `(k, p)`, at the stored values of points, buffers and data.

    Raises:
        EnclosureError: an operation has no rule here; `network.enclose` may have one.
    """
    if network.recalibrates:
        raise EnclosureError("recalibrated running statistics cannot be enclosed")
    with torch.no_grad():
        return torch.stack([_bound(network, layout, point.double()) for point in points])


def _bound(network: NetworkObjective, layout: Wiring, point: Tensor) -> Tensor:
    tensors, data = network.constants_like(point) | network.space.unflatten(point), network.data.cast(torch.float64, point.device)
    passed = [_Pass(layout, tensors).run(part.inputs) for part in data.chunks(CHUNK)]
    outputs, radius = torch.cat([p.value for p in passed]), torch.tensor([p.error for p in passed], dtype=torch.float64).max()
    known = [outputs, radius, *(value for value in tensors.values() if value.is_floating_point())]
    if not all(value.isfinite().all() for value in known):
        return torch.tensor(torch.inf, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    with under_way():
        loss = network.loss.value(Enclosure(outputs, zero, radius), data.target)
    if not isinstance(loss, Enclosure) or loss.dim() != 0:
        raise EnclosureError("the loss must return one number")
    bounds = torch.stack(ceiling(loss))
    plain = network.loss.averaged or network.loss.whole
    bound = (bounds if plain else ratio_of_sums(bounds[None], network.weight)).max()
    return torch.where(bound.isnan(), torch.inf, bound)


class _Pass:
    """One pass of some samples through the traced network, with errors."""

    def __init__(self, layout: Wiring, tensors: Mapping[str, Tensor]):
        self.layout, self.tensors = layout, tensors
        self.layers: dict[fx.Node, Layer] = {layer.node: layer for layer in layout.layers}
        self.norms: dict[str, Norm] = {norm.name: norm for norm in layout.norms}
        self.known: dict[fx.Node, _Known] = {}

    def run(self, inputs: Iterable[Tensor]) -> _Known:
        """The outputs."""
        given = iter([x.clone() for x in inputs])  # the model may work in place
        for node in self.layout.graph.graph.nodes:
            if node.op == "output":
                return self.known[node.args[0]]
            if node.op == "placeholder":
                self.known[node] = _Known(next(given, node.args[0] if node.args else None))
            else:
                self.known[node] = self._step(node)
        raise EnclosureError("the traced model has no output")

    def _step(self, node: fx.Node) -> _Known:
        if node in self.layers:
            return self._layer(self.layers[node], node)
        module = self.layout.graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if node.op == "call_module" and str(node.target) in self.norms:
            return self._norm(self.norms[str(node.target)], module, self.known[node.args[0]])  # type: ignore[index]
        given = [known for n in node.all_input_nodes if isinstance((known := self.known[n]).value, Tensor)]
        if is_question(node) or (not given and node.op != "get_attr"):
            return _Known(self._compute(node))
        versions = {n: k.value._version for n, k in self.known.items() if isinstance(k.value, Tensor)}
        value = self._compute(node)
        error = self._error(node, module, given, value) if isinstance(value, Tensor) else None
        if error is None:
            raise EnclosureError(f"{node.target if module is None else type(module).__name__} has no rule at single points")
        # What was written to in place is known under other nodes too, as it is or as a view.
        for n in [n for n, version in versions.items() if self.known[n].value._version != version]:
            self.known[n] = self.known[n]._replace(error=max(self.known[n].error, error))
        return _Known(value, error)

    @staticmethod
    def _error(node: fx.Node, module: nn.Module | None, given: list[_Known], value: Tensor) -> float | None:
        """How far any entry of an operation's value may be off; None if it is not known."""
        kind, errors = (node.target if module is None else type(module)), sum(known.error for known in given)
        if kind in SUMS and 1 <= len(given) <= 2 and not node.kwargs:
            return (errors + 2 * UNIT * largest(value).item()) * WIDE + TINY
        if len(given) != 1:
            return None
        if kind in _EXACT or kind in _EXACT_MODULES:
            return errors
        if kind in _SATURATING or kind in _SATURATING_MODULES:
            return (errors + 4 * ULPS * UNIT) * WIDE + TINY
        if kind in MEANS or kind in _MEAN_MODULES:
            size = given[0].value
            return (errors + gamma(size[0].numel()) * largest(size).item()) * WIDE + TINY
        return None

    def _compute(self, node: fx.Node) -> Any:
        return compute(self.layout.graph, node, {n: self.known[n].value for n in node.all_input_nodes})

    def _layer(self, layer: Layer, node: fx.Node) -> _Known:
        given = self.known[node.args[0]]  # type: ignore[index]
        weight, bias = self.tensors[layer.weight], None if layer.bias is None else self.tensors[layer.bias]
        module: Any = self.layout.graph.get_submodule(str(node.target))
        if isinstance(module, nn.Linear):
            value = F.linear(given.value, weight, bias)
        else:
            value = module._conv_forward(given.value, weight, bias)
        lost = gamma(weight[0].numel() + 1)
        rows = weight.abs().flatten(1).sum(1).max().item() * (1 + lost)
        size = rows * largest(given.value).item() + (0.0 if bias is None else largest(bias).item())
        return _Known(value, (rows * given.error + lost * size) * WIDE + TINY)

    def _norm(self, norm: Norm, module: Any, given: _Known) -> _Known:
        """(x - mean) scale + shift, by channel, at the model's own statistics."""
        along = (1, -1) + (1,) * (given.value.ndim - 2)
        mean, variance = module.running_mean.double(), module.running_var.double()
        scale = (variance + module.eps).rsqrt()
        scale = scale if norm.weight is None else scale * self.tensors[norm.weight]
        shift = torch.zeros_like(mean) if norm.bias is None else self.tensors[norm.bias]
        centred = given.value - mean.view(along)
        value = centred * scale.view(along) + shift.view(along)
        # A dozen roundings, of which the square root and the division are exact to half a unit each.
        size = (centred.abs().amax([a for a in range(value.ndim) if a != 1]) + mean.abs()) * scale.abs() + shift.abs()
        return _Known(value, (scale.abs().max().item() * given.error + 64 * UNIT * size.max().item()) * WIDE * WIDE + TINY)
