"""Disks that are full, and folders that may only be read: does a command say so, keep what there is, and go on?

As root, on Linux, the disk is a small file system in memory that is filled and emptied; elsewhere writes fail by a limit on the
size of files.
"""

import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.apart import Ended, apart
from benchmarks.faults.kills import different
from benchmarks.faults.subject import Subject
from benchmarks.faults.trial import trial

ROOM = 2**23
"""Bytes of the disk: a run folder and its page."""


def run(count: int, seed: int) -> dict:
    """So many moments at which the disk is full; then it has room, and the command is run again."""
    with trial(seed) as t:
        whole = t.place / "whole" / "run"
        assert apart(t.subject.connect(whole)).code == 0
        room = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file())
        for i in range(count):
            # Half of the moments lie in the search, whose files are small beside the page.
            free = t.draw.randrange(room) if i % 2 else t.draw.randrange(min(room, 2**16))
            fault = _filled(t.subject, t.place / f"disk{i}", free, whole)
            t.found.update(("full disks", "faults" if fault else "resumed to the same run"))
            t.note(fault and f"{free} bytes free: {fault}")
        for fault in _only_read(t.subject, whole, t.place / "readable"):
            t.found["commands in a folder only read"] += 1
            t.note(fault and f"a folder that is only read: {fault}")
        return t.counted


def _filled(subject: Subject, disk: Path, free: int, whole: Path) -> str | None:
    """Connect on a disk with so much room, then with enough; what went wrong, if anything did."""
    with _disk(disk, free) as (limited, relieved):
        first = apart(subject.connect(disk / "run"), before=limited)
        wrong = _unlike_a_full_disk(first)
        if wrong is not None:
            return wrong
        relieved()
        again = apart(subject.connect(disk / "run", *(["--resume"] if (disk / "run").exists() else [])))
        if again.code != 0 or again.fault:
            return f"cannot be gone on with: {again.code}, {again.err[-200:]}"
        return "; ".join(different(whole, disk / "run")) or None


def _unlike_a_full_disk(ended: Ended) -> str | None:
    """A full disk is exit code 3, unless all was written that had to be."""
    if ended.fault is not None or ended.code not in (0, 3):
        return f"{ended.fault or 'exit code'} {ended.code}: {ended.err[-300:]}"
    return None if ended.code == 0 or "the machine failed" in ended.err else f"it does not say so: {ended.err[-300:]}"


@contextmanager
def _disk(folder: Path, free: int) -> Iterator[tuple]:
    """A folder with so many bytes of room; yields what to call in the process that shall feel it, and what gives room."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM * 4}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        try:
            size = max(4096, free)
            subprocess.run(["mount", "-o", f"remount,size={size}", folder], capture_output=True, check=True)
            yield (
                None,
                lambda: subprocess.run(["mount", "-o", f"remount,size={ROOM * 4}", folder], capture_output=True, check=True),
            )
        finally:
            subprocess.run(["umount", folder], capture_output=True, check=False)
        return
    yield (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (free, resource.RLIM_INFINITY))), lambda: None
    shutil.rmtree(folder)


def _only_read(subject: Subject, whole: Path, folder: Path) -> Iterator[str | None]:
    """Commands that read work on a folder that cannot be written; the others say why they do not."""
    shutil.copytree(whole.parent, folder)
    run, out = str(folder / "run"), folder.parent
    commands: list[tuple[list[str], int]] = [
        (["show", run, "--no-open", "--plane", "0", "--out", str(out / "page.html"), "-q"], 0),
        (["export", run, "--bead", "0", "--out", str(out / "bead.pt")], 0),
        (["figure", run, "--which", "loss", "--out", str(out / "loss.csv"), "-q"], 0),
        (["certify", run, "--threshold", "0.5", "-q"], 0),
        (["shorten", run, "--out", str(out / "short"), "--prove", "never", "-q"], 0),
        (["show", run, "--no-open", "--plane", "0", "-q"], 3),
        (subject.connect(folder / "other"), 3),
        (["certify", run, "-q"], 3),
    ]
    with _locked(folder) as locked:
        for arguments, code in commands if locked else ():
            ended = apart(arguments)
            yield None if ended.code == code and not ended.fault else f"{arguments[0]} ends with {ended.code}: {ended.err[-200:]}"


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """The folder without leave to write; False where that cannot be had (root writes anywhere, but to a mount)."""
    mounted = subprocess.run(["mount", "--bind", "-o", "ro", folder, folder], capture_output=True, check=False)
    if mounted.returncode == 0:
        try:
            yield True
        finally:
            subprocess.run(["umount", folder], capture_output=True, check=False)
        return
    entries = [folder, *folder.rglob("*")]
    before = {entry: entry.stat().st_mode for entry in entries}
    for entry in entries:
        entry.chmod(before[entry] & ~0o222)
    try:
        yield not _writable(folder)
    finally:
        for entry in entries:
            entry.chmod(before[entry])


def _writable(folder: Path) -> bool:
    try:
        (folder / ".probe").touch()
    except OSError:
        return False
    (folder / ".probe").unlink()
    return True
