"""Commands that are killed at random moments and run again: is what they leave in the end ever another thing?"""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.apart import apart
from benchmarks.faults.damage import copied
from benchmarks.faults.subject import Subject, summary_of
from benchmarks.faults.trial import trial

MOST = 3
"""Kills in a row of one command, before it is let run to its end."""


@dataclass(frozen=True)
class Case:
    """A command that is to be killed.

    Attributes:
        first: its arguments for a folder.
        again: those that go on with it.
        prepare: puts into the folder what the command needs.
    """

    first: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    prepare: Callable[[Path], object]


def run(count: int, seed: int) -> dict:
    """So many kills, spread over `connect`, `shorten`, `certify` and `compare`."""
    with trial(seed) as t:
        cases = cases_of(t.subject, t.place)
        whole = {name: _undisturbed(case, t.place / "whole" / name) for name, case in cases.items()}
        while t.found["kills"] < count:
            name = t.draw.choice(sorted(cases))
            folder, (reference, seconds) = t.place / "killed", whole[name]
            kills, moments = _disturbed(cases[name], folder, t.draw, seconds)
            differing = different(reference, folder)
            for counted in ("kills", f"kills of {name}", "different" if differing else "identical"):
                t.found[counted] += kills
            t.note(f"{name} killed at {moments}: {'; '.join(differing)}" if differing else None)
            shutil.rmtree(folder, ignore_errors=True)
        return t.counted


def cases_of(subject: Subject, place: Path) -> dict[str, Case]:
    """The commands, by name."""
    finished, sampled = place / "finished", place / "sampled"
    assert apart(subject.connect(finished)).code == 0
    assert apart(subject.connect(sampled, "--prove", "never")).code == 0

    def shorten(folder: Path) -> list[str]:
        return ["shorten", str(finished), "--out", str(folder), "--prove", "always", "-q"]

    def certify(folder: Path) -> list[str]:
        return ["certify", str(folder), "-q"]

    def nothing(_folder: Path) -> None:
        pass

    def resumed(folder: Path) -> list[str]:
        return subject.connect(folder, "--resume")

    return {
        "connect": Case(subject.connect, resumed, nothing),
        "shorten": Case(shorten, lambda folder: [*shorten(folder), "--resume"], nothing),
        "certify": Case(certify, certify, lambda folder: copied(sampled, folder)),
        "compare": Case(subject.compare, subject.compare, nothing),
    }


def different(reference: Path, folder: Path) -> list[str]:
    """What differs between two folders, but for figures of work, which say that they may."""
    names = {file.relative_to(root) for root in (reference, folder) for file in root.rglob("*") if file.is_file()}
    lasting = sorted(
        n
        for n in names
        if not n.name.startswith(".") and n.name not in ("steps.jsonl", "run.json", "profile.json") and "snapshots" not in n.parts
    )
    return [f"{name} differs" for name in lasting if _content(reference, name) != _content(folder, name)]


def _undisturbed(case: Case, folder: Path) -> tuple[Path, float]:
    """What the command makes, and how long it takes."""
    case.prepare(folder)
    ended = apart(case.first(folder))
    assert ended.code in (0, 1), ended.err
    return folder, ended.seconds


def _disturbed(case: Case, folder: Path, draw: random.Random, seconds: float) -> tuple[int, list[float]]:
    """Kill the command some times, then let it end; how often it was killed, and when."""
    case.prepare(folder)
    moments: list[float] = []
    for _ in range(draw.randint(1, MOST)):
        moment = round(draw.uniform(0, seconds), 3)
        started = (folder / "run.json").exists() or any(folder.glob("*/run.json"))
        if apart((case.again if started else case.first)(folder), kill_after=moment).code is None:
            moments.append(moment)
    apart(case.again(folder))
    return len(moments), moments


def _content(folder: Path, name: Path) -> object:
    """A file's content without what is said to vary."""
    file = folder / name
    if not file.is_file():
        return None
    if file.name == "options.toml":  # it says into which folder
        return file.read_text(encoding="utf-8").replace(str(folder), "FOLDER")
    if file.name == "summary.json":
        return _lasting(summary_of(file.parent))
    if file.suffix == ".html":
        return _lasting_page(file.read_text(encoding="utf-8"))
    return file.read_bytes()


def _lasting(summary: dict) -> str:
    """A summary without the figures that it lists as varying."""
    varying = {*summary.get("varies", ()), "varies", "seal"}
    kept = {name: value for name, value in summary.items() if name not in varying}
    if isinstance(kept.get("shortened"), dict):
        kept["shortened"] = {name: value for name, value in kept["shortened"].items() if name not in varying}
    return json.dumps(kept, sort_keys=True)


def _lasting_page(text: str) -> str:
    """A page without figures of work, and without the digest of the summary that has them."""
    text = re.sub(r'<meta name="subject" content="\w*">', "", text)
    text = re.sub(r"(<dt>(?:search|samples read)</dt><dd>)[^<]*", r"\1", text)
    return re.sub(r"(?:<td>[^<]*</td>){3}</tr>", "</tr>", text) if "compare" in text or "finders</title>" in text else text
