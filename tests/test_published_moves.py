"""The published walk of LLPF in the benchmark, against a stand-in for its checkout with the same functions."""

import sys

import pytest
import torch
from test_published import assert_found, ends, searched, task  # noqa: F401

import dss
from benchmarks import published_moves, rivals

MOVES = """
import torch

def move_model_state_toward(state, end, step, adaptive, *, enable_merge_bias_with_weight, ignore_layers):
    assert adaptive == 0 and enable_merge_bias_with_weight and not ignore_layers
    moved = {}
    for name, value in state.items():
        way = end[name] - value
        moved[name] = value + way * min(1.0, step / max(1e-12, way.norm().item()))
    return moved
"""
SCALING = """
import enum

class VarianceCorrectionType(enum.Enum):
    FollowOthers = 2

class VarianceCorrector:
    def __init__(self, kind):
        assert kind is VarianceCorrectionType.FollowOthers

    def add_variance(self, state):
        self.found = {name: value.var().item() for name, value in state.items()}

    def get_variance(self):
        return self.found

    @staticmethod
    def scale_model_stat_to_variance(state, variance):
        return {n: (x - x.mean()) * (variance[n] / x.var()) ** 0.5 + x.mean() for n, x in state.items()}
"""


@pytest.fixture
def llpf(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "py_src"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "py_src").mkdir()
    (tmp_path / "py_src" / "model_average.py").write_text(MOVES)
    (tmp_path / "py_src" / "model_variance_correct.py").write_text(SCALING)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "py_src"]:
        del sys.modules[name]


def test_a_walk_ends_where_the_rest_of_the_way_passes_and_counts_what_it_reads(task, ends, llpf):  # noqa: F811
    finder = published_moves.finders(task, llpf)["LLPF, published, quicker"]
    problem, step = searched(task, ends, finder, 0.6)
    assert_found(problem, step, ends)
    assert step.path.intermediate_beads >= 1 and problem.tally.gradient_evaluations % 16 == 0
    # A layer goes a hundredth in each of the hundred ticks between two beads, and every tick trains five minibatches at least.
    assert problem.tally.gradient_evaluations >= 16 * published_moves.LEAST * 100 * step.path.intermediate_beads


def test_a_walk_ends_when_its_time_is_up(task, ends, llpf):  # noqa: F811
    finder = published_moves.finders(task, llpf, seconds=0.0)["LLPF, published, quicker"]
    _, step = searched(task, ends, finder, 0.2)
    assert step.status is dss.Status.SECONDS


def test_every_layer_goes_a_step_and_keeps_the_variance_of_the_start(task, llpf):  # noqa: F811
    walk = published_moves.PublishedMoves(task, published_moves.code_of(llpf), 60.0, step=0.25, rate=0.1)
    net, end = task.fresh_model(), {name: torch.ones_like(value) for name, value in task.model.state_dict().items()}
    before = {name: value.clone() for name, value in net.state_dict().items()}
    variance = walk.variance_of(before)
    walk.move(net, end, variance)
    for name, value in net.state_dict().items():
        way = end[name] - before[name]
        moved = before[name] + 0.25 * way / way.norm()
        assert value.var().item() == pytest.approx(before[name].var().item())
        torch.testing.assert_close(value.mean(), moved.mean())


@pytest.mark.parametrize("content", [None, "import surely_not_there"])
def test_a_wrong_checkout_is_one_clear_error(tmp_path, llpf, monkeypatch, capsys, content):
    if content is None:
        (llpf / "py_src" / "model_average.py").unlink()
    else:
        (llpf / "py_src" / "model_average.py").write_text(content)
    out = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["rivals.py", "digits:0.5", "--llpf", str(llpf), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        rivals.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and not out.exists()
    assert ("is not a checkout of the published code" if content is None else "cannot be imported") in said
    assert str(llpf) not in sys.path
