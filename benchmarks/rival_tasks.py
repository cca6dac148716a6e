"""The tasks on which finders are compared: built-in ones, and small networks with attention, gates and BatchNorm."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import dss
from benchmarks.proof import CASES, Case
from models.resnet import ResNet

# Epochs between two looks at an end: it stops training at a share of the threshold.
LOOK = {"quadratics": 20, "cubics": 20}


def fashion_small() -> dss.Task:
    """A conv net of 6,346 parameters on the first 10,000 training images of Fashion-MNIST, judged on 2,000 test images."""
    fashion: Any = dss.load_task("fashion")
    (x, y), (x_test, y_test) = fashion.train, fashion.judge
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 10)),
    )
    train, judge = (x[:10_000], y[:10_000]), (x_test[:2000], y_test[:2000])
    return dss.Task(net, cross_entropy, train, judge, batch_size=128, name="fashion-small", epochs=40, learning_rate=2e-3)


def of_case(name: str, case: Case) -> dss.Task:
    """An architecture of the proofs' benchmark, on the data that it has there."""
    train, judge = case.data()
    return dss.Task(
        case.make(), case.loss, train, judge, batch_size=case.batch, name=name, epochs=100, learning_rate=case.learning_rate
    )


def norm_resnet() -> dss.Task:
    """ResNet-8 with BatchNorm on the digits; statistics are recalibrated at every point."""
    return of_case("resnet", replace(CASES["resnet-8"], make=lambda: ResNet(blocks=1, width=8)))


OWN = {
    "fashion-small": fashion_small,
    "transformer": partial(of_case, "transformer", CASES["transformer"]),
    "lstm": partial(of_case, "lstm", CASES["lstm"]),
    "resnet": norm_resnet,
}
TASKS = {name: partial(dss.load_task, name) for name in ("digits", "quadratics", "cubics", "fashion")} | OWN


def fresh(name: str, seed: int) -> dss.Task:
    """The task with initial weights of its own: `load_task` draws those of a built-in one under its own seed."""
    torch.manual_seed(seed)
    return OWN[name]() if name in OWN else dss.load_task(name, seed=seed)


def end(name: str, seed: int, stop: float) -> Tensor:
    """A trained end: the first network, from this seed on, that gets down to `stop`."""
    while True:
        task = fresh(name, seed)
        for epoch in dss.train(task, seed=seed):
            if epoch.number % LOOK.get(name, 1) == 0 and task.judged_loss(epoch.model) <= stop:
                return dss.ParameterSpace.of(task.model).flatten(epoch.model.state_dict())
        seed += 1000
