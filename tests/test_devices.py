"""Everything that computes follows the device of its points: on a device that refuses tensors made elsewhere by mistake."""

from functools import partial

import pytest
import torch
from architectures import conv_batch_norm
from elsewhere import ELSEWHERE, elsewhere, sent
from torch import nn
from torch.nn.functional import cross_entropy

import dss
from dss.cli import main

PLAIN = dss.Descent(optimizer=partial(torch.optim.Adam, lr=1e-2), max_steps=20)


@pytest.fixture(autouse=True)
def _there():
    with elsewhere():
        yield


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def data():
    return torch.randn(24, 3, generator=torch.Generator().manual_seed(1)), torch.arange(24) % 2


def images():
    return torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3


def both(build, samples, **options):
    """The same objective here and elsewhere, and two points for each."""
    here = dss.NetworkObjective(build(), cross_entropy, samples, **options)
    there = dss.NetworkObjective(sent(build()), cross_entropy, tuple(map(sent, samples)), **options)
    points = torch.randn(2, here.size, generator=torch.Generator().manual_seed(2))
    return here, there, points, sent(points)


def test_the_device_of_these_tests_refuses_what_a_gpu_refuses():
    there = sent(torch.ones(3))
    for mistake in (lambda: there + torch.ones(3), lambda: torch.randn(2, device=ELSEWHERE, generator=torch.Generator())):
        with pytest.raises(RuntimeError):
            mistake()
    assert (there + 1).device == ELSEWHERE and (there + 1).sum().item() == 6 and (there[:2] * 2).cpu().tolist() == [2, 2]


@pytest.mark.parametrize(
    ("build", "samples", "options"),
    [(mlp, data, {}), (mlp, data, {"batch_size": 7}), (conv_batch_norm, images, {"batch_size": 6}),
     (conv_batch_norm, images, {"buffers": "frozen"})],
)  # fmt: skip
def test_values_gradients_and_minibatches_are_those_of_the_cpu(build, samples, options):
    torch.manual_seed(0)
    model = build().state_dict()

    def same():
        fresh = build()
        fresh.load_state_dict(model)
        return fresh

    here, there, points, moved = both(same, samples(), **options)
    for losses in (lambda o, p: o(p), lambda o, p: o.estimate(p, torch.Generator().manual_seed(5)), lambda o, p: o.plain(p)):
        expected, found = losses(here, points), losses(there, moved)
        assert found.device == ELSEWHERE
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-7)
    slopes = [torch.autograd.grad(o(p.requires_grad_()).sum(), p)[0] for o, p in ((here, points), (there, moved))]
    torch.testing.assert_close(slopes[1].cpu(), slopes[0], rtol=1e-5, atol=1e-6)
    assert all(x.device == ELSEWHERE for x in there.state(moved[0].detach()).values())


def test_proofs_and_certificates_are_those_of_the_cpu():
    here, there, points, moved = both(mlp, data())
    bounds = [dss.bracket(o, dss.Path(p), tolerance=0.05) for o, p in ((here, points), (there, moved))]
    assert bounds[1].upper == pytest.approx(bounds[0].upper, rel=1e-6)
    top = bounds[0].upper
    found = dss.certify(there, dss.Path(moved), threshold=top * 1.01, prove=True)
    assert found.proven and found.upper <= top * 1.01
    assert dss.certify(there, dss.Path(moved), threshold=top * 1.01).max_loss == pytest.approx(bounds[0].seen, rel=1e-3)


@pytest.mark.parametrize("name", dss.FINDERS)
def test_searches_run_where_the_ends_are(name):
    kind = dss.FINDERS[name]
    # The default, a fused Adam, knows its devices by name.
    finder = kind(descent=PLAIN) if "descent" in kind.__dataclass_fields__ else kind()
    here, there, points, moved = both(mlp, data(), batch_size=8)
    level = here(points).max().item() + 0.5
    limits = dss.Limits(rounds=2, seconds=20)
    found = dss.connect(there, *moved, threshold=level, finder=finder, shorten=True, prove="never", limits=limits)
    assert found.path.beads.device == ELSEWHERE and found.certificate.max_loss > 0


def test_alignment_barriers_and_trees_run_where_the_points_are():
    here, there, points, moved = both(mlp, data())
    for options in ({}, {"by": "activations", "rescale": True}):
        expected, found = dss.align(here, *points, **options), dss.align(there, *moved, **options)
        assert found.point.device == ELSEWHERE
        torch.testing.assert_close(found.point.cpu(), expected.point, rtol=1e-5, atol=1e-6)
    assert dss.barrier(there, *moved).upper >= here(points).max().item() - 1e-6
    tree = dss.merge_tree(there, moved, search=dss.StraightLine())
    assert tree.upper.shape == (2, 2)


def test_training_runs_where_the_model_is():
    task = dss.Task(sent(mlp()), cross_entropy, data(), epochs=2, batch_size=8)
    losses = [epoch.loss for epoch in dss.train(task, seed=0)]
    assert losses[1] < losses[0]


@pytest.mark.parametrize("device", ["abacus", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error_that_names_it(device, tiny, capsys):
    command = ["barrier", str(tiny / "a.pt"), str(tiny / "b.safetensors"), "--task", f"{tiny}/task.py:task", "--device", device]
    assert main(command) == 2
    assert f"the device '{device}'" in capsys.readouterr().err
