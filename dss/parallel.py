"""Where independent tasks run: in processes on this machine, or on a Dask cluster; both are `concurrent.futures` executors.

    with dss.parallel.ProcessPool(4) as pool:
        tree = dss.merge_tree(train, points, executor=pool)

Whoever submits says nothing of where and when: a task is a function of its arguments alone, so results do not depend on it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any

import torch

from dss.base.errors import InputError

# A task whose worker ended so often is taken to be what ends it: by too much memory, say.
ATTEMPTS = 5
# Seconds to wait for a Dask scheduler.
PATIENCE = 30


@dataclass
class _Task:
    """A call, the future that the caller holds, and how many workers it has outlived."""

    call: Callable[[], Any]
    future: Future = field(default_factory=Future)
    attempts: int = 0


class ProcessPool(Executor):
    """Worker processes on this machine. A task whose worker is killed is given to another one, and so are those that waited.

    Processes are spawned, never forked: torch's threads do not survive a fork. What is submitted is pickled. Where there are
    several GPUs, each worker sees one of them, in turn, as "cuda".

    Args:
        workers: how many.
        threads: of torch in each; the cores divided by default. Sums of floating-point numbers may be rounded otherwise by
            other numbers of threads, so the same bits need the same number.

    Raises:
        InputError: less than one of either.
    """

    def __init__(self, workers: int, *, threads: int | None = None):
        threads = max(1, (os.cpu_count() or 1) // max(1, workers)) if threads is None else threads
        if workers < 1 or threads < 1:
            raise InputError(f"a pool needs at least one worker and one thread in each, got {workers} and {threads}")
        self.workers, self.threads = workers, threads
        self._lock = threading.Lock()
        self._gpus, self._begun = gpus(), multiprocessing.get_context("spawn").Value("i", 0)
        self._closed = False
        self._pool = self._fresh()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call `fn(*args, **kwargs)` in a worker.

        The future's exception is a `ChildProcessError` if every worker that tried was killed.
        """
        if self._closed:
            raise RuntimeError("this pool was shut down")
        task = _Task(partial(fn, *args, **kwargs))
        task.future.set_running_or_notify_cancel()  # as far as the caller is concerned: a retry must not be cancelled half-way
        self._start(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more; without `wait`, or with `cancel_futures`, workers are ended in the middle of what they do."""
        self._closed = True
        if not wait or cancel_futures:
            # Private, but there is no other way before Python 3.14: shutting down a pool waits for what is running.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
            initargs=(self.threads, self._gpus, self._begun),
        )

    def _start(self, task: _Task) -> None:
        """Hand a task to the pool, to a new one if the present one is broken."""
        with self._lock:
            try:
                inner = self._pool.submit(task.call)
            except BrokenProcessPool:
                self._pool = self._fresh()
                inner = self._pool.submit(task.call)
            pool = self._pool
        inner.add_done_callback(partial(self._done, task, pool))

    def _done(self, task: _Task, pool: ProcessPoolExecutor, inner: Future) -> None:
        """Pass a result on; start a task anew whose pool broke. Runs in a thread of that pool."""
        if inner.cancelled():
            task.future.set_exception(RuntimeError("this pool was shut down"))
        elif (error := inner.exception()) is None:
            task.future.set_result(inner.result())
        elif not isinstance(error, BrokenProcessPool) or self._closed:
            task.future.set_exception(error)
        else:
            self._retry(task, pool)

    def _retry(self, task: _Task, pool: ProcessPoolExecutor) -> None:
        task.attempts += 1
        if task.attempts >= ATTEMPTS:
            task.future.set_exception(
                ChildProcessError(f"{task.attempts} worker processes were killed at one task; is there too little memory?")
            )
            return
        with self._lock:
            # The broken pool cleans up after itself; calling it from its own thread could wait for ever.
            if self._pool is pool:
                self._pool = self._fresh()
        self._start(task)


@contextmanager
def executor(*, workers: int | None = None, dask: str | None = None, threads: int | None = None) -> Iterator[Executor | None]:
    """Where tasks run: worker processes, a Dask cluster, or, with neither, None for this process.

    Args:
        workers: how many processes on this machine.
        dask: the address of a Dask scheduler.
        threads: of torch in each process; the cores divided among processes by default. Dask's workers have their own.

    Raises:
        InputError: both are wanted, or one cannot be had.
    """
    if workers is not None and dask is not None:
        raise InputError("tasks run in worker processes or on a Dask cluster, not on both: leave out one")
    if dask is not None:
        with dask_cluster(dask) as cluster:
            yield cluster
    elif workers is not None:
        with ProcessPool(workers, threads=threads) as pool:
            yield pool
    else:
        if threads is not None:
            torch.set_num_threads(threads)
        yield None


def as_done(executor: Executor | None, tasks: Sequence[Callable[[], Any]]) -> Iterator[tuple[int, Any]]:
    """(number, result) of every task, as they end; one after the other in this process where there is no executor."""
    if executor is None:
        for number, task in enumerate(tasks):
            yield number, task()
        return
    futures = {executor.submit(task): number for number, task in enumerate(tasks)}
    for future in as_completed(futures):
        yield futures[future], future.result()


def in_order(executor: Executor | None, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of tasks, in the order of the tasks wherever they ran."""
    return [result for _, result in sorted(as_done(executor, tasks), key=itemgetter(0))]


@contextmanager
def dask_cluster(address: str) -> Iterator[Executor]:
    """The workers of a running Dask cluster as an executor; a task whose worker is lost is given to another one.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.1:8786".

    Raises:
        InputError: `distributed` is not installed, or no scheduler answers there.
    """
    try:
        from distributed import Client  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("a Dask cluster needs the extra dask: pip install 'dynamic-string-sampling[dask]'") from error
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: {type(error).__name__}: {error}") from error
    with client:
        # Every call is a task of its own: the same arguments may meet other files the next time.
        yield client.get_executor(pure=False, retries=ATTEMPTS)


def gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()  # as long as none is used, this starts nothing on them
    return [str(number) for number in range(count)] if named is None else named.split(",")[:count]


def _begin_worker(threads: int, gpus: Sequence[str], begun: Any) -> None:
    """What every worker does first."""
    torch.set_num_threads(threads)
    if len(gpus) > 1:
        with begun.get_lock():
            number, begun.value = begun.value, begun.value + 1
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(number) % len(gpus)]  # read when CUDA starts, which it did not yet
    # Ctrl-C reaches workers too. What they do is recorded as it goes, so they end at once, and quietly.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """End this process when its parent has: killed, it cannot tell its workers to."""
    parent.join()
    os._exit(1)
