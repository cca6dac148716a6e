"""Who works for `dss tree`: tasks go to this process, or to an executor, and leave what they find in the folder."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from dss.base.errors import RunError
from dss.base.progress import ProgressMeter
from dss.cli.pairs import Setting, Stored, run_lines, run_pair, searched_of
from dss.parallel import as_done
from dss.runs import Kind, load_run, parsed, read_text
from dss.topology.jobs import Job
from dss.topology.points import LINES, all_pairs
from dss.topology.searching import Searched

LINES_KNOWN, RUNS = "lines.jsonl", "pairs"
LINE = Kind(
    "two digests and a loss",
    lambda value: isinstance(value, list) and list(map(type, value)) in ([str, str, float], [str, str, int]),
)


class Crew:
    """Hands tasks to whoever works, and collects what they leave in the folder."""

    def __init__(
        self,
        setting: Setting,
        stored: Sequence[Stored],
        names: Sequence[str],
        out: Path,
        executor: Executor | None,
        progress: ProgressMeter,
    ):
        self.setting, self.stored, self.names, self.out = setting, stored, names, out.resolve()
        self.executor, self.progress = executor, progress

    def lines(self) -> list[float]:
        """The straight lines of all pairs, those that the folder does not know yet evaluated and added to it."""
        file, pairs = self.out / LINES_KNOWN, all_pairs(len(self.stored))
        known = dict(_read_lines(file))
        unknown = [pair for pair in pairs if self._key(pair) not in known]
        parts = [unknown[start : start + LINES] for start in range(0, len(unknown), LINES)]
        with self.progress.stage("straight lines", "pairs") as stage, file.open("a", encoding="utf-8") as out:
            stage.expect(len(pairs), len(pairs) - len(unknown))
            for part, values in self._done(
                [partial(run_lines, self.setting, *_compact(self.stored, part)) for part in parts], parts
            ):
                found = [[*self._key(pair), value] for pair, value in zip(part, values, strict=True)]
                out.write("".join(json.dumps(line) + "\n" for line in found))
                known |= {(first, second): value for first, second, value in found}
                stage.report(sum(self._key(pair) in known for pair in pairs))
        return [known[self._key(pair)] for pair in pairs]

    def search(self, jobs: Sequence[Job]) -> Iterator[Searched]:
        """Every job's run folder, gone on with or begun."""
        tasks = [partial(run_pair, self.setting, self._ends(job), job, str(self.folder(job))) for job in jobs]
        with self.progress.stage("tree", "pairs") as stage:
            stage.expect(len(jobs))
            for done, (job, folder) in enumerate(self._done(tasks, jobs), 1):
                found = searched_of(load_run(folder), job)
                stage.report(done, f"{self.names[job.pair[0]]} and {self.names[job.pair[1]]} below {found.upper:.4g}")
                yield found

    def folder(self, job: Job) -> Path:
        """Of a pair: named after its points, whatever others there are."""
        first, second = job.ends
        return (
            self.out
            / RUNS
            / f"{self.names[first]}--{self.names[second]}-{self.stored[first].digest[:4]}{self.stored[second].digest[:4]}"
        )

    def _ends(self, job: Job) -> tuple[Stored, Stored]:
        first, second = job.ends
        return self.stored[first], self.stored[second]

    def _key(self, pair: tuple[int, int]) -> tuple[str, str]:
        return self.stored[pair[0]].digest, self.stored[pair[1]].digest

    def _done(self, tasks: Sequence[partial], subjects: Sequence) -> Iterator[tuple]:
        """(subject, result) of every task, as they end."""
        return ((subjects[number], result) for number, result in as_done(self.executor, tasks))


def _compact(stored: Sequence[Stored], pairs: Sequence[tuple[int, int]]) -> tuple[list[Stored], list[tuple[int, int]]]:
    """The points that some pairs need, and the pairs by their places among these."""
    needed = sorted({i for pair in pairs for i in pair})
    place = {i: k for k, i in enumerate(needed)}
    return [stored[i] for i in needed], [(place[i], place[j]) for i, j in pairs]


def _read_lines(file: Path) -> Iterator[tuple[tuple[str, str], float]]:
    """The straight lines that a folder knows; what is not one, such as a line that was cut short, is evaluated again."""
    for text in read_text(file).splitlines() if file.exists() else ():
        try:
            line = parsed(text, file, finite=False)
        except RunError:
            continue
        if LINE.fits(line):
            first, second, value = line
            yield (first, second), float(value)
