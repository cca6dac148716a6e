"""Where the independent parts of a command's work run: options that several commands share."""

import argparse
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path

from dss.parallel import executor


def add_workers(group: argparse._ActionsContainer) -> None:
    """The options `--workers N`, `--dask ADDRESS` and `--threads N`."""
    where = group.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: this one alone)")
    where.add_argument("--dask", metavar="ADDRESS", help="the scheduler of a running Dask cluster that shares the folder")
    group.add_argument("--threads", type=int, metavar="N", help="of torch in each process (default: the cores divided)")


def executor_of(options: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    """What the options ask for."""
    return executor(workers=options.workers, dask=options.dask, threads=options.threads)


def absolute(task: str) -> str:
    """A task's name that is understood in every folder."""
    place, colon, name = task.rpartition(":")
    return f"{Path(place).resolve()}:{name}" if colon and place.endswith(".py") else task
