"""What a model or a loss may use beside the parameters it is given: other weights, memories, hooks.

All of it would be the same at every point of a path, and the loss of the first point would pass for that of all.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dss.base.dispatch import DispatchMode
from dss.base.errors import InputError
from dss.objectives.network.blame import told
from dss.objectives.network.copies import quiet_copy, watched_copy
from dss.objectives.network.rows import Tensors
from dss.objectives.network.trials import Trial, alike, cloned, close, has_reals


def check_reads(trial: Trial) -> None:
    """Refuse weights that come from elsewhere than the parameters that are given.

    Raises:
        InputError: the model's own weights, or other tensors with a gradient, are read.
    """
    model, rows, moving = trial.model, trial.rows, trial.own.keys()
    outside = [p for owner in (model, rows.template) for name, p in owner.named_parameters() if name in moving]
    given, constants, data = cloned(trial.own), cloned(trial.constants), trial.fresh()
    values = [trial.judged(trial.output(trial.own)) for _ in range(2)]
    with _Reads(outside) as reads, suppress(Exception):  # what is compiled may refuse to be watched
        rows.loss.value(rows.output(given, constants, data.inputs), data.target)
    # A leaf that is the same tensor in two passes was there before them: it is nothing that forward made for itself.
    if reads.found or _leaves(values[0]) & _leaves(values[1]):
        what = "reads the model's own weights" if reads.found else "has a gradient with respect to other tensors"
        raise InputError(
            f"the loss {what} beside the parameters it is given, which would be the same at every point of a path; write "
            "a term of the weights (L2, ...) into the model's output, detach what is constant, or leave it out"
        )


def check_memory(trial: Trial, points: list[Tensors], outputs: list[Any]) -> None:
    """Neither order of two points may change what is computed at either, and the points must matter.

    Raises:
        InputError: they do, or do not.
    """
    _check_idle(trial)
    if len(points) < 2:
        return
    fresh = copy.copy(trial.rows)
    fresh.template = quiet_copy(trial.model, moving=trial.own).requires_grad_(False)
    pairs = [(trial.output(points[i], rows=rows), outputs[i]) for rows, i in ((fresh, 1), (fresh, 0), (trial.rows, 0))]
    if not all(close(again, first, trial.room) for again, first in pairs):
        raise InputError(
            "the model remembers: what it computes at one point depends on which points came before (does it keep a "
            "tensor computed from its weights?); compute it anew in every forward"
        )
    if has_reals(outputs[0]) and all(alike(output, outputs[0]) for output in outputs[1:]):
        raise InputError(
            "the model's output stays the same when all its parameters change (does it use a tensor computed from its "
            "weights before?); compute it anew in every forward"
        )


def _check_idle(trial: Trial) -> None:
    """A parameter that does nothing, in a module that keeps a tensor of its own, was probably used for that one before."""
    leaves = {name: value.clone().requires_grad_() for name, value in trial.own.items()}
    with trial.rows.kept():
        output = trial.output(leaves)
        reals = [x.sum() for x in pytree.tree_leaves(output) if isinstance(x, Tensor) and x.requires_grad]
        try:
            found = torch.autograd.grad(reals, list(leaves.values()), allow_unused=True) if reals else ()
        except Exception:  # it writes over what its gradient needs, say: it can be judged, and nothing tells what is idle
            return
    for name, gradient in zip(leaves, found):
        signs = [] if gradient is not None else list(_signs_of_memory(trial.model, name))
        if signs:
            raise InputError(
                f"the parameter {name} does nothing in eval(), and {', '.join(signs)} beside it: was something computed from it "
                "before? Compute it anew in every forward; or, if the parameter is not used, freeze it (requires_grad=False)"
            )


def _signs_of_memory(model: nn.Module, parameter: str) -> Iterator[str]:
    """Plain tensors that the modules around a parameter keep, and what they do on their own when put into eval."""
    parts = parameter.split(".")[:-1]
    for path in (".".join(parts[:i]) for i in range(len(parts) + 1)):
        module = model.get_submodule(path)
        if type(module).train is not nn.Module.train:
            yield f"{type(module).__name__} has a train() of its own"
        for name, value in vars(module).items():
            kept = [] if name == "_buffers" else pytree.tree_leaves(value)
            if any(isinstance(x, Tensor) and not isinstance(x, nn.Parameter) for x in kept):
                yield f"{f'{path}.{name}'.lstrip('.')} is a tensor kept"


def check_hooks(trial: Trial, point: Tensors, output: Any) -> None:
    """Hooks are left out, so they must not matter.

    Raises:
        InputError: a hook changes the output at a point.
    """
    template = watched_copy(trial.model)
    if template is None:
        return
    watched = copy.copy(trial.rows)
    watched.template = template.requires_grad_(False)
    with told("a forward hook of the model"):
        found = trial.output(point, rows=watched)
    if not close(found, output, trial.room):
        raise InputError(
            "a forward hook changes what the model computes, and hooks of yours are not run; put what it does into forward"
        )


class _Reads(DispatchMode):
    """Notices operations on tensors that share memory with some given ones."""

    def __init__(self, tensors: Sequence[Tensor]):
        super().__init__()
        self.places = {x.untyped_storage().data_ptr() for x in tensors} - {0}
        self.found = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = pytree.tree_leaves((args, kwargs or {}))
        self.found |= any(isinstance(x, Tensor) and x.untyped_storage().data_ptr() in self.places for x in leaves)
        return func(*args, **(kwargs or {}))


def _leaves(value: Tensor) -> set[int]:
    """The tensors with respect to which a value has a gradient, by identity."""
    if value.grad_fn is None:
        return {id(value)} if value.requires_grad else set()
    found, waiting, seen = set(), [value.grad_fn], set()
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.add(id(leaf))
        waiting += [child for child, _ in node.next_functions if child is not None and child not in seen]
        seen.update(waiting)
    return found
