"""Where an experiment's independent parts run: here, in worker processes, or on a Dask cluster; the results are the same."""

import argparse
from concurrent.futures import Executor
from contextlib import AbstractContextManager

import dss.parallel


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The options `--workers N` and `--dask ADDRESS`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes on this machine, one thread each")
    where.add_argument("--dask", metavar="ADDRESS", help="the scheduler of a running Dask cluster that has this folder too")


def executor_of(options: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    """What the options ask for. One thread everywhere: other numbers of threads round sums otherwise."""
    return dss.parallel.executor(workers=options.workers, dask=options.dask, threads=1)
