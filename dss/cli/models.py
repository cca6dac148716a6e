"""Many checkpoints of one model as the command line gets them: their points, and names to tell them apart."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dss.cli.arithmetic import Arithmetic
from dss.cli.ends import load_ends
from dss.tasks import Task


def load_points(files: Sequence[Path], task: Task, arithmetic: Arithmetic, *, allow: Iterable[str] = ()) -> Tensor:
    """The points `(K, p)` in files, which must share all that the model does not train.

    Raises:
        CheckpointError: a file cannot be used, is of another architecture, or disagrees with the first one.
    """
    rows = [load_ends(files[0], file, task, arithmetic, allow=allow).end for file in files]
    dtype = torch.float64 if any(row.dtype == torch.float64 for row in rows) else rows[0].dtype
    return torch.stack([row.to(dtype) for row in rows])


def unique_names(files: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell files apart; a file that is named twice is numbered."""
    plain: list[tuple[str, ...]] = [file.resolve().with_suffix("").parts for file in files]
    depth = 1
    while depth < max(map(len, plain)) and len({p[-depth:] for p in plain}) < len(set(plain)):
        depth += 1
    names = ["-".join(part.strip("/") for part in parts[-depth:]) for parts in plain]
    return [name if names.count(name) == 1 else f"{name}-{names[: i + 1].count(name)}" for i, name in enumerate(names)]
