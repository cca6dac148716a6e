"""The last layer of a network, read off runs of it: what the outputs are an affine function of, and the loss of them."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isclose

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dss.base.errors import InputError
from dss.objectives.network import NetworkObjective
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Counted, Recalled

SAMPLES = 64
"""On so many samples the structure is looked at."""

LOSSES: dict[Callable, str] = {
    getattr(F, name): name
    for name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "cross_entropy", "binary_cross_entropy_with_logits")
}


@dataclass(frozen=True, eq=False)
class Head:
    """A last layer z = W h + c: `weight` W `(q, N)` and `bias` c `(q,)` or None, as `nn.Linear` stores them."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Reading:
    """What was seen of an objective.

    Attributes:
        heads: the last layers at the two points.
        layer: the last layer's name.
        loss: the name of torch's function that was called, or of the loss itself if it called none.
        options: its arguments besides output and target, defaults included, but for those that are None.
        averaged: whether the objective is the mean of that loss over parts of the data of one size; else it is the sum.
        called: the loss.
        targets: the objective's, in the dtype it is computed in.
    """

    heads: tuple[Head, Head]
    layer: str
    loss: str
    options: dict[str, object]
    averaged: bool
    called: Callable
    targets: Tensor


def features(model: nn.Module, layer: str, *inputs: Tensor) -> Tensor:
    """What a model hands to one of its layers, such as `(n, N)` last hidden features; the model is left alone.

    Args:
        layer: the layer's name; "" is the model itself.
        inputs: the model's positional arguments.

    Raises:
        InputError: no such layer, or it was not called.
    """
    twin, seen = copy.deepcopy(model).eval(), []
    named = dict(twin.named_modules())
    if layer not in named:
        raise InputError(f"the model has no layer {layer!r}; it has {', '.join(name for name in named if name)}")
    named[layer].register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().clone()))
    with torch.no_grad():
        twin(*inputs)
    if not seen:
        raise InputError(f"the model does not call its layer {layer!r}")
    return seen[-1]


def read_heads(objective: Objective, start: Tensor, end: Tensor, layer: str | None) -> Reading:
    """The last layers of a network at two points `(p,)`, and what their outputs go through.

    At both points and at places around them the model is run on some of the data. Its output must be the very tensor that an
    `nn.Linear` returned, changed by nothing since; that layer's weight must be a coordinate of the points.

    Raises:
        InputError: the objective is no network with such a layer; the message says what is in the way.
    """
    network = objective
    while isinstance(network, (Counted, Recalled)):
        network = network.objective
    if not isinstance(network, NetworkObjective):
        raise InputError(f"a loss of type {type(network).__name__} is not that of a network whose last layer can be read")
    few = network.part(min(SAMPLES, network.samples))
    if few is None:
        raise InputError("the loss is one of all samples at once, and no part of the data can be looked at")
    if not isinstance(few.data.target, Tensor):
        raise InputError("the targets are not one tensor")
    names, calls = set(), []
    for point in _around(start, end):
        name, output, target = _run(few, point, layer)
        names.add(name)
        calls.append(_observed_loss(few.loss.value, output, target))
        _check_value(few, point, calls[-1].value)
    if len(names) > 1:
        raise InputError(f"the model's last layer is not always the same: {', '.join(sorted(names))}")
    (name,), call = names, calls[0]
    heads = _head(network, start, name), _head(network, end, name)
    averaged = network.loss.averaged
    return Reading(heads, name, call.name, call.options, averaged, call.called, network.samples_like(start).target)


def _around(start: Tensor, end: Tensor) -> list[Tensor]:
    """Both ends, the middle, and two random points at their distance."""
    generator = torch.Generator().manual_seed(0)
    middle, reach = (start + end) / 2, (end - start).norm() / max(1, len(start)) ** 0.5
    noise = torch.randn(2, len(start), generator=generator, dtype=torch.float64).to(start)
    return [start, end, middle, *(middle + reach * noise)]


def _run(network: NetworkObjective, point: Tensor, layer: str | None) -> tuple[str, Tensor, Tensor]:
    """Run the model at a point; the name of the layer whose output is the model's, that output and the targets."""
    samples = network.samples_like(point)
    with torch.no_grad(), _linear_outputs(network.model) as seen:
        output = network.output(point, samples)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise InputError(f"outputs of shape (samples, q) are needed, got {_describe(output)}")
    # An operation in place (a sigmoid_, say) returns the layer's tensor, but its version has moved on.
    last = [name for name, (result, version) in seen.items() if result is output and output._version == version]
    if layer is not None and layer not in last:
        raise InputError(f"the model's output is not that of its layer {layer!r}, an nn.Linear, alone")
    if not last:
        raise InputError("the model's output is not that of an nn.Linear alone: something follows its last layer, or is added")
    return last[0], output, samples.own_target


@contextmanager
def _linear_outputs(model: nn.Module) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """What each linear layer returned last, and the version of that tensor, by the layer's name."""
    seen: dict[str, tuple[Tensor, int]] = {}

    def note(name: str) -> Callable:
        return lambda module, inputs, output: seen.update({name: (output, output._version)})

    linear = [(name, module) for name, module in model.named_modules() if type(module) is nn.Linear]
    handles = [module.register_forward_hook(note(name)) for name, module in linear]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _head(network: NetworkObjective, point: Tensor, name: str) -> Head:
    """The layer's weight and bias at a point, in float64, which holds them exactly."""
    state, prefix = network.state(point), name + "." if name else ""
    free = {*network.space.names, *network.space.aliases}
    if prefix + "weight" not in free:
        raise InputError(f"the weight of the last layer {name!r} is no free parameter: it is frozen, or computed from others")
    bias = state.get(prefix + "bias")
    return Head(state[prefix + "weight"].detach().double(), None if bias is None else bias.detach().double())


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a loss, and what it returned."""

    name: str
    options: dict[str, object]
    called: Callable
    value: float


class _Recorder(TorchFunctionMode):
    """Notes every call of one of `LOSSES`, what they call themselves left out."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[str, dict, Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in LOSSES:
            bound = inspect.signature(func).bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            self.calls.append((LOSSES[func], dict(bound.arguments), result))
        return result


def _observed_loss(loss: Callable, output: Tensor, target: Tensor) -> _Call:
    """What a loss does with an output: nothing but one call of torch's, or something of its own."""
    with torch.no_grad(), _Recorder() as recorder:
        value = loss(output, target)
    name = getattr(loss, "__name__", type(loss).__name__)
    if len(recorder.calls) == 1:
        called, options, result = recorder.calls[0]
        given, wanted = options.pop("input"), options.pop("target")
        if result is value and given is output and wanted is target:
            return _Call(called, {key: given for key, given in options.items() if given is not None}, loss, value.item())
    return _Call(name, {}, loss, value.item())


def _check_value(network: NetworkObjective, point: Tensor, value: float) -> None:
    """The objective must be the loss that was observed, over its weights: nothing is added, nothing is scaled."""
    found, loss = network(point[None]).item(), network.loss
    expected = value * loss.factor(network.samples) / loss.weigh(network.samples_like(point))
    if not isclose(found, expected, rel_tol=1e-3, abs_tol=1e-6):
        raise InputError(f"the objective is {found:.6g} where the loss of the model's output is {expected:.6g}")


def _describe(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__
