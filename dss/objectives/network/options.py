"""Options of a network objective that exclude each other, or have few values."""

import torch

from dss.base.errors import InputError


def check_options(*, buffers: str, rows: str, batch_size: int | None, whole: bool, autocast: torch.dtype | None) -> None:
    """Refuse what cannot be meant.

    Raises:
        InputError: a value that is none of those there are, or a minibatch of a loss that has none.
    """
    _check_choice("buffers", buffers, ("recalibrate", "frozen"))
    _check_choice("rows", rows, ("auto", "vmap", "loop"))
    if autocast not in (None, torch.bfloat16, torch.float16):
        raise InputError(f"autocast must be torch.bfloat16 or torch.float16, got {autocast}")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if batch_size is not None and whole:
        raise InputError(
            f"a loss of the whole data has no minibatches, got batch_size={batch_size} with whole=True; leave it out"
        )


def _check_choice(name: str, got: str, choices: tuple[str, ...]) -> None:
    if got not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {got!r}")
