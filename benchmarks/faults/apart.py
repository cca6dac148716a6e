"""Commands in processes of their own: forked, so that torch is not imported a hundred times."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.faults.subject import called

HANG = 60.0
"""Seconds after which a command on a tiny network hangs."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code; None where it was killed or hung.
        out, err: what it printed.
        seconds: it took.
        hung: whether it had to be ended.
    """

    code: int | None
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    hung: bool = False

    @property
    def fault(self) -> str | None:
        """What no command may do, however its files are damaged: a traceback, a hang, an end without an exit code."""
        if self.hung:
            return "hang"
        if self.code is None:
            return "crash"
        return "traceback" if "Traceback" in self.err or "please report" in self.err else None


def apart(arguments: list[str], *, before: Callable[[], object] | None = None, kill_after: float | None = None) -> Ended:
    """Run a command in a forked process.

    Args:
        arguments: of `dss`.
        before: called in that process first, to limit or break it.
        kill_after: seconds after which it gets SIGKILL.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(arguments, before, send))
    began = time.monotonic()
    process.start()
    send.close()
    answered = receive.poll(HANG if kill_after is None else kill_after)
    try:
        result = receive.recv() if answered else None
    except EOFError:  # it died without an answer
        result = None
    hung = not answered and kill_after is None
    if process.pid is not None and process.is_alive() and result is None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    seconds = time.monotonic() - began
    return Ended(None, seconds=seconds, hung=hung) if result is None else Ended(*result, seconds=seconds)


def _work(arguments: list[str], before: Callable[[], object] | None, send: Connection) -> None:
    if before is not None:
        before()
    send.send(called(arguments))
