"""Time and memory of every stage on large networks, in units that mean something elsewhere: forward passes, and models.

    python -m benchmarks.big_models --parameters 1e6 1e7 1e8
    python -m benchmarks.big_models --gpt                      # GPT-2 small's sizes: 124 million parameters

A stage's time is in processor seconds, and over that of one judged loss of one point. Its memory is the most that the process
held while the stage ran beyond what it held before any (Linux alone tells), over the size of one point. Two ends are trained
from a common start for a few steps, and saved; what is measured begins with the two files.
"""

import argparse
import copy
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import dss

SAMPLES, FEATURES, CLASSES = 16, 256, 10
TEXTS, LENGTH, WORDS = 4, 64, 50257
STEPS = 3  # of training each end, and of a bead
REPEATS = 3  # of what is short


class Wide(nn.Sequential):
    """An MLP of about `parameters` numbers, nearly all of them in two square layers."""

    def __init__(self, parameters: int):
        width = round((parameters / 2) ** 0.5)
        layers = (nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        super().__init__(*layers, nn.Linear(width, CLASSES))


class Block(nn.Module):
    """One layer of GPT-2 (Radford et al. 2019): attention and MLP, each after a LayerNorm and beside an identity."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        parts = self.read(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.write(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.between(x))


class GPT(nn.Module):
    """GPT-2 small's sizes: 12 layers of width 768, 12 heads, 50,257 words, tied embeddings; 124 million parameters."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12, words: int = WORDS, length: int = 1024):
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        for weight in (self.words.weight, self.places.weight):
            nn.init.normal_(weight, std=0.02)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places.weight[: words.shape[1]]
        return self.head(self.norm(self.blocks(x))).transpose(1, 2)


def wide_task(parameters: int) -> dss.Task:
    """Random features and classes for a wide MLP."""
    draw = torch.Generator().manual_seed(0)
    data = torch.rand(SAMPLES, FEATURES, generator=draw), torch.randint(CLASSES, (SAMPLES,), generator=draw)
    return dss.Task(Wide(parameters), cross_entropy, data, name="wide MLP")


def gpt_task() -> dss.Task:
    """The next word of a few random texts."""
    texts = torch.randint(WORDS, (TEXTS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    return dss.Task(GPT(), cross_entropy, (texts[:, :-1], texts[:, 1:]), name="GPT-2 small's sizes")


@dataclass
class Stage:
    """What a stage took: processor seconds of each repeat, and peak bytes beyond those before the first stage."""

    name: str
    seconds: list[float]
    bytes: int


class Meter:
    """Measures stages of one process."""

    def __init__(self):
        self.stages: list[Stage] = []
        gc.collect()
        self.before = _resident("VmRSS")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within it; stages of one name are repeats."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # proc_pid_clear_refs(5): the peak starts anew
        began = time.process_time()
        yield
        seconds, held = time.process_time() - began, _resident("VmHWM") - self.before
        known = next((stage for stage in self.stages if stage.name == name), None)
        if known is None:
            self.stages.append(Stage(name, [seconds], held))
        else:
            known.seconds.append(seconds)
            known.bytes = max(known.bytes, held)

    def table(self, size: int) -> str:
        """Every stage in a line, in judged losses and points of `size` bytes."""
        unit = next(statistics.median(stage.seconds) for stage in self.stages if stage.name == LOSS)
        lines = [f"| {'stage':44} | seconds | in losses | peak in models |", f"|{'-' * 46}|---|---|---|"]
        for stage in self.stages:
            seconds = statistics.median(stage.seconds)
            lines.append(f"| {stage.name:44} | {seconds:7.3f} | {seconds / unit:9.1f} | {stage.bytes / size:8.2f} |")
        return "\n".join(lines)


LOSS = "one judged loss"


def _resident(kind: str) -> int:
    """Bytes of this process that are in memory, now or at most (proc_pid_status(5))."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) * 1024


def trained(task: dss.Task, seed: int) -> dict[str, Tensor]:
    """The task's model after a few steps, each on samples of its own."""
    model, draw = copy.deepcopy(task.model), torch.Generator().manual_seed(seed)
    inputs, target = task.train  # pyright: ignore[reportGeneralTypeIssues]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(STEPS):
        index = torch.randint(len(inputs), (max(1, len(inputs) // 2),), generator=draw)
        optimizer.zero_grad()
        task.loss(model(inputs[index]), target[index]).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    return model.state_dict()


def measure(task: dss.Task, folder: Path) -> str:
    """The table of one task."""
    files = [folder / f"{name}.safetensors" for name in "ab"]
    for seed, file in enumerate(files):
        dss.save_state(file, trained(task, seed))
    meter, space = Meter(), task.space
    with meter.stage("build the objective"):
        objective, _ = task.objectives()
    with meter.stage("load both files"):
        ends = [dss.load_point(file, space) for file in files]
    for _ in range(REPEATS):
        with meter.stage(LOSS):
            objective(ends[0][None])
    with meter.stage("the question: both ends judged"):
        problem = dss.Problem.of(objective, *ends, threshold=1e3, adopt=True)
    del ends
    with meter.stage("certificate of the straight line"):
        found = dss.certify(problem.recalled, problem.straight, threshold=1e3)
    print(f"  {found.reason}")
    _figures(meter, problem.straight)
    _save(meter, folder / "run", task, problem, objective)
    _train(meter, task, problem)
    return meter.table(problem.start.nbytes)


def _figures(meter: Meter, path: dss.Path) -> None:
    for _ in range(REPEATS):
        with meter.stage("normalized length"):
            _ = path.normalized_length
        with meter.stage("digests of both ends"):
            _ = dss.Path(path.rows).digests


def _save(meter: Meter, folder: Path, task: dss.Task, problem: dss.Problem, objective: dss.NetworkObjective) -> None:
    with meter.stage("connect: straight line, recorded, with a page"):
        finder = dss.StraightLine()
        question = {
            "task": "big",
            "threshold": 1e3,
            "finder": "straight",
            "seed": 0,
            "points": 20,
            "parameters": list(objective.space.names),
        }
        recorder = dss.RunRecorder.start(folder, question)
        for step in finder.steps(problem):
            recorder.record(step, problem.tally, 0.0)
        recorder.finish(dss.conclude(problem, finder, step, prove="never"), objective.space)
    with meter.stage("read the run"):
        run = dss.load_run(folder)
    with meter.stage("page without losses"):
        dss.write_report(run, None, evaluations=8)


def _train(meter: Meter, task: dss.Task, problem: dss.Problem) -> None:
    """Steps of one bead against steps of the bare model."""
    model, (inputs, target) = copy.deepcopy(task.model), task.train  # pyright: ignore[reportGeneralTypeIssues]
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    for _ in range(REPEATS):
        with meter.stage(f"{STEPS} plain training steps"):
            for _ in range(STEPS):
                optimizer.zero_grad()
                task.loss(model(inputs), target).backward()  # pyright: ignore[reportAttributeAccessIssue]
                optimizer.step()
    del model, optimizer
    middle = problem.straight.points(torch.tensor([0]), torch.tensor([0.5]))
    for _ in range(REPEATS):
        with meter.stage(f"{STEPS} steps of one bead"):
            options = dss.Descent(max_steps=STEPS)
            dss.descend(problem.objective, problem.judge, middle, -1.0, options=options, generator=torch.Generator())
    del middle
    with meter.stage("greedy, one bead"):
        finder = dss.GreedyString(insertion="midpoint", alpha=1e-9, descent=dss.Descent(max_steps=STEPS))
        finder.advance(problem, dss.Step(problem.straight, torch.tensor([torch.inf], dtype=torch.float64)))


def main() -> None:
    """Print a table for every size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parameters", type=float, nargs="*", default=[1e6], help="sizes of the wide MLP (default: %(default)s)")
    parser.add_argument("--gpt", action="store_true", help="GPT-2 small's sizes instead")
    options = parser.parse_args()
    dss.keep_freed_memory()  # as the command line does
    torch.manual_seed(0)
    tasks: list[Callable[[], dss.Task]] = (
        [gpt_task] if options.gpt else [partial(wide_task, int(size)) for size in options.parameters]
    )
    for make in tasks:
        task = make()
        print(f"\n{task.name}, {task.space.size:,} parameters")
        with tempfile.TemporaryDirectory() as folder:
            print(measure(task, Path(folder)))


if __name__ == "__main__":
    main()
