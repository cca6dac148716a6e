"""Adam without the compiler: torch's numbers, and no import of the compiler."""

import subprocess
import sys

import pytest
import torch

from dss.base.adam import Adam

FOLLOWED = """
import sys
import torch
from dss.base.adam import Adam
x = torch.ones(3, requires_grad=True)
optimizer = Adam([x], lr=0.1)
x.square().sum().backward()
optimizer.step()
optimizer.zero_grad()
print("torch._dynamo" in sys.modules)
"""


def loss(x: torch.Tensor) -> torch.Tensor:
    return (x - torch.tensor([1.0, -2.0, 3.0])).pow(4).sum()


def trained(kind: type[torch.optim.Optimizer], options: dict) -> torch.Tensor:
    x = torch.zeros(3, requires_grad=True)
    optimizer = kind([x], **options)
    for _ in range(20):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    return x.detach()


@pytest.mark.parametrize(
    "options", [{}, {"lr": 0.1, "fused": True}, {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True, "foreach": True}]
)
def test_the_bits_of_torchs_adam(options):
    assert torch.equal(trained(Adam, options), trained(torch.optim.Adam, options))


def test_a_closure_has_gradients_and_its_loss_is_returned():
    x = torch.zeros(3, requires_grad=True)
    optimizer = Adam([x], lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(x)
        value.backward()
        return value

    assert optimizer.step(closure).item() == loss(torch.zeros(3)).item()
    assert not torch.equal(x.detach(), torch.zeros(3)) and x.requires_grad


def test_state_is_kept_and_loaded():
    x, y = (torch.zeros(3, requires_grad=True) for _ in range(2))
    ours, torchs = Adam([x], lr=0.1), torch.optim.Adam([y], lr=0.1)
    loss(x).backward()
    ours.step()
    torchs.load_state_dict(ours.state_dict())
    assert torch.equal(torchs.state[y]["exp_avg"], ours.state[x]["exp_avg"])


def test_the_compiler_is_not_imported():
    said = subprocess.run([sys.executable, "-c", FOLLOWED], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


MODED = """
import sys
import torch
import dss
nn = torch.nn
model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2))
x, y = torch.randn(20, 1, 4, 4), torch.randint(2, (20,))
objective = dss.NetworkObjective(model, torch.nn.functional.cross_entropy, (x, y))
a = objective.flatten(model.state_dict())
found = dss.connect(objective, a, a + 0.01, threshold=100.0, prove="always")
print("torch._dynamo" in sys.modules, "sympy" in sys.modules, found.certificate.proven)
"""


def test_a_connection_and_its_proof_do_not_import_the_compiler():
    said = subprocess.run([sys.executable, "-c", MODED], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False", "True"]


PULLED = """
import sys
import torch
import dss
from dss.finders.taut import tauten
ends = [dss.Ring.at(angle) for angle in (0.0, 0.8, 1.7, 2.5)]
problem = dss.Problem.of(dss.Ring(), ends[0], ends[-1], threshold=0.2)
tauten(problem, dss.Path(torch.stack(ends)), 0.01, 10, torch.Generator().manual_seed(0))
print("torch._dynamo" in sys.modules)
"""


def test_pulling_a_string_tight_does_not_import_the_compiler():
    said = subprocess.run([sys.executable, "-c", PULLED], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
