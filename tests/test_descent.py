"""Rows that train together against rows that train alone."""

import pytest
import torch
from torch.optim import Optimizer

import dss
from dss.finders.descent import OVERDUE, Descent, descend

OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.05),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}


class NormalizedGradient(Optimizer):
    """Every parameter moves by a fixed length against its gradient: the update depends on a whole norm."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for parameter in self.param_groups[0]["params"]:
            parameter -= self.param_groups[0]["lr"] * parameter.grad / parameter.grad.norm().clamp_min(1e-12)


class Noisy(dss.Quadratic):
    """A bowl whose estimate is off by noise: only the exact loss can tell that a point has arrived."""

    @property
    def exact_estimate(self):
        return False

    def estimate(self, points, generator):
        return self(points) + 0.5 * points @ torch.randn(2, generator=generator, dtype=points.dtype)


def starts(k=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor([-1.0, -0.2]), torch.tensor([0.8, 1.6])
    return torch.rand(k, 2, generator=generator, dtype=torch.float64) * (high - low) + low


def generator():
    return torch.Generator().manual_seed(7)


def together_and_alone(objective, points, target, options, **kwargs):
    together = descend(objective, objective, points, target, options=options, generator=generator(), **kwargs)
    alone = [descend(objective, objective, p[None], target, options=options, generator=generator(), **kwargs) for p in points]
    return together, alone


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_trains_the_same_alone_and_in_a_batch_that_others_leave_earlier(name):
    points = starts()
    options = Descent(OPTIMIZERS[name], max_steps=400)
    together, alone = together_and_alone(dss.MuellerBrown(), points, -60.0, options)
    torch.testing.assert_close(together.points, torch.cat([d.points for d in alone]), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(together.losses, torch.cat([d.losses for d in alone]), rtol=1e-10, atol=1e-10)
    assert together.gradient_steps == sum(d.gradient_steps for d in alone)
    assert len({d.gradient_steps for d in alone}) > 1, "the rows must leave at different times for this test to mean anything"


def test_an_optimizer_that_uses_a_norm_gets_one_parameter_a_row():
    options = Descent(lambda p: NormalizedGradient(p, lr=0.02), max_steps=300)
    together, alone = together_and_alone(dss.MuellerBrown(), starts(), -60.0, options)
    torch.testing.assert_close(together.points, torch.cat([d.points for d in alone]), rtol=1e-10, atol=1e-12)
    assert together.gradient_steps == sum(d.gradient_steps for d in alone)


def test_adam_of_torch_is_followed_step_by_step():
    point = starts(1)[0]
    parameter = point.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        dss.MuellerBrown()(parameter[None]).sum().backward()
        optimizer.step()
    options = Descent(OPTIMIZERS["Adam"], max_steps=20)
    found = descend(dss.MuellerBrown(), dss.MuellerBrown(), point[None], -1e9, options=options, generator=generator())
    torch.testing.assert_close(found.points[0], parameter.detach(), rtol=1e-12, atol=1e-12)
    assert found.gradient_steps == 20 and not found.reached.any()


def test_points_at_their_target_are_returned_untouched_and_cost_no_step():
    points = starts()
    found = descend(dss.Quadratic(), dss.Quadratic(), points, 100.0, options=Descent(), generator=generator())
    assert torch.equal(found.points, points) and found.gradient_steps == 0 and found.reached.all()


def test_the_loss_reported_is_the_loss_of_the_point_returned():
    options = Descent(OPTIMIZERS["Adam"], max_steps=60)
    found = descend(dss.MuellerBrown(), dss.MuellerBrown(), starts(), -90.0, options=options, generator=generator())
    torch.testing.assert_close(found.losses, dss.MuellerBrown()(found.points), rtol=0, atol=0)
    assert torch.equal(found.reached, found.losses <= -90.0)
    assert 0 < found.reached.sum() < len(found.reached)


def test_minibatch_training_is_stopped_by_the_exact_loss_alone():
    objective = Noisy()
    options = Descent(OPTIMIZERS["Adam"], max_steps=2000, check_every=3)
    together, alone = together_and_alone(objective, starts(), 0.3, options)
    assert (objective(together.points) <= 0.3).all() and together.reached.all()
    torch.testing.assert_close(together.points, torch.cat([d.points for d in alone]), rtol=1e-10, atol=1e-12)


def test_training_stops_at_the_judge_and_not_at_the_objective():
    bowl, judge = dss.Quadratic((1.0, 1.0)), dss.Quadratic((1.0, 100.0))
    options = Descent(OPTIMIZERS["Adam"], max_steps=2000)
    found = descend(bowl, judge, starts(), 0.2, options=options, generator=generator())
    assert found.reached.all() and (judge(found.points) <= 0.2).all()


class Asked(dss.Quadratic):
    """A bowl that counts the points it is asked about."""

    asked = 0

    def __call__(self, points):
        self.asked += len(points)
        return super().__call__(points)


@pytest.mark.parametrize("steep", [0.5, 1.0, 3.0])
def test_a_judge_is_asked_when_the_training_loss_says_so(steep):
    # It falls slower than the loss, as fast, and faster: then only that it is overdue leads to it.
    bowl, judge, points = dss.Quadratic((1.0, 1.0)), Asked((1.0, steep)), 2 + starts()
    options = Descent(lambda p: torch.optim.SGD(p, lr=0.01))
    found = descend(bowl, judge, points, 0.02, options=options, generator=generator())
    asked = judge.asked
    every = descend(bowl, judge, points, 0.02, options=Descent(options.optimizer, check_every=1), generator=generator())
    assert found.reached.all() and (judge(found.points) <= 0.02).all()
    assert every.gradient_steps <= found.gradient_steps <= every.gradient_steps + OVERDUE * len(points)
    assert asked <= every.gradient_steps / 5
    alone = [descend(bowl, judge, p[None], 0.02, options=options, generator=generator()) for p in points]
    assert torch.equal(found.points, torch.cat([d.points for d in alone]))
    assert found.gradient_steps == sum(d.gradient_steps for d in alone)


def test_a_point_that_has_run_off_is_not_asked_about_for_ever():
    judge = Asked((1.0, 2.0))
    options = Descent(lambda p: torch.optim.SGD(p, lr=1e3), max_steps=2000)
    found = descend(dss.Quadratic(), judge, starts(), 0.02, options=options, generator=generator())
    assert not found.reached.any() and not found.points.isfinite().all(1).any()
    assert found.gradient_steps < 200 * len(found.points)


def test_a_clipped_gradient_has_the_clip_norm_per_row():
    points = starts()
    options = Descent(lambda p: torch.optim.SGD(p, lr=1.0), max_steps=1, clip_norm=1e-3)
    found = descend(dss.MuellerBrown(), dss.MuellerBrown(), points, -1e9, options=options, generator=generator())
    moved = (found.points - points).norm(dim=1)
    torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=1e-6, atol=0)


def test_a_small_gradient_is_not_clipped():
    points = starts()
    options = Descent(lambda p: torch.optim.SGD(p, lr=0.1), max_steps=1, clip_norm=1e6)
    found = descend(dss.Quadratic(), dss.Quadratic(), points, -1e9, options=options, generator=generator())
    torch.testing.assert_close(found.points, points * 0.8)


def test_projected_rows_stay_on_their_own_constraint():
    points = starts()
    kept = points[:, 0].clone()

    def project(moved, rows):
        return torch.stack([kept[rows], moved[:, 1]], dim=1)

    options = Descent(OPTIMIZERS["Adam"], max_steps=200)
    found = descend(
        dss.MuellerBrown(), dss.MuellerBrown(), points, -60.0, options=options, generator=generator(), project=project
    )
    assert torch.equal(found.points[:, 0], kept)
    assert 0 < found.reached.sum() < len(points)


def test_the_same_generator_gives_the_same_bits():
    options = Descent(OPTIMIZERS["Adam"], max_steps=50)
    runs = [descend(Noisy(), Noisy(), starts(), 0.3, options=options, generator=generator()) for _ in range(2)]
    assert torch.equal(runs[0].points, runs[1].points) and torch.equal(runs[0].losses, runs[1].losses)


@pytest.mark.parametrize("options", [{"max_steps": -1}, {"check_every": 0}])
def test_steps_that_do_not_count_upwards_are_refused(options):
    with pytest.raises(dss.InputError, match="upwards"):
        Descent(**options)


def test_large_points_train_one_by_one_to_the_same_result(monkeypatch):
    points, options = starts(), Descent(OPTIMIZERS["Adam"], max_steps=60)
    objective = Noisy()
    together = descend(objective, objective, points, 0.05, options=options, generator=generator())
    monkeypatch.setattr("dss.finders.descent.LARGE_POINT", 1)
    separately = descend(objective, objective, points, 0.05, options=options, generator=generator())
    assert torch.allclose(separately.points, together.points, rtol=1e-10)
    assert separately.gradient_steps == together.gradient_steps and torch.equal(separately.reached, together.reached)


def test_keeping_freed_memory_is_a_wish_that_other_c_libraries_may_ignore(monkeypatch):
    assert isinstance(dss.keep_freed_memory(), bool)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert dss.keep_freed_memory() is False
