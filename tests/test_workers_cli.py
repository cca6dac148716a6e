"""`dss compare` in worker processes: the runs of one process, whoever did them."""

import pytest
import torch

from dss.cli import main
from dss.runs import load_run

FINDERS = ("straight", "chain", "geodesic")


def compare(tiny, out, *more):
    return main([
        "compare", str(tiny / "a.pt"), str(tiny / "b.safetensors"), "--task", f"{tiny}/task.py:task", "--threshold", "0.3", "--out", str(out),
        "--finders", *FINDERS, "--quiet", *more,
    ])  # fmt: skip


@pytest.mark.slow
def test_finders_compared_in_workers_find_the_same_paths(tiny, tmp_path, capsys):
    code = compare(tiny, tmp_path / "here")
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line in [f"{name}:" for name in FINDERS]] == [f"{name}:" for name in FINDERS]
    assert compare(tiny, tmp_path / "there", "--workers", "2", "--threads", str(torch.get_num_threads())) == code
    for name in FINDERS:
        here, there = (load_run(tmp_path / where / name) for where in ("here", "there"))
        assert torch.equal(here.path.beads, there.path.beads)
        assert here.outcome["reason"] == there.outcome["reason"]
    assert (tmp_path / "there" / "compare.html").exists()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("there/*/summary.json")}
    assert compare(tiny, tmp_path / "there", "--workers", "1") == code, "what is done is not done again"
    assert len(before) == 3 and all(file.stat().st_mtime_ns == then for file, then in before.items())


def test_workers_and_a_cluster_at_once_are_refused(tiny, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        compare(tiny, tmp_path / "both", "--workers", "1", "--dask", "tcp://nowhere:1")
    assert "not allowed with argument" in capsys.readouterr().err
    assert compare(tiny, tmp_path / "none", "--workers", "0") == 2
    assert "at least one worker" in capsys.readouterr().err
