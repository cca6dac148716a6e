"""`dss barrier`: how low a threshold two saved models can be joined below."""

import argparse
from pathlib import Path

from dss._barrier import Barrier, barrier
from dss.cli.answers import answer
from dss.cli.arithmetic import Arithmetic, add_arithmetic
from dss.cli.ends import add_buffers, add_reading, load_ends, with_subset
from dss.cli.printing import beads_in_words
from dss.cli.progress import meter
from dss.tasks import load_task


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "barrier", help="the lowest threshold at which a path between two saved models is found",
        description="Exit code 0: the barrier was bracketed, whatever it is; 2: bad input.",
    )  # fmt: skip
    parser.add_argument("start", type=Path, metavar="A", help="weights of one end")
    parser.add_argument("end", type=Path, metavar="B", help="weights of the other end")
    parser.add_argument("--task", required=True, help="a built-in name (see dss tasks), file.py:name or package.module:name")
    parser.add_argument(
        "--tolerance", type=float, default=0.02,
        help="the bracket is narrow enough at this share of the straight line's excess over the ends (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: %(default)s)")
    parser.add_argument(
        "--grid", type=int, default=20, help="intervals of the first grid on every segment (default: %(default)s)"
    )
    add_buffers(parser)
    add_arithmetic(parser)
    add_reading(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Bracket the barrier and print it."""
    task = with_subset(load_task(options.task), options.only)
    ends = load_ends(options.start, options.end, task, Arithmetic.of(options), allow=options.allow)
    objective, judge = ends.task.objectives(buffers=options.buffers)
    found = barrier(
        objective, ends.start, ends.end, judge=None if judge is objective else judge, tolerance=options.tolerance,
        seed=options.seed, grid=options.grid, progress=meter(options), obstructions=ends.task.obstructions,
    )  # fmt: skip
    answer(options, figures(found) | {"judge": judge.description}, words(found))
    return 0


def figures(found: Barrier) -> dict[str, object]:
    """The key figures as JSON values."""
    return {
        "upper": found.upper,
        "lower": found.lower,
        "lower_proven": found.lower_proven,
        "reason": found.reason,
        "ends": found.ends,
        "excess": found.excess,
        "linear": found.linear,
        "normalized_length": found.path.normalized_length,
        "intermediate_beads": found.path.intermediate_beads,
        "tried": [[threshold, passed] for threshold, passed in found.tried],
    }


def words(found: Barrier) -> str:
    """What was found, for people."""
    if found.lower_proven:
        below = f"no path whatever stays below {found.lower:.6g}, which is proved. {found.reason}"
    elif found.lower > found.ends:
        below = f"no search succeeded below {found.lower:.6g}, which proves nothing"
    else:
        below = "no search failed, and the tolerance asks for none below it; lower paths are not ruled out"
    return "\n".join(
        [
            f"a path is known below {found.upper:.6g} (sampled); {below}",
            f"  ends                 {found.ends:.6g} (the higher one); the barrier lies at most {found.excess:.6g} above it",
            f"  straight line        {found.linear:.6g}",
            f"  path                 {beads_in_words(found.path.intermediate_beads)}, normalized length "
            f"{found.path.normalized_length:.4f}",
        ]
    )
