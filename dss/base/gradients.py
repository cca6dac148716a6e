"""Gradients, whatever mode the caller is in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def with_gradients() -> Iterator[None]:
    """Within it, and as a decorator, gradients can be taken inside `torch.no_grad()` and `torch.inference_mode()` too."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
