"""Commands on damaged run folders: is there ever a traceback, a wrong exit code, or a verdict that is false?"""

import random
from pathlib import Path

from benchmarks.faults.apart import Ended, apart
from benchmarks.faults.damage import copied, damage
from benchmarks.faults.subject import THRESHOLD, Subject, summary_of
from benchmarks.faults.trial import trial

ROUNDING = 1e-6
"""What float32 may lose of a loss near the threshold."""
EACH = 5
"""Commands on one damaged folder: a command may mend or replace what it finds, so each gets a copy of its own."""


def run(count: int, seed: int) -> dict:
    """So many commands on damaged folders."""
    with trial(seed) as t:
        sources, copy = _sources(t.subject, t.place), t.place / "try" / "run"
        while t.found["commands"] < count:
            kind = t.draw.choice(sorted(sources))
            broken = copied(sources[kind], t.place / "broken")
            how = _damaged(t.draw, broken)
            for command in t.draw.sample(_commands(kind, t.subject, copy.parent, t.draw), EACH if kind == "run" else 1):
                copied(broken, copy)
                ended = apart(command)
                t.found.update(("commands", f"exit {ended.code}"))
                fault = ended.fault or _wrong(ended) or _false(t.subject, command, copy, ended)
                if fault:
                    t.found[fault] += 1
                    t.note(f"{fault}: dss {command[0]} after {how}: {' '.join(ended.err.split())[-300:]}")
        return t.counted


def _sources(subject: Subject, place: Path) -> dict[str, Path]:
    """A finished run, an unfinished one, a comparison, a tree."""
    finished, unfinished = place / "finished", place / "unfinished"
    made = {"run": finished, "unfinished": unfinished, "compare": place / "all", "tree": place / "forest"}
    for command in (subject.connect(finished), subject.compare(made["compare"]), subject.tree(made["tree"])):
        ended = apart(command)
        assert ended.code == 0, ended.err
    copied(finished, unfinished)
    for name in ("summary.json", "path.safetensors", "report.html", "profile.json", "stairs.safetensors"):
        (unfinished / name).unlink(missing_ok=True)
    lines = (unfinished / "steps.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (unfinished / "steps.jsonl").write_text("".join(lines[:2]), encoding="utf-8")
    return made


def _damaged(draw: random.Random, broken: Path) -> str:
    """Damage a folder, or rarely twice."""
    hows = []
    for _ in range(draw.choice((1, 1, 1, 2))):
        try:
            hows.append(damage(draw, broken))
        except Exception as error:  # a way to damage that does not fit what is there, such as a file that is damaged already
            hows.append(f"nothing ({type(error).__name__})")
    return " and ".join(hows)


def _commands(kind: str, subject: Subject, place: Path, draw: random.Random) -> list[list[str]]:
    """What reads a folder of a kind."""
    folder, out = str(place / "run"), place / "out"
    out.mkdir(parents=True, exist_ok=True)
    new = str(out / f"{draw.randrange(10**9)}")
    reading: list[list[str]] = [
        ["certify", folder, "-q"],
        ["certify", folder, "--threshold", "0.5", "-q"],
        ["certify", folder, "--tolerance", "0.5", "-q"],
        ["show", folder, "--no-open", "--plane", "0", "--evaluations", "8", "-q"],
        ["show", folder, "--no-open", "--plane", "8", "--evaluations", "8", "--out", new + ".html", "-q"],
        ["export", folder, "--bead", "1", "--out", new + ".pt"],
        ["figure", folder, "--which", "loss", "--out", new + ".csv", "-q"],
        ["figure", folder, "--which", "string", "--out", new + ".json", "-q"],
        subject.connect(Path(folder), "--resume"),
        ["shorten", folder, "--out", new, "--max-seconds", "0.5", "--prove", "never", "-q"],
    ]
    if kind == "compare":
        return [subject.compare(Path(folder))]
    return [subject.tree(Path(folder), "--resume")] if kind == "tree" else reading


def _wrong(ended: Ended) -> str | None:
    """An exit code that says another thing than what happened: nothing is wrong with this machine."""
    complained = "dss: error" in ended.err
    return "wrong exit code" if ended.code not in (0, 1, 2) or complained != (ended.code == 2) else None


def _false(subject: Subject, command: list[str], folder: Path, ended: Ended) -> str | None:
    """A verdict that the network itself contradicts, on the terminal or on the page."""
    page = Path(command[command.index("--out") + 1]) if "--out" in command and command[0] == "show" else folder / "report.html"
    said = {
        "connect": "connected: " in ended.out and "NOT connected" not in ended.out,
        "certify": "passed: " in ended.out and "--threshold" not in command,
        "show": ended.code == 0 and _verdict_of(page) in ("proven", "sampled"),
    }  # fmt: skip
    if ended.code != 0 or not said.get(command[0], False) or not (folder / "path.safetensors").is_file():
        return None
    proved = (command[0] == "show" and _verdict_of(page) == "proven") or "proved: " in ended.out
    bound = summary_of(folder).get("upper_bound") if proved else THRESHOLD
    largest = subject.largest_loss(folder)
    wrong = not isinstance(bound, float) or largest > min(bound, THRESHOLD) + ROUNDING
    return ("false proof" if proved else "false verdict") if wrong else None


def _verdict_of(page: Path) -> str:
    """The word of a page's verdict."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return text.partition('<section class="verdict ')[2].partition('"')[0]
