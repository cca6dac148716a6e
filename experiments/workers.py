"""Where an experiment's independent parts run: here, in worker processes, or on a Dask cluster; the results are the same."""

import argparse
from concurrent.futures import Executor
from contextlib import AbstractContextManager

import dss


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options `--workers N`, `--dask ADDRESS` and `--threads N`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes on this machine")
    where.add_argument("--dask", metavar="ADDRESS", help="the scheduler of a running Dask cluster that has this folder too")
    parser.add_argument("--threads", type=int, default=1, help="of torch in each process (1); other numbers round sums otherwise")


def executor_of(options: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    """What the options ask for."""
    return dss.parallel.executor(workers=options.workers, dask=options.dask, threads=options.threads)
