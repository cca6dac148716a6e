"""One writer at a time in a folder.

`filelock` (which torch brings along) holds a lock of the system's own, which ends with the process however it ends: a kill leaves
none behind. Where a file system knows no such locks it falls back to a file that names process and machine, and breaks it
when that process is gone. Readers take none, so that they work on folders that cannot be written.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dss.base.errors import RunError
from dss.base.files import clear_leftovers, write_text
from dss.base.quoting import shown

LOCK, WRITER = ".lock", ".writer"
PATIENCE = 1.0
"""Seconds for which a writer may keep its name to itself."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Within it this process alone writes into the folder, which is made if it is not there.

    Raises:
        RunError: another process writes into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"{folder} is being written by {_writer(folder)}; wait for it, or end it, or name another folder"
        ) from None
    try:
        clear_leftovers(folder)
        write_text(folder / WRITER, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        (folder / WRITER).unlink(missing_ok=True)
        lock.release()


def _writer(folder: Path) -> str:
    """Who holds the lock, as far as it says."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return shown((folder / WRITER).read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            time.sleep(PATIENCE / 20)  # between its lock and its name
    return "another process"
