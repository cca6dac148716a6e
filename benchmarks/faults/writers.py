"""Two writers in one folder at the same time: one of them is told, and the run is whole."""

from concurrent.futures import ThreadPoolExecutor

from benchmarks.faults.apart import Ended, apart
from benchmarks.faults.kills import different
from benchmarks.faults.trial import trial


def run(count: int, seed: int) -> dict:
    """So many pairs of commands that write into one folder, started together or a little apart."""
    with trial(seed) as t, ThreadPoolExecutor(2) as threads:
        whole = t.place / "whole"
        assert apart(t.subject.connect(whole)).code == 0
        for i in range(count):
            folder = t.place / f"run{i}"
            command = t.subject.connect(folder, "--resume")
            apart(command, kill_after=t.draw.uniform(0.1, 0.5))  # what is there may be unfinished
            ended = list(threads.map(apart, [command, command]))
            t.found["pairs of writers"] += 1
            t.found["one was refused"] += any(one.code == 2 for one in ended)
            wrong = _wrong(ended) or "; ".join(different(whole, folder))
            t.note(wrong and f"pair {i}: {wrong}")
        return t.counted


def _wrong(ended: list[Ended]) -> str | None:
    """One is done; the other is done after it, or was told."""
    codes = sorted(str(one.code) for one in ended)
    if any(one.fault for one in ended) or codes not in (["0", "0"], ["0", "2"]):
        return f"ended with {codes}: {' '.join(one.err[-200:] for one in ended)}"
    told = [one for one in ended if one.code == 2]
    return None if all("is being written by process" in one.err for one in told) else f"not told: {told[0].err[-200:]}"
