"""Cells bounded by the workers of an executor, each cell a task of its own: what comes back does not depend on how many there are."""

import hashlib
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.objective import Apart, Objective

_OPEN: dict[str, tuple[Objective, Apart | None]] = {}
"""What this process bounds, as a worker: the last one that it was sent, with what was recorded of its passes."""

_ALONE = threading.Lock()
"""A recorded pass has memory of its own, which threads of one process must not share."""


class Elsewhere:
    """Bounds of an objective by an executor.

    Args:
        objective: what is bounded.
        executor: any `concurrent.futures.Executor`.
        source: yields the same objective in another process, for one that cannot be pickled.

    Raises:
        InputError: the objective cannot be sent.
    """

    def __init__(self, objective: Objective, executor: Executor, source: Callable[[], Objective] | None = None):
        self.executor = executor
        try:
            self.content = pickle.dumps(source or partial(_itself, objective))
        except Exception as error:
            raise InputError(
                f"the workers cannot be sent this objective ({type(error).__name__}: {error}); define its model and loss in a "
                "module, give a source that makes it, or prove in one process"
            ) from error
        self.digest = hashlib.sha256(self.content).hexdigest()

    def on_cells(self, *cells: Tensor) -> Tensor:
        """`Objective.enclose`."""
        return self._gathered(cells, [None] * len(cells[0]))

    def on_samples(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor, index: Tensor) -> Tensor:
        """`Apart.enclose`."""
        return self._gathered((starts, ends, lower, upper), list(index.split(1)))

    def _gathered(self, cells: tuple[Tensor, ...], indices: Sequence[Tensor | None]) -> Tensor:
        """The bounds of all cells, in their order."""
        # Copies: a view is sent with all of what it is a view of.
        rows = zip(*([row.clone() for row in part.split(1)] for part in cells))
        futures = [self.executor.submit(_bounded, self.digest, self.content, row, index) for row, index in zip(rows, indices)]
        return torch.cat([future.result() for future in futures])


def _itself(objective: Objective) -> Objective:
    return objective


def _bounded(digest: str, content: bytes, cell: tuple[Tensor, ...], index: Tensor | None) -> Tensor:
    """Bounds of one cell, in whatever process this is."""
    with _ALONE:
        if digest not in _OPEN:
            objective = pickle.loads(content)()
            _OPEN.clear()
            _OPEN[digest] = objective, objective.apart(cell[0])
        objective, apart = _OPEN[digest]
        start, end, lower, upper = cell
        if index is None:
            return objective.enclose(start, end, lower, upper)
        assert apart is not None
        return apart.enclose(start, end, lower, upper, index)
