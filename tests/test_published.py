"""The adapters of published rivals, on small modules with the same interface: the real ones are the user's."""

import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

import dss
from benchmarks import published, rivals
from benchmarks.published_networks import on_curve
from dss.tasks import train
from dss.tasks.nets import DigitsNet, PolynomialNet

CURVES = """
import torch
from torch import nn

class Bezier(nn.Module):
    def __init__(self, num_bends):
        super().__init__()

    def forward(self, t):
        return torch.cat([(1 - t) ** 2, 2 * t * (1 - t), t**2])

class PolyChain(Bezier):
    def forward(self, t):
        return (1 - (2 * t - torch.arange(3)).abs()).clamp_min(0)

class Layer(nn.Module):
    def hold(self, fix_points, weight, bias):
        for name, shape in (("weight", weight), ("bias", bias)):
            for i, fixed in enumerate(fix_points):
                value = nn.Parameter(torch.empty(shape), requires_grad=not fixed) if shape else None
                self.register_parameter(f"{name}_{i}", value)

    def at(self, where):
        held = [[getattr(self, f"{name}_{i}") for i in range(3)] for name in ("weight", "bias")]
        return [sum(c * x for c, x in zip(where, xs)) for xs in held if xs[0] is not None]

class Linear(Layer):
    def __init__(self, m, n, fix_points, bias=True):
        super().__init__()
        self.hold(fix_points, (n, m), (n,) if bias else None)

    def forward(self, x, where):
        return nn.functional.linear(x, *self.at(where))

class Conv2d(Layer):
    def __init__(self, m, n, size, fix_points, stride, padding, dilation, groups, bias=True):
        super().__init__()
        self.hold(fix_points, (n, m // groups, *size), (n,) if bias else None)
        self.options = (stride, padding, dilation, groups)

    def forward(self, x, where):
        weight, *bias = self.at(where)
        return nn.functional.conv2d(x, weight, *(bias or [None]), *self.options)

class CurveNet(nn.Module):
    def __init__(self, num_classes, curve, architecture, num_bends):
        super().__init__()
        self.curve, self.net = curve(num_bends), architecture(num_classes, fix_points=[True, False, True])

    def import_base_parameters(self, base, index):
        for mine, given in zip(list(self.net.parameters())[index::3], base.parameters(), strict=True):
            mine.data.copy_(given.data)

    def init_linear(self):
        first, middle, last = (list(self.net.parameters())[i::3] for i in range(3))
        for a, m, b in zip(first, middle, last, strict=True):
            m.data.copy_((a.data + b.data) / 2)

    def weights(self, t):
        layers = [layer for layer in self.net.modules() if isinstance(layer, Layer)]
        return torch.cat([x.detach().flatten() for layer in layers for x in layer.at(self.curve(t))]).numpy()

    def forward(self, x, t=None):
        return self.net(x, self.curve(torch.rand(1, dtype=x.dtype) if t is None else t))
"""

# Plain gradient descent of the pivots: what is tested is the conversation, not the band.
BAND = """
from types import SimpleNamespace
import torch

models = SimpleNamespace(ModelWrapper=lambda model: model)
config = SimpleNamespace(OptimConfig=SimpleNamespace, NEBConfig=lambda *entries: entries)
helper = SimpleNamespace(pbar=None)

def equal(band, count):
    a, b = band["path_coords"]
    return torch.stack([torch.lerp(a, b, i / (count + 1)) for i in range(count + 2)])

fill = SimpleNamespace(equal=equal, highest=lambda band, count, key: band["path_coords"])

def neb(band, model, settings):
    _spring, _decay, insert, arguments, _between, optimization = settings
    path = insert(band, **arguments).requires_grad_()
    optimizer = optimization.algorithm_type([path], **optimization.algorithm_args)
    schedule = optimization.scheduler_type(optimizer, **optimization.scheduler_args)
    for _ in helper.pbar(range(optimization.nsteps), "NEB"):
        path.grad = torch.zeros_like(path)
        for pivot in range(1, len(path) - 1):
            nn_parameters = list(model.parameters())
            torch.nn.utils.vector_to_parameters(path[pivot].detach(), nn_parameters)
            gradients = torch.autograd.grad(model(), nn_parameters)
            path.grad[pivot] = torch.cat([g.flatten() for g in gradients])
        optimizer.step()
        schedule.step()
    return {"path_coords": path.detach(), "dense_train_loss": model.analyse()["train_loss"]}
"""


@pytest.fixture
def garipov(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "curves", raising=False)
    (tmp_path / "curves.py").write_text(CURVES)
    return tmp_path


@pytest.fixture
def autoneb(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch_autoneb", raising=False)
    (tmp_path / "torch_autoneb").mkdir()
    (tmp_path / "torch_autoneb" / "__init__.py").write_text(BAND)
    return tmp_path


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(0)
    x = torch.rand(64, 2, dtype=torch.float64)
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()
    net = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    return dss.Task(net, cross_entropy, (x, y), batch_size=16, learning_rate=0.02, epochs=200)


@pytest.fixture(scope="module")
def ends(task):
    """A trained network, and the same with its hidden units in reverse: the line between them has a barrier."""
    *_, last = train(task, seed=0)
    space = dss.ParameterSpace.of(task.model)
    start = space.flatten(last.model.state_dict())
    inner, bias, outer, last_bias = space.unflatten(start).values()
    return start, torch.cat([x.flatten() for x in (inner.flip(0), bias.flip(0), outer.flip(1), last_bias)])


def searched(task, ends, finder, threshold):
    problem = dss.Problem.of(task.objectives()[0], *ends, threshold=threshold)
    (step,) = finder.steps(problem)
    return problem, step


def assert_found(problem, step, ends):
    assert step.status is dss.Status.FOUND
    assert dss.certify(problem.judge, step.path, threshold=problem.threshold).passed
    assert torch.equal(step.path.beads[0], ends[0]) and torch.equal(step.path.beads[-1], ends[1])


@pytest.mark.parametrize("label", ["Bezier curve, published", "polygonal chain, published"])
def test_a_curve_bends_below_the_threshold_and_counts_what_it_reads(task, ends, garipov, label):
    finder = published.finders(task, garipov=garipov, autoneb=None)[label]
    problem, step = searched(task, ends, finder, 0.6)
    assert_found(problem, step, ends)
    steps, rest = divmod(problem.tally.gradient_evaluations, 16)
    assert rest == 0 and steps > 0 and steps % finder.every == 0


def test_a_band_sinks_below_the_threshold_and_counts_what_it_reads(task, ends, autoneb):
    finder = published.finders(task, garipov=None, autoneb=autoneb)["AutoNEB, published"]
    problem, step = searched(task, ends, finder, 0.6)
    assert_found(problem, step, ends)
    assert step.path.intermediate_beads == 3
    steps, rest = divmod(problem.tally.gradient_evaluations, 3 * 16)
    assert rest == 0 and steps > 0 and steps % finder.every == 0


def test_a_line_that_passes_needs_no_training(task, ends, garipov):
    for finder in published.finders(task, garipov=garipov, autoneb=None).values():
        problem, step = searched(task, ends, finder, 100.0)
        assert step.status is dss.Status.FOUND and len(step.path) == 2 and problem.tally.gradient_evaluations == 0


def test_a_search_ends_when_its_time_is_up(task, ends, autoneb):
    finder = published.finders(task, garipov=None, autoneb=autoneb, seconds=0.0)["AutoNEB, published"]
    _, step = searched(task, ends, finder, 0.2)
    assert step.status is dss.Status.SECONDS


GROUPED = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, bias=False)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (DigitsNet(), (5, 1, 8, 8)),
        (nn.Sequential(GROUPED, nn.Flatten(), nn.Linear(16, 2)), (5, 2, 4, 4)),
        (PolynomialNet(bias=False, bounded=True), (7, 1)),
        (PolynomialNet(bias=True, bounded=False), (7, 1)),
    ],
)
@pytest.mark.parametrize("shape_of_curve", ["Bezier", "PolyChain"])
def test_a_network_on_a_curve_is_the_network_at_the_point_of_the_curve(garipov, net, shape, shape_of_curve):
    net = net.double()
    space, x = dss.ParameterSpace.of(net), torch.rand(shape, dtype=torch.float64)
    a, middle, b = torch.randn(3, space.size, dtype=torch.float64)
    problem = dss.Problem.of(dss.Quadratic((1.0,) * space.size), a, b, threshold=1e9)
    curves = published.load("curves", garipov, "curves.py")
    finder = published.PublishedCurve(dss.Task(net, cross_entropy, None), curves, 1.0, shape_of_curve, 4)
    curve = finder.network(problem)
    base = finder.task.fresh_model()
    base.load_state_dict(space.unflatten(middle))
    curve.import_base_parameters(base, 1)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    weights = torch.cat([(1 - t) ** 2, 2 * t * (1 - t), t**2], 1)
    if shape_of_curve == "PolyChain":
        weights = (1 - (2 * t - torch.arange(3)).abs()).clamp_min(0)
    expected = weights @ torch.stack([a, middle, b])
    torch.testing.assert_close(finder.string(curve, problem).beads, expected)
    for place, point in zip(t, expected, strict=True):
        torch.testing.assert_close(curve(x, place), functional_call(net, space.unflatten(point), (x,)))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), "without buffers or tied weights"),
        (nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4)), "but not LayerNorm"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), "but not Conv2d"),
    ],
)
def test_a_network_that_the_published_curves_cannot_take_is_refused(garipov, net, words):
    with pytest.raises(dss.InputError, match=words):
        published.finders(dss.Task(net, cross_entropy, None), garipov=garipov, autoneb=None)


def test_layers_out_of_order_are_refused(garipov):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Linear(2, 4)

        def forward(self, x):
            return self.last(self.first(x))

    with pytest.raises(dss.InputError, match="in the order of their parameters"):
        on_curve(published.load("curves", garipov, "curves.py"), Backwards(), [True, False, True])


@pytest.mark.parametrize("flag", ["--garipov", "--autoneb"])
def test_a_wrong_checkout_is_one_clear_error(tmp_path, monkeypatch, capsys, flag):
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["rivals.py", "digits:0.5", flag, str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        rivals.main()
    assert ended.value.code == 2 and not out.exists()
    assert f"{tmp_path} is not a checkout of the published code: it has no " in capsys.readouterr().err


@pytest.mark.parametrize(("text", "words"), [("x = 1", "has no CurveNet"), ("import surely_not_there", "cannot be imported")])
def test_a_file_that_is_not_the_published_code_is_refused(tmp_path, text, words):
    (tmp_path / "curves.py").write_text(text)
    with pytest.raises(dss.InputError, match=words):
        published.load("curves", tmp_path, "curves.py", "CurveNet")
