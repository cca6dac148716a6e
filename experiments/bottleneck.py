"""Walls between networks with a narrow last hidden layer, from both sides: `python -m experiments.bottleneck`.

Autoencoders of scikit-learn's digits with N last hidden units are trained apart. The bottleneck obstruction gives a loss B from
the images alone; two networks whose last layers have opposite orientations are joined by no path below B. The experiment
counts how often that is so, walks an explicit path that reaches B and no more, and asks finders on both sides of B, for
ends as they were trained and with two units of one end swapped. Classifiers with two last hidden features come last: walls
for cross-entropy and error rate, against each other and against mirror images.
"""

import argparse
from concurrent.futures import Executor
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import dss
from experiments.results import Record, Results, fill
from experiments.workers import add_workers, executor_of

UNITS = (1, 2, 3, 4, 5, 6)
SEEDS = 20
ITERATIONS = 400  # of L-BFGS
SEARCH_UNITS, SEARCH_ROUNDS = 3, 6
CLASSIFIERS, CLASSIFIER_STEPS = 10, 2500
BEADS = 17  # of the explicit path, the highest point among them
DATA = "scikit-learn's digits, all 1,797 images, pixels in [0, 1]"
KINDS = {"linear": (), "tanh": (32, nn.Tanh), "sigmoid": (32, nn.ReLU)}  # hidden width and its activation
SHOWN = ("linear", "tanh")


def images() -> tuple[Tensor, Tensor]:
    """Pixels `(1797, 64)` in float64 and classes `(1797,)`."""
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16), torch.tensor(labels)


def autoencoder(kind: str, units: int) -> nn.Sequential:
    """64-N-64, or 64-32-N-64 with an activation below the N units (and a sigmoid on them)."""
    if kind == "linear":
        layers = [nn.Linear(64, units)]
    else:
        width, activation = KINDS[kind]
        layers = [nn.Linear(64, width), activation(), nn.Linear(width, units)]
    if kind == "sigmoid":
        layers.append(nn.Sigmoid())
    return nn.Sequential(*layers, nn.Linear(units, 64)).double()


def objective(kind: str, units: int) -> dss.NetworkObjective:
    """The mean squared error over all pixels."""
    x, _ = images()
    return dss.NetworkObjective(autoencoder(kind, units), mse_loss, (x, x), description=f"mean squared error, {DATA}")


def trained(kind: str, units: int, seed: int, iterations: int = ITERATIONS) -> Tensor:
    """A point: full-batch L-BFGS from a random start."""
    x, _ = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = autoencoder(kind, units)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=iterations, line_search_fn="strong_wolfe", tolerance_grad=1e-9, tolerance_change=1e-12
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mse_loss(model(x), x)
        loss.backward()
        return loss

    optimizer.step(closure)
    return dss.ParameterSpace.of(model).flatten(model.state_dict())


def swapped(kind: str, units: int, point: Tensor) -> Tensor:
    """The same function with the first two last hidden units exchanged: the opposite orientation."""
    model = autoencoder(kind, units)
    space = dss.ParameterSpace.of(model)
    below, last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-2:]
    state, order = {k: v.clone() for k, v in space.unflatten(point).items()}, [1, 0, *range(2, units)]
    state[f"{below}.weight"], state[f"{below}.bias"] = state[f"{below}.weight"][order], state[f"{below}.bias"][order]
    state[f"{last}.weight"] = state[f"{last}.weight"][:, order]
    return space.flatten(state)


def saddle_path(units: int, beads: int = BEADS) -> dss.Path:
    """From the principal components to those with the last one reflected, as linear autoencoders: the last component turns through
    the next one, which is the path's highest point.
    """
    x, _ = images()
    mean = x.mean(0)
    axes = torch.linalg.svd(x - mean, full_matrices=False).Vh
    points = []
    for angle in torch.linspace(0, torch.pi, beads, dtype=torch.float64):
        rows = torch.cat([axes[: units - 1], (angle.cos() * axes[units - 1] + angle.sin() * axes[units])[None]])
        points.append(torch.cat([rows.reshape(-1), -rows @ mean, rows.T.reshape(-1), mean]))
    return dss.Path(torch.stack(points))


def training(kind: str, units: int, seeds: int, iterations: int = ITERATIONS) -> list[Record]:
    """Losses and orientations of networks trained apart, and the share of pairs that are proved disconnected."""
    x, _ = images()
    wall, judge = dss.theory.bottleneck_obstruction(x, units, output_bias=True), objective(kind, units)
    points = torch.stack([trained(kind, units, seed, iterations) for seed in range(seeds)])
    losses = judge(points).tolist()
    walls = {pair: wall.between(judge, points[pair[0]], points[pair[1]]).lower for pair in combinations(range(seeds), 2)}
    below = [seed for seed in range(seeds) if losses[seed] < wall.threshold]
    pairs = list(combinations(below, 2))
    return [
        {
            "wall": wall.threshold,
            "best": wall.best,
            "losses": losses,
            "below": len(below),
            "pairs": len(pairs),
            "proved": sum(walls[pair] > max(losses[i] for i in pair) for pair in pairs),
        }
    ]


def explicit(units: int) -> list[Record]:
    """The largest loss of the explicit path beside the wall."""
    x, _ = images()
    wall, path = dss.theory.bottleneck_obstruction(x, units, output_bias=True), saddle_path(units)
    judge = objective("linear", units)
    certificate = dss.certify(judge, path, threshold=float("inf"), grid=5)
    proved = wall.between(judge, path.beads[0], path.beads[-1])
    return [
        {"wall": proved.lower, "best": wall.best, "path": certificate.max_loss, "above": certificate.max_loss - wall.threshold}
    ]


def finders(rounds: int) -> dict[str, dss.Finder]:
    """Those that are asked."""
    limits = dss.Limits(rounds=rounds, beads=40)
    descent = dss.Descent(lambda parameters: torch.optim.Adam(parameters, lr=3e-3), max_steps=2000)
    return {
        "greedy": dss.GreedyString(descent=descent, limits=limits),
        "geodesic": dss.GeodesicString(descent=descent, limits=limits),
        "band": dss.ElasticBand(descent=descent, limits=limits),
    }


def pairs_of_ends(kind: str, units: int, points: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Two trained apart of each kind that occurs, equal or opposite, and the same with two units of one end swapped."""
    x, _ = images()
    wall, judge = dss.theory.bottleneck_obstruction(x, units, output_bias=True), objective(kind, units)
    found = {"copy, two units swapped": (points[0], swapped(kind, units, points[0]))}
    for a, b in combinations(points, 2):
        name = "opposite" if wall.between(judge, a, b).proven else "equal"
        found.setdefault(name, (a, b))
        found.setdefault(f"{name}, two units swapped", (a, swapped(kind, units, b)))
    return found


def searches(kind: str, units: int, seeds: int, rounds: int, iterations: int = ITERATIONS) -> list[Record]:
    """Every finder, between the ends and B, and above B by as much; without the obstruction, so that each must see for itself."""
    x, _ = images()
    wall, judge = dss.theory.bottleneck_obstruction(x, units, output_bias=True), objective(kind, units)
    points = torch.stack([trained(kind, units, seed, iterations) for seed in range(seeds)])
    points = points[judge(points) < wall.threshold]
    records = []
    for pair, (a, b) in pairs_of_ends(kind, units, points).items():
        ends = judge(torch.stack([a, b])).max().item()
        separated = wall.between(judge, a, b).proven
        for side, level in (("below", 0.7), ("above", 1.3)):
            threshold = ends + level * (wall.threshold - ends)
            for name, finder in finders(rounds).items():
                found = dss.connect(judge, a, b, threshold=threshold, finder=finder, prove="never")
                largest = found.certificate.max_loss / wall.threshold
                record = {"pair": pair, "separated": separated, "side": side, "finder": name, "connected": found.connected}
                records.append({**record, "barrier_over_wall": largest, "length": found.path.normalized_length})
    return records


def classifier(seed: int, steps: int = CLASSIFIER_STEPS) -> nn.Sequential:
    """64-64-32-2-10 without output bias, trained on all digits with Adam."""
    x, y = images()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2), nn.Linear(2, 10, bias=False)]
        model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(x.float()), y).backward()
        optimizer.step()
    return model


def mirrored(model: nn.Sequential, point: Tensor) -> Tensor:
    """The same function with its two last hidden units exchanged."""
    space = dss.ParameterSpace.of(model)
    state = {name: value.clone() for name, value in space.unflatten(point).items()}
    state["4.weight"], state["4.bias"], state["5.weight"] = (
        state["4.weight"][[1, 0]],
        state["4.bias"][[1, 0]],
        state["5.weight"][:, [1, 0]],
    )
    return space.flatten(state)


def classifiers(seeds: int, steps: int = CLASSIFIER_STEPS) -> list[Record]:
    """Pairs trained apart that are proved disconnected, by the cross-entropy and by the error rate, mirror images too."""
    x, y = images()
    models = [classifier(seed, steps) for seed in range(seeds)]
    records = []
    for loss, judged in (("cross_entropy", cross_entropy), ("error_rate", dss.theory.strict_error_rate)):
        judge = dss.NetworkObjective(models[0], judged, (x.float(), y))
        points = [judge.space.flatten(model.state_dict()) for model in models]
        losses, wall = judge(torch.stack(points)).tolist(), dss.theory.polygon_obstruction(y, loss=loss)
        record: Record = {"loss": loss, "losses": losses, "threshold": wall.threshold, "pairs": seeds * (seeds - 1) // 2}
        for name, image in (("plain", lambda point: point), ("mirrored", lambda point: mirrored(models[0], point))):
            walls = {(i, j): wall.between(judge, points[i], image(points[j])).lower for i, j in combinations(range(seeds), 2)}
            proved = [lower for (i, j), lower in walls.items() if lower > max(losses[i], losses[j])]
            record |= {name: len(proved), f"{name}_lowest_wall": min(proved, default=None)}
        records.append(record)
    return records


def run(
    out: Path, *, units: tuple[int, ...] = UNITS, seeds: int = SEEDS, iterations: int = ITERATIONS, kinds: tuple[str, ...] = SHOWN,
    search_units: int = SEARCH_UNITS, search_seeds: int = 4, rounds: int = SEARCH_ROUNDS, networks: int = CLASSIFIERS,
    steps: int = CLASSIFIER_STEPS, executor: Executor | None = None,
) -> Results:  # fmt: skip
    """Everything `out` does not hold yet."""
    settings = {"data": DATA, "seeds": seeds, "iterations": iterations, "rounds": rounds, "networks": networks, "steps": steps}
    results = Results(out, settings)
    parts = {
        **{("explicit path", float(n)): partial(explicit, n) for n in units},
        **{(f"{kind} autoencoders", float(n)): partial(training, kind, n, seeds, iterations) for kind in kinds for n in units},
        ("classifiers", 2.0): partial(classifiers, networks, steps),
        **{
            (f"searches, {kind}", float(search_units)): partial(searches, kind, search_units, search_seeds, rounds, iterations)
            for kind in kinds
        },
    }
    return fill(results, parts, lambda piece, records: f"{piece[0]}, N = {piece[1]:g}: {_words(records)}", executor)


def _words(records: list[Record]) -> str:
    if "finder" not in records[0]:
        return "; ".join(", ".join(f"{k} {v}" for k, v in record.items() if not isinstance(v, list)) for record in records)
    behind = [r for r in records if r["separated"] and r["side"] == "below"]
    free = [r for r in records if not r["separated"] and r["side"] == "below"]
    above = [r for r in records if r["side"] == "above"]
    groups = (("separated, below B", behind), ("not separated, below B", free), ("above B", above))
    return "; ".join(f"{name}: {sum(r['connected'] for r in group)} of {len(group)} connected" for name, group in groups)


def main() -> None:
    parser = argparse.ArgumentParser(description="walls between networks with a narrow last hidden layer, from both sides")
    parser.add_argument("--quick", action="store_true", help="few networks, about a minute, into runs/")
    add_workers(parser)
    options = parser.parse_args()
    here = Path(__file__)
    (here.parent / "runs").mkdir(exist_ok=True)
    small = {"units": (1, 3), "seeds": 4, "kinds": ("linear",), "rounds": 2, "networks": 3, "steps": 600}
    out, size = (here.parent / "runs" / "bottleneck-quick.json", small) if options.quick else (here.with_suffix(".json"), {})
    with executor_of(options) as executor:
        run(out, **size, executor=executor)


if __name__ == "__main__":
    main()
