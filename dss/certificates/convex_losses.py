"""Whether a loss is convex in the outputs of a network: torch's own by a list, a user's by following its operations.

Every intermediate value of a loss is constant, affine, convex or concave in the outputs, or nothing is known of it. A sum of
convex values is convex, so is a positive multiple, an increasing convex function of one, a convex function of an affine one.
Factors that depend on targets alone are computed, for their signs. The rules are those of disciplined convex programming
(Grant, Boyd & Ye 2006).
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from dss.base.errors import EnclosureError
from dss.certificates.curvature import AFFINE, CONCAVE, CONSTANT, CONVEX, LOSSES, UNKNOWN, Curvature, cause_against
from dss.objectives.network.loss import SampleLoss, name_of
from dss.objectives.network.torch_losses import TorchLoss, recognised
from dss.objectives.operations import LOG_SOFTMAX, MOVES, compute, is_question


def check_convex(loss: Any, target: Any, outputs: Curvature = AFFINE) -> None:
    """Refuse a loss that is not known to be convex in what the parameters of the last layer are affine in.

    Args:
        loss: as an objective has it, or as a user gives it.
        target: what it is compared with, of all samples.
        outputs: what the model makes of its last layer: `AFFINE`, or `CONCAVE` for log-probabilities.

    Raises:
        EnclosureError: it is not; the message says why not.
    """
    plain, is_pair = _plain(loss)
    known = plain if isinstance(plain, TorchLoss) else recognised(plain)
    if known is None:
        _follow(plain, target, outputs, is_pair)
        return
    cause = cause_against(known, target, outputs)
    if cause is not None:
        raise EnclosureError(f"{known.name} is not known to be convex in the outputs: {cause}")


def _plain(loss: Any) -> tuple[Any, bool]:
    """The loss as the user gave it, and whether what counts of a pair that it returns is the first, divided by a positive
    number. An objective takes means of vectors and the first of pairs in functions of its own."""
    value = loss.value if isinstance(loss, SampleLoss) else loss
    ours = isinstance(value, partial) and getattr(value.func, "__module__", None) == SampleLoss.__module__
    if isinstance(loss, SampleLoss) and isinstance(value, partial) and ours:
        return value.args[0], not loss.whole
    return value, False


def _follow(loss: Callable, target: Any, outputs: Curvature, is_pair: bool) -> None:
    """Follow a loss of the user's own.

    Raises:
        EnclosureError: it cannot be traced, or comes out as something else than convex.
    """
    try:
        call = _Call(loss, target)
        graph = fx.GraphModule(call, _Inlining().trace(call))
    except Exception as error:  # tracing runs the user's own code on stand-ins: it may raise anything
        raise EnclosureError(
            f"{name_of(loss)} is not known to be convex in the outputs: it cannot be traced ({error})"
        ) from error
    found = _Follower(graph, name_of(loss), outputs).result()
    if isinstance(found, tuple) and is_pair and len(found) == 2 and found[1] is CONSTANT:
        found = found[0]
    if not isinstance(found, Curvature) or not found.is_convex:
        what = "a structure" if isinstance(found, tuple) else f"{found.value} by what is known of its operations"
        raise EnclosureError(f"{name_of(loss)} is not known to be convex in the outputs: it is {what}")


class _Call(nn.Module):
    """A loss as what fx traces: a module whose argument is the outputs. The target is a constant, and may be asked anything."""

    def __init__(self, loss: Callable, target: Any):
        super().__init__()
        self.loss = loss
        vars(self)["target"] = target

    def forward(self, output):
        return self.loss(output, self.target)


class _Inlining(fx.Tracer):
    """Follows every module down to functions: a loss may call modules that are not its own."""

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        if m._forward_hooks or m._forward_pre_hooks:
            raise EnclosureError(f"{type(m).__name__} has hooks")
        return forward(*args, **kwargs)


# Keep what a value is, if nothing but the first argument depends on the outputs.
_LINEAR = MOVES | {
    operator.getitem, torch.gather, torch.mean, torch.sum, torch.select, "gather", "mean", "sum", "select", "narrow", "expand",
    "index_select", "contiguous", "clone", "float", "double",
}  # fmt: skip
# Convex and non-decreasing, without further arguments or with axes alone.
_INCREASING = {torch.exp, torch.relu, F.relu, F.softplus, torch.logsumexp, torch.amax, "exp", "relu", "logsumexp", "amax"}
_WITH_AXES = {torch.logsumexp, torch.amax, "logsumexp", "amax"}
_CONVEX_OF_AFFINE = {torch.square, torch.abs, "square", "abs", operator.abs}
_CONCAVE_OF_AFFINE = LOG_SOFTMAX | {F.logsigmoid}
_ADD, _SUBTRACT = {operator.add, torch.add, "add"}, {operator.sub, torch.sub, "sub"}
_MULTIPLY, _DIVIDE = {operator.mul, torch.mul, "mul"}, {operator.truediv, torch.div, "div"}
_NEGATE, _POWER = {operator.neg, torch.neg, "neg"}, {operator.pow, torch.pow, "pow"}
_SIZES = {"size", "numel", "dim"}


class _Follower:
    """Finds out, node by node, what the values of a loss are."""

    def __init__(self, graph: fx.GraphModule, name: str, outputs: Curvature):
        self.graph, self.name, self.outputs = graph, name, outputs
        self.found: dict[fx.Node, Curvature] = {}
        # Values of constants where they are known; those that stem from shapes are not, but are not negative.
        self.values: dict[fx.Node, Any] = {}
        self.sizes: set[fx.Node] = set()

    def result(self) -> Curvature | tuple:
        """What is returned."""
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                self.found[node] = self.outputs
            elif node.op == "output":
                returned = node.args[0]
                return tuple(map(self.of, returned)) if isinstance(returned, (tuple, list)) else self.of(returned)
            else:
                self.found[node] = self._node(node)
        raise EnclosureError(f"{self.name} returns nothing")

    def of(self, value: Any) -> Curvature:
        """What a value is: a node's, or a constant that stands in the graph."""
        return self.found[value] if isinstance(value, fx.Node) else CONSTANT

    def _node(self, node: fx.Node) -> Curvature:
        self._check_pure(node)
        if is_question(node) or node.target in _SIZES:
            self.sizes.add(node)
            return CONSTANT
        if all(self.found[n] is CONSTANT for n in node.all_input_nodes):
            self._remember(node)
            return CONSTANT
        if node.target in LOSSES:
            return self._loss(node)
        args = list(node.args)
        strange = any(isinstance(value, torch.dtype) for value in args)  # `view` reads the bits as other numbers
        if not args or strange or any(self._depends(value) for value in (*args[2:], node.kwargs)):
            return UNKNOWN
        first, second = args[0], args[1] if len(args) > 1 else None
        if self._depends(second) and node.target not in _ADD | _SUBTRACT | _MULTIPLY:
            return UNKNOWN
        return self._rule(node, node.target, first, second)

    def _rule(self, node: fx.Node, kind: Any, first: Any, second: Any) -> Curvature:
        """Operations of one or two arguments."""
        mine = self.of(first)
        if kind in _LINEAR:
            return mine
        if kind in _ADD | _SUBTRACT and not node.kwargs:
            return mine + (self.of(second) if kind in _ADD else -self.of(second))
        if kind in _NEGATE:
            return -mine
        if kind in _MULTIPLY | _DIVIDE and not node.kwargs:
            return self._multiple(first, second)
        if kind in _POWER and not node.kwargs:
            return self._power(mine, second)
        if kind in _INCREASING and mine.is_convex and (kind in _WITH_AXES or self._is_alone(node)):
            return CONVEX
        if mine is AFFINE and kind in _CONVEX_OF_AFFINE and self._is_alone(node):
            return CONVEX
        return CONCAVE if mine is AFFINE and kind in _CONCAVE_OF_AFFINE else UNKNOWN

    @staticmethod
    def _is_alone(node: fx.Node) -> bool:
        return len(node.args) == 1 and node.kwargs.keys() <= {"inplace"}

    def _multiple(self, first: Any, second: Any) -> Curvature:
        """A product with, or a quotient by, a constant; signs are those of all its entries."""
        if self._depends(first) and self._depends(second):
            return UNKNOWN
        value, constant = (first, second) if self._depends(first) else (second, first)
        mine, sign = self.of(value), self._sign(constant)
        if mine is AFFINE:
            return AFFINE
        return mine if sign == 1 else -mine if sign == -1 else UNKNOWN

    @staticmethod
    def _power(mine: Curvature, exponent: Any) -> Curvature:
        even = isinstance(exponent, (int, float)) and exponent > 0 and exponent % 2 == 0
        return CONVEX if mine is AFFINE and even else UNKNOWN

    def _sign(self, constant: Any) -> int:
        """1 if no entry is negative, -1 if none is positive, 0 if neither is known."""
        if isinstance(constant, fx.Node):
            if constant in self.sizes:
                return 1
            constant = self.values.get(constant)
        if not isinstance(constant, (int, float, Tensor)):
            return 0
        entries = torch.as_tensor(constant)
        return 1 if bool((entries >= 0).all()) else -1 if bool((entries <= 0).all()) else 0

    def _loss(self, node: fx.Node) -> Curvature:
        """One of torch's losses inside a loss."""
        given = dict(zip(("input", "target"), node.args)) | node.kwargs
        options = {name: value for name, value in given.items() if name not in ("input", "target")}
        if any(isinstance(v, fx.Node) and v not in self.values for v in options.values()):
            return UNKNOWN
        values = {name: self.values[v] if isinstance(v, fx.Node) else v for name, v in options.items()}
        known = recognised(partial(node.target, **values)) if len(node.args) <= 2 else None  # type: ignore[arg-type]
        target = given.get("target")
        value = self.values.get(target) if isinstance(target, fx.Node) else None
        if known is None or self._depends(target) or self._depends(options) or not isinstance(value, Tensor):
            return UNKNOWN
        return CONVEX if cause_against(known, value, self.of(given.get("input"))) is None else UNKNOWN

    def _depends(self, value: Any) -> bool:
        """Whether anything in it depends on the outputs."""
        return any(self.of(leaf) is not CONSTANT for leaf in tree_leaves(value) if isinstance(leaf, fx.Node))

    def _remember(self, node: fx.Node) -> None:
        """Compute a constant, if all that it is computed from is known."""
        if node.all_input_nodes and all(n in self.sizes for n in node.all_input_nodes) and node.target is operator.getitem:
            self.sizes.add(node)
        elif all(n in self.values for n in node.all_input_nodes):
            self.values[node] = compute(self.graph, node, self.values)

    def _check_pure(self, node: fx.Node) -> None:
        """Refuse what writes: another node may stand for a value that has changed."""
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        writes = (name.endswith("_") and not name.endswith("__")) or name in ("setitem", "iadd", "isub", "imul", "itruediv")
        positional = getattr(node.target, "__module__", None) == F.__name__ and any(value is True for value in node.args)
        writes |= positional or node.kwargs.get("inplace", False) is not False or "out" in node.kwargs
        if writes or (node.target is getattr and node.args[1] == "data"):
            raise EnclosureError(f"{self.name} is not known to be convex in the outputs: {name} writes in place")
