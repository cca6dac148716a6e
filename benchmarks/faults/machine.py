"""A machine that lacks something: memory, a home, an output, letters; and a process that connects two hundred times."""

import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import dss
from benchmarks.faults.apart import apart
from benchmarks.faults.subject import THRESHOLD, Subject, data, network, trained
from benchmarks.faults.trial import trial

GROWTH = 2**25
"""Bytes by which memory may grow over all connections: what the allocator keeps, not what each leaves."""


def run(count: int, seed: int) -> dict:
    """Every lack once, some limits on memory, and so many connections in this process."""
    with trial(seed) as t:
        for fault in (*_lacking(t.subject, t.place), *_little_memory(t.subject, t.place, t.draw)):
            t.found["lacking machines"] += 1
            t.note(fault)
        memory, files = _connections(count)
        t.note(f"memory grew by {memory} bytes over {count} connections" if memory > GROWTH else None)
        t.note(f"{files} more files are open after {count} connections" if files > 0 else None)
        return t.counted | {"connections": count, "memory grew by": memory, "files left open": files}


def _lacking(subject: Subject, place: Path) -> Iterator[str | None]:
    """No home, no letters but ASCII, no output, nobody who reads it, an output that is full."""
    letters = place / "strängé-線\udcff"
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    ascii_only = bare | {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    yield _ends(subject.connect(place / "homeless"), 0, env=bare | {"HOME": "/nonexistent"})
    yield _ends(subject.connect(letters), 0, env=ascii_only)
    yield _ends(["show", str(letters), "--no-open"], 0, env=ascii_only)
    yield _ends(["tasks"], 0, closed=True, env=bare)
    with open("/dev/full", "w", encoding="utf-8") as full:
        yield _ends(["tasks"], 3, env=bare, stdout=full)
    receive, send = os.pipe()
    os.close(receive)
    yield _ends(["tasks"], 3, env=bare, stdout=send)
    os.close(send)


def _ends(
    arguments: list[str], code: int, *, closed: bool = False, stdout: object = subprocess.PIPE, **more: object
) -> str | None:
    """Run a command in a new interpreter; what is wrong with its end."""
    words = [sys.executable, "-m", "dss", *arguments]
    if closed:
        words = ["sh", "-c", '"$@" >&-', "sh", *words]
    ended = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, check=False, **more)  # pyright: ignore[reportCallIssue, reportArgumentType]
    err = ended.stderr.decode(errors="replace")
    if ended.returncode == code and "Traceback" not in err:
        return None
    return (
        f"dss {arguments[0]} {'with its output closed ' if closed else ''}ends with {ended.returncode}, not {code}: {err[-300:]}"
    )


def _little_memory(subject: Subject, place: Path, draw: random.Random) -> Iterator[str | None]:
    """Address space for little more than the process has: the end is 0, or 3 and one line."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    for i in range(6):
        room = used + draw.randrange(2**20, 2**26)

        def limit(room: int = room) -> None:
            resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))

        ended = apart(subject.connect(place / f"small{i}"), before=limit)
        fine = ended.fault is None and ended.code in (0, 3)
        yield None if fine else f"{(room - used) >> 20} MB more: {ended.fault} {ended.code} {ended.err[-300:]}"


def _connections(count: int) -> tuple[int, int]:
    """How much memory, and how many open files, as many connections leave behind; the first tenth warms up."""
    x, y = data()
    a, b = (trained(seed).state_dict() for seed in (0, 1))

    def connect() -> None:
        objective = dss.NetworkObjective(network(), torch.nn.functional.mse_loss, (x, y))
        dss.connect(objective, a, b, threshold=THRESHOLD, prove="never", grid=4, limits=dss.Limits(rounds=2))

    return _left_by(connect, max(1, count // 10), count)


def _left_by(work: Callable[[], None], first: int, count: int) -> tuple[int, int]:
    for _ in range(first):
        work()
    before = _held()
    for _ in range(count - first):
        work()
    after = _held()
    return after[0] - before[0], after[1] - before[1]


def _held() -> tuple[int, int]:
    """Resident bytes and open files of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize(), len(list(Path("/proc/self/fd").iterdir()))
