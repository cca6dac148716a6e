"""The disconnection of appendix E, proved, and how close finders come to it: `python -m experiments.counterexample`.

Below 1/12 no path joins the network to its copy with two units swapped, and no finder may claim one. Above, paths exist:
an explicit one is proved to stay within a few thousandths of 1/12. Every finder is asked at factors of 1/12 going down, until
it fails; elastic bands are asked again from bent starts, and come closest. Pictures of the stalled string (figure 4 of the paper) go into `runs/`, their coordinates into the results.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import fields, replace
from functools import partial
from math import pi
from pathlib import Path

import torch

import dss
from experiments.results import Record, Results, fill
from experiments.triangle import DATA, SWAP, X, Y, aligned, objective, perfect, permuted, pinched_path, rescaled, units
from experiments.workers import add_workers, executor_of

EXACT = 1 / 12
BELOW = (0.99,)
ABOVE = (3.0, 2.2, 1.8, 1.5, 1.2, 1.1, 1.05)
STEPS = 50_000  # gradient steps of all beads of one search
BENDS, BEND_STEPS = 8, 150_000  # random starts of a band, gradient steps of each
BEND, BEND_BEADS = 1.0, 9  # sideways by the distance of the ends at the middle
PINCH = (0.001, 160)  # radians, beads
PINCH_FACTORS = (1.1, 1.01, 1.004)
STALL_FACTOR, STALL_ROUNDS, STALL_STEPS = 0.5, 6, 5000
BEAD_STEPS = 10_000  # near the obstruction outer weights must grow, and beads train long
SCALES = torch.tensor([1.3, 0.8, 1.1], dtype=torch.float64)


def finders(steps: int) -> dict[str, dss.Finder]:
    """Every finder of the package, with a limit on its gradient steps."""
    limits = dss.Limits(rounds=None, beads=200, gradient_steps=steps)
    made = {name: finder(limits=limits) for name, finder in dss.FINDERS.items()}
    return {name: _with_steps(finder) for name, finder in made.items()}


def _with_steps(finder: dss.Finder) -> dss.Finder:
    """With long training runs, where the finder trains beads."""
    if "descent" not in {f.name for f in fields(finder)}:
        return finder
    return replace(finder, descent=replace(finder.descent or dss.Descent(), max_steps=BEAD_STEPS))


def search(finder: dss.Finder, end: torch.Tensor, factor: float, bend: int | None = None) -> Record:
    """Ask one finder at a factor of 1/12, from the straight line or a bent one; a path that passes is proved."""
    began = time.monotonic()
    problem = dss.Problem.of(objective(), perfect(), end, threshold=factor * EXACT)
    last = finder.run(problem, resume=None if bend is None else bent(problem, bend))
    found = dss.conclude(problem, finder, last, began=began)
    return {
        "connected": found.connected,
        "proven": found.certificate.proven,
        "status": found.summary["status"],
        "barrier_over_exact": found.certificate.max_loss / EXACT,
        "beads": len(found.path),
        "length": found.path.normalized_length,
        "seconds": round(time.monotonic() - began, 1),
    }


def ladder(
    finder: dss.Finder, end: torch.Tensor, above: tuple[float, ...], below: tuple[float, ...], bends: int = 0
) -> list[Record]:
    """Factors going down until the finder fails, then the factors at which it must; `bends` starts at each, if any."""
    records = []
    for factor in above:
        records.append({"factor": factor, **any_of(finder, end, factor, bends)})
        if not records[-1]["connected"]:
            break
    return records + [{"factor": factor, **any_of(finder, end, factor, bends)} for factor in below]


def any_of(finder: dss.Finder, end: torch.Tensor, factor: float, bends: int) -> Record:
    """The first bent start that connects, else the lowest barrier of all, and how many were tried; no bends: the straight line."""
    if not bends:
        return search(finder, end, factor)
    found = []
    for bend in range(bends):
        found.append(search(finder, end, factor, bend))
        if found[-1]["connected"]:
            break
    best = min(found, key=lambda record: (not record["connected"], record["barrier_over_exact"]))
    return best | {"starts": len(found), "seconds": round(sum(record["seconds"] for record in found), 1)}


def bent(problem: dss.Problem, number: int) -> dss.Step:
    """The straight line pushed sideways by half a sine wave in a random direction: no symmetry is left to hold a bead."""
    line = problem.straight.resample(BEND_BEADS)
    direction = torch.randn(line.beads.shape[1], generator=problem.generator("bend", number), dtype=line.beads.dtype)
    wave = (pi * line.arc_lengths()).sin()[1:-1, None] * BEND * (problem.end - problem.start).norm()
    inner = line.beads[1:-1] + wave * direction / direction.norm()
    return dss.Step.unjudged(dss.Path(torch.cat([line.beads[:1], inner, line.beads[-1:]])))


def copies() -> dict[str, torch.Tensor]:
    """The swapped copy, and one whose units are rescaled too: half-way to the exact copy, symmetry holds beads on a ridge."""
    theta = perfect()
    return {"copy": permuted(theta, SWAP), "rescaled copy": permuted(rescaled(theta, SCALES), SWAP)}


def obstruction() -> list[Record]:
    """The certified bound, and the sides of it on which the two networks are."""
    began, theta = time.monotonic(), perfect()
    bound = dss.disconnection_threshold(X, Y)
    sides = [dss.hidden_orientation(X, units(point)[0]) for point in (theta, permuted(theta, SWAP))]
    return [
        {
            "bound": bound,
            "bound_over_exact": bound / EXACT,
            "orientations": sides,
            "seconds": round(time.monotonic() - began, 4),
        }
    ]


def explicit_path() -> list[Record]:
    """The pinched path, proved at factors going down."""
    path = pinched_path(*PINCH)
    records = []
    for factor in PINCH_FACTORS:
        certificate = dss.certify(objective(), path, threshold=factor * EXACT, prove=True)
        shape = {"beads": len(path), "length": path.normalized_length, "barrier_over_exact": certificate.max_loss / EXACT}
        records.append({"factor": factor, "passed": certificate.passed, "proven": certificate.proven, **shape})
    return records


def aligned_ends() -> list[Record]:
    """A rescaled, swapped network: refused as it is, connected at once when its units are put in order."""
    theta, level, other = perfect(), STALL_FACTOR * EXACT, copies()["rescaled copy"]
    line = [
        dss.connect(objective(), theta, end, threshold=level, finder=dss.StraightLine())
        for end in (other, aligned(other, theta)[0])
    ]
    return [
        {
            "factor": STALL_FACTOR,
            "straight_before": line[0].connected,
            "straight_after": line[1].connected,
            "proven_after": line[1].certificate.proven,
            "barriers_over_exact": [found.certificate.max_loss / EXACT for found in line],
        }
    ]


def stalled_string(end: torch.Tensor, rounds: int, page: Path) -> list[Record]:
    """Three states of a greedy string that cannot connect, seen along the principal axes of all their beads."""
    limits = dss.Limits(rounds=rounds, beads=None)
    problem = dss.Problem.of(objective(), perfect(), end, threshold=STALL_FACTOR * EXACT)
    # Beads go on where one cannot reach its target: a finder for the picture, not for the answer.
    states = list(KeepGoing(limits=limits, descent=dss.Descent(max_steps=STALL_STEPS)).steps(problem))
    shown = [states[i] for i in (1, len(states) // 2, -1)]
    paths = {f"round {step.round}": step.path for step in shown}
    picture = dss.figures.picture_strings(paths, problem.judge, threshold=problem.threshold)
    page.parent.mkdir(exist_ok=True)
    dss.figures.string_in_space(picture).write_html(page, include_plotlyjs=True)
    return [
        {
            "name": strand.name,
            "beads": len(strand.beads),
            "coordinates": [[round(c, 4) for c in row] for row in strand.points[strand.beads].tolist()],
            "loss_over_exact": [round(loss / EXACT, 4) for loss in strand.losses[strand.beads].tolist()],
            "unseen": [unseen(bead) for bead in path.beads],
            "barrier_over_exact": strand.losses.max().item() / EXACT,
        }
        for strand, path in zip(picture.strings, paths.values(), strict=True)
    ]


def unseen(theta: torch.Tensor) -> int:
    """How many of the three points no hidden unit answers to: no gradient brings them back."""
    return int(((X @ units(theta)[0].T) <= 0).all(1).sum())


class KeepGoing(dss.GreedyString):
    """Greedy insertion that goes on where a bead could not be trained to its target."""

    def advance(self, problem: dss.Problem, step: dss.Step) -> dss.Step:
        advanced = super().advance(problem, step)
        return replace(advanced, status=dss.Status.SEARCHING) if advanced.status is dss.Status.STALLED else advanced


def run(
    out: Path, *, above: tuple[float, ...] = ABOVE, below: tuple[float, ...] = BELOW, steps: int = STEPS,
    rounds: int = STALL_ROUNDS, bends: int = BENDS, bend_steps: int = BEND_STEPS, executor: Executor | None = None,
) -> Results:  # fmt: skip
    """Everything `out` does not hold yet."""
    settings = {
        "data": DATA,
        "exact": EXACT,
        "above": above,
        "below": below,
        "steps": steps,
        "bends": bends,
        "bend_steps": bend_steps,
    }
    results = Results(out, settings)

    parts: dict[str, Callable[[], list[Record]]] = {
        "obstruction": obstruction,
        "explicit path": explicit_path,
        "aligned ends": aligned_ends,
    }
    for which, end in copies().items():
        page = out.parent / "runs" / f"stalled-string-to-the-{which.replace(' ', '-')}.html"
        parts[f"stalled string to the {which}"] = partial(stalled_string, end, rounds, page)
    for which, end in copies().items():
        for name, finder in finders(steps).items():
            parts[f"{name} to the {which}"] = partial(ladder, finder, end, above, below)
    for which, end in copies().items():
        band = finders(bend_steps)["band"]
        parts[f"band from bent starts to the {which}"] = partial(ladder, band, end, above, below, bends)
    named = {(name, EXACT): part for name, part in parts.items()}
    return fill(results, named, lambda piece, records: f"{piece[0]}: {_words(records)}", executor)


def _words(records: list[Record]) -> str:
    if "factor" not in records[0] or "connected" not in records[0]:
        return ", ".join(f"{k} {v}" for k, v in records[0].items() if not isinstance(v, list) or len(v) < 4)
    asked, passed = ([f"{r['factor']:g}" for r in records if r["connected"] >= least] for least in (False, True))
    return f"connected at {', '.join(passed) or 'no factor'} of 1/12, asked at {', '.join(asked)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="the disconnection of appendix E, proved, and how close finders come")
    parser.add_argument("--quick", action="store_true", help="one factor on each side, in under a minute, into runs/")
    add_workers(parser)
    options = parser.parse_args()
    here = Path(__file__)
    (here.parent / "runs").mkdir(exist_ok=True)
    small = {"above": (4.0,), "below": (0.5,), "steps": 2000, "rounds": 2, "bends": 2, "bend_steps": 2000}
    out, size = (here.parent / "runs" / "counterexample-quick.json", small) if options.quick else (here.with_suffix(".json"), {})
    with executor_of(options) as executor:
        run(out, **size, executor=executor)


if __name__ == "__main__":
    main()
