"""Every architecture of `models/` and `examples/` on its own judge: proved, or what stops the proof.

    python -m benchmarks.architectures [NAME ...] [--seconds 600] [--factor 1.02] [--by-segment] [--out benchmarks/architectures.json]

Two networks are trained and joined, by greedy strings or as the example joins them; the threshold is `factor` times the largest loss on a grid of 41 points per
segment, over the whole judge. What is in the file is not measured again. With `--by-segment` each segment is proved on its own and kept as soon
as it is: a proof of hours goes on where it was interrupted.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import dss
from benchmarks.proof import CASES, PAPER, Case, digits, found, letters, sampled, share, trained
from benchmarks.records import Record, Records, as_table, figure
from models.resnet import ResNet

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parent.parent / "docs" / "proof.md"
TABLE, PARTS = "architectures", "segments proved on their own"
Made = tuple[dss.NetworkObjective, Tensor]


def gpt2(words: int, length: int, width: int, layers: int) -> nn.Module:
    """A GPT-2 of transformers, from words to logits by position."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from examples.gpt2 import NextWord

    config = GPT2Config(vocab_size=words, n_positions=length, n_embd=width, n_layer=layers, n_head=4, bos_token_id=0, eos_token_id=0,
                        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)  # fmt: skip
    return NextWord(GPT2LMHeadModel(config))


MORE = {
    "gpt-2, 2 layers, width 64": Case(lambda: gpt2(12, 16, 64, 2), letters, 2.0, 400),
    "resnet-8, BatchNorm": Case(lambda: ResNet(blocks=1, width=8), digits, 0.5),
}
EXAMPLES = ("pinn", "resnet", "unet", "lightning_run", "gpt2", "lora")


def of_example(name: str) -> Made:
    """The judge of an example and the path between the networks that it trains; statistics of batches are those of the first end."""
    example: Any = import_module(f"examples.{name}")
    task = example.task().read()
    with tempfile.TemporaryDirectory() as folder:
        if name in ("gpt2", "lora"):
            make = example.adapted if name == "lora" else example.start
            ends = [example.fine_tuned(make(), seed) for seed in (0, 1)]
            states = [example.NextWord(end).state_dict() for end in ends]
        else:
            example.main(Path(folder))
            suffix = "ckpt" if name == "lightning_run" else "pt"
            states = [_weights(Path(folder) / f"{end}.{suffix}") for end in "ab"]
    task.model.load_state_dict(states[0], strict=False)
    objective, judge = replace(task, model=task.model).objectives(buffers="frozen")
    return judge, joined(objective, torch.stack([judge.flatten(state) for state in states]), 1.2)


def _weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, of a Lightning run those of its network."""
    content = torch.load(file, weights_only=False)
    if "state_dict" not in content:
        return content
    return {key.removeprefix("network."): value for key, value in content["state_dict"].items() if key.startswith("network.")}


def of_case(case: Case) -> Made:
    """The judge and the path of a case, with the statistics of the first end."""
    models = [trained(case, seed) for seed in (0, 1)]
    train, test = case.data()
    objective, judge = (dss.NetworkObjective(models[0], case.loss, data, buffers="frozen") for data in (train, test))
    return judge, joined(objective, torch.stack([judge.flatten(model.state_dict()) for model in models]), 1.1)


def joined(objective: dss.NetworkObjective, ends: Tensor, factor: float) -> Tensor:
    """Greedy strings below `factor` times the larger loss of the ends, as far as they come in two minutes."""
    finder = dss.GreedyString(limits=dss.Limits(rounds=4, seconds=120))
    return dss.connect(objective, *ends, threshold=factor * objective(ends).max().item(), finder=finder, prove="never").path.beads


def made(name: str) -> Made:
    """The judge and the path."""
    if name.startswith("examples/"):
        return of_example(name.partition("/")[2])
    return of_case(MORE[name]) if name in MORE else found((CASES | PAPER)[name], None)


def measured(name: str, factor: float, seconds: float) -> Record:
    """One proof, stopped after so many processor seconds."""
    judge, beads = made(name)
    most, _ = sampled(judge, beads)
    record = _described(judge, beads, factor, most)
    began = time.process_time()
    try:
        bracket = _last(judge, beads, factor * most, seconds)
    except dss.EnclosureError as error:
        return record | {"verdict": "REFUSED", "stopped": str(error)}
    worst = bracket.bounds[bracket.bounds[:, 3].argmax()].tolist()
    record |= {"cells": bracket.cells, "seconds": round(time.process_time() - began, 2), "verdict": bracket.verdict.name,
               "proved": round(share(bracket, factor * most), 4), "upper": _finite(bracket.upper)}  # fmt: skip
    if not bracket.proven:
        record["stopped"] = {"bound": _finite(worst[3]), "sampled": most, "width": worst[2] - worst[1], "segment": int(worst[0])}
    return record


def _described(judge: dss.NetworkObjective, beads: Tensor, factor: float, most: float) -> Record:
    return {"parameters": beads.shape[1], "samples": judge.samples, "segments": len(beads) - 1, "sampled": most,
            "threshold": factor * most, "chosen": f"{factor} times the largest loss of 41 points per segment"}  # fmt: skip


def measured_by_segment(name: str, factor: float, seconds: float, records: Records) -> Record | None:
    """A proof segment by segment, each of which is kept when it is proved; None where the seconds are over before all are."""
    judge, beads = made(name)
    most, _ = sampled(judge, beads)
    parts = []
    for i, digests in enumerate(pairwise(dss.Path(beads).digests)):
        key, asked = f"{name} / {i}", {"path": " ".join(digests), "threshold": factor * most}
        part = records.results.get(PARTS, {}).get(key, {})
        if asked.items() - part.items():  # of another path
            part = asked | _segment(judge, beads[i : i + 2], factor * most, seconds)
            seconds -= part["seconds"]
            print(key, part, flush=True)
            if part.pop("proved") < 1:
                return None
            records.add(PARTS, key, part)
        parts.append(part)
    sums = {column: round(sum(part[column] for part in parts), 2) for column in ("cells", "seconds")}
    verdict = {"verdict": dss.Verdict.PROVEN.name, "proved": 1.0, "upper": max(part["upper"] for part in parts)}
    return _described(judge, beads, factor, most) | sums | verdict


def _segment(judge: dss.NetworkObjective, beads: Tensor, threshold: float, seconds: float) -> Record:
    """The proof of a path of one segment, as far as it came in so many processor seconds."""
    began = time.process_time()
    bracket = _last(judge, beads, threshold, seconds)
    proved = 1.0 if bracket.proven else min(share(bracket, threshold), 0.9999)
    spent = round(time.process_time() - began, 2)
    return {"cells": bracket.cells, "seconds": spent, "upper": _finite(bracket.upper), "proved": proved}


def _last(judge: dss.NetworkObjective, beads: Tensor, threshold: float, seconds: float) -> dss.Bracket:
    """Where a proof ends, or stands after so many processor seconds."""
    began, brackets = time.process_time(), dss.prove(judge, beads, threshold=threshold)
    bracket = next(brackets)
    while not bracket.verdict.finished and time.process_time() - began <= seconds:
        bracket = next(brackets)
    return bracket


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def pages_of(results: Mapping[str, Mapping[str, Record]]) -> dict[str, str]:
    """The table of the page: what was proved, and what stops the others."""
    rows = []
    for name in sorted(results[TABLE], key=names().index):
        it = results[TABLE][name]
        stopped: Any = it.get("stopped")
        if it["verdict"] == "PROVEN":
            outcome = "proved"
        elif isinstance(stopped, str):
            outcome = f"refused: {stopped}"
        else:
            bound = "no finite bound" if stopped["bound"] is None else f"a bound of {figure(stopped['bound'], up=True)}"
            outcome = f"stopped at {it['proved']:.0%} of the path: {bound} on a cell 1/{round(1 / stopped['width'])} wide"
        rows.append((name, f"{it['parameters']:,}", f"{it['samples']:,}", it["segments"], figure(it["threshold"]),
                     it.get("cells", ""), _seconds(it.get("seconds")), outcome))  # fmt: skip
    head = ("net", "parameters", "samples", "segments", "threshold", "cells", "processor seconds", "outcome")
    return {TABLE: as_table(head, rows)}


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def names() -> list[str]:
    """All networks, in the order of the table."""
    return [*CASES, *MORE, *(f"examples/{name}" for name in EXAMPLES), *PAPER]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; all by default")
    parser.add_argument("--seconds", type=float, default=600.0, help="processor seconds of one proof")
    parser.add_argument("--factor", type=float, default=1.02, help="the threshold over the largest loss of the grid")
    parser.add_argument("--by-segment", action="store_true", help="keep every segment that is proved, for proofs of hours")
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    records = Records(options.out)
    torch.set_num_threads(1)
    dss.keep_freed_memory()
    for name in options.names or names():
        if name not in names():
            parser.error(f"no net is called {name!r}; there are {', '.join(names())}")
        if records.has(TABLE, name):
            continue
        if options.by_segment:
            record = measured_by_segment(name, options.factor, options.seconds, records)
        else:
            record = measured(name, options.factor, options.seconds)
        if record is not None:
            records.add(TABLE, name, record)
            print(name, record, flush=True)


if __name__ == "__main__":
    main()
