"""Files written whole or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from dss.base.errors import InputError

FAILED_WRITES = ("os error", "I/O error", "PytorchStreamWriter failed", "unexpected pos")
"""What safetensors and torch say of a write that failed."""
UNFINISHED = ".unfinished"
"""In the name of every file that is not in its place yet."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: readers see all of it or none.

    Raises:
        InputError: a folder stands in its place.
        OSError: the machine cannot write it.
    """
    if path.is_dir():
        raise InputError(f"{path} cannot be written: a folder stands in its place; move it away")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED + path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        _written(temporary, write)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _written(temporary: Path, write: Callable[[Path], object]) -> None:
    """Call `write`; what libraries say of a full disk in exceptions of their own is said as the system says it."""
    try:
        write(temporary)
    except (OSError, InputError):
        raise
    except Exception as error:
        if any(words in str(error) for words in FAILED_WRITES):
            raise OSError(f"{temporary.parent} could not be written: {error}") from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, always as UTF-8; what that cannot say (bytes of a file's name) is escaped."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def clear_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written; for whoever writes into the folder alone."""
    for file in folder.glob(f".*{UNFINISHED}*"):
        file.unlink(missing_ok=True)


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse early what would fail or destroy something late.

    Raises:
        InputError: the file exists and must not be overwritten, or its folder does not exist.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: " + ("it is a folder" if path.is_dir() else "its folder does not exist"))
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; name another file, or say --overwrite")


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
