"""The proof by convexity against dense sampling, against forged beads, and against exact arithmetic."""

from fractions import Fraction
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dss
from dss.base.errors import EnclosureError
from dss.certificates.convex_losses import check_convex
from dss.certificates.convexity import kind, prove_by_convexity
from dss.certificates.corners import bound_points
from dss.objectives.tracing import wiring
from models.resnet import ResNet


def objective(*, model=None, loss=F.cross_entropy, n=40, shape=(5,), buffers="recalibrate", seed=0):
    torch.manual_seed(seed)
    model = model or nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    x, y = torch.randn(n, *shape), torch.randint(3, (n,))
    return dss.NetworkObjective(model, loss, (x, y if loss is not F.mse_loss else F.one_hot(y, 3).float()), buffers=buffers)


def random_point(space, seed, *, scale=0.7):
    return torch.randn(space.size, generator=torch.Generator().manual_seed(seed)) * scale


def constructed(judge, seed=0, **options):
    a, b = (random_point(judge.space, seed + i) for i in range(2))
    problem = dss.Problem.of(judge, a, b, threshold=1e6)
    return dss.ConvexPath(**options).run(problem).path


def dense_losses(judge, path, places=51):
    """Losses along every segment, by the model itself in float64, one point at a time."""
    model = judge.model.double()
    data = judge.data.cast(torch.float64, path.beads.device)
    beads, t = path.beads.double(), torch.linspace(0, 1, places, dtype=torch.float64)
    rows = [
        judge.loss.value(functional_call(model, judge.space.unflatten(a + s * (b - a)), data.inputs), data.target)
        for a, b in pairwise(beads)
        for s in t
    ]
    model.float()
    return torch.stack(rows).view(len(path) - 1, places)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
def test_the_bound_is_the_largest_loss_of_the_path(loss):
    judge = objective(loss=loss)
    path = constructed(judge)
    proof = prove_by_convexity(judge, path)
    seen = dense_losses(judge, path)
    assert (seen.amax(1) <= proof.cells[:, 3]).all()
    assert proof.upper - seen.max() < 1e-10 * proof.upper
    constant = torch.tensor([k == "constant" for k in proof.kinds])
    assert (seen.amax(1) - seen.amin(1))[constant].max() < 1e-12


def test_the_certificate_says_how_it_was_proved():
    judge = objective()
    path = constructed(judge)
    certificate = dss.certify(judge, path, threshold=1e6, prove=True)
    assert (certificate.proven, certificate.proof, certificate.passed) == (True, "convexity", True)
    assert certificate.upper == prove_by_convexity(judge, path).upper
    below = dss.certify(judge, path, threshold=certificate.upper * 0.99, prove=True)
    assert not below.passed and not below.proven


def forged(path, space, change, bead):
    beads = path.beads.clone()
    change(space.unflatten(beads[bead]))
    return dss.Path(beads)


def nudge_first_layer(tensors):
    tensors["0.weight"] += 1e-6


def nudge_head_and_bias(tensors):
    tensors["4.bias"] += 1e-3
    tensors["0.bias"] += 1e-3


def fill_zeros(tensors):
    tensors["4.weight"][tensors["4.weight"] == 0] = 1e-20


@pytest.mark.parametrize("change", [nudge_first_layer, nudge_head_and_bias, fill_zeros])
@pytest.mark.parametrize("bead", [1, 3, 4])
def test_forged_beads_are_not_proved(change, bead):
    judge = objective()
    path = forged(constructed(judge), judge.space, change, bead)
    with pytest.raises(EnclosureError, match="neither convex nor constant"):
        prove_by_convexity(judge, path)


def test_a_change_of_one_number_anywhere_is_bounded_or_refused():
    """Every parameter of a middle bead is changed in turn: whatever is still proved must hold."""
    judge = objective(n=12)
    path = constructed(judge)
    proved = 0
    for index in range(0, judge.space.size, 3):
        beads = path.beads.clone()
        beads[3, index] += 0.5
        attacked = dss.Path(beads)
        try:
            upper = prove_by_convexity(judge, attacked).upper
        except EnclosureError:
            continue
        proved += 1
        assert dense_losses(judge, attacked, places=5).max() <= upper
    assert 0 < proved < judge.space.size // 3


def test_kinds_of_random_pairs_hold_by_brute_force():
    """Random zeros and random moves: what is called constant is, and what is called convex is affine in the outputs."""
    judge = objective(n=6)
    layout = wiring(judge.model, judge.data.take(slice(0, 3)).inputs)
    generator = torch.Generator().manual_seed(3)
    seen = {"constant": 0, "convex": 0, None: 0}
    for _ in range(300):
        start = torch.randn(judge.space.size, generator=generator) * (torch.rand(judge.space.size, generator=generator) < 0.35)
        moves = torch.rand(judge.space.size, generator=generator) < torch.rand(1, generator=generator) * 0.03
        if torch.rand(1, generator=generator) < 0.5:
            moves |= judge.space.coordinates(("4.weight", "4.bias"))
        end = torch.where(moves & (start != 0), torch.randn(judge.space.size, generator=generator), start)
        found = kind(layout, judge.space.unflatten(start), judge.space.unflatten(end))
        seen[found] += 1
        outputs = [
            functional_call(judge.model, judge.space.unflatten(torch.lerp(start, end, s)), judge.data.inputs) for s in (0, 0.5, 1)
        ]
        if found == "constant":
            assert torch.allclose(outputs[0], outputs[1], atol=1e-6) and torch.allclose(outputs[0], outputs[2], atol=1e-6)
        if found == "convex":
            assert torch.allclose((outputs[0] + outputs[2]) / 2, outputs[1], atol=1e-5)
    assert min(seen.values()) > 10


def test_losses_that_are_not_known_to_be_convex_are_refused():
    target = torch.randint(3, (4,))
    for loss in (dss.error_rate, lambda z, y: -F.cross_entropy(z, y), torch.cosine_similarity):
        with pytest.raises(EnclosureError, match="not known to be convex"):
            check_convex(loss, target)
    with pytest.raises(EnclosureError, match="with log_input"):
        check_convex(partial(F.poisson_nll_loss, log_input=False), target)
    with pytest.raises(EnclosureError, match="negative weights"):
        check_convex(nn.CrossEntropyLoss(weight=torch.tensor([1.0, -1, 1])), target)
    with pytest.raises(EnclosureError, match="negative probability"):
        check_convex(F.cross_entropy, torch.tensor([[2.0, -1, 0]]))
    for loss in (nn.CrossEntropyLoss(label_smoothing=0.1), partial(F.huber_loss, delta=2.0), F.mse_loss):
        check_convex(loss, target)


def test_an_error_rate_is_not_proved_by_convexity():
    judge = objective()
    path = constructed(judge)
    rate = dss.NetworkObjective(judge.model, dss.error_rate, (judge.data.inputs[0], judge.data.target), trainable=False)
    with pytest.raises(EnclosureError, match="error_rate is not known to be convex"):
        prove_by_convexity(rate, path)
    assert dss.certify(rate, path, threshold=1.0, prove=True).proof != "convexity"


def test_perplexity_keeps_the_proof():
    judge = objective()
    path = constructed(judge)
    proof = prove_by_convexity(dss.Perplexity(judge), path)
    assert 0 <= proof.upper / dense_losses(judge, path).max().exp() - 1 < 1e-9


def test_bounds_at_points_hold_and_are_close():
    """Against the exact loss of a linear network, in rationals, and against float64 for a convolutional one."""
    judge = objective(model=nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), loss=F.mse_loss, n=7)
    point = random_point(judge.space, 5)
    tensors = judge.space.unflatten(point)
    layers = [[[Fraction(v) for v in row] for row in tensors[f"{i}.weight"].tolist()] for i in range(2)]
    shifts = [[Fraction(v) for v in tensors[f"{i}.bias"].tolist()] for i in range(2)]
    total = Fraction(0)
    for x, y in zip(judge.data.inputs[0].tolist(), judge.data.target.tolist()):
        z = [Fraction(v) for v in x]
        for weight, bias in zip(layers, shifts):
            z = [sum(w * v for w, v in zip(row, z)) + b for row, b in zip(weight, bias)]
        total += sum((a - Fraction(b)) ** 2 for a, b in zip(z, y))
    exact = total / 21
    layout = wiring(judge.model, judge.data.take(slice(0, 3)).inputs)
    bound = Fraction(bound_points(judge, layout, point[None]).item())
    assert exact <= bound <= exact * (1 + Fraction(1, 10**12))


def test_bounds_at_points_agree_with_cells():
    layers = [
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 3),
        nn.Tanh(),
    ]
    judge = objective(model=nn.Sequential(*layers, nn.Linear(3, 3)), shape=(1, 6, 6), buffers="frozen", n=9)
    points = torch.stack([random_point(judge.space, i) for i in range(3)])
    layout = wiring(judge.model, judge.data.take(slice(0, 3)).inputs)
    mine, cells = (
        bound_points(judge, layout, points),
        judge.enclose(points, points, torch.zeros(3).double(), torch.ones(3).double()),
    )
    losses = judge(points.double())
    assert (mine >= losses).all() and (mine <= losses + 1e-10).all()
    assert (cells.amax(1) >= losses).all()


class Indices(nn.Module):
    """Pools, and returns to the values by their places: nothing that a pass at points follows."""

    def __init__(self):
        super().__init__()
        self.first, self.pool, self.head = nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, return_indices=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.pool(self.first(x))[0].flatten(1))


class OwnShift(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self):
        super().__init__()
        self.layer, self.shift = nn.Linear(5, 3), nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.layer(x) + self.shift


@pytest.mark.parametrize(
    ("model", "shape"), [(Indices(), (1, 6, 6)), (OwnShift(), (5,)), (nn.Sequential(nn.Linear(5, 3), nn.Softmax(1)), (5,))]
)
def test_operations_without_a_rule_at_points_are_refused_there(model, shape):
    judge = objective(model=model, shape=shape)
    layout = wiring(judge.model, judge.data.take(slice(0, 3)).inputs)
    with pytest.raises(EnclosureError, match="no rule at single points"):
        bound_points(judge, layout, random_point(judge.space, 0)[None])


def test_parameters_outside_of_layers_must_not_move():
    """A recurrent layer before the head, a shift of its own: moved alone, they leave no piece convex or constant."""

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    for model, shape, name in ((Last(), (2, 5), "lstm.weight_ih_l0"), (OwnShift(), (5,), "shift")):
        judge = objective(model=model, shape=shape)
        layout = wiring(judge.model, judge.data.take(slice(0, 3)).inputs)
        start = random_point(judge.space, 0)
        end = start.clone()
        judge.space.unflatten(end)[name] += 0.1
        assert kind(layout, judge.space.unflatten(start), judge.space.unflatten(end)) is None


class WritesInPlace(nn.Module):
    """Its activations are statements, whose results nobody takes."""

    def __init__(self, *, by_module):
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(5, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)
        self.by_module = by_module

    def forward(self, x):
        h = self.first(x)
        view = h.view(-1, 6)
        self.relu(view) if self.by_module else h.relu_()
        return self.last(h)


@pytest.mark.parametrize("by_module", [False, True])
def test_bounds_see_what_is_written_in_place(by_module):
    judge = objective(model=WritesInPlace(by_module=by_module))
    beads = random_point(judge.space, 1).repeat(2, 1)
    judge.space.unflatten(beads)["last.weight"][1] *= -2
    path = dss.Path(beads)
    proof = prove_by_convexity(judge, path)
    seen = dense_losses(judge, path)
    assert seen.max() <= proof.upper <= seen.max() * (1 + 1e-9)


def test_sums_and_means_have_bounds_of_their_own():
    """A residual network at single points, without cells."""
    judge = objective(model=ResNet(blocks=1, width=2, norm=False, classes=3), shape=(1, 8, 8), n=6)
    points = torch.stack([random_point(judge.space, i, scale=0.3) for i in range(2)])
    layout = wiring(judge.model, judge.data.take(slice(0, 3)).inputs)
    bounds, losses = bound_points(judge, layout, points), judge(points.double())
    assert (bounds >= losses).all() and (bounds <= losses + 1e-5).all()
