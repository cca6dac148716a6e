"""What a finished run says on the terminal."""

import argparse

from dss.base.limits import Status
from dss.cli.answers import answer
from dss.page.report.words import finder_in_words
from dss.runs import Run


def print_outcome(run: Run, options: argparse.Namespace) -> int:
    """Print a run's summary; the exit code: 0 connected, 1 not connected."""
    summary = run.outcome
    answer(options, summary, _sentences(run))
    return 0 if summary["connected"] else 1


def _data(run: Run) -> str:
    """The first digits of the data's digests."""
    train, judge = (run.data[kind][:12] for kind in ("train", "judge"))
    return f"digest {train}" if train == judge else f"digests {train} (training) and {judge} (judge)"


def modulo_symmetry(question: dict) -> dict[str, object]:
    """What the summary of a run says beyond the path, if its second end was reordered."""
    return {"aligned": question["align"], "modulo_symmetry": True} if question.get("align") else {}


def _sentences(run: Run) -> str:
    s = run.outcome
    verdict = "connected" if s["connected"] else _not_connected(s)
    if s.get("modulo_symmetry"):
        verdict += f", to a reordered copy of {run.question['ends'][1]}"
    lines = [
        f"{verdict}: {s['reason']}",
        f"  judged by            {s['judge']}",
        f"  largest loss         {_number(s['max_loss'])} on the path, {_number(s['linear_barrier'])} on the straight line, "
        f"{_number(s['loss_start'])} and {_number(s['loss_end'])} at the ends",
        f"  path                 {beads_in_words(s['intermediate_beads'])}, normalized length {_number(s['normalized_length'], '.4f')}",
        *_replaced(s),
        f"  work                 {s['seconds']:.1f} s, {s['gradient_steps']} gradient steps, {finder_in_words(s, run.question)}, seed {s['seed']}",
        f"  data                 {_data(run)}",
        f"  run                  {run.folder}",
    ]
    if (dtypes := s.get("dtypes")) and dtypes["files"] != [dtypes["beads"]]:
        lines.insert(-1, f"  numbers              {' and '.join(dtypes['files'])} in the files, {dtypes['beads']} in the beads")
    report = run.folder / "report.html"
    return "\n".join(lines + ([f"  page                 {report.resolve().as_uri()}"] if report.exists() else []))


def _replaced(summary: dict) -> list[str]:
    """What the search found, where a constructed path took its place."""
    if (searched := summary.get("searched")) is None:
        return []
    length = _number(searched["normalized_length"], ".4f")
    return [f"  in place of          {searched['finder']}'s path of normalized length {length}: {searched['reason']}"]


def beads_in_words(count: int) -> str:
    """How many beads lie between the ends."""
    return "1 intermediate bead" if count == 1 else f"{count} intermediate beads"


def _number(value: float | str | None, form: str = ".6g") -> str:
    """A figure of a summary, which keeps infinity as text and NaN as null."""
    return "unknown" if value is None else format(float(value), form)


def _not_connected(summary: dict) -> str:
    """Nothing found says nothing; a wall says everything."""
    if summary["status"] == Status.DISCONNECTED.value:
        return f"PROVED DISCONNECTED at {summary['threshold']:g}: no path whatever stays at or below it"
    return "NOT connected (which proves nothing: a path may exist)"
