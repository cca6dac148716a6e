"""The outcome and the key figures of a run, in words that a newcomer understands."""

from math import isfinite
from typing import Any

from dss.base import rounded
from dss.base.limits import Status
from dss.base.path import Path
from dss.finders import ConvexPath, FastestPath
from dss.page.figures.style import number

Fact = tuple[str, str, str]
"""The name of a figure, its value, and what it is."""

BUFFERS = {
    "recalibrate": "statistics recomputed for every point, from the training data",
    "frozen": "statistics of A, for every point",
}
RESTARTS = "Nothing found is never “disconnected”: a path may exist that this search did not find."


def verdict(summary: dict | None, threshold: float) -> tuple[str, str]:
    """A word (`proven`, `sampled`, `failed` or `unfinished`) and the sentence for people."""
    level = number(threshold)
    if summary is None:
        return "unfinished", f"Not finished: the search for a path below the loss {level} has not ended; this is how far it came."
    if summary["connected"] and summary["proven"]:
        bound = above(summary["upper_bound"])
        return "proven", (
            f"Connected: proved that the loss never exceeds {level} at any point of the path. "
            f"The proven bound is {bound}; the largest loss seen is {number(_real(summary['max_loss']))}."
        )
    if summary["connected"]:
        return "sampled", (
            f"Connected, as far as samples show: the largest loss seen on the path is {number(_real(summary['max_loss']))}, "
            f"and the threshold is {level}. This was looked at point by point, not proved."
        )
    if summary.get("status") == Status.DISCONNECTED.value:
        return "failed", (
            f"Proved disconnected: every path whatever between the ends rises above {level} somewhere, so nothing was searched. "
            f"{summary['reason']} What is shown is the straight line."
        )
    return "failed", (f"Not connected by this search: {summary['reason']}. The path shown is the partial one. {RESTARTS}")


def above(value: float, digits: int = 4) -> str:
    """An upper bound in few digits, rounded up so that what is printed is still a bound."""
    value = _real(value)
    return rounded.above(value, digits).replace("-", "−") if isfinite(value) else number(value)


def below(value: float, digits: int = 4) -> str:
    """A lower bound, rounded down."""
    return rounded.below(value, digits).replace("-", "−") if isfinite(value) else "not known"


def key_figures(summary: dict | None, question: dict) -> list[Fact]:
    """What a reader asks first; figures the summary lacks are left out."""
    s = summary or {}
    return _known(
        ("threshold L₀", number(question["threshold"]), "the loss that must not be exceeded anywhere on the path"),
        (
            "proven bound",
            above(s["upper_bound"]) if s.get("upper_bound") is not None else None,
            "no point of the path has a larger loss",
        ),
        ("largest loss on the path", _loss(s.get("max_loss")), "the largest one that was computed"),
        ("straight line", _loss(s.get("linear_barrier")), "the largest loss seen on the straight line between the ends"),
        ("losses of the ends", _pair(s), "A and B"),
        (
            "normalized length",
            _plain(s.get("normalized_length"), 5),
            "length of the path over the distance of its ends; 1 is straight",
        ),
        ("in place of", _searched(s), _why_replaced(s)),
        ("intermediate beads", _plain(s.get("intermediate_beads")), "corners of the path between its ends"),
    )


def judged(summary: dict | None, question: dict, path: Path) -> list[Fact]:
    """What was judged and how: the network, the data, and what was done to both, in words."""
    s, data = summary or {}, question.get("data") or {}
    digests = {kind: str(digest)[:12] for kind, digest in data.items()}
    same = digests.get("train") == digests.get("judge")
    return _known(
        ("network", s.get("model"), f"{path.size:,} parameters move{_fixed(s)}"),
        ("numbers", str(path.rows[0].dtype).removeprefix("torch."), "in which weights are kept and losses computed"),
        ("judge", s.get("judge"), _with_digest("the loss that counts", None if same else digests.get("judge"))),
        ("training loss", s.get("objective"), _with_digest("what the search descends", digests.get("train"))),
        ("order of units", _alignment(question), "hidden units may be reordered without changing the function"),
        ("BatchNorm", BUFFERS.get(s.get("buffers", "")), "whose running statistics a network between two others has"),
    )


def work(summary: dict | None, question: dict) -> list[Fact]:
    """What it cost, and with which choices."""
    s = summary or {}
    versions = ", ".join(f"{name} {version}" for name, version in s.get("versions", {}).items())
    return _known(
        ("search", _work(s), "time, gradient steps of all beads, rounds"),
        ("samples read", _reads(s), "for losses, and for gradients"),
        ("finder and seed", _finder(s, question), "the algorithm, and the seed of its random choices"),
        ("versions", versions or None, "of what computed it"),
    )


def _known(*facts: tuple[str, str | None, str]) -> list[Fact]:
    return [(name, value, note) for name, value, note in facts if value is not None]


def _fixed(s: dict) -> str:
    count = s.get("fixed_parameters")
    return f"; {count:,} more are fixed, the same in A and B" if count else ""


def _with_digest(text: str, digest: str | None) -> str:
    return text if digest is None else f"{text}; digest of its data {digest}"


def _alignment(question: dict) -> str | None:
    by = question.get("align")
    return None if by is None else f"B's are reordered to be closest to A's, matched by {by}"


def finder_in_words(summary: dict, question: dict) -> str | None:
    """Whose path it is: that of the finder that was asked for, of the one which that one chose, or what took its place."""
    name, asked = summary.get("finder", question.get("finder")), question.get("finder")
    if asked != FastestPath.name or name == asked:
        return name
    return f"{asked} ({'written down' if name == ConvexPath.name else f'searched by {name}'})"


def _finder(s: dict, question: dict) -> str | None:
    name, seed = finder_in_words(s, question), s.get("seed", question.get("seed"))
    return None if name is None else f"{name}, seed {seed}"


def _searched(s: dict) -> str | None:
    return _plain(s["searched"]["normalized_length"], 5) if "searched" in s else None


def _why_replaced(s: dict) -> str:
    """Why the search's path is not the one that is shown."""
    searched = s.get("searched") or {}
    return f"normalized length of the path of {searched.get('finder')}, whose place a constructed path took: {searched.get('reason')}"


def _pair(s: dict) -> str | None:
    return f"{_loss(s['loss_start'])} and {_loss(s['loss_end'])}" if "loss_start" in s else None


def _work(s: dict) -> str | None:
    return f"{s['seconds']:.1f} s, {s['gradient_steps']:,} steps, {s['rounds']} rounds" if "seconds" in s else None


def _reads(s: dict) -> str | None:
    return f"{s['loss_evaluations']:,} and {s['gradient_evaluations']:,}" if "loss_evaluations" in s else None


def _loss(value: object) -> str | None:
    return None if value is None else number(_real(value))


def _plain(value: object, digits: int = 6) -> str | None:
    return None if value is None else number(_real(value), digits)


def _real(value: Any) -> float:
    """Summaries keep infinity as text, which JSON numbers cannot say."""
    return float(value)
