"""Losses that were evaluated once and are kept beside a run, so that a page never evaluates them twice."""

import errno
import json
from math import isclose, nan
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.files import write_text
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Wrapped
from dss.runs import parsed
from dss.runs.seal import intact, sealed

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class LossCache:
    """Losses by point, one table per metric, in one JSON file that is replaced atomically.

    Args:
        file: where the tables are kept; it is read if it is there, and a damaged file counts as empty.
    """

    def __init__(self, file: FilePath):
        self.file = FilePath(file)
        self.tables: dict[str, dict[str, Any]] = _tables(self.file) or {}

    def names(self) -> tuple[str, ...]:
        """Metrics that have a table."""
        return tuple(self.tables)

    def learn(self, name: str, description: str, points: Tensor, losses: Tensor) -> None:
        """Keep losses `(k,)` of points `(k, p)` that were evaluated elsewhere; those that are kept already stay."""
        table = self.tables.setdefault(name, {"description": description, "losses": {}})
        for key, loss in zip(map(_name, points), losses.tolist(), strict=True):
            table["losses"].setdefault(key, loss)

    def save(self) -> None:
        """Write all tables: whoever reads the file sees the old one or the new one, never half of it.

        A folder that is only read keeps nothing.
        """
        try:
            write_text(self.file, json.dumps({name: sealed(table) for name, table in self.tables.items()}))
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise


def is_cache(file: FilePath) -> bool:
    """Whether a file is one of these, and may be replaced."""
    return _tables(file) is not None


def _tables(file: FilePath) -> dict[str, dict[str, Any]] | None:
    """The tables in a file that say what they said when they were written; None for anything but a file of tables."""
    try:
        tables = parsed(file.read_text(encoding="utf-8"), file, finite=False)
    except (OSError, ValueError):
        return None
    if not isinstance(tables, dict) or not all(map(_is_table, tables.values())):
        return None
    return {name: {key: table[key] for key in ("description", "losses")} for name, table in tables.items() if intact(table)}


def _is_table(table: Any) -> bool:
    return (
        isinstance(table, dict)
        and isinstance(table.get("description"), str)
        and isinstance(table.get("losses"), dict)
        and all(isinstance(loss, float) for loss in table["losses"].values())
    )


class Lost(Objective):
    """A loss that cannot be evaluated any more: NaN everywhere."""

    def __call__(self, points: Tensor) -> Tensor:
        return torch.full((len(points),), nan, dtype=torch.float64)


class Remembered(Wrapped):
    """`objective`, looked up where a cache knows the loss of a point; without one, unknown points have loss NaN.

    The first known point that is asked for is evaluated once more: if its loss is not the one kept, the model, loss
    or data have changed and the whole table is forgotten.

    Args:
        cache: where losses are kept; `save` it when done.
        name: the metric's table.
        objective: what is evaluated, or None when it cannot be rebuilt.
    """

    def __init__(self, cache: LossCache, name: str, objective: Objective | None):
        super().__init__(Lost() if objective is None else objective)
        self.lost = objective is None
        self.table = cache.tables.setdefault(name, {"description": "", "losses": {}})
        if objective is not None:
            self.table["description"] = objective.description
        self.checked = self.lost or not self.table["losses"]

    @property
    def description(self) -> str:
        """What the table says it holds."""
        return self.table["description"]

    def __call__(self, points: Tensor) -> Tensor:
        """Losses `(k,)` float64 on the CPU; no gradients."""
        known, keys = self.table["losses"], [_name(row) for row in points]
        if not self.checked:
            self._check(points, keys)
        wanted = {key: row for row, key in enumerate(keys) if key not in known}
        if wanted and not self.lost:
            with torch.no_grad():
                losses = self.objective(points[list(wanted.values())])
            known.update(zip(wanted, losses.double().tolist(), strict=True))
        return torch.tensor([known.get(key, nan) for key in keys], dtype=torch.float64)

    def _check(self, points: Tensor, keys: list[str]) -> None:
        """Forget the table if the loss of the first point in it is no longer what was kept."""
        known = self.table["losses"]
        row = next((row for row, key in enumerate(keys) if key in known), None)
        if row is None:
            return
        with torch.no_grad():
            loss = self.objective(points[row : row + 1]).item()
        if not isclose(known[keys[row]], loss, rel_tol=1e-6, abs_tol=1e-12):
            known.clear()
            known[keys[row]] = loss
        # What was kept stays: evaluated alone, a loss may differ in its last bit, and pages of one run must not.
        self.checked = True


def _name(row: Tensor) -> str:
    """Adding zero makes -0.0 into 0.0: the same point must have the same name."""
    return digest(row + 0)
