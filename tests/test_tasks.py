"""Tasks: the built-in ones are what they say, and a user's own are found or refused in words."""

import pytest
import torch
from torch import nn

import dss
from dss.tasks import load_task, train
from dss.tasks.data import _digits_at_hand, _load_digits, _read_idx, digits, polynomial


def test_digits_are_split_without_overlap_and_scaled_to_one():
    (x, y), (x_test, y_test) = digits()
    assert x.shape == (1200, 1, 8, 8) and x_test.shape == (597, 1, 8, 8) and len(y) == 1200 and len(y_test) == 597
    assert x.min() == 0 and x.max() == 1
    every = torch.cat([x, x_test]).flatten(1)
    assert len(every.unique(dim=0)) == 1797


def test_digits_read_without_scikit_learn_are_those_that_it_loads():
    ours, theirs = _digits_at_hand(), _load_digits()
    assert ours is not None and all((a == b).all() and a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True))


def test_digits_are_loaded_where_the_table_lies_elsewhere(monkeypatch):
    monkeypatch.setattr("dss.tasks.data.find_spec", lambda name: None)
    assert _digits_at_hand() is None
    (x, _), _ = digits.__wrapped__()
    assert torch.equal(x, digits()[0][0])


def test_polynomials_have_the_papers_values():
    (x, y), _ = polynomial((0.5, 0.25, 0.1))
    assert torch.allclose(y, 0.5 * x**2 + 0.25 * x + 0.1)
    x, y = polynomial((8.0, -10.0, 3.0, 0.0))[0]
    assert torch.allclose(y, 8 * x**3 - 10 * x**2 + 3 * x, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("digits", 5956), ("quadratics", 24), ("cubics", 33)])
def test_built_in_tasks_give_objectives_over_their_parameters(name, size):
    task = load_task(name, seed=0)
    objective, judge = task.objectives()
    assert objective.space.size == size
    point = objective.space.flatten(task.model.state_dict())
    assert judge(point[None]).item() == pytest.approx(task.judged_loss(task.model))


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first, again, other = (load_task("digits", seed=s).model[0].weight for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.rand(1), expected)


def test_training_lowers_the_loss_and_repeats_bit_for_bit(tiny):
    def end():
        task = load_task(f"{tiny}/task.py:task", seed=3)
        *_, last = train(task, seed=3, epochs=50)
        return task, last.model

    (task, first), (_, again) = end(), end()
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), again.parameters(), strict=True))
    assert task.judged_loss(first) < task.judged_loss(task.model)


def test_a_fixed_object_is_initialised_anew_from_a_seed(tiny):
    weights = [load_task(f"{tiny}/task.py:fixed", seed=seed).model[0].weight.clone() for seed in (0, 1)]
    assert not torch.equal(*weights)


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "there is no task 'mnits'; built in are digits"),
        ("{tiny}/none.py:task", "no task file"),
        ("{tiny}/task.py:nothing", "has no 'nothing'"),
        ("{tiny}/task.py:broken", "no such data"),
        ("{tiny}/task.py:wrong", "yields a int"),
        ("{tiny}/raises.py:task", "raises when it is read"),
        ("no_such_package.tasks:task", "cannot be imported"),
    ],
)
def test_tasks_that_cannot_be_had_are_refused_in_one_line(tiny, name, message):
    (tiny / "raises.py").write_text("raise ValueError('first\\nsecond')")
    with pytest.raises(dss.TaskError, match=message):
        load_task(name.format(tiny=tiny))


def test_idx_files_are_read_and_damaged_ones_refused(tmp_path):
    import gzip

    good = b"\x00\x00\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))
    (tmp_path / "good.gz").write_bytes(gzip.compress(good))
    assert _read_idx(tmp_path / "good.gz").tolist() == [[0, 1, 2], [3, 4, 5]]
    for damaged in (good[:-1], good[:2], b"\x00\x00\x0d" + good[3:]):
        (tmp_path / "bad.gz").write_bytes(gzip.compress(damaged))
        with pytest.raises(dss.TaskError, match="not a readable idx file"):
            _read_idx(tmp_path / "bad.gz")
    (tmp_path / "bad.gz").write_bytes(gzip.compress(good)[:-9])
    with pytest.raises(dss.TaskError, match="not a readable idx file"):
        _read_idx(tmp_path / "bad.gz")
