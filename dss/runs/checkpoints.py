"""Read and write the weights of one network. A file is hostile until proven otherwise."""

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dss.base.errors import CheckpointError, InputError
from dss.base.files import write_atomically
from dss.base.space import ParameterSpace

# Where training scripts put the state dict beside their optimizer and epoch.
COMMON_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights")
# What wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a `.pt`, `.pth`, `.ckpt`, `.bin` or `.safetensors` file, on the CPU; no code in it is run.

    Raises:
        CheckpointError: missing or unreadable file, pickled code, or no state dict in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    return _state_dict(path, content)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One network as stored: its point `(p,)`, and the buffers and frozen parameters that came with it."""

    point: Tensor
    buffers: dict[str, Tensor]


def load_checkpoint(path: str | Path, space: ParameterSpace, *, adopt: bool = False) -> Checkpoint:
    """Point and buffers of a checkpoint, under the names that the model of `space` has.

    Args:
        adopt: allow frozen parameters with other values than the model's, which the caller gives to the model.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the model (everything wrong in one message).
    """
    state = _without_prefix(load_state(path), space)
    try:
        beside = (*space.buffers, *space.frozen)
        return Checkpoint(space.flatten(state, adopt=adopt), {name: state[name] for name in beside if name in state})
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_point(path: str | Path, space: ParameterSpace) -> Tensor:
    """The point `(p,)` of a checkpoint; see `load_checkpoint`."""
    return load_checkpoint(path, space).point


def save_state(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as `.safetensors` or, with any other ending, as torch does; atomically."""
    path = Path(path)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if path.suffix == ".safetensors":
        # The format refuses tied tensors: every name gets its own copy.
        write_atomically(path, lambda file: save_file({n: v.clone() for n, v in tensors.items()}, file))
    else:
        write_atomically(path, lambda file: torch.save(tensors, file))


def _load_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {_first_line(error)}") from error


def _load_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of unusual pickles before it refuses them
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged, and is not loaded: that could run code; "
            "save model.state_dict() alone"
        ) from error
    except Exception as error:  # torch raises a different kind for every way a file can be damaged
        raise CheckpointError(f"{path} is not a readable checkpoint: {_first_line(error)}") from error


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict itself, bare or under a common key."""
    for key in (None, *COMMON_KEYS):
        found = content if key is None else content.get(key) if isinstance(content, Mapping) else None
        if isinstance(found, Mapping) and found and all(isinstance(value, Tensor) for value in found.values()):
            return {str(name): value for name, value in found.items()}
    got = f"keys {', '.join(map(repr, list(content)[:6]))}" if isinstance(content, Mapping) else type(content).__name__
    raise CheckpointError(f"{path} has no state dict, bare or under one of {', '.join(COMMON_KEYS)}; got {got}")


def _without_prefix(state: dict[str, Tensor], space: ParameterSpace) -> dict[str, Tensor]:
    """Names as the model has them: a prefix that all names share and the model does not is taken off, again and again."""
    known = {*space.names, *space.aliases, *space.buffers, *space.frozen}
    for _ in PREFIXES:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None or known & set(state):
            return state
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
