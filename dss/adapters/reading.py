"""Read the weights of one network, wherever they come from. A file is hostile until proven otherwise."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from dss.adapters.folders import base_of, files_of
from dss.adapters.kinds import Kind, first_line, kind_of
from dss.adapters.pickles import load_pickle
from dss.adapters.search import Candidate, any_state, fitting, under
from dss.base.errors import CheckpointError, InputError
from dss.base.quoting import listed, shown
from dss.base.space import ParameterSpace


class CheckpointNotice(UserWarning):
    """Something in a checkpoint that was passed over, and that its reader should know of."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One network as stored.

    Attributes:
        point: `(p,)`.
        buffers: the buffers and frozen parameters that came with it, under the model's names.
        dtypes: of the entries that make up the point, as on disk.
        base: of an adapter, what its base is known by; None of anything else.
    """

    point: Tensor
    buffers: dict[str, Tensor]
    dtypes: tuple[str, ...] = ()
    base: str | None = None


def load_state(path: str | Path, *, allow: Iterable[str] = ()) -> dict[str, Tensor]:
    """The state dict of a file or folder, on the CPU, under the names that it has there; no code in it is run.

    Args:
        path: a file, a folder, or either with `:key` behind it.
        allow: full names of more classes in pickles that are passed over.

    Raises:
        CheckpointError: missing, damaged or unsafe, or no state dict in it.
    """
    file, content = _content(path, allow)
    return any_state(file, content)


def load_checkpoint(path: str | Path, space: ParameterSpace, *, adopt: bool = False, allow: Iterable[str] = ()) -> Checkpoint:
    """Point and buffers of a checkpoint, under the names that the model of `space` has; entries that it does not have are
    named in a `CheckpointNotice`.

    Args:
        path: a file, a folder, or either with `:key` behind it.
        adopt: allow frozen parameters with other values than the model's, which the caller gives to the model.
        allow: full names of more classes in pickles that are passed over, such as "my.module.Config".

    Raises:
        CheckpointError: the file cannot be read, or does not fit the model (everything wrong in one message).
    """
    file, content = _content(path, allow)
    found = fitting(file, content, space, size=_size(file))
    state = _named(found, path)
    state = _without_foreign_constants(state, space, path)
    try:
        point = space.flatten(state, adopt=adopt)
    except InputError as error:
        hint = "; if the ends share the rest, move only that: --only PATTERN" if "of another shape" in str(error) else ""
        raise CheckpointError(f"{shown(path)}: {error}{hint}") from error
    beside = {n: state[n].detach().clone() for n in (*space.buffers, *space.frozen) if n in state}
    moving = {str(state[n].dtype).removeprefix("torch.") for n in space.names if n in state}
    return Checkpoint(point, beside, tuple(sorted(moving)), base_of(file) if file.is_dir() else None)


def load_point(path: str | Path, space: ParameterSpace, *, allow: Iterable[str] = ()) -> Tensor:
    """The point `(p,)` of a checkpoint; see `load_checkpoint`."""
    return load_checkpoint(path, space, allow=allow).point


def located(path: str | Path) -> tuple[Path, str | None]:
    """The file or folder, and the key behind it; `~` is the home folder."""
    whole = Path(path).expanduser()
    if _exists(whole):
        return whole, None
    front, colon, _ = str(whole).rpartition(":")
    while colon:
        if front and _exists(Path(front)):
            return Path(front), str(whole)[len(front) + 1 :]
        front, colon, _ = front.rpartition(":")
    return whole, None


def names_on_disk(path: str | Path, space: ParameterSpace, *, allow: Iterable[str] = ()) -> dict[str, tuple[str, Tensor]]:
    """Every entry of a checkpoint by its name on disk: the model's name (empty if it has none), and the tensor."""
    file, content = _content(path, allow)
    found = fitting(file, content, space, size=_size(file))
    return {name: (found.fit.names.get(name, ""), value) for name, value in found.state.items()}


def _exists(path: Path) -> bool:
    try:
        path.stat()
        return True
    except (OSError, ValueError):  # a name that no file can have
        return False


def _content(path: str | Path, allow: Iterable[str]) -> tuple[Path, object]:
    """What a file holds, or the shards of a folder together; below the key, where there is one."""
    place, key = located(path)
    files = files_of(place) if _exists(place) and place.is_dir() else [place]
    parts = [_load(file, allow) for file in files]
    content = parts[0] if len(parts) == 1 else _merged(place, [any_state(f, p) for f, p in zip(files, parts, strict=True)])
    return place, content if key is None else under(place, content, key)


def _size(place: Path) -> int:
    return sum(file.stat().st_size for file in (files_of(place) if place.is_dir() else [place]))


def _merged(folder: Path, shards: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    twice = [name for name, count in Counter(name for shard in shards for name in shard).items() if count > 1]
    if twice:
        raise CheckpointError(f"the shards of {shown(folder)} hold {listed(sorted(twice))} twice: they are not of one model")
    return {name: value for shard in shards for name, value in shard.items()}


def _load(file: Path, allow: Iterable[str]) -> object:
    kind = kind_of(file)
    return _load_safetensors(file) if kind is Kind.SAFETENSORS else load_pickle(file, kind, allow=allow)


def _load_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (no mapping)
    except MemoryError:
        raise
    except Exception as error:  # a header may lie in many ways, and safetensors has an error for each
        raise CheckpointError(f"{shown(file)} is not a readable safetensors file: {first_line(error)}") from error


def _named(found: Candidate, path: str | Path) -> dict[str, Tensor]:
    """The state under the model's names; if all that moves is there, what else there is is named and left out."""
    names = found.fit.names
    state = {own: found.state[name] for name, own in names.items()}
    extra = [name for name in found.state if name not in names]
    if found.fit.missing:
        return state | {name: found.state[name] for name in extra if name not in state}
    if extra:
        warnings.warn(f"{shown(path)}: not in the model, passed over: {listed(extra)}", CheckpointNotice, stacklevel=3)
    return state


def _without_foreign_constants(state: dict[str, Tensor], space: ParameterSpace, path: str | Path) -> dict[str, Tensor]:
    """Without constants of another shape than the model's: a subset moves, and the rest may be another network's."""
    if not space.subset:
        return state
    foreign = [n for n, own in space.frozen.items() if n in state and state[n].shape != own.shape]
    if foreign:
        warnings.warn(
            f"{shown(path)}: constants of another shape than the model's, which keeps its own: {listed(foreign)}",
            CheckpointNotice,
            stacklevel=3,
        )
    return {name: value for name, value in state.items() if name not in foreign}


def dtype_words(*found: Checkpoint, beads: torch.dtype) -> dict[str, object]:
    """What a summary says of numbers: the dtypes of the files and of the beads."""
    return {"files": sorted({d for c in found for d in c.dtypes}), "beads": str(beads).removeprefix("torch.")}
