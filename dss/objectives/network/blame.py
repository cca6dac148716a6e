"""What fails in the caller's code is said to be the caller's, with what it was given."""

import torch

from dss.base.errors import InputError, TaskError

_LONGEST = 400
"""Characters of a message that are passed on."""


class told:
    """Within it, whatever the caller's code raises is a `TaskError`, of which it is the cause.

    Memory that runs out says nothing of the code and passes through, as do refusals of this package.

    Args:
        whose: the code, in words: "the loss of task.py:mine".
    """

    def __init__(self, whose: str):
        self.whose = whose

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError) and not out_of_memory(error):
            raise TaskError(f"{self.whose} raises {words(error)}") from error


class located:
    """Within it, a `TaskError` says on which samples the code failed.

    Args:
        which: the samples, in words.
    """

    def __init__(self, which: str):
        self.which = which

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, TaskError):
            raise TaskError(f"{error} on {self.which}") from error.__cause__


def words(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST].removesuffix(":")


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch has no class of its own for it on the CPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)
