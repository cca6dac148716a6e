"""Which rule answers which operation, and what is said where there is none."""

import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from dss.base.errors import EnclosureError
from dss.enclosure.spelling import has_other_order, spelled


class Rule(NamedTuple):
    """A handler, called with the operation's own arguments; `wants_function` puts the torch function before them."""

    handler: Callable
    wants_function: bool


_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable:
    """Register a rule, called with the operation's own arguments, under the names of that operation."""
    return _registered(names, wants_function=False)


def rule_with_function(*names: str) -> Callable:
    """Like `rule`, for a rule that also wants the torch function itself as its first argument."""
    return _registered(names, wants_function=True)


def _registered(names: tuple[str, ...], *, wants_function: bool) -> Callable:
    def register(handler: Callable) -> Callable:
        _RULES.update(dict.fromkeys(names, Rule(handler, wants_function)))
        return handler

    return register


def known_operations() -> list[str]:
    """The names of all operations that have a rule."""
    return sorted(_RULES)


def rule_of(name: str) -> Rule | None:
    """The rule of an operation, if it has one."""
    return _RULES.get(name)


def forget(name: str) -> None:
    """Take a rule away."""
    del _RULES[name]


def name_of(func: Callable) -> str:
    """The name of a torch function, a method or an attribute of tensors."""
    name = func.__name__
    return getattr(func, "__self__").__name__ if name == "__get__" else name  # noqa: B009 - a method wrapper's attribute


def answer(name: str, func: Callable, args: tuple, kwargs: dict) -> Any:
    """Apply the rule of an operation to enclosures.

    Raises:
        EnclosureError: there is no rule, or it does not take these arguments.
    """
    found = _RULES.get(name)
    if found is None:
        raise refusal(name)
    if has_other_order(name, func):
        raise refusal(name, f"of torch itself, whose arguments have another order; call torch.nn.functional.{name}")
    kwargs = spelled(name, func, found.handler, kwargs, given=len(args)) if kwargs else kwargs
    args = (func, *args) if found.wants_function else args
    try:
        return found.handler(*args, **kwargs)
    except TypeError as error:
        try:
            inspect.signature(found.handler).bind(*args, **kwargs)
        except TypeError as mismatch:
            raise refusal(name, f"with these arguments ({mismatch})") from error
        raise


def refusal(name: str, why: str = "") -> EnclosureError:
    """The error of an operation that cannot be followed: which, why, and in which module it was called."""
    place = _innermost_module()
    return EnclosureError(" ".join(part for part in (f"no rule encloses the operation '{name}'", why) if part)
                          + (f", called in {place}" if place else ""))  # fmt: skip


def _innermost_module() -> str:
    """The chain of modules being run, read off the stack: no hook is needed and no module is touched."""
    frame, modules = sys._getframe(), []
    while frame is not None:
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and all(module is not other for other in modules):
            modules.append(module)
        frame = frame.f_back
    if not modules:
        return ""
    names = {id(module): name for name, module in modules[-1].named_modules()}
    path = names.get(id(modules[0]), "")
    kind = type(modules[0]).__name__
    return f"module '{path}' ({kind})" if path else f"the forward of {kind}"
