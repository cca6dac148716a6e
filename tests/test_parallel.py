"""Executors: the same results whatever the workers, and whatever happens to them."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import dss
from dss import parallel
from dss.parallel import ProcessPool, dask_cluster


def killed_at_first(marker: str, value: int) -> tuple[int, int]:
    """A task whose first worker is killed, as by the system when memory runs out."""
    file = Path(marker)
    if not file.exists():
        file.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return value, torch.get_num_threads()


def killed_always() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refused() -> None:
    raise dss.InputError("no")


def named(file: str) -> int:
    """Say who works, and go on for long."""
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)
    return 0


def worker_and_gpu(folder: str, number: int) -> tuple[int, str]:
    """Who works and which GPUs it sees, once two workers do."""
    Path(folder, str(number)).write_text("")
    wait_for(lambda: len(list(Path(folder).iterdir())) == 2)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_tasks_outlive_a_killed_worker_and_errors_come_back(tmp_path):
    with ProcessPool(2, threads=1) as pool:
        futures = [pool.submit(killed_at_first, str(tmp_path / "marker"), value) for value in range(4)]
        assert [future.result() for future in futures] == [(value, 1) for value in range(4)]
        with pytest.raises(dss.InputError, match="no"):
            pool.submit(refused).result()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(refused)


def test_a_task_that_ends_every_worker_is_given_up(monkeypatch):
    monkeypatch.setattr(parallel, "ATTEMPTS", 2)
    with ProcessPool(1) as pool, pytest.raises(ChildProcessError, match="2 worker processes"):
        pool.submit(killed_always).result()


def test_leaving_a_pool_by_an_error_ends_its_workers(tmp_path):
    with pytest.raises(KeyError), ProcessPool(1) as pool:
        pool.submit(named, str(tmp_path / "pid"))
        wait_for((tmp_path / "pid").exists)
        wait_for(lambda: (tmp_path / "pid").read_text() != "")
        raise KeyError
    assert not alive(int((tmp_path / "pid").read_text()))


def test_workers_end_with_a_killed_parent(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_parallel import named
from dss.parallel import ProcessPool
if __name__ == "__main__":
    ProcessPool(1).submit(named, {str(tmp_path / "pid")!r}).result()
"""
    (tmp_path / "script.py").write_text(script)
    root = str(Path(dss.__file__).parent.parent)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=os.environ | {"PYTHONPATH": root})
    wait_for((tmp_path / "pid").exists)
    wait_for(lambda: (tmp_path / "pid").read_text() != "")
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(pid))


def test_a_tree_does_not_depend_on_its_executor():
    points = torch.tensor(dss.MuellerBrown.minima, dtype=torch.float64)
    search = dss.ElasticBand(climb=True, limits=dss.Limits(rounds=3))
    here = dss.merge_tree(dss.MuellerBrown(), points, search=search, seed=3)
    with ThreadPoolExecutor(2) as threads, ProcessPool(2, threads=torch.get_num_threads()) as processes:
        for executor in (threads, processes):
            there = dss.merge_tree(dss.MuellerBrown(), points, search=search, seed=3, executor=executor)
            assert torch.equal(there.upper, here.upper) and there.merges == here.merges
            assert all(torch.equal(there.paths[pair].beads, path.beads) for pair, path in here.paths.items())


def test_an_engine_that_only_submits_and_answers_will_do():
    points = torch.tensor(dss.DoubleWell.minima, dtype=torch.float64)
    asked = []

    def submit(function, *arguments):
        asked.append(function)
        return SimpleNamespace(result=lambda: function(*arguments))

    tree = dss.merge_tree(dss.DoubleWell(), points, executor=SimpleNamespace(submit=submit))
    assert len(asked) == len(tree.searches) == 1
    assert tree.merges == dss.merge_tree(dss.DoubleWell(), points).merges


def test_tasks_come_back_in_order_wherever_they_ran():
    tasks = [partial(pow, base, 2) for base in range(5)]
    with dss.parallel.executor(workers=2, threads=1) as pool, dss.parallel.executor() as nobody:
        assert nobody is None
        for executor in (pool, nobody):
            assert dss.parallel.in_order(executor, tasks) == [0, 1, 4, 9, 16]
            assert sorted(dss.parallel.as_done(executor, tasks)) == [(i, i * i) for i in range(5)]
    with pytest.raises(dss.InputError, match="not on both"), dss.parallel.executor(workers=1, dask="tcp://nowhere:1"):
        pass


def test_pools_of_nobody_and_clusters_of_nowhere_are_refused(monkeypatch):
    for options in ({"workers": 0}, {"workers": 1, "threads": 0}):
        with pytest.raises(dss.InputError, match="at least one worker"):
            ProcessPool(**options)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(dss.InputError, match=r"pip install 'dynamic-string-sampling\[dask\]'"), dask_cluster("tcp://nowhere:1"):
        pass


@pytest.mark.slow
def test_each_worker_has_a_gpu_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7,9")
    assert parallel.gpus() == ["4", "GPU-7"]
    with parallel.ProcessPool(2, threads=1) as pool:
        seen = dict(future.result() for future in [pool.submit(worker_and_gpu, str(tmp_path), i) for i in range(2)])
    assert sorted(seen.values()) == ["4", "GPU-7"] and len(seen) == 2
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert parallel.gpus() == ["0", "1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert parallel.gpus() == []
