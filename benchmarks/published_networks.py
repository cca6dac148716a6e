"""A task's network in the form that published code takes, which that code's own checkout supplies the layers of."""

from copy import deepcopy
from types import ModuleType

from torch import fx, nn

import dss


def check_plain(model: nn.Module) -> None:
    """The published code matches parameters by position, and takes buffers for coordinates.

    Raises:
        InputError: the model has buffers or tied parameters.
    """
    space = dss.ParameterSpace.of(model)
    odd = sorted(space.buffers) or sorted(space.aliases)
    if odd:
        names = ", ".join(odd)
        raise dss.InputError(f"the published code is run on networks without buffers or tied weights, got {names}")


def on_curve(curves: ModuleType, model: nn.Module, fix_points: list[bool]) -> nn.Module:
    """The network with published layers in place of its own: `net(input, coefficients)`; the model is not touched.

    Args:
        curves: their module of curves and layers (Garipov et al. 2018).
        model: a network of one input.
        fix_points: for each control point, whether it stays.

    Raises:
        InputError: a layer has no published version, or layers run in another order than they are registered in.
    """
    graph = traced(model)
    (image,) = [node for node in graph.graph.nodes if node.op == "placeholder"]
    with graph.graph.inserting_after(image):
        coefficients = graph.graph.placeholder("coefficients")
    for node in [node for node in graph.graph.nodes if node.op == "call_module"]:
        layer = graph.get_submodule(node.target)
        if list(layer.parameters()):
            graph.set_submodule(node.target, layer_on_curve(curves, layer, fix_points))
            node.args = (*node.args, coefficients)
    graph.recompile()
    return graph


def traced(model: nn.Module) -> fx.GraphModule:
    """A copy of the network whose calls of layers can be changed; its parameters come in the same order."""
    try:
        graph = fx.symbolic_trace(deepcopy(model))
    except (fx.proxy.TraceError, TypeError) as error:
        raise dss.InputError(f"{type(model).__name__} cannot be put on a curve: {error}") from error
    calls = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    ordered = [name for name, _ in graph.named_parameters()] == [name for name, _ in model.named_parameters()]
    if not ordered or len(calls) != len(set(calls)) or len(inputs) != 1:
        words = "one input and layers that run once, in the order of their parameters"
        raise dss.InputError(f"the published curves need {words}; {type(model).__name__} differs")
    return graph


def layer_on_curve(curves: ModuleType, layer: nn.Module, fix_points: list[bool]) -> nn.Module:
    """The published version of one layer, with one set of weights for each control point."""
    bias = getattr(layer, "bias", None) is not None
    if type(layer) is nn.Linear:
        return curves.Linear(layer.in_features, layer.out_features, fix_points, bias=bias)
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, fix_points)
        return curves.Conv2d(*sizes, layer.stride, layer.padding, layer.dilation, layer.groups, bias=bias)
    raise dss.InputError(f"the published curves have Linear, and Conv2d with padding by zeros, but not {layer}")
