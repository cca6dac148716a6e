"""Read the wiring of a model off its trace, by following the owner of every entry through all operations.

Operations that only move entries (flatten, view) are applied to the owners themselves, those on each entry alone keep them,
and pooling keeps the owner of its channel. Whatever is not known becomes a unit of its own that reads everything it was given,
so the wiring never claims an independence that is not there.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from dss.base.errors import InputError
from dss.objectives.operations import (
    CONVOLUTIONS,
    ENTRYWISE,
    ENTRYWISE_MODULES,
    IDENTITIES,
    IDENTITY_MODULES,
    LOG_SOFTMAX,
    MEANS,
    MOVES,
    MULTIPLES,
    NORMS,
    POOL_MODULES,
    POOLS,
    SUMS,
    compute,
    is_batched,
    is_question,
    is_within_channels,
)  # fmt: skip
from dss.objectives.wiring import DATA, Layer, Mixture, Norm, Wiring


class _Value(NamedTuple):
    """An intermediate value, the owners of the entries of one sample, and the layer whose outputs it is, moved at most, or,
    if `logs`, the logarithms of whose softmax."""

    tensor: Any
    owners: Tensor | None = None
    layer: Layer | None = None
    logs: bool = False


def wiring(model: nn.Module, inputs: tuple[Tensor, ...]) -> Wiring:
    """Read the wiring of a model in `eval()`.

    Args:
        model: any module; it is not changed.
        inputs: a few samples, its positional arguments, in the dtype of its parameters.

    Raises:
        InputError: the model cannot be traced (control flow that depends on values, hooks), with the reason.
    """
    _check_plain(model)
    try:
        graph = fx.symbolic_trace(model)
    except Exception as error:  # tracing runs the model's own code on stand-ins: it may raise anything
        raise InputError(f"the layers of {type(model).__name__} cannot be read off: it cannot be traced ({error})") from error
    if any(node.target is getattr and node.args[1] == "data" for node in graph.graph.nodes):
        raise InputError(
            f"the layers of {type(model).__name__} cannot be read off: it uses x.data, which hides what is written to it"
        )
    try:
        with torch.no_grad():
            return _Reader(graph, model).read(inputs)
    except InputError:
        raise
    except Exception as error:  # so may the operations, run one by one
        raise InputError(f"the layers of {type(model).__name__} cannot be read off: {error}") from error


def _check_plain(model: nn.Module) -> None:
    """Hooks and parametrisations compute outside of what is traced."""
    for name, module in model.named_modules():
        hooked = module._forward_hooks or module._forward_pre_hooks
        patched = "forward" in vars(module) and not isinstance(module, nn.modules.batchnorm._BatchNorm)
        if hooked or patched or hasattr(module, "parametrizations"):
            raise InputError(
                f"the layers of {type(model).__name__} cannot be read off: {name or 'it'} has hooks, a replaced forward or "
                "parametrisations; remove them (torch.nn.utils.parametrize.remove_parametrizations)"
            )


class _Reader:
    """Follows the owners through the graph on a few samples."""

    def __init__(self, graph: fx.GraphModule, model: nn.Module):
        self.graph, self.modules = graph, dict(model.named_modules())
        first: dict[int, str] = {}
        self.names = {name: first.setdefault(id(p), name) for name, p in model.named_parameters(remove_duplicate=False)}
        self.shared = self._shared()
        self.wiring = Wiring(graph)
        self.values: dict[fx.Node, _Value] = {}

    def read(self, inputs: tuple[Tensor, ...]) -> Wiring:
        given = iter([x.clone() for x in inputs])  # the model may work in place
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = _Value(next(given, node.args[0] if node.args else None))
            elif node.op == "output":
                self._finish(self._of(node.args[0]))
            else:
                self.values[node] = self._step(node)
        return self.wiring

    def _finish(self, value: _Value) -> None:
        if not isinstance(value.tensor, Tensor) or value.owners is None:
            raise InputError(f"a model that returns one tensor computed from its parameters is needed, got {type(value.tensor)}")
        self.wiring.output = value.owners.unique()
        self.wiring.head, self.wiring.is_log_probability = value.layer, value.logs

    def _step(self, node: fx.Node) -> _Value:
        """The value of one node, and whose it is; what it changed in place is its own from then on."""
        versions = {n: v.tensor._version for n, v in self.values.items() if isinstance(v.tensor, Tensor)}
        tensor = self._compute(node)
        value = self._owned(node, tensor)
        for changed in [n for n, version in versions.items() if self.values[n].tensor._version != version]:
            old = self.values[changed]
            same = isinstance(tensor, Tensor) and old.tensor.data_ptr() == tensor.data_ptr() and old.tensor.shape == tensor.shape
            self.values[changed] = (
                value if same else self._mixed(old.tensor, [v for v in (old, value) if v.owners is not None], set())
            )
        return value

    def _owned(self, node: fx.Node, tensor: Any) -> _Value:
        """Whose the value of a node is."""
        inputs = [self._of(n) for n in node.all_input_nodes]
        owned = [v for v in inputs if v.owners is not None]
        used = self._parameters(node)
        if not isinstance(tensor, Tensor) and ((not owned and not used) or is_question(node)):
            return _Value(tensor)
        known = None if used & self.shared else self._known(node, tensor, owned)
        if known is not None:
            return known
        mixed, kind = self._mixed(tensor, owned, used), self._kind(node)
        if len(owned) == 1 and (kind[0] in LOG_SOFTMAX or type(kind[1]) is nn.LogSoftmax) and not owned[0].logs:
            return mixed._replace(layer=owned[0].layer, logs=owned[0].layer is not None)
        return mixed

    def _known(self, node: fx.Node, tensor: Any, owned: list[_Value]) -> _Value | None:
        """The value where the rule of the operation is known."""
        if not isinstance(tensor, Tensor):
            return None
        kind, module = self._kind(node)
        if isinstance(module, nn.Linear) and type(module) is nn.Linear:
            return self._linear(node, tensor, f"{node.target}.weight", f"{node.target}.bias" if module.bias is not None else None)
        if type(module) in CONVOLUTIONS and module.padding_mode == "zeros" and tensor.ndim == module.weight.ndim:
            return self._convolution(node, tensor, module)
        if type(module) in NORMS:
            return self._norm(node, tensor, module)
        if not owned and not self._parameters(node):
            return _Value(tensor)
        return self._unweighted(node, tensor, kind, module, owned)

    def _unweighted(self, node: fx.Node, tensor: Tensor, kind: Any, module: Any, owned: list[_Value]) -> _Value | None:
        """Operations without parameters."""
        if kind in SUMS:
            return self._sum(tensor, owned)
        if len(owned) != 1 or len(node.all_input_nodes) < 1 or self._of(node.all_input_nodes[0]) is not owned[0]:
            return None
        value = owned[0]
        if type(module) in IDENTITY_MODULES or kind in IDENTITIES:
            return value._replace(tensor=tensor)
        if type(module) in ENTRYWISE_MODULES or kind in ENTRYWISE:
            return _Value(tensor, value.owners)
        if kind in MOVES or type(module) in (nn.Flatten, nn.Unflatten):
            return self._moved(node, tensor, value)
        if kind in MULTIPLES and len(node.args) == 2 and isinstance(node.args[1], (int, float)) and not node.kwargs:
            return _Value(tensor, value.owners, None if value.logs else value.layer)  # times -1 logarithms would be convex
        if (kind in POOLS or type(module) in POOL_MODULES) and is_batched(kind, module, value.tensor):
            return self._pooled(tensor, value)
        if kind in MEANS and is_within_channels(node, value.tensor):
            return self._pooled(tensor, value)
        return None

    def _linear(self, node: fx.Node, tensor: Tensor, weight: str, bias: str | None) -> _Value | None:
        """Rows are units, columns read the owners on the last axis."""
        columns = self._columns(self._of(node.args[0]), -1)
        return None if columns is None else self._weighted(node, tensor, weight, bias, columns, -1, 1)

    def _convolution(self, node: fx.Node, tensor: Tensor, module: Any) -> _Value | None:
        """Channels are units; the channel axis is the second."""
        columns = self._columns(self._of(node.args[0]), 1)
        bias = f"{node.target}.bias" if module.bias is not None else None
        return None if columns is None else self._weighted(
            node, tensor, f"{node.target}.weight", bias, columns, 1, module.groups
        )  # fmt: skip

    def _weighted(self, node, tensor: Tensor, weight: str, bias: str | None, columns: Tensor, axis: int, groups: int) -> _Value:
        rows = self._new(tensor.shape[axis])
        named = None if bias is None else self.names[bias]
        layer = Layer(self.names[weight], named, rows, columns, groups, node)
        self.wiring.parts.append(layer)
        shape = [1] * (tensor.ndim - 1)
        shape[axis if axis < 0 else axis - 1] = -1
        return _Value(tensor, rows.view(shape).expand(tensor.shape[1:]), layer)

    def _columns(self, value: _Value, axis: int) -> Tensor | None:
        """The owners along one axis, where they are the same along all others."""
        tensor = value.tensor
        if value.owners is None:
            return torch.full((tensor.shape[axis],), DATA)
        along = (
            value.owners.movedim(axis if axis < 0 else axis - 1, -1).flatten(0, -2)
            if value.owners.ndim > 1
            else value.owners[None]
        )
        return along[0].clone() if bool((along == along[:1]).all()) else None

    def _norm(self, node: fx.Node, tensor: Tensor, module: Any) -> _Value | None:
        """Scale and shift belong to the channels; statistics of a batch are each channel's own."""
        value = self._of(node.args[0])
        units = self._columns(value, 1)
        if value.owners is None or units is None or len(units.unique()) != len(units) or module.running_mean is None:
            return None
        weight, bias = (self.names.get(f"{node.target}.{kind}") for kind in ("weight", "bias"))
        self.wiring.norms.append(Norm(str(node.target), weight, bias, units))
        return _Value(tensor, value.owners)

    def _moved(self, node: fx.Node, tensor: Tensor, value: _Value) -> _Value | None:
        """Apply the operation to the owners, one copy a sample; samples must stay apart."""
        if value.owners is None:
            return None
        count = len(value.tensor)
        numbers = torch.arange(value.owners.numel()).view(value.owners.shape)
        stacked = torch.stack([numbers + i * value.owners.numel() for i in range(count)])
        moved = self._compute(node, {node.all_input_nodes[0]: stacked})
        if len(moved) != count or moved.shape != tensor.shape:
            return None
        within = moved - torch.arange(count).view(-1, *[1] * (moved.ndim - 1)) * value.owners.numel()
        if bool((within != within[:1]).any()) or bool((within < 0).any()):
            return None
        return value._replace(tensor=tensor, owners=value.owners.flatten()[within[0]])

    def _pooled(self, tensor: Tensor, value: _Value) -> _Value | None:
        """Pooling within channels: the owner of a channel is that of all its places."""
        columns = self._columns(value, 1)
        return None if columns is None else _Value(tensor, columns.view(-1, *[1] * (tensor.ndim - 2)).expand(tensor.shape[1:]))

    def _sum(self, tensor: Tensor, owned: list[_Value]) -> _Value | None:
        """An entry of a sum is a new unit that reads its terms; with constants it stays whose it was."""
        if any(v.owners is None or v.tensor.shape != tensor.shape for v in owned):
            return None
        if len(owned) == 1:
            return _Value(tensor, owned[0].owners)
        terms = torch.stack([v.owners for v in owned if v.owners is not None], -1).flatten(0, -2)
        unique, index = terms.unique(dim=0, return_inverse=True)
        rows = self._new(len(unique))
        self.wiring.parts.append(Mixture(rows, unique))
        return _Value(tensor, rows[index].view(tensor.shape[1:]))

    def _mixed(self, tensor: Any, owned: list[_Value], used: set[str]) -> _Value:
        """Nothing is known: one unit that reads everything, with parameters that must not move."""
        if not owned and not used:
            return _Value(tensor)
        self.wiring.opaque |= used
        reads = torch.cat([torch.tensor([DATA]), *(v.owners.unique() for v in owned if v.owners is not None)])
        row = self._new(1)
        self.wiring.parts.append(Mixture(row, reads[None]))
        shape = tensor.shape[1:] if isinstance(tensor, Tensor) else (1,)
        return _Value(tensor, row.expand(shape) if len(shape) else row)

    def _new(self, count: int) -> Tensor:
        """Ids of new units."""
        self.wiring.units += count
        return torch.arange(self.wiring.units - count, self.wiring.units)

    def _of(self, node: Any) -> _Value:
        return self.values[node] if isinstance(node, fx.Node) else _Value(node)

    def _kind(self, node: fx.Node) -> tuple[Any, Any]:
        """A function, or the name of a method; and the module that is called."""
        if node.op == "get_attr":  # its target is a name too, of a tensor
            return None, None
        return (None, self.modules[str(node.target)]) if node.op == "call_module" else (node.target, None)

    def _compute(self, node: fx.Node, instead: Mapping[fx.Node, Tensor] | None = None) -> Any:
        """The node's operation on the values of its arguments, or on others given instead."""
        known = {n: self.values[n].tensor for n in node.all_input_nodes} | dict(instead or {})
        return compute(self.graph, node, known)

    def _parameters(self, node: fx.Node) -> set[str]:
        """Parameters that the node itself reads."""
        if node.op == "call_module":
            inner = self.modules[str(node.target)].named_parameters(prefix=str(node.target), remove_duplicate=False)
            return {self.names[name] for name, _ in inner}
        if node.op == "get_attr" and str(node.target) in self.names:
            return {self.names[str(node.target)]}
        return set()

    def _shared(self) -> set[str]:
        """Parameters that several places read: a row of theirs belongs to no single unit."""
        seen: dict[str, int] = {}
        for node in self.graph.graph.nodes:
            for name in self._parameters(node):
                seen[name] = seen.get(name, 0) + 1
        return {name for name, count in seen.items() if count > 1}
