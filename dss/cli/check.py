"""`dss check`: may these saved models be averaged?"""

import argparse
from pathlib import Path

from dss.adapters import save_state
from dss.averaging import Check, LossLine, Soup, Tolerance, check
from dss.base.errors import InputError
from dss.base.files import check_writable
from dss.base.limits import Limits, Spent
from dss.cli.answers import answer
from dss.cli.arithmetic import Arithmetic, add_arithmetic
from dss.cli.deadline import left, start, timed
from dss.cli.ends import add_buffers, add_reading, load_ends, with_subset
from dss.cli.exits import NO, YES
from dss.cli.metrics import JUDGE, is_cheap, metrics_for
from dss.cli.models import load_points, unique_names
from dss.cli.progress import meter
from dss.objectives.network import NetworkObjective
from dss.page.report.check import write_check
from dss.symmetry.alignment import METHODS
from dss.tasks import load_task

# Of each line's proof, where no limit is given.
PROOF_SECONDS = 60.0
SOUPS = ("uniform", "greedy")
# Losses of models, and lines of pairs, that are printed; --json has them all.
SHOWN = 6


def add(commands: argparse._SubParsersAction) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "check", help="whether saved models may be averaged",
        description="Exit code 0: safe, 1: not safe, 2: bad input. Of two models the whole line between them is looked at; of more, the "
        "uniform and the greedy soup, and the lines of all pairs.",
    )  # fmt: skip
    parser.add_argument("points", type=Path, nargs="+", metavar="MODEL", help="weights of one architecture, two files or more")
    parser.add_argument("--task", required=True, help="a built-in name (see dss tasks), file.py:name or package.module:name")
    parser.add_argument(
        "--tolerance", default="1.05x", metavar="T",
        help="an average may be worse than its models by so much (0.02), or so many times their loss (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--align", choices=METHODS, help="also try copies with their units in the order closest to the others'")
    parser.add_argument("--prove", action="store_true", help="bound the loss on every line rigorously, to a hundredth of it")
    parser.add_argument(
        "--max-seconds", type=float, help="of the whole command (default: none, but a minute for each line's proof)"
    )
    parser.add_argument("--no-pairs", action="store_true", help="of three models or more, look at the averages alone")
    parser.add_argument("--all-metrics", action="store_true", help="also metrics that are expensive on these models")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="write a page with the pictures, an HTML file")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the average as a checkpoint, if it is safe")
    parser.add_argument(
        "--soup", choices=SOUPS, default="uniform",
        help="which average is saved; the greedy soup is never worse than the best model (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_buffers(parser)
    add_arithmetic(parser)
    add_reading(parser)
    parser.add_argument("--seed", type=int, default=0, help="of every random choice (default: %(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Look, say the verdict, write the page and the average."""
    start(options)
    tolerance = Tolerance.of(options.tolerance)
    for file in (options.out, options.save):
        if file is not None:
            check_writable(file, overwrite=options.overwrite)
    try:
        found, judge = _checked(options, tolerance)
    except Spent as spent:
        raise InputError(f"{spent.status.sentence}, before all was looked at: no verdict; give more, or --no-pairs") from spent
    saved = None if options.save is None else _save(found, judge, options)
    if options.out is not None:
        write_check(found, options.out)
    page = {} if options.out is None else {"page": str(options.out)}
    answer(options, figures(found) | {"saved": saved} | page, words(found, options, saved))
    return YES if found.answer.safe else NO


def _checked(options: argparse.Namespace, tolerance: Tolerance) -> tuple[Check, NetworkObjective]:
    """What was found, and what judged it."""
    task, arithmetic = with_subset(load_task(options.task, draws=options.seed), options.only), Arithmetic.of(options)
    if len(options.points) < 2:
        raise InputError("two models or more can be averaged, got one")
    points = load_points(options.points, task, arithmetic, allow=options.allow)
    task = load_ends(options.points[0], options.points[0], task, arithmetic, allow=options.allow).task
    training, judge = task.objectives(buffers=options.buffers)
    metrics = metrics_for(task.read(), training, judge, options.buffers)
    kept = {n: m for n, m in metrics.items() if n != JUDGE and (options.all_metrics or is_cheap(m, points.shape[1]))}
    found = check(
        training, points, judge=None if judge is training and options.max_seconds is None else timed(judge, options),
        metrics={name: timed(metric, options) for name, metric in kept.items()}, names=unique_names(options.points),
        tolerance=tolerance, pairs=not options.no_pairs, align=options.align, prove=options.prove,
        limits=_limits(options, len(points)), seed=options.seed, progress=meter(options),
    )  # fmt: skip
    return found, judge


def _limits(options: argparse.Namespace, models: int) -> Limits:
    """Of the proofs of all lines together."""
    if options.max_seconds is None:
        return Limits(seconds=PROOF_SECONDS * models * (models - 1) / 2)
    return left(options, Limits(seconds=options.max_seconds))


def _save(found: Check, judge: NetworkObjective, options: argparse.Namespace) -> str | None:
    """Write the average with the buffers that it was judged with; None if it is not safe."""
    if options.soup == "uniform" and not found.answer.safe:
        return None
    save_state(options.save, judge.state(getattr(found.answer, options.soup).point))
    return str(options.save)


def figures(found: Check) -> dict[str, object]:
    """What was found as JSON values."""
    return {
        "safe": found.safe,
        "sentence": found.sentence,
        "tolerance": str(found.tolerance),
        "judge": found.judge,
        "names": list(found.names),
        "losses": found.losses.tolist(),
        "metrics": {name: values.tolist() for name, values in found.metrics.items()},
        "uniform": _soup(found.uniform),
        "greedy": _soup(found.greedy),
        "lines": [_line(line) | {"pair": list(pair)} for pair, line in found.lines.items()],
        "align": found.align,
        "repaired": found.repaired,
        "aligned": None if found.aligned is None else figures(found.aligned),
    }


def _soup(soup: Soup) -> dict[str, object]:
    return {"members": list(soup.members), "loss": soup.loss, "metrics": soup.metrics}


def _line(line: LossLine) -> dict[str, object]:
    return {
        "rise": line.rise,
        "at": line.place,
        "excess": line.excess,
        "barrier": line.barrier,
        "t": line.t.tolist(),
        "losses": line.losses.tolist(),
        "metrics": {name: values.tolist() for name, values in line.metrics.items()},
        "upper_bound": None if line.bracket is None else line.bracket.upper,
        "proof": line.proof,
    }


def words(found: Check, options: argparse.Namespace, saved: str | None) -> str:
    """What was found, for people."""
    lines = [found.sentence, f"  judged by            {found.judge}; up to {found.tolerance} is safe", *_details(found)]
    if found.aligned is not None:
        lines += [f"  with units reordered by {found.aligned.align}:", *("  " + line for line in _details(found.aligned))]
    if options.out is not None:
        lines.append(f"  page                 {options.out.resolve().as_uri()}")
    if saved is not None:
        copies = f" (of reordered copies, by {options.align})" if found.repaired else ""
        lines.append(f"  saved                {saved}: the {options.soup} soup{copies}")
    elif options.save is not None:
        lines.append(f"  saved                nothing: the average is not safe; {options.save} was not written")
    return "\n".join(lines)


def _details(found: Check) -> list[str]:
    """The figures behind the sentence."""
    models = [f"{loss:.6g} ({name})" for name, loss in zip(found.names, found.losses.tolist(), strict=True)]
    lines = [f"  models               {_few(models)}", f"  average              {found.uniform.loss:.6g}"]
    if len(found) > 2:
        kept = _few([found.names[i] for i in found.greedy.members])
        lines.append(f"  greedy soup          {found.greedy.loss:.6g}, of {kept}")
    for name, values in found.metrics.items():
        lines.append(f"  {name:<20} {_few([f'{v:.4g}' for v in values.tolist()])}; average {found.uniform.metrics[name]:.4g}")
    by_rise = sorted(found.lines.items(), key=lambda entry: -entry[1].rise)
    for (i, j), line in by_rise[:SHOWN]:
        pair = "line                " if len(found) == 2 else f"{found.names[i]} to {found.names[j]}"
        lines.append(
            f"  {pair:<20} {line.rise:.4g} above the ends interpolated, at t = {line.place:.3g}; barrier {line.barrier:.6g}, "
            f"{line.excess:.4g} above the higher end ({len(line.t)} points)" + (f"; {line.proof}" if line.proof else "")
        )
    return lines + ([f"  ... and {len(by_rise) - SHOWN} lines more"] if len(by_rise) > SHOWN else [])


def _few(parts: list[str]) -> str:
    return ", ".join(parts[:SHOWN]) + (f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else "")
