"""`dss align`: one model's units in the order of another's; the function stays the same."""

import argparse
from pathlib import Path

from dss.cli.answers import answer
from dss.cli.arithmetic import Arithmetic, add_arithmetic
from dss.cli.ends import add_reading, load_ends, read, with_subset
from dss.cli.writing import add_out, check_out, write_out
from dss.symmetry import Alignment, align
from dss.symmetry.alignment import METHODS
from dss.tasks import load_task

# Names printed for each reason; --json has them all.
SHOWN = 3


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "align",
        help="reorder one model's units to bring it closest to another",
        description="The copy of B that lies closest to A among all orders of its hidden units; its outputs are B's.",
    )
    parser.add_argument("start", type=Path, metavar="A", help="weights of the model to align to")
    parser.add_argument("end", type=Path, metavar="B", help="weights of the model to be reordered")
    parser.add_argument("--task", required=True, help="digits, quadratics, cubics, fashion, file.py:name or package.module:name")
    add_out(parser, "where the reordered copy goes: .pt, .safetensors, or a folder of B's kind")
    add_arithmetic(parser)
    add_reading(parser)
    parser.add_argument(
        "--by", choices=METHODS, default="weights", help="what is to agree: parameters, or activations on the training data"
    )
    parser.add_argument("--rescale", action="store_true", help="also scale or reflect units where the function allows it")
    parser.add_argument("--restarts", type=int, default=1, help="starts of the search; the best is kept (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: %(default)s)")
    parser.add_argument(
        "--buffers", choices=("recalibrate", "frozen"), default="recalibrate",
        help="BatchNorm's running statistics: of each model (default), or A's for both, which fixes their channels",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Align, save, say what moved and what could not."""
    check_out(options)
    task = with_subset(load_task(options.task), options.only)
    ends = load_ends(options.start, options.end, task, Arithmetic.of(options), allow=options.allow)
    objective, _ = ends.task.objectives(buffers=options.buffers)
    found = align(
        objective, ends.start, ends.end, by=options.by, rescale=options.rescale, seed=options.seed, restarts=options.restarts
    )
    own = read(options.end, objective.space, allow=options.allow).buffers
    buffers = found.specification.apply(own, found.permutations)
    parameters = objective.space.unflatten(found.point)
    tied = {alias: parameters[name] for alias, name in objective.space.aliases.items()}
    write_out(options, parameters | tied | buffers, objective.space, like=options.end)
    answer(options, _summary(found, options), _sentences(found, options))
    return 0


def _summary(found: Alignment, options: argparse.Namespace) -> dict:
    return {
        "out": str(options.out),
        "aligned": options.by,
        "modulo_symmetry": True,
        "distance_before": found.distance_before,
        "distance_after": found.distance_after,
        "units": _units(found),
        "moved_units": found.moved_units,
        "groups": [
            {"name": g.name, "units": g.units, "within": g.within, "places": [f"{name}[{axis}]" for name, axis in g.places]}
            for g in found.groups.values()
        ],
        "rescaled": list(found.rescaled),
        "pinned": dict(found.pinned),
        "stayed": dict(found.specification.stayed),
        "unknown_ops": list(found.unknown_ops),
    }


def _units(found: Alignment) -> int:
    return sum(group.units for group in found.groups.values())


def _sentences(found: Alignment, options: argparse.Namespace) -> str:
    groups = ", ".join(f"{g.name} {g.blocks}x{g.size}" if g.within else f"{g.name} {g.size}" for g in found.groups.values())
    lines = [
        f"{options.out}: a reordered copy of {options.end}, the same function",
        f"  distance             {found.distance_after:.6g} to {options.start}, {found.distance_before:.6g} before",
        f"  units                {found.moved_units} of {_units(found)} moved, by {options.by}",
        f"  groups               {groups or 'none'}",
    ]
    if options.rescale:
        lines.append(f"  scaled or reflected  {', '.join(found.rescaled) or 'none'}")
    for reason, count in found.specification.stayed.items():
        axes = [axis for axis, reasons in found.pinned.items() if reason in reasons.split("; ")]
        rest = f" and {len(axes) - SHOWN} more" if len(axes) > SHOWN else ""
        lines.append(f"  stayed               {count} in order ({reason}): {', '.join(axes[:SHOWN])}{rest}")
    if found.unknown_ops:
        lines.append(f"  operations unknown   {', '.join(found.unknown_ops)}")
    return "\n".join(lines)
