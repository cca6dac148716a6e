"""No verdict rests on a bound that the network itself contradicts: not in the mean, not in one sample, not by rounding alone."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

import dss
from dss.base.errors import InputError, SoundnessError
from dss.certificates import tripwire
from dss.certificates.closing import bracket
from dss.certificates.proof import prove
from dss.objectives.objective import Objective

F64 = torch.float64
LINE = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64)


class Bowl(Objective):
    """|x|^2, enclosed exactly and then lowered by `low`; `plain` and the computed losses may be raised."""

    def __init__(self, low=0.0, plain=0.0, seen=0.0):
        self.low, self.raised, self.seen = low, plain, seen

    def __call__(self, points):
        return (points.double() ** 2).sum(1) + self.seen

    def plain(self, points):
        return (points.double() ** 2).sum(1) + self.raised

    def enclose(self, starts, ends, lower, upper):
        sides = (starts + t[:, None] * (ends - starts) for t in (lower, upper))
        return torch.stack([(side.double() ** 2).sum(1) for side in sides], 1) - self.low


@pytest.mark.parametrize("objective", [Bowl(low=0.2), Bowl(plain=0.2), Bowl(seen=0.02), Bowl(plain=math.nan)])
@pytest.mark.parametrize("goal", [{"threshold": 1.3}, {"tolerance": 1e-3}])
def test_a_loss_above_its_bound_ends_the_run_without_a_verdict(objective, goal):
    brackets = []
    with pytest.raises(SoundnessError, match="please report"):
        brackets.extend(prove(objective, LINE, **goal))
    assert not any(found.verdict.finished for found in brackets)


def test_limits_end_with_bounds_that_are_checked_too():
    with pytest.raises(SoundnessError):
        list(prove(Bowl(plain=3.0), LINE, tolerance=1e-9, max_cells=3))


def test_the_error_is_no_bad_input_and_passes_through_every_door():
    assert not issubclass(SoundnessError, InputError)
    path = dss.Path(LINE)
    for door in (lambda: dss.certify(Bowl(plain=0.5), path, threshold=1.3, prove=True), lambda: bracket(Bowl(plain=0.5), path)):
        with pytest.raises(SoundnessError):
            door()


def test_true_proofs_pass():
    assert list(prove(Bowl(), LINE, threshold=1.3))[-1].proven
    assert bracket(Bowl(), dss.Path(LINE), tolerance=1e-3).upper >= 1.25


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, F64])
def test_rounding_is_no_contradiction_and_no_excuse(dtype):
    """A net whose losses in `dtype` scatter by rounding around the exact ones."""
    generator = torch.Generator().manual_seed(0)
    w, x = torch.randn(400, generator=generator), torch.randn(400, generator=generator).double()

    def loss(points):
        return (points.to(dtype) * x.to(dtype)).sum(1).tanh().double()

    points = w[None] * (1 + torch.randn(64, 1, generator=generator) / 10)
    exact = (points.to(dtype).double() * x).sum(1).tanh()
    off = (loss(points) - exact).abs()
    rooms = torch.tensor([tripwire.allowance(loss, point[None].to(dtype)) for point in points])
    assert (off <= rooms).all() and rooms.median() <= 3e4 * torch.finfo(dtype).eps


def trained(samples=40, dtype=torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).to(dtype)
    data = torch.randn(samples, 4), torch.arange(samples) % 3
    judge = dss.NetworkObjective(net, cross_entropy, data)
    point = judge.space.flatten(net.state_dict())
    return judge, torch.stack([point, point + 0.1 * torch.randn(len(point)).to(dtype)])


def test_plain_is_what_the_user_would_compute():
    judge, beads = trained()
    names = list(judge.space.unflatten(beads))
    inputs, target = judge._samples.inputs[0], judge._samples.target
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    for i, value in enumerate(judge.plain(beads)):
        state = {name: judge.space.unflatten(beads)[name][i] for name in names}
        net.load_state_dict(state)
        with torch.no_grad():
            assert value.item() == pytest.approx(cross_entropy(net(inputs), target).item(), rel=1e-6)
    assert judge.plain(beads).dtype == F64 and judge.samples_at_once == judge.samples


def test_networks_of_every_size_are_checked(monkeypatch):
    judge, beads = trained()
    top = judge(beads).max().item() * 1.05
    seen = []
    check = tripwire._check
    monkeypatch.setattr(tripwire, "_check", lambda *args, **options: seen.append(args[0].samples) or check(*args, **options))
    assert list(prove(judge, beads, threshold=top))[-1].proven and set(seen) == {1, 40}
    monkeypatch.setattr(type(judge), "samples_at_once", property(lambda self: min(self.samples, 6)))
    seen.clear()
    assert list(prove(judge, beads, threshold=top))[-1].proven and set(seen) == {1, 6, 40}


def test_a_network_that_computes_another_loss_than_its_enclosure_is_caught(monkeypatch):
    """One sample of forty, whose plain loss is larger than enclosed: in the mean it would pass."""
    judge, beads = trained()
    plain = type(judge).plain

    def wrong(self, points):
        return plain(self, points) + (0.5 if self.samples == 1 else 0.0)

    monkeypatch.setattr(type(judge), "plain", wrong)
    with pytest.raises(SoundnessError):
        list(prove(judge, beads, threshold=judge(beads).max().item() * 1.05))


def test_a_wrong_rule_is_caught(monkeypatch):
    from dss.enclosure import registry

    judge, beads = trained()
    true = registry.rule_of("relu")
    monkeypatch.setitem(registry._RULES, "relu", registry.Rule(lambda x: true.handler(x) * 0.5, False))
    with pytest.raises(SoundnessError):
        list(prove(judge, beads, tolerance=0.01))


class Batchwise(nn.Module):
    """Outputs that grow with the number of samples which are asked at once: not a function of one sample."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x) * (1 + 0.01 * max(0, len(x) - 12))


def test_a_network_that_looks_at_the_whole_batch_is_caught():
    torch.manual_seed(0)
    net = Batchwise()
    judge = _unprobed(net, (torch.randn(40, 4), torch.randn(40, 3)))
    point = judge.space.flatten(net.state_dict())
    beads = torch.stack([point, point * 1.5])
    with pytest.raises(SoundnessError):
        list(prove(judge, beads, tolerance=0.01))


def _unprobed(net, data):
    """A judge whose probe was fooled, and which computes its losses sample by sample, as bounds do."""
    judge = dss.NetworkObjective(net, mse_loss, (data[0][:8], data[1][:8]))
    whole = judge.on_samples(torch.arange(8))
    whole._samples = type(judge._samples)((data[0],), data[1])
    whole.samples = whole.batch_samples = 40
    whole._pieces = replace(whole._pieces, bytes=2**40)
    return whole


def test_a_seed_of_the_path_decides_what_is_looked_at():
    asked = []

    class Told(Bowl):
        def plain(self, points):
            asked.append(points.clone())
            return super().plain(points)

    for _ in range(2):
        list(prove(Told(), LINE, threshold=1.3))
    list(prove(Told(), LINE * 0.9, threshold=1.3))
    assert torch.equal(asked[0], asked[1]) and not torch.equal(asked[0], asked[2])
    assert len(asked[0]) >= 3
