"""The cubics near their spike with data drawn as the paper's scripts draw them: `python -m experiments.cubic_draws`.

`cubics.py` takes the expectation over x. The scripts run jobs: each draws its own 10,000 test points, which stop the training
of beads and judge all segments, and connects several pairs; every training draws 10,000 points of its own. A draw shifts
the error of the best constant, and the spike with it, so that pairs of one job are not independent. Here a job has one
training draw, and its ends are trained on the test draw, so that they are below the threshold by the judge.
"""

import argparse
import pickle
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from experiments.compare import paper_points
from experiments.cubics import STUDY as CUBICS
from experiments.polynomials import Polynomial, study_of
from experiments.results import Record, Results, connected, mean_and_error, work
from experiments.workers import add_workers, executor_of

JOBS = 10
STUDY = replace(
    CUBICS, name="cubics-draws", thresholds=(0.158, 0.16, 0.162, 0.164, 0.168, 0.17), variants={"paper": (0.95, 1.1)},
    variant_thresholds={}, pairs=10, samples=10_000, random=True,
)  # fmt: skip
QUICK = replace(STUDY, thresholds=(0.17,), pairs=2, samples=200)


def of_jobs(polynomial: Polynomial, jobs: int) -> Callable[[str, float], list[Record]]:
    """One record per pair of every job, with the job's number and the error of the best constant on its test draw."""
    studies = [study_of(replace(polynomial, name=f"{polynomial.name}-{job}", seed=job)) for job in range(jobs)]

    def measure(variant: str, level: float) -> list[Record]:
        return [
            {"job": job, "best_constant": _best_constant(study.judge.y), **record}
            for job, study in enumerate(studies)
            for record in study(variant, level)
        ]

    return measure


def _best_constant(y: torch.Tensor) -> float:
    """The least mean absolute error of a constant."""
    return (y - y.median()).abs().mean().item()


def job_means(records: Sequence[Record], key: str = "length") -> list[tuple[float, float]]:
    """Per job with a connected pair: the error of its best constant, and its pairs' mean."""
    by_job: dict[int, list[Record]] = {}
    for record in records:
        by_job.setdefault(record["job"], []).append(record)
    return [(own[0]["best_constant"], mean_and_error(values)[0]) for own in by_job.values() if (values := connected(own, key))]


def table(results: Results) -> str:
    """Means and standard errors over jobs beside the paper's points, as Markdown."""
    paper = paper_points("cubics", "normalized_length")
    lines = [
        "| L0 | jobs | mean of jobs | from job to job | paper | correlation with the best constant |",
        "|---|---|---|---|---|---|",
    ]
    for level, records in sorted(results.records["paper"].items(), key=lambda item: float(item[0])):
        jobs = job_means(records)
        constants, means = zip(*jobs, strict=True)
        mean, error = mean_and_error(means)
        spread = f"{min(means):.3g} to {max(means):.3g}"
        theirs = "{:.4g} ± {:.2g}".format(*paper[float(level)])
        related = f"{statistics.correlation(constants, means):.2f}" if len(jobs) > 1 else ""
        lines.append(f"| {level} | {len(jobs)} | {mean:.4g} ± {error:.2g} | {spread} | {theirs} | {related} |")
    return "\n".join(lines)


def run(polynomial: Polynomial, jobs: int, out: Path, executor: Executor | None = None) -> Results:
    """All thresholds that `out` does not hold yet; a job's number is the seed of its draws and of its starting points."""
    settings = {k: v for k, v in polynomial.settings.items() if k not in ("seed", "shortening")}
    results = Results(out, settings | {"jobs": jobs})
    measure = of_jobs(polynomial, jobs) if executor is None else partial(measured, pickle.dumps(polynomial), jobs)
    work(results, polynomial.pieces(), measure, label=polynomial.name, executor=executor)
    return results


def measured(polynomial: bytes, jobs: int, variant: str, level: float) -> list[Record]:
    """The records of one threshold in another process, which trains the ends of all jobs itself, once."""
    return _jobs_in(polynomial, jobs)(variant, level)


@lru_cache(maxsize=1)
def _jobs_in(polynomial: bytes, jobs: int) -> Callable[[str, float], list[Record]]:
    return of_jobs(pickle.loads(polynomial), jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description="the cubics near their spike, with data drawn as the paper's scripts draw them")
    parser.add_argument("--quick", action="store_true", help="two small jobs, in under a minute, into runs/")
    add_workers(parser)
    options = parser.parse_args()
    here = Path(__file__)
    (here.parent / "runs").mkdir(exist_ok=True)
    quick = (QUICK, 2, here.parent / "runs" / "cubic_draws-quick.json")
    with executor_of(options) as executor:
        print(table(run(*(quick if options.quick else (STUDY, JOBS, here.with_suffix(".json"))), executor)))


if __name__ == "__main__":
    main()
