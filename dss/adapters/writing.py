"""Write weights: a file, or a folder of the kind that an end came from."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from dss.adapters.folders import ADAPTER_CONFIG
from dss.adapters.reading import located, names_on_disk
from dss.base.errors import CheckpointError, InputError
from dss.base.files import write_atomically
from dss.base.quoting import shown
from dss.base.space import ParameterSpace

# What save_pretrained writes beside the weights; trainers' own states are no part of a model.
BESIDE = (".json", ".txt", ".model", ".jinja")
NOT_BESIDE = ("trainer_state.json", "all_results.json", "train_results.json", "eval_results.json")


def save_state(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as `.safetensors` or, with any other ending, as torch does; atomically."""
    path = Path(path).expanduser()
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if path.suffix == ".safetensors":
        # The format refuses tied tensors: every name gets its own copy.
        write_atomically(path, lambda file: save_file({n: v.clone() for n, v in tensors.items()}, file))
    else:
        write_atomically(path, lambda file: torch.save(tensors, file))


def save_like(
    folder: str | Path, out: str | Path, state: Mapping[str, Tensor], space: ParameterSpace, *, allow: Iterable[str] = ()
) -> None:
    """A folder of the kind of another: its names and dtypes, its configuration copied, these values; safetensors.

    Args:
        folder: one of `save_pretrained`, of a model or of an adapter.
        out: a new or empty folder.
        state: values by the model's names.
        allow: as for `load_checkpoint`.

    Raises:
        CheckpointError: `folder` is no such folder.
        InputError: `out` holds something.
    """
    (source, _), out = located(folder), Path(out).expanduser()
    if not source.is_dir():
        raise CheckpointError(f"{shown(folder)} is a file: there is no configuration to copy; give --out a file, as .safetensors")
    check_folder_free(out)
    entries = names_on_disk(folder, space, allow=allow)
    tensors = {name: _like(value, state.get(own)) for name, (own, value) in entries.items()}
    out.mkdir(exist_ok=True)
    name = "adapter_model.safetensors" if (source / ADAPTER_CONFIG).is_file() else "model.safetensors"
    for file in source.iterdir():
        if file.is_file() and file.suffix in BESIDE and file.name not in NOT_BESIDE and not file.name.endswith(".index.json"):
            shutil.copyfile(file, out / file.name)
    # Last of all: a folder with weights is complete.
    write_atomically(out / name, lambda file: save_file(tensors, file, metadata={"format": "pt"}))


def check_folder_free(out: Path) -> None:
    """Refuse a folder in which something would be replaced.

    Raises:
        InputError: it is not empty, or cannot be made.
    """
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{shown(out)} is not empty; name a new folder")
    if not out.parent.is_dir():
        raise InputError(f"{shown(out)} cannot be made: its folder does not exist")


def _like(old: Tensor, new: Tensor | None) -> Tensor:
    """The new value in the old one's dtype; what the model does not have stays."""
    return (old if new is None else new.detach().cpu().to(old.dtype)).clone(memory_format=torch.contiguous_format)
