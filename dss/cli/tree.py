"""`dss tree`: how many saved models hang together: one page, one run folder for every pair that was searched."""

import argparse
import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from dss.base.digest import digest
from dss.base.errors import RunError
from dss.base.files import write_text
from dss.base.progress import ProgressMeter
from dss.cli.ends import load_ends
from dss.cli.pairs import LOWEST, Setting, Stored, loaded, run_lines, run_pair, searched_of
from dss.cli.progress import add_quiet, meter
from dss.finders import FINDERS
from dss.page.report.tree import write_tree
from dss.parallel import ProcessPool, dask_cluster
from dss.runs import load_run
from dss.runs.checkpoints import save_state
from dss.tasks import Task, load_task
from dss.topology.frame import METHODS, aligned
from dss.topology.growth import LINES, Goals, all_pairs, grow
from dss.topology.searching import Job, Searched
from dss.topology.tree import MergeTree

QUESTION, LINES_KNOWN, RUNS, ALIGNED = "tree-question.json", "lines.jsonl", "pairs", "aligned"
# Merges that are printed, highest first; --json has them all.
SHOWN = 20
TREE, NEWICK, MATRIX, REPORT = "tree.json", "tree.nwk", "matrix.csv", "report.html"


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "tree", help="how many saved models hang together below every threshold",
        description="Exit code 0: the tree was grown, whatever it says; 2: bad input.",
    )  # fmt: skip
    parser.add_argument("points", type=Path, nargs="+", metavar="MODEL", help="weights of one architecture")
    parser.add_argument("--task", required=True, help="a built-in name (see dss tasks), file.py:name or package.module:name")
    parser.add_argument("--out", type=Path, required=True, help="a folder: the tree, its page, one run folder a pair")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all-pairs", action="store_true", help="search every pair, not only those that the tree rests on")
    which.add_argument(
        "--trajectory",
        action="store_true",
        help="the models are checkpoints of one training run, in order: search each and the next",
    )
    parser.add_argument("--align", choices=METHODS, help="first put every model's units in the order closest to the others'")
    parser.add_argument(
        "--finder", choices=(LOWEST, *FINDERS), default=LOWEST,
        help="what looks for a path at a level (default: pulling tight, then a climbing band)",
    )  # fmt: skip
    parser.add_argument(
        "--close", type=float, default=0.05,
        help="a straight line within this share of its floor, the higher end's loss, is not searched (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--aim", type=float, default=0.01, help="a search stops within this share of the floor (default: %(default)s)"
    )
    parser.add_argument("--prove", choices=("auto", "always", "never"), default="auto", help="as for dss connect")
    parser.add_argument(
        "--grid", type=int, default=20, help="intervals of the first grid on every segment (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: %(default)s)")
    parser.add_argument(
        "--buffers",
        choices=("recalibrate", "frozen"),
        default="recalibrate",
        help="as for dss connect; frozen at the first model's",
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default: %(default)s)")
    _add_workers(parser.add_argument_group("where the pairs are searched"))
    parser.add_argument("--no-pages", action="store_true", help="no page for every pair, only the tree's")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with an interrupted tree, or with more models than it had")
    existing.add_argument("--overwrite", action="store_true", help="replace a tree in the folder")
    parser.add_argument("--json", action="store_true", help="print the tree alone, as JSON")
    add_quiet(parser)
    parser.set_defaults(run=run)


def _add_workers(group: argparse._ArgumentGroup) -> None:
    where = group.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: this one alone)")
    where.add_argument("--dask", metavar="ADDRESS", help="the scheduler of a running Dask cluster that shares the folder")
    group.add_argument("--threads", type=int, metavar="N", help="of torch in each process (default: the cores divided)")


def run(options: argparse.Namespace) -> int:
    """Grow the tree, write it down, print it."""
    _begin(options)
    task = load_task(options.task, draws=options.seed)
    points = load_points(options.points, task, options.device)
    files = [file.resolve() for file in options.points]
    if options.align:
        points, files = _aligned(options, points)
    names = unique_names(options.points)
    setting = Setting(
        task=_absolute(options.task), reference=str(options.points[0].resolve()), dtype=str(points.dtype)[6:], seed=options.seed,
        finder=options.finder, grid=options.grid, prove=options.prove, buffers=options.buffers, device=options.device,
        pages=not options.no_pages,
    )  # fmt: skip
    stored = [Stored(str(file), digest(point)) for file, point in zip(files, points, strict=True)]
    with _executor(options) as executor:
        crew = Crew(setting, stored, names, options.out, executor, meter(options))
        judge = loaded(setting).judge
        tree = grow(
            judge, points, crew.lines(), crew.search, pairs=_pairs(options), names=names, goals=Goals(options.close, options.aim),
            obstructions=getattr(task, "obstructions", ()), prove=options.prove != "never", seed=options.seed,
        )  # fmt: skip
    _write(tree, judge.description, options)
    print(json.dumps(tree.as_json() | {"judge": judge.description}, indent=2) if options.json else words(tree, options))
    return 0


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
            for part, values in self._done(
                [partial(run_lines, self.setting, *_compact(self.stored, part)) for part in parts], parts
            ):
                found = [[*self._key(pair), value] for pair, value in zip(part, values, strict=True)]
                out.write("".join(json.dumps(line) + "\n" for line in found))
                known |= {(first, second): value for first, second, value in found}
                stage.report(len(known))
        return [known[self._key(pair)] for pair in pairs]

    def search(self, jobs: Sequence[Job]) -> Iterator[Searched]:
        """Every job's run folder, gone on with or begun."""
        tasks = [partial(run_pair, self.setting, self._ends(job), job, str(self.folder(job))) for job in jobs]
        with self.progress.stage("tree", "pairs") as stage:
            for done, (job, folder) in enumerate(self._done(tasks, jobs), 1):
                found = searched_of(load_run(folder), job)
                stage.report(done, f"of {len(jobs)}: {' and '.join(self.names[i] for i in job.pair)} below {found.upper:.4g}")
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
        if self.executor is None:
            for task, subject in zip(tasks, subjects, strict=True):
                yield subject, task()
            return
        futures = {self.executor.submit(task): subject for task, subject in zip(tasks, subjects, strict=True)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def load_points(files: Sequence[Path], task: Task, device: str) -> Tensor:
    """The points `(K, p)` in files, which must share all that the model does not train.

    Raises:
        CheckpointError: a file cannot be used, is of another architecture, or disagrees with the first one.
    """
    rows = [load_ends(files[0], file, task, device).end for file in files]
    dtype = torch.float64 if any(row.dtype == torch.float64 for row in rows) else rows[0].dtype
    return torch.stack([row.to(dtype) for row in rows])


def unique_names(files: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell files apart; a file that is named twice is numbered."""
    plain: list[tuple[str, ...]] = [file.resolve().with_suffix("").parts for file in files]
    depth = 1
    while depth < max(map(len, plain)) and len({p[-depth:] for p in plain}) < len(set(plain)):
        depth += 1
    names = ["-".join(part.strip("/") for part in parts[-depth:]) for parts in plain]
    return [name if names.count(name) == 1 else f"{name}-{names[: i + 1].count(name)}" for i, name in enumerate(names)]


def words(tree: MergeTree, options: argparse.Namespace) -> str:
    """The tree for people."""
    top = max(merge.height for merge in tree.merges) if tree.merges else tree.births.max().item()
    lines = [f"{len(tree)} models at or below {top:.6g}: {tree.components_in_words(top)}"]
    if options.align:
        lines.append(f"  modulo symmetry      copies with reordered units, in {options.out / ALIGNED}")
    for merge in tree.merges[: -SHOWN - 1 : -1]:
        known = "proved" if merge.proven else "sampled"
        lines.append(
            f"  {merge.height:<12.6g} {tree.names[merge.dead]} joins {tree.names[merge.survivor]} ({known}; not below {merge.lower:.6g}; "
            f"persistence {merge.persistence:.4g})"
        )
    searched = sum(1 for s in tree.searches if s.finder != "straight")
    lines.append(f"  searched             {searched} of {len(all_pairs(len(tree)))} pairs; the others are straight lines")
    lines.append(f"  page                 {(options.out / REPORT).resolve().as_uri()}")
    return "\n".join(lines)


def _pairs(options: argparse.Namespace) -> str:
    return "all" if options.all_pairs else "chain" if options.trajectory else "tree"


def _executor(options: argparse.Namespace) -> AbstractContextManager[Executor | None]:
    if options.dask is not None:
        return dask_cluster(options.dask)
    if options.workers is not None:
        return ProcessPool(options.workers, threads=options.threads)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return nullcontext()


def _begin(options: argparse.Namespace) -> None:
    """Refuse a folder in which a tree would destroy something; remember the question."""
    out, file = options.out, options.out / QUESTION
    kept = ("task", "align", "finder", "close", "aim", "prove", "grid", "seed", "buffers", "device")
    question = {name: getattr(options, name) for name in kept} | {"task": _absolute(options.task)}
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; a folder for the tree is needed")
    if file.exists() and options.overwrite:
        for name in (RUNS, ALIGNED):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (QUESTION, LINES_KNOWN, TREE, NEWICK, MATRIX, REPORT):
            (out / name).unlink(missing_ok=True)
    if not file.exists() and out.exists() and any(not f.name.startswith(".") for f in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no tree; name a new folder")
    if file.exists():
        _check_same(file, question, resume=options.resume)
    out.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(question, indent=2) + "\n")


def _check_same(file: Path, question: dict, *, resume: bool) -> None:
    if not resume:
        raise RunError(
            f"{file.parent} holds a tree already; say --resume to go on with it, --overwrite to replace it, or name another"
        )
    before = json.loads(file.read_text(encoding="utf-8"))
    differing = sorted(name for name in question if before.get(name) != question[name])
    if differing:
        raise RunError(f"{file.parent} holds a tree with another {', '.join(differing)}; give the same options, or another --out")


def _aligned(options: argparse.Namespace, points: Tensor) -> tuple[Tensor, list[Path]]:
    """The points in one frame, and the files in which workers find them."""
    ends = load_ends(options.points[0], options.points[0], load_task(options.task, draws=options.seed), options.device)
    objective, _ = ends.task.objectives(buffers=options.buffers)
    points = aligned(objective, points, by=options.align, seed=options.seed)
    folder = (options.out / ALIGNED).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.safetensors" for name in unique_names(options.points)]
    for file, point in zip(files, points, strict=True):
        parameters = objective.space.unflatten(point)
        save_state(file, parameters | {alias: parameters[name] for alias, name in objective.space.aliases.items()})
    return points, files


def _absolute(task: str) -> str:
    """A task's name that is understood in every folder."""
    place, colon, name = task.rpartition(":")
    return f"{Path(place).resolve()}:{name}" if colon and place.endswith(".py") else task


def _compact(stored: Sequence[Stored], pairs: Sequence[tuple[int, int]]) -> tuple[list[Stored], list[tuple[int, int]]]:
    """The points that some pairs need, and the pairs by their places among these."""
    needed = sorted({i for pair in pairs for i in pair})
    place = {i: k for k, i in enumerate(needed)}
    return [stored[i] for i in needed], [(place[i], place[j]) for i, j in pairs]


def _read_lines(file: Path) -> Iterator[tuple[tuple[str, str], float]]:
    """The straight lines that a folder knows; the last line may have been cut short."""
    for text in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            first, second, value = json.loads(text)
        except ValueError:
            continue
        yield (first, second), value


def _write(tree: MergeTree, data: str, options: argparse.Namespace) -> None:
    """Everything that the folder says of the tree."""
    out = options.out
    write_text(out / TREE, json.dumps(tree.as_json() | {"judge": data}, indent=2) + "\n")
    write_text(out / NEWICK, tree.to_newick() + "\n")
    rows: Iterable[Sequence[object]] = ([name, *row] for name, row in zip(tree.names, tree.upper.tolist(), strict=True))
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([["", *tree.names], *rows])
    write_text(out / MATRIX, stream.getvalue())
    write_tree(tree, out / REPORT, data=data, trajectory=options.trajectory, aligned=options.align)
