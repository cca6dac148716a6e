"""A copy of the caller's model that can be run without the caller noticing."""

import copy
from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import CellType, FunctionType, MethodType

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dss.base.errors import InputError
from dss.base.gradients import with_gradients

_FORWARD = ("_forward_pre_hooks", "_forward_hooks")
_HOOKS = (*_FORWARD, "_backward_pre_hooks", "_backward_hooks")


def quiet_copy(model: nn.Module, *, moving: Collection[str] = ()) -> nn.Module:
    """A copy in `eval()` without the caller's hooks: those watch the caller's model, and must not see ours.

    Hooks with which torch itself computes weights (weight norm, spectral norm, pruning) stay.

    Args:
        moving: names of parameters that are handed to the copy at every call, whose own values are never read: they share the
            caller's memory.

    Raises:
        InputError: the model cannot be copied.
    """
    twin = _copy(model, lambda kind, hook: None, moving)
    _run_plainly(twin)
    return twin


def watched_copy(model: nn.Module) -> nn.Module | None:
    """A copy with copies of the caller's forward hooks, to see whether they change what is computed; None without any.

    Raises:
        InputError: the model or a hook cannot be copied.
    """
    hooks = (hook for module in model.modules() for kind in _FORWARD for hook in getattr(module, kind).values())
    if all(map(_is_of_torch, hooks)):
        return None
    return _copy(model, lambda kind, hook: _isolated_or_refused(hook) if kind in _FORWARD else None)


@with_gradients()  # what is made in inference mode stays there
def _copy(model: nn.Module, of_hook: Callable[[str, Callable], Callable | None], moving: Collection[str] = ()) -> nn.Module:
    """A copy in which each hook of the caller's is what `of_hook` makes of it."""
    shared = (p for name, p in model.named_parameters() if name in moving and type(p) is nn.Parameter and not p.is_inference())
    memo: dict[int, object] = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in shared}
    for module in model.modules():
        for kind in _HOOKS:
            hooks = getattr(module, kind)
            kept = {key: hook if _is_of_torch(hook) else of_hook(kind, hook) for key, hook in hooks.items()}
            memo[id(hooks)] = type(hooks)((key, hook) for key, hook in kept.items() if hook is not None)
    try:
        with WithoutHistory():
            return copy.deepcopy(model, memo).eval()
    except Exception as error:  # whatever the caller's own classes may raise
        raise InputError(
            f"the model cannot be copied ({type(error).__name__}: {error}); copy.deepcopy(model) must work, so that yours is "
            "left alone"
        ) from error


class WithoutHistory(TorchFunctionMode):
    """Copies tensors computed from weights (old weight norm, pruning, kept activations), which torch refuses for their history."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            original, memo = args
            return memo.setdefault(id(original), original.detach().clone())
        return func(*args, **(kwargs or {}))


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that `torch.compile` was given; the model itself if it is not compiled.

    Raises:
        InputError: a part of it is compiled by `torch.jit`, whose parameters cannot be exchanged.
    """
    scripted = [name or "the model" for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        raise InputError(
            f"{scripted[0]} was compiled by torch.jit, which binds its parameters; give the module that it was made from, "
            "with the same state dict"
        )
    return _written(model) or model


def _written(module: nn.Module) -> nn.Module | None:
    """What `torch.compile` was given to make this module; None if it was not made so.

    Told by its attribute: to import the class would load the compiler.
    """
    found = module._modules.get("_orig_mod")
    return found if type(module).__module__.startswith("torch._dynamo") else None


def _run_plainly(model: nn.Module) -> None:
    """Compiled parts run as they were written, for each kind of point would compile them anew; embeddings have dense gradients,
    for sparse ones know no slices."""
    for module in model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False
        module._compiled_call_impl = None
        if (written := _written(module)) is not None:
            module.forward = written.__call__


def _isolated_or_refused(hook: Callable) -> Callable:
    try:
        with WithoutHistory():
            return _isolated(hook, {})
    except Exception as error:  # whatever a deep copy of the caller's own objects may raise
        raise InputError(
            f"the model has a forward hook, {hook!r}, that may change what it computes and cannot be tried on a copy "
            f"({type(error).__name__}: {error}); remove it, or put what it does into forward"
        ) from error


def _is_of_torch(hook: Callable) -> bool:
    place = getattr(hook, "__module__", None) if isinstance(hook, FunctionType) else type(hook).__module__
    return str(place).split(".")[0] == "torch"


def _isolated(hook: Callable, known: dict[int, Callable]) -> Callable:
    """A function that does what `hook` does to copies of all that it refers to, so that the originals see nothing."""
    if id(hook) in known:
        return known[id(hook)]
    if isinstance(hook, partial):
        arguments, keywords = copy.deepcopy((hook.args, hook.keywords))
        return partial(_isolated(hook.func, known), *arguments, **keywords)
    if isinstance(hook, MethodType):
        return MethodType(hook.__func__, copy.deepcopy(hook.__self__))
    if not isinstance(hook, FunctionType):
        return copy.deepcopy(hook)
    cells = tuple(CellType() for _ in hook.__closure__ or ())
    code, names = hook.__code__, dict(hook.__globals__)
    twin = known[id(hook)] = FunctionType(code, names, hook.__name__, copy.deepcopy(hook.__defaults__), cells)
    twin.__kwdefaults__ = copy.deepcopy(hook.__kwdefaults__)
    names |= {name: _twin(names[name], known) for name in _read_by(code) if name in names}
    for own, cell in zip(cells, hook.__closure__ or (), strict=True):
        own.cell_contents = _twin(cell.cell_contents, known)
    return twin


def _twin(value: object, known: dict[int, Callable]) -> object:
    """A copy of what a function refers to; modules and classes are shared."""
    if isinstance(value, FunctionType):
        return _isolated(value, known)
    return value if isinstance(value, type) or type(value).__name__ == "module" else copy.deepcopy(value)


def _read_by(code) -> Iterator[str]:
    """Names of globals that a function may read, in functions within it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from _read_by(constant)
