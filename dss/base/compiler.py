"""Gradients of `torch.func` without torch's compiler, whose import takes a second of every process that takes one."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from types import SimpleNamespace

import torch


class _Absent:
    """What answers for the compiler while it is not imported: it need not be told to leave a gradient alone."""

    compiled_autograd = SimpleNamespace(_disable=nullcontext)

    def __getattr__(self, name: str):
        """Anything else takes the compiler itself, which then replaces this."""
        return getattr(import_module("torch._dynamo"), name)


_ABSENT = _Absent()


@contextmanager
def without_compiler() -> Iterator[None]:
    """Within it `torch.func.grad` does not import the compiler."""
    if "torch._dynamo" not in sys.modules:
        torch.__dict__.setdefault("_dynamo", _ABSENT)
    try:
        yield
    finally:
        if torch.__dict__.get("_dynamo") is _ABSENT:
            torch.__dict__.pop("_dynamo", None)
