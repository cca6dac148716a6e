"""A proof whose cells are bounded by an executor: the same one, wherever the cells are bounded."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

import dss
from dss.base.errors import InputError
from dss.certificates.proof import prove
from dss.cli import main
from models.mlp import MLP


def judged(samples, loss=F.cross_entropy):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (samples,), generator=generator)
    x = torch.randn(samples, 4, generator=generator) + y[:, None]
    torch.manual_seed(0)
    judge = dss.NetworkObjective(MLP(4, 3, width=8, depth=3), loss, (x, y))
    return judge, torch.randn(3, judge.space.size, generator=generator) * 0.5


def last(judge, beads, **options):
    *_, bracket = prove(judge, beads, tolerance=1e-2, **options)
    return bracket


@pytest.mark.parametrize("samples", [20, 80], ids=["together", "apart"])
def test_a_proof_does_not_depend_on_where_its_cells_are_bounded(samples):
    judge, beads = judged(samples)
    here = last(judge, beads)
    with ThreadPoolExecutor(3) as pool:
        there = last(judge, beads, executor=pool)
        again = last(judge, beads, executor=pool)
    assert there.verdict is here.verdict and there.cells == here.cells
    assert there.upper == pytest.approx(here.upper, rel=1e-9) and there.seen == here.seen
    assert torch.equal(there.bounds, again.bounds)


@pytest.mark.slow
def test_processes_give_what_threads_give():
    judge, beads = judged(80)
    with ThreadPoolExecutor(1) as threads, dss.parallel.ProcessPool(2, threads=torch.get_num_threads()) as processes:
        one, other = (last(judge, beads, executor=pool) for pool in (threads, processes))
    assert torch.equal(one.bounds, other.bounds)


def test_what_cannot_be_sent_is_named_and_a_source_helps():
    unsendable, beads = judged(20, lambda o, t: F.cross_entropy(o, t))
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(InputError, match="give a source"):
            last(unsendable, beads, executor=pool)
        assert last(unsendable, beads, executor=pool, source=first_judge).verdict is dss.Verdict.BRACKETED


def first_judge():
    return judged(20)[0]


def test_a_certificate_and_a_bracket_take_an_executor():
    judge, beads = judged(20)
    path = dss.Path(beads)
    with ThreadPoolExecutor(2) as pool:
        found = dss.bracket(judge, path, executor=pool)
        certificate = dss.certify(judge, path, threshold=found.upper, prove=True, executor=pool)
    assert certificate.proven and found.verdict is dss.Verdict.BRACKETED


@pytest.mark.slow
def test_the_command_line_certifies_in_workers(tiny, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["connect", str(tiny / "a.pt"), str(tiny / "b.safetensors"), "--task", f"{tiny}/task.py:task", "--threshold", "0.3",
                 "--out", str(out), "--prove", "never", "--quiet"]) == 0  # fmt: skip
    said = []
    for more in ([], ["--workers", "2"]):
        assert main(["certify", str(out), "--tolerance", "0.01", "--quiet", *more]) == 0
        said.append(capsys.readouterr().out.splitlines()[-1].partition("computed")[0])
    assert said[0] == said[1]
