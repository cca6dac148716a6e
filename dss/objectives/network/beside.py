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
from dss.objectives.network.trials import Trial, alike, cloned, close, has_reals, moved


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
    """A parameter that does nothing was perhaps used before: for a tensor that a module around it keeps, or as it was put into eval."""
    leaves = {name: value.clone().requires_grad_() for name, value in trial.own.items()}
    with trial.rows.kept():
        output = trial.output(leaves)
        reals = [x.sum() for x in pytree.tree_leaves(output) if isinstance(x, Tensor) and x.requires_grad]
        try:
            found = torch.autograd.grad(reals, list(leaves.values()), allow_unused=True) if reals else ()
        except Exception:  # it writes over what its gradient needs, say: it can be judged, and nothing tells what is idle
            return
    idle = [name for name, gradient in zip(leaves, found) if gradient is None]
    switched = [name for name in idle if any(type(module).train is not nn.Module.train for module in _around(trial.model, name))]
    for name in idle:
        # What train() empties, the copy that was run has filled again.
        models = (trial.model, trial.rows.template) if name in switched else (trial.model,)
        for model in models:
            _refuse(name, [f"{kept} is a tensor kept" for kept in _kept(model, name)])
    if switched and _matter_before(trial, switched):
        own = {type(module).__name__ for name in switched for module in _around(trial.model, name)
               if type(module).train is not nn.Module.train}  # fmt: skip
        _refuse(switched[0], [f"{kind} has a train() of its own" for kind in sorted(own)])


def _refuse(parameter: str, signs: list[str]) -> None:
    """Name an idle parameter, if there are signs that it was used before."""
    if signs:
        raise InputError(
            f"the parameter {parameter} does nothing in eval(), and {', '.join(signs)} beside it: was something computed from it "
            "before? Compute it anew in every forward; or, if the parameter is not used, freeze it (requires_grad=False)"
        )


def _around(model: nn.Module, parameter: str) -> Iterator[nn.Module]:
    """The modules around a parameter, from the model on inwards."""
    parts = parameter.split(".")[:-1]
    return (model.get_submodule(".".join(parts[:i])) for i in range(len(parts) + 1))


def _kept(model: nn.Module, parameter: str) -> Iterator[str]:
    """Plain tensors that the modules around a parameter keep."""
    names = {id(module): f"{path}." if path else "" for path, module in model.named_modules()}
    for module in _around(model, parameter):
        for name, value in vars(module).items():
            kept = [] if name == "_buffers" else pytree.tree_leaves(value)
            if any(isinstance(x, Tensor) and not isinstance(x, nn.Parameter) for x in kept):
                yield f"{names[id(module)]}{name}"


def _matter_before(trial: Trial, idle: list[str]) -> bool:
    """Whether parameters that do nothing in eval change what is computed there if they change before, as merged weights do."""
    twin, generator = quiet_copy(trial.model), torch.Generator().manual_seed(0)
    try:
        before = _own_output(trial, twin)
        own = dict(twin.train().named_parameters())
        with torch.no_grad():
            for name, value in moved({name: own[name] for name in idle}, generator, 1.0).items():
                own[name].copy_(value)
        return not close(_own_output(trial, twin.eval()), before, trial.room)
    except Exception:  # whatever its train() may raise: nothing tells that it is harmless
        return True


def _own_output(trial: Trial, model: nn.Module) -> Any:
    """What a model makes of the few samples as it is."""
    rows, one = copy.copy(trial.rows), next(iter(trial.own.values()))
    rows.template, own = model, dict(model.named_parameters())
    rows.frozen = {name: own[name].detach() for name in rows.frozen}
    rows.constants = dict(model.named_buffers()) | rows.frozen
    point = {name: own[name].detach().to(one) for name in trial.own}
    return rows.output(cloned(point), cloned(rows.constants_like(one)), trial.fresh().inputs)


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
