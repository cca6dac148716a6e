"""Iterators that are run for their end."""

from collections import deque
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def last(states: Iterable[T]) -> T | None:
    """The last of the values, of which only one is kept at a time; None if there is none."""
    kept = deque(states, maxlen=1)
    return kept[0] if kept else None
