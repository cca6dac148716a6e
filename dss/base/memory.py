"""How much memory this process may take, and one sentence when it was not enough."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import inf
from pathlib import Path

# Limits of the group that a process is in (cgroups v2 and v1): containers, batch systems.
_GROUP_FILES = ("/sys/fs/cgroup/{group}/memory.max", "/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes")
# Chunks may take this share of the limit; beads, gradients and moments need the rest.
SHARE = 8


@cache
def limit() -> float:
    """Bytes that this process may take at most: the machine's, its group's or its own limit; infinite if nothing tells.

    Read once: what depends on it must not change while a program runs.
    """
    return min(_physical(), _of_group(), _of_process())


def fitting(wanted: int) -> int:
    """`wanted` bytes for a chunk, or less on a machine that has no room for as many: an eighth of its limit.

    So results, which chunks may change by rounding, are the same on all machines that have room.
    """
    most = limit()
    return wanted if most == inf else max(1, min(wanted, int(most) // SHARE))


# What torch and the libraries beneath it say.
OUT_OF_MEMORY = (
    "an't allocate memory",
    "annot allocate memory",
    "not enough memory",
    "out of memory",
    "bad allocation",
    "bad_alloc",
)


def exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch has no class of its own for it on the CPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    )


@contextmanager
def explained(parameters: int, beads: int, samples: int) -> Iterator[None]:
    """Within it, running out of memory is told with what took it.

    Raises:
        MemoryError: in place of what the library underneath raised.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not exhausted(error) or isinstance(error, Exhausted):
            raise
        raise Exhausted(parameters, beads, samples) from error


class Exhausted(MemoryError):
    """Memory ran out; the message says what took it, and what to lower."""

    def __init__(self, parameters: int, beads: int, samples: int):
        most = limit()
        room = "" if most == inf else f" (this process may take {size(most)})"
        super().__init__(
            f"out of memory{room}: a string of {beads} beads of {parameters:,} parameters, judged on {samples:,} samples; fewer beads "
            "(--max-beads), beads on disk (--beads-on-disk), a smaller batch_size of the task, or fewer moving parameters (only=) take less"
        )


def size(count: float) -> str:
    """Bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _physical() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, StopIteration, ValueError):
        return inf


def _of_group() -> float:
    """The least limit of the process's groups and those around them."""
    found = [inf]
    try:
        groups = [line.split(":", 2)[2].strip("/") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except (OSError, IndexError):
        groups = []
    for group in {"", *(str(p) for g in groups for p in (Path(g), *Path(g).parents))}:
        for place in _GROUP_FILES:
            try:
                found.append(int(Path(place.format(group=group)).read_text()))
            except (OSError, ValueError):  # no such file, or "max"
                continue
    return min(found)


def _of_process() -> float:
    """The limit on addresses (`ulimit -v`)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return inf if soft == resource.RLIM_INFINITY else soft
