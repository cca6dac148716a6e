"""How a command ends: one line for people, and an exit code that a script can tell apart.

0    yes: connected, safe, done
1    no: not connected, not safe (which proves nothing)
2    bad input, or the task's own code failed
3    the machine failed: disk, memory, permission; or this program did
128+ a signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dss.base.errors import InputError
from dss.base.memory import exhausted

YES, NO, BAD_INPUT, MACHINE = 0, 1, 2, 3
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# Commands whose work is recorded as it goes, and how it goes on.
RESUMABLE = {"connect": "dss connect ... --resume", "compare": "the same command again", "tree": "dss tree ... --resume"}


class Signalled(BaseException):
    """A signal that asks the process to end; not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def exit_code(command: str, work: Callable[[], int], *, show_traceback: bool = False) -> int:
    """Run a command's work; whatever it raises is said in one line."""
    try:
        with _signals():
            return work()
    except InputError as error:
        _say(f"error: {_one_line(error)}", show_traceback)
        return BAD_INPUT
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MACHINE
    except (OSError, MemoryError) as error:
        _say(f"the machine failed: {_failure(error)}; {_kept(command)}", show_traceback)
        return MACHINE
    except KeyboardInterrupt:
        _say(f"interrupted; {_kept(command)}", False)
        return 128 + signal.SIGINT
    except Signalled as signalled:
        _say(f"ended by {signal.Signals(signalled.number).name}; {_kept(command)}", False)
        return 128 + signalled.number
    except Exception as error:
        if exhausted(error):
            _say(f"the machine failed: {_one_line(error)}; {_kept(command)}", show_traceback)
            return MACHINE
        traceback.print_exc()
        _say("this is an error of dss itself; please report it with the lines above", False)
        return MACHINE


@contextmanager
def _signals() -> Iterator[None]:
    """Within it, signals that ask the process to end unwind it like Ctrl-C does: what is open is closed."""

    def raise_(number: int, _frame: object) -> None:
        raise Signalled(number)

    try:
        before = {number: signal.signal(number, raise_) for number in SIGNALS}
    except ValueError:  # not the main thread, where no handler can be set: the caller's own stay
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kept(command: str) -> str:
    """What is left of the work."""
    if command in RESUMABLE:
        return f"what was recorded is kept, and {RESUMABLE[command]} goes on from there"
    return "nothing was overwritten; run the command again"


def _failure(error: OSError | MemoryError) -> str:
    return "out of memory" if isinstance(error, MemoryError) and not str(error) else _one_line(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _say(text: str, show_traceback: bool) -> None:
    if show_traceback:
        traceback.print_exc()
    print(f"dss: {text}", file=sys.stderr)
