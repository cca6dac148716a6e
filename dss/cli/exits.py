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
from dss.base.quoting import MESSAGE, shown

YES, NO, BAD_INPUT, MACHINE = 0, 1, 2, 3
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# What is left of a command's work, and how it goes on.
RECORDED = "what was recorded is kept, and {} goes on from there"
KEPT = {
    "connect": RECORDED.format("dss connect ... --resume"),
    "compare": RECORDED.format("the same command again"),
    "tree": RECORDED.format("dss tree ... --resume"),
    "shorten": "the run that was to be shortened is as it was; dss shorten ... --resume begins anew, or makes what is missing",
    "certify": "the run keeps the certificate that it had; run the command again",
    "show": "the run is as it was, and the losses evaluated for its page are kept; run the command again",
    "plane": "a page of the grids that were done may be there (--overwrite replaces it); run the command again",
    "demo": "run the command again",
}
NOTHING = "nothing was written; run the command again"


class Signalled(BaseException):
    """A signal that asks the process to end; not an Exception, so that nothing on the way takes it for an error."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def exit_code(command: str, work: Callable[[], int], *, show_traceback: bool = False) -> int:
    """Run a command's work; whatever it raises is said in one line."""
    _let_print_anything()
    try:
        with _signals():
            code = work()
            if sys.stdout is not None:
                sys.stdout.flush()  # what cannot be written is told now, not when the interpreter ends
            return code
    except InputError as error:
        _say(f"error: {_one_line(error)}", show_traceback)
        return BAD_INPUT
    except BrokenPipeError:
        _let_output_go()  # whoever read it has gone
        return MACHINE
    except (OSError, MemoryError) as error:
        _let_output_go()
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


def _let_output_go() -> None:
    """The interpreter must not complain, and change the exit code, when it flushes what nobody takes."""
    try:
        sys.stdout.flush()
    except AttributeError:  # there is none
        pass
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _let_print_anything() -> None:
    """A letter that the terminal's encoding lacks (LANG=C) is escaped, never an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


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
    return KEPT.get(command, NOTHING)


def _failure(error: OSError | MemoryError) -> str:
    return "out of memory" if isinstance(error, MemoryError) and not str(error) else _one_line(error)


def _one_line(error: BaseException) -> str:
    """The message without control characters, and of bounded length: it may quote a file."""
    return shown(" ".join(str(error).split()), MESSAGE) or type(error).__name__


def _say(text: str, show_traceback: bool) -> None:
    if show_traceback:
        traceback.print_exc()
    print(f"dss: {text}", file=sys.stderr)
