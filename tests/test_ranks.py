"""One connection on several ranks of torch.distributed: the losses, gradients and paths of one."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

import dss
from dss import ranks
from dss.cli import main
from dss.ranks.rows import Shared
from dss.runs import load_run

ROOT = str(Path(dss.__file__).parent.parent)


def objective():
    x = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    return dss.NetworkObjective(net, nn.functional.cross_entropy, (x, (x[:, 0] > 0.5).long()), batch_size=7, rows="loop")


def compared(rank, file, out):
    """On each of two ranks: whether what is shared is what one process finds alone, for few and for many rows."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    alone = objective()
    shared, same = Shared(alone), {}
    for rows in (1, 2, 5):
        points = torch.randn(rows, alone.space.size, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
        same[f"losses, {rows}"] = torch.equal(shared(points), alone(points))
        generators = [torch.Generator().manual_seed(3) for _ in range(2)]
        gradients = []
        for which, generator in zip((shared, alone), generators, strict=True):
            leaf = points.clone().requires_grad_()
            (2 * which(leaf).sum() + which.estimate(leaf, generator).sum()).backward()
            gradients.append(leaf.grad)
        same[f"gradients, {rows}"] = torch.allclose(gradients[0], gradients[1], rtol=1e-14)
        same[f"draws, {rows}"] = torch.equal(*(generator.get_state() for generator in generators))
        cells = (points, points + 0.01, torch.zeros(rows).double(), torch.ones(rows).double())
        same[f"bounds, {rows}"] = torch.equal(shared.enclose(*cells), alone.enclose(*cells))
    same["objects"] = ranks.from_first(rank) == 0 and ranks.is_first() is (rank == 0)
    problem = dss.Problem.of(shared, points[0], points[1], threshold=9.0)
    same["alone"] = ranks.alone(problem).objective.objective is alone and ranks.alone(problem).tally is problem.tally
    Path(f"{out}-{rank}").write_text(json.dumps(same))
    dist.barrier()  # no rank goes while another may still speak to it
    dist.destroy_process_group()


@pytest.mark.slow
def test_shared_rows_are_those_of_one_process(tmp_path):
    spawn(compared, (str(tmp_path / "meet"), str(tmp_path / "same")), nprocs=2)
    for rank in range(2):
        same = json.loads((tmp_path / f"same-{rank}").read_text())
        assert all(same.values()) and len(same) == 14, same


def test_a_process_alone_shares_nothing():
    bowl = dss.Quadratic((1.0,))
    assert ranks.shared(bowl) is bowl and ranks.is_first() and ranks.from_first(3) == 3 and ranks.own_device("cuda") == "cuda"
    with ranks.joined("cpu") as several:
        assert not several


def connect(tiny, out, *more):
    return ["connect", f"{tiny}/a.pt", f"{tiny}/b.safetensors", "--task", f"{tiny}/task.py:task", "--threshold", "0.25", "--out", str(out),
            "--lr", "0.01", "--quiet", *more]  # fmt: skip


def torchrun(words):
    env = os.environ | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "dss", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_ranks_find_the_path_of_one_and_one_of_them_writes(tiny, tmp_path, capsys):
    assert main(connect(tiny, tmp_path / "one", "--prove", "never")) == 0
    found = torchrun(connect(tiny, tmp_path / "two", "--prove", "never", "--json"))
    assert found.returncode == 0, found.stderr
    one, two = (load_run(tmp_path / name) for name in ("one", "two"))
    said = json.loads(found.stdout)
    assert said["connected"] and said["rounds"] == one.outcome["rounds"] and said["seed"] == 0
    assert len(one.path) == len(two.path)
    torch.testing.assert_close(two.path.beads, one.path.beads, rtol=1e-4, atol=1e-5)
    for count in ("loss_evaluations", "gradient_evaluations", "gradient_steps"):
        assert said[count] == one.outcome[count]
    assert (tmp_path / "two" / "report.html").exists()
    again = torchrun(connect(tiny, tmp_path / "two", "--prove", "never", "--resume"))
    assert again.returncode == 0 and again.stdout.count("connected: ") == 1


@pytest.mark.parametrize(
    ("option", "reason"), [(("--max-seconds", "5"), "whose clocks differ"), (("--beads-on-disk",), "its share")]
)
def test_what_several_ranks_cannot_do_is_refused(tiny, tmp_path, capsys, monkeypatch, option, reason):
    monkeypatch.setattr(ranks, "joined", lambda device: nullcontext(True))
    assert main(connect(tiny, tmp_path / "run", *option)) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_on_two_ranks_that_is_cut_short_goes_on_on_two(tiny, tmp_path):
    """Cut after some rounds, as a kill does; the beads of both ranks are in the one run folder."""
    whole = connect(tiny, tmp_path / "whole", "--finder", "greedy", "--prove", "never", "--threshold", "0.2")
    assert torchrun(whole).returncode == 0
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    for name in ("summary.json", "path.safetensors", "report.html"):
        (cut / name).unlink()
    lines = (cut / "steps.jsonl").read_text().splitlines(keepends=True)
    (cut / "steps.jsonl").write_text("".join(lines[: len(lines) // 2]) + lines[-1][:20])
    again = torchrun(connect(tiny, cut, "--finder", "greedy", "--prove", "never", "--threshold", "0.2", "--resume"))
    assert again.returncode == 0, again.stderr
    one, two = (load_run(folder) for folder in (tmp_path / "whole", cut))
    assert len(lines) > 3 and len(one.path) > 4 and two.path.digests == one.path.digests
    assert two.outcome["gradient_steps"] == one.outcome["gradient_steps"]
