"""Read the files of a run folder; whatever is wrong with one is one `RunError` that names it."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dss.base.errors import InputError, RunError
from dss.base.path import Path
from dss.base.quoting import listed, shown
from dss.runs.schema import CURE

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes of beads."""


def read_text(file: FilePath) -> str:
    """A text file.

    Raises:
        RunError: it is not there, is no file, or is not UTF-8.
        OSError: the machine cannot read it.
    """
    if not file.exists():
        raise RunError(f"{file.parent} holds no run: {file.name} is missing")
    if not file.is_file():
        raise RunError(f"{file} is not a file; {CURE}")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{file} is damaged: it is not UTF-8 text ({error.reason} at byte {error.start}); {CURE}") from error


def parsed(text: str, where: object, *, finite: bool = True) -> Any:
    """JSON that is not nested beyond sense; `finite` is as the standard has it, without NaN and infinity.

    Raises:
        RunError: it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_refused if finite else None)
    except (ValueError, RecursionError) as error:
        found = "it is nested too deeply" if isinstance(error, RecursionError) else shown(error, 200)
        raise RunError(f"{where} is damaged: {found}; {CURE}") from error


def read_json(file: FilePath) -> Any:
    """A JSON file.

    Raises:
        RunError: it is not there, or is not JSON.
    """
    return parsed(read_text(file), file)


def read_tensors(file: FilePath) -> dict[str, Tensor]:
    """A safetensors file, on the CPU.

    Raises:
        RunError: it is not there, or is damaged.
        MemoryError: it is larger than memory.
    """
    if not file.is_file():
        raise RunError(f"{file} is {'not a file' if file.exists() else 'missing'}; {CURE}")
    try:
        with plainly_named(file) as plain:
            return load_file(plain)
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # safetensors and torch raise another kind for every way a file can be damaged
        found = shown(f"{type(error).__name__}: {error}", 200)
        raise RunError(f"{file} is not a readable safetensors file: {found}; {CURE}") from error


@contextmanager
def plainly_named(file: FilePath) -> Iterator[FilePath]:
    """A name of the file that is UTF-8: safetensors opens no other, and file systems have them."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = FilePath(folder) / "link"
            link.symlink_to(file.absolute())
            yield link
    else:
        yield file


def read_path(file: FilePath, names: Sequence[str]) -> tuple[Path, dict[str, tuple[int, ...]]]:
    """A path with one entry (n_beads, *shape) for each of some parameters, and the parameters' shapes.

    Raises:
        RunError: an entry is missing, is of another shape or dtype, or holds NaN or infinity.
    """
    tensors = read_tensors(file)
    missing, foreign = [n for n in names if n not in tensors], [n for n in tensors if n not in names]
    if missing or foreign:
        raise RunError(
            f"{file} needs one entry for each parameter of its run; "
            f"missing: {listed(missing) or 'none'}; unexpected: {listed(foreign) or 'none'}; {CURE}"
        )
    return stacked(tensors, names, file), {name: tuple(tensors[name].shape[1:]) for name in names}


def stacked(tensors: dict[str, Tensor], names: Sequence[str], file: FilePath) -> Path:
    """The path that named tensors (n_beads, *shape) are.

    Raises:
        RunError: they are none.
    """
    counts, dtypes = {_beads(tensors[name]) for name in names}, {tensors[name].dtype for name in names}
    if len(counts) != 1 or min(counts) < 2 or len(dtypes) != 1 or not dtypes <= set(REAL):
        found = f"{' and '.join(map(str, sorted(counts)))} beads of {' and '.join(sorted(map(str, dtypes)))}"
        raise RunError(
            f"{file} needs two beads or more of one real dtype in every entry; unequal bead counts are no path: got {found}; {CURE}"
        )
    count = counts.pop()
    try:
        return Path([torch.cat([tensors[name][i].reshape(-1) for name in names]) for i in range(count)])
    except InputError as error:
        raise RunError(f"{file} is damaged: {error}; {CURE}") from error


def _beads(tensor: Tensor) -> int:
    """How many there are in an entry; none in a scalar."""
    return tensor.shape[0] if tensor.ndim else 0


def _refused(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")
