"""Cost of training k beads together, and of greedy DSS in batch against one bead after the other.

Prints ratios measured side by side in this run: one gradient step of k beads over one plain PyTorch training step of the
same net on the same batch, then the time of both schedules of greedy DSS between the same ends at the same threshold.

    python -m benchmarks.engine
"""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import dss

BEADS = (1, 4, 16, 64)
MOST_PARAMETERS = 120e6  # k beads of a net are measured while they hold fewer
SECONDS = 1.0  # of every measurement, at least; the fastest repeat counts
THRESHOLDS = {"digits": (0.5, 0.35), "quadratics": (0.02, 0.01)}


def tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))


def medium() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def classes(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(shape), torch.randint(10, shape[:1])


NETS = {
    "tiny MLP 1-32-32-1, batch 128": (tiny, mse_loss, lambda: (torch.rand(128, 1), torch.rand(128, 1))),
    "medium MLP 784-512-512-10, batch 256": (medium, cross_entropy, lambda: classes(256, 784)),
    "digits conv net, batch 128": (dss.DigitsNet, cross_entropy, lambda: classes(128, 1, 8, 8)),
    "paper's MNIST conv net, batch 100": (dss.PaperMNISTNet, cross_entropy, lambda: classes(100, 1, 28, 28)),
}


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest repeat."""
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def plain_step(net: nn.Module, loss: Callable, data: tuple) -> Callable[[], None]:
    """One training step as anyone writes it."""
    optimizer = torch.optim.Adam(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(net(data[0]), data[1]).backward()
        optimizer.step()

    return step


class Unjudged(dss.Objective):
    """A judge that costs nothing and is never satisfied."""

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        return torch.full((len(points),), torch.inf, dtype=torch.float64)


def bead_steps(objective: dss.Objective, point: torch.Tensor, k: int, steps: int) -> Callable[[], object]:
    """`steps` training steps of k beads, through the code that trains them in a search."""
    points = torch.stack([point] * k)
    options = dss.Descent(max_steps=steps, check_every=10**9)
    return lambda: dss.descend(objective, Unjudged(), points, 0.0, options=options, generator=torch.Generator().manual_seed(0))


def measure_steps() -> None:
    print("one gradient step of k beads / one plain training step; in brackets, per bead")
    for name, (build, loss, data) in NETS.items():
        torch.manual_seed(0)
        net, batch = build().eval(), data()
        objective = dss.NetworkObjective(net, loss, batch)
        point = objective.space.flatten(net.state_dict())
        base = fastest(plain_step(build().eval(), loss, batch))
        cells = []
        for k in (k for k in BEADS if k * objective.space.size < MOST_PARAMETERS):
            steps = 1 if base * k > 0.2 else 10
            ratio = fastest(bead_steps(objective, point, k, steps)) / steps / base
            cells.append(f"k={k}: {ratio:.2f} ({ratio / k:.2f})")
        print(f"  {name:40s} {1e3 * base:7.2f} ms   " + "   ".join(cells), flush=True)


def ends(name: str) -> tuple[dss.Task, list[torch.Tensor]]:
    """Two trained ends of a task."""
    task, points = dss.load_task(name), []
    for seed in (0, 1):
        *_, last = dss.train(dss.load_task(name, seed=seed), seed=seed)
        points.append(dss.ParameterSpace.of(task.model).flatten(last.model.state_dict()))
    return task, points


def measure_schedules() -> None:
    print("greedy DSS: seconds in batch (breadth) and one bead after the other (depth), same ends, same threshold")
    for name, thresholds in THRESHOLDS.items():
        task, (a, b) = ends(name)
        objective, judge = task.objectives()
        for threshold in thresholds:
            found = {}
            for schedule in ("breadth", "depth"):
                finder = dss.GreedyString(schedule=schedule)
                found[schedule] = dss.connect(objective, a, b, threshold=threshold, judge=judge, finder=finder, prove="never")
            words = "; ".join(
                f"{schedule} {c.seconds:.1f} s, {c.path.intermediate_beads} beads, {c.status.value}"
                for schedule, c in found.items()
            )
            ratio = found["depth"].seconds / found["breadth"].seconds
            print(f"  {name} at {threshold:g}: {words}; ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    kept = dss.keep_freed_memory()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, freed memory {'kept' if kept else 'returned'}")
    measure_steps()
    measure_schedules()
