"""Who may share memory with whom: what a write into a tensor would change besides it.

A view shares its memory for good; `reshape` and the like share it or copy, as the layout has it, which differs between a
whole batch and one sample of it. Both count as shared, and a write is allowed where nobody else is left to see it.
"""

import weakref

from torch import Tensor


class Memory:
    """The living tensors that may share one piece of memory."""

    def __init__(self, first: Tensor):
        self.users = [weakref.ref(first)]

    @property
    def living(self) -> list[Tensor]:
        """Those that someone still holds."""
        users = [user() for user in self.users]
        return [user for user in users if user is not None]

    def join(self, *others: "Memory") -> None:
        """What shares with one of them shares with all."""
        for other in others:
            if other is not self:
                self.users += other.users
                for user in other.living:
                    user.memory = self  # pyright: ignore[reportAttributeAccessIssue] - a StandIn
