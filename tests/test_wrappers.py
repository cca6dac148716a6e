"""Every wrapper forwards every member of `Objective`, and what it changes it changes everywhere."""

import pytest
import torch

import dss
from dss.cli.metrics import Watched
from dss.finders.constrained import Neighboured
from dss.objectives.objective import Objective
from dss.objectives.wrappers import Counted, Recalled, Wrapped
from dss.page.loss_cache import LossCache, Remembered

MEMBERS = sorted(name for name in vars(Objective) if name == "__call__" or not name.startswith("_"))


class Told(Objective):
    """Answers every question in a way of its own."""

    samples, batch_samples, description = 7, 3, "told"

    def __init__(self, calibrated_with=None, samples=7):
        self.calibrated_with, self.samples = calibrated_with, samples

    def __call__(self, points):
        return points.double().square().sum(1) / 10

    def estimate(self, points, generator):
        return points.double().square().sum(1) / 10 + 1

    @property
    def exact_estimate(self):
        return True

    def calibrated_by(self, training):
        return Told(training.unwrapped)

    def part(self, samples):
        return Told(samples=samples)

    def enclose(self, starts, ends, lower, upper):
        return torch.stack([self(starts), self(ends)], 1)


class Bar:
    def add(self, points):
        pass


WRAPPERS = {
    "wrapped": Wrapped,
    "counted": lambda objective: Counted(objective, dss.Tally()),
    "recalled": lambda objective: Recalled(Counted(objective, dss.Tally())),
    "perplexity": dss.Perplexity,
    "watched": lambda objective: Watched(objective, Bar()),
    "neighboured": lambda objective: Neighboured(objective, torch.zeros(2), torch.ones(2), 0.0, 0.0),
}
wrapper = pytest.fixture(params=WRAPPERS)(lambda request: WRAPPERS[request.param])


def test_the_base_forwards_every_member():
    assert {name for name in MEMBERS if name in vars(Wrapped)} == set(MEMBERS)


def test_every_wrapper_stands_on_the_base(wrapper):
    assert isinstance(wrapper(Told()), Wrapped)


def test_sizes_and_exactness_are_the_inner_ones(wrapper):
    found = wrapper(Told())
    assert (found.samples, found.batch_samples, found.exact_estimate) == (7, 3, True)
    assert "told" in found.description and isinstance(found.unwrapped, Told)


def test_estimates_are_the_inner_ones(wrapper):
    found, points, generator = wrapper(Told()), torch.tensor([[1.0, 2.0]]), torch.Generator()
    change = torch.exp if isinstance(found, dss.Perplexity) else lambda x: x
    assert found.estimate(points, generator).item() == pytest.approx(change(torch.tensor(1.5)).item())
    assert found(points).item() == pytest.approx(change(torch.tensor(0.5)).item())


def test_calibration_and_parts_stay_wrapped(wrapper):
    found, training = wrapper(Told()), wrapper(Told())
    calibrated, part = found.calibrated_by(training), found.part(2)
    assert type(calibrated) is type(found) and calibrated.unwrapped.calibrated_with is training.unwrapped
    assert type(part) is type(found) and part.samples == 2


def test_a_penalty_for_training_is_never_proved():
    with pytest.raises(dss.EnclosureError, match="penalties"):
        WRAPPERS["neighboured"](Told()).enclose(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1), torch.ones(1))


def test_what_was_counted_is_not_known_of_another_objective():
    counted, points = WRAPPERS["counted"](Told()), torch.ones(1, 2)
    counted(points)
    assert counted.known and not counted.part(2).known


def test_a_page_without_its_task_still_knows_what_was_kept(tmp_path):
    cache, points = LossCache(tmp_path / "losses.json"), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    Remembered(cache, "judge", Told())(points[:1])
    lost = Remembered(cache, "judge", None)
    assert lost.description == "told"
    torch.testing.assert_close(lost(points), torch.tensor([0.5, torch.nan], dtype=torch.float64), equal_nan=True)


def test_batch_norm_is_calibrated_through_wrappers():
    """A perplexity or a count around the training objective must not hide its data from the judge."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))
    loss = torch.nn.functional.cross_entropy
    x, y = torch.randn(40, 3), torch.arange(40) % 2
    train = dss.NetworkObjective(net, loss, (x, y))
    judge = dss.NetworkObjective(net, loss, (5 * x[:10] + 3, y[:10]))
    point = train.space.flatten(net.state_dict())[None]
    expected = judge.calibrated_by(train)(point)
    assert abs(expected - judge(point)) > 0.01
    for training in (dss.Perplexity(train), Counted(train, dss.Tally())):
        torch.testing.assert_close(judge.calibrated_by(training)(point), expected)
        counted = Counted(judge, dss.Tally()).calibrated_by(training)
        torch.testing.assert_close(counted(point), expected)
        torch.testing.assert_close(dss.Perplexity(judge).calibrated_by(training)(point), expected.exp())
