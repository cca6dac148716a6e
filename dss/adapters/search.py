"""Which state dict of a file is meant: by its key, or the one that the model's names fit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from dss.adapters.naming import Fit, Names, fits
from dss.adapters.tensors import check_dense
from dss.base.errors import CheckpointError
from dss.base.quoting import listed, shown
from dss.base.space import ParameterSpace

# Where training scripts put the state dict beside their optimizer and epoch.
COMMON_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights"
)  # fmt: skip
DEPTH, VISITED = 5, 2000

State = dict[str, Tensor]


@dataclass(frozen=True)
class Candidate:
    """A mapping with tensors, the keys that lead to it, and how its names fit the model's."""

    key: str
    state: State
    fit: Fit

    @property
    def label(self) -> str:
        """What to type after the file's name and a colon."""
        return ".".join(part for part in (self.key, self.fit.prefix.strip(".")) if part and not part.startswith("+"))


def state_dicts(content: object) -> Iterator[tuple[str, State]]:
    """Every mapping with tensors, by its keys; the outermost first."""
    level: list[tuple[str, object]] = [("", content)]
    visited = 0
    for _ in range(DEPTH):
        inner = []
        for key, value in level:
            if not isinstance(value, Mapping) or (visited := visited + 1) > VISITED:
                continue
            state = {str(n): t for n, t in value.items() if isinstance(t, Tensor)}
            if state:
                yield key, state
            inner += [(f"{key}.{n}" if key else str(n), v) for n, v in value.items() if isinstance(v, Mapping)]
        level = inner


def under(file: Path, content: object, key: str) -> object:
    """What lies under a key, a chain of keys with dots, or a prefix of names.

    Raises:
        CheckpointError: nothing does; the message lists the keys that lead to tensors.
    """
    found = _descend(content, key)
    if found is None:
        known = [k for k, _ in state_dicts(content) if k]
        raise CheckpointError(f"{shown(file)} has nothing under {shown(key)}; it has {listed(known) or 'one bare state dict'}")
    return found


def _descend(content: object, key: str) -> object:
    if not isinstance(content, Mapping):
        return None
    if key in content:
        return content[key]
    parts = key.split(".")
    for i in range(len(parts) - 1, 0, -1):
        if (head := ".".join(parts[:i])) in content:
            return _descend(content[head], ".".join(parts[i:]))
    inside = {n.removeprefix(f"{key}."): v for n, v in content.items() if isinstance(n, str) and n.startswith(f"{key}.")}
    return inside or None


def any_state(file: Path, content: object) -> State:
    """The state dict, bare or under a common key, where no model says what fits.

    Raises:
        CheckpointError: there is none.
    """
    found = dict(state_dicts(content))
    for key in ("", *COMMON_KEYS):
        if key in found:
            return found[key]
    raise CheckpointError(f"{shown(file)} has no state dict, bare or under one of {', '.join(COMMON_KEYS)}; got {_got(content)}")


def fitting(file: Path, content: object, space: ParameterSpace, *, size: int) -> Candidate:
    """The state dict that fits the model; where none does, the one that comes closest.

    Args:
        size: of all that `content` was read from, in bytes.

    Raises:
        CheckpointError: there is none, several fit with different values, or its tensors are no plain numbers.
    """
    names = Names.of(space)
    every = [Candidate(key, state, fit) for key, state in state_dicts(content) for fit in fits(state, names)]
    if not every:
        raise CheckpointError(
            f"{shown(file)} has no state dict, bare or under one of {', '.join(COMMON_KEYS)}; got {_got(content)}"
        )
    whole = [c for c in every if not c.fit.missing]
    for candidate in whole:
        check_dense(file, {name: candidate.state[name] for name in candidate.fit.names}, size)
    shapes = dict(zip(space.names, space.shapes, strict=True))
    chosen = [c for c in whole if _shaped(c, shapes)] or whole
    if not chosen:
        closest = max(every, key=lambda c: (len(c.fit.names), c.key in ("", *COMMON_KEYS)))
        check_dense(file, closest.state, size)
        # Names of which few fit are told as they stand.
        close = 2 * len(closest.fit.missing) < len(space.names)
        return closest if close else replace(closest, fit=replace(closest.fit, names={n: n for n in closest.state}))
    if any(not _same(chosen[0], other) for other in chosen[1:]):
        asked = listed(f"{file}:{c.label}" if c.label else file for c in chosen)
        raise CheckpointError(f"{shown(file)} holds several state dicts that fit the model: name one of {asked}")
    return chosen[0]


def _shaped(candidate: Candidate, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(
        tuple(candidate.state[n].shape) == shapes.get(own, tuple(candidate.state[n].shape))
        for n, own in candidate.fit.names.items()
    )


def _same(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates give the model the same numbers."""
    a, b = ({own: c.state[name] for name, own in c.fit.names.items()} for c in (one, other))
    return all(n not in b or (a[n].shape == b[n].shape and torch.equal(a[n], b[n])) for n in a)


def _got(content: object) -> str:
    return f"keys {listed(content)}" if isinstance(content, Mapping) else type(content).__name__
