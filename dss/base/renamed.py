"""Keywords that go by another name now: the old ones work for one version, with a warning."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable)


def renamed(**names: str) -> Callable[[F], F]:
    """Let a function or class take the old keywords (`old="new"`) too.

    Raises:
        TypeError: when it is called with both.
    """

    def accept(kwargs: dict, where: str) -> dict:
        for old in names.keys() & kwargs.keys():
            new = names[old]
            if new in kwargs:
                raise TypeError(f"{where} got {old!r} and {new!r}, which are one argument; {new!r} is its name")
            warnings.warn(f"{where}: {old!r} is called {new!r} since 0.2.0", DeprecationWarning, stacklevel=3)
            kwargs[new] = kwargs.pop(old)
        return kwargs

    def decorate(subject: Any) -> Any:
        if isinstance(subject, type):
            plain = subject.__init__

            @functools.wraps(plain)
            def __init__(self, *args, **kwargs):
                plain(self, *args, **accept(kwargs, subject.__name__))

            subject.__init__ = __init__
            return subject

        @functools.wraps(subject)
        def call(*args, **kwargs):
            return subject(*args, **accept(kwargs, subject.__name__))

        return call

    return decorate
