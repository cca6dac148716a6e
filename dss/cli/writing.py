"""Where a command puts weights: a file, or a folder of the kind that an end came from."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dss.adapters import save_like, save_state
from dss.adapters.writing import check_folder_free
from dss.base.files import check_writable
from dss.base.space import ParameterSpace

ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def add_out(parser: argparse.ArgumentParser, text: str) -> None:
    """`--out` and `--overwrite`."""
    parser.add_argument("--out", type=_expanded, required=True, help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def check_out(options: argparse.Namespace) -> None:
    """Refuse early what would fail or destroy something late.

    Raises:
        InputError: the file or folder cannot be written, or is there.
    """
    if is_folder(options.out):
        check_folder_free(options.out)
    else:
        check_writable(options.out, overwrite=options.overwrite)


def is_folder(out: Path) -> bool:
    """Whether a name means a folder: one that is there, or a name without an ending of weights."""
    return out.is_dir() or (not out.exists() and out.suffix not in ENDINGS)


def write_out(options: argparse.Namespace, state: Mapping[str, Tensor], space: ParameterSpace, *, like: str | Path) -> None:
    """Write the weights.

    Args:
        like: the end whose kind a folder takes.

    Raises:
        CheckpointError: a folder is asked for, and that end was none.
    """
    if is_folder(options.out):
        save_like(like, options.out, state, space, allow=getattr(options, "allow", ()))
    else:
        save_state(options.out, state)


def _expanded(text: str) -> Path:
    return Path(text).expanduser()
