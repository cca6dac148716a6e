"""Peak memory in units of the model, measured on a process of its own (Linux tells it)."""

import json
import os
import subprocess
import sys

import pytest

MEASURE = """
import json, gc, sys
from pathlib import Path
import torch
import dss

def held(kind):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) * 1024

class Peak:
    def __enter__(self):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    def __exit__(self, *_):
        peaks.append((held("VmHWM") - before) / bytes)

torch.manual_seed(0)
net, peaks = torch.nn.Sequential(torch.nn.Linear(200, 60_000), torch.nn.Tanh(), torch.nn.Linear(60_000, 4)), []
data = torch.rand(2, 200), torch.tensor([0, 3])
objective = dss.NetworkObjective(net, torch.nn.functional.cross_entropy, data)
bytes, folder = 4 * objective.size, Path(sys.argv[1])
objective(torch.zeros(1, objective.size))  # the first evaluation is checked, and code is loaded
gc.collect()
before = held("VmRSS")
with Peak():
    start = objective.flatten(net.state_dict())
    end = start + 0.01 * torch.randn(objective.size)
    problem = dss.Problem.of(objective, start, end, threshold=1e3, adopt=True)
with Peak():
    dss.certify(problem.recalled, problem.straight, threshold=1e3)
    lengths = problem.straight.normalized_length, problem.straight.digests
finder = dss.GreedyString(insertion="midpoint", alpha=1e-9, descent=dss.Descent(max_steps=3))
step = dss.Step(problem.straight, torch.tensor([torch.inf], dtype=torch.float64))
with Peak():
    step = finder.advance(problem, step)
with Peak():  # the bead, and one in each half of the line
    step = finder.advance(problem, dss.Step(step.path, torch.full((2,), torch.inf, dtype=torch.float64)))
recorder = dss.RunRecorder.start(folder / "run", {"parameters": list(objective.space.names)})
with Peak():
    recorder.record(step, problem.tally, 0.0)
with Peak():
    step.path.store(folder)
print(json.dumps([len(step.path), peaks]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the peak")
def test_peaks_are_those_of_docs_scale(tmp_path):
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}  # what is freed is given back, and counts no more
    shown = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert shown.returncode == 0, shown.stderr
    beads, (question, certificate, one, three, recorded, stored) = json.loads(shown.stdout)
    slack = 0.5  # activations, allocators, pieces in float64
    assert beads == 5
    assert 2.9 < question < 3 + slack and 2.9 < certificate < 3 + slack
    assert 3 < one < 3 + 4 + slack and 5 < three < 5 + 4 + slack
    assert recorded < 5 + slack and stored < 5 + 1 + slack
