"""`dss tree`: how many saved models hang together: one page, one run folder for every pair that was searched."""

import argparse
import csv
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from torch import Tensor

from dss.adapters import save_state
from dss.base.digest import digest
from dss.base.errors import RunError
from dss.base.files import write_text
from dss.base.plain_json import as_json
from dss.cli.answers import answer
from dss.cli.arithmetic import Arithmetic, add_arithmetic
from dss.cli.config import as_toml
from dss.cli.crew import LINES_KNOWN, RUNS, Crew
from dss.cli.ends import add_buffers, add_reading, load_ends, with_subset
from dss.cli.models import load_points, unique_names
from dss.cli.pairs import LOWEST, Setting, Stored, loaded
from dss.cli.progress import meter
from dss.cli.workers import absolute, add_workers, executor_of
from dss.finders import FINDERS
from dss.page.report.tree import counted, write_tree
from dss.runs import read_json, writing
from dss.runs.layout import OPTIONS
from dss.tasks import Task, load_task
from dss.topology.frame import METHODS, aligned
from dss.topology.growth import grow
from dss.topology.jobs import Goals
from dss.topology.points import all_pairs
from dss.topology.tree import MergeTree

QUESTION, ALIGNED = "tree-question.json", "aligned"
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
    parser.add_argument(
        "--retries", type=_count, default=0,
        help="search another pair across what stayed above its lower value, so often (default: %(default)s)",
    )  # fmt: skip
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
    add_buffers(parser)
    add_arithmetic(parser)
    add_reading(parser)
    add_workers(parser.add_argument_group("where the pairs are searched"))
    parser.add_argument("--no-pages", action="store_true", help="no page for every pair, only the tree's")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on with an interrupted tree, or with more models than it had")
    existing.add_argument("--overwrite", action="store_true", help="replace a tree in the folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Grow the tree, write it down, print it."""
    _check_folder(options)
    goals = Goals(options.close, options.aim)
    task = _task(options)
    points = load_points(options.points, task, Arithmetic.of(options), allow=options.allow)
    with writing(options.out), executor_of(options) as executor:
        _begin(options)
        tree, data = _grown(options, points, goals, task.obstructions, executor)
        _write(tree, data, options)
    answer(options, tree.as_json() | {"judge": data}, words(tree, options))
    return 0


def _grown(
    options: argparse.Namespace, points: Tensor, goals: Goals, obstructions: Sequence, executor: Executor | None
) -> tuple[MergeTree, str]:
    """The tree, and what judged it."""
    files = [file.resolve() for file in options.points]
    if options.align:
        points, files = _aligned(options, points)
    names = unique_names(options.points)
    setting = Setting(
        task=absolute(options.task), reference=str(options.points[0].resolve()), dtype=str(points.dtype)[6:], seed=options.seed,
        finder=options.finder, grid=options.grid, prove=options.prove, buffers=options.buffers, device=options.device, autocast=options.autocast,
        pages=not options.no_pages, only=options.only, allow=tuple(options.allow),
    )  # fmt: skip
    stored = [Stored(str(file), digest(point)) for file, point in zip(files, points, strict=True)]
    crew = Crew(setting, stored, names, options.out, executor, meter(options))
    judge = loaded(setting).judge
    tree = grow(
        judge, points, crew.lines(), crew.search, pairs=_pairs(options), names=names, retries=options.retries, goals=goals,
        obstructions=obstructions, prove=options.prove != "never", seed=options.seed,
    )  # fmt: skip
    return tree, judge.description


def words(tree: MergeTree, options: argparse.Namespace) -> str:
    """The tree for people."""
    top = max(merge.height for merge in tree.merges) if tree.merges else tree.births.max().item()
    lines = [f"{counted(len(tree))} at or below {top:.6g}: {tree.components_in_words(top)}"]
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


def _count(text: str) -> int:
    """A whole number that is not negative."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"a number of at least 0 is needed, got {text}")
    return number


def _task(options: argparse.Namespace) -> Task:
    return with_subset(load_task(options.task, draws=options.seed), options.only)


def _pairs(options: argparse.Namespace) -> str:
    return "all" if options.all_pairs else "chain" if options.trajectory else "tree"


def _question(options: argparse.Namespace) -> dict:
    """What a tree answers: with the same question it may be resumed, with these or with more models."""
    kept = ("align", "finder", "close", "aim", "prove", "grid", "seed", "buffers", "device", "dtype", "autocast", "only")
    return {"task": absolute(options.task), **{name: getattr(options, name) for name in kept}}


def _check_folder(options: argparse.Namespace) -> None:
    """Refuse a folder in which a tree would destroy something."""
    out, file = options.out, options.out / QUESTION
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; a folder for the tree is needed")
    if file.exists() and not options.overwrite:
        _check_same(file, _question(options), resume=options.resume)
    if not file.exists() and out.exists() and any(not f.name.startswith(".") for f in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no tree; name a new folder")


def _begin(options: argparse.Namespace) -> None:
    """Clear the folder if it is to be replaced, and remember the question."""
    out = options.out
    if options.overwrite:
        for name in (RUNS, ALIGNED):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (QUESTION, LINES_KNOWN, TREE, NEWICK, MATRIX, REPORT):
            (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / OPTIONS, as_toml(options))
    write_text(out / QUESTION, json.dumps(_question(options), indent=2) + "\n")


def _check_same(file: Path, question: dict, *, resume: bool) -> None:
    if not resume:
        raise RunError(
            f"{file.parent} holds a tree already; say --resume to go on with it, --overwrite to replace it, or name another"
        )
    before = read_json(file)
    if not isinstance(before, dict):
        raise RunError(f"{file} is damaged: an object of named values is needed; name another --out, or say --overwrite")
    differing = sorted(name for name in question if before.get(name) != question[name])
    if differing:
        raise RunError(f"{file.parent} holds a tree with another {', '.join(differing)}; give the same options, or another --out")


def _aligned(options: argparse.Namespace, points: Tensor) -> tuple[Tensor, list[Path]]:
    """The points in one frame, and the files in which workers find them."""
    ends = load_ends(options.points[0], options.points[0], _task(options), Arithmetic.of(options), allow=options.allow)
    objective, _ = ends.task.objectives(buffers=options.buffers)
    points = aligned(objective, points, by=options.align, seed=options.seed)
    folder = (options.out / ALIGNED).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.safetensors" for name in unique_names(options.points)]
    for file, point in zip(files, points, strict=True):
        parameters = objective.space.unflatten(point)
        tied = {alias: parameters[name] for alias, name in objective.space.aliases.items()}
        save_state(file, ends.task.model.state_dict() | parameters | tied)
    return points, files


def _write(tree: MergeTree, data: str, options: argparse.Namespace) -> None:
    """Everything that the folder says of the tree."""
    out = options.out
    write_text(out / TREE, as_json(tree.as_json() | {"judge": data}) + "\n")
    write_text(out / NEWICK, tree.to_newick() + "\n")
    rows: Iterable[Sequence[object]] = ([name, *row] for name, row in zip(tree.names, tree.upper.tolist(), strict=True))
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([["", *tree.names], *rows])
    write_text(out / MATRIX, stream.getvalue())
    write_tree(tree, out / REPORT, data=data, trajectory=options.trajectory, aligned=options.align)
