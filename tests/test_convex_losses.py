"""Whether a loss is convex in the outputs: what is said of losses against the convexity of their values, by looking."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dss
from dss.certificates.convex_losses import check_convex
from dss.certificates.convexity import prove_by_convexity
from dss.certificates.curvature import AFFINE, CONCAVE, Curvature

LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
NUMBERS = torch.linspace(-2, 3, 18, dtype=torch.float64).view(6, 3)
SHARES = torch.softmax(NUMBERS, 1)
BITS = (NUMBERS > 0).double()


class Weighted(nn.Module):
    """A loss with weights of its own, inside a module that it does not own."""

    def __init__(self):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), reduction="none")

    def forward(self, z, y):
        return (self.inner(z, y) * (y + 1)).sum() / len(LABELS)


OUTSIDE = nn.MSELoss()
CONVEX = {
    "cross-entropy": (F.cross_entropy, LABELS),
    "smoothed, weighted": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 3]).double(), label_smoothing=0.2), LABELS),
    "shares": (F.cross_entropy, SHARES),
    "mse": (F.mse_loss, NUMBERS),
    "huber": (partial(F.huber_loss, delta=0.7), NUMBERS),
    "bits": (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 1, 3]).double()), BITS),
    "bits outside [0, 1]": (F.binary_cross_entropy_with_logits, NUMBERS),
    "poisson": (F.poisson_nll_loss, BITS),
    "soft margin": (F.soft_margin_loss, NUMBERS),
    "margin": (F.multi_margin_loss, LABELS),
    "in a lambda": (lambda z, y: F.cross_entropy(z, y), LABELS),
    "of a module outside": (lambda z, y: OUTSIDE(z, y) + 0.1 * z.square().mean(), NUMBERS),
    "written out": (lambda z, y: ((y - z) ** 2).mean() + 0.5 * (z - y).abs().sum() / z.shape[0], NUMBERS),
    "log-sum-exp less the label's": (lambda z, y: (torch.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]).mean(), LABELS),
    "minus a logarithm": (lambda z, y: -F.log_softmax(z, 1)[torch.arange(6), y].mean(), LABELS),
    "nll of logarithms": (lambda z, y: F.nll_loss(F.log_softmax(z, 1), y), LABELS),
    "weights by class": (lambda z, y: (F.cross_entropy(z, y, reduction="none") * (1.0 + y)).mean(), LABELS),
    "a module": (Weighted(), LABELS),
    "divergence": (lambda z, y: F.kl_div(F.log_softmax(z, 1), y, reduction="batchmean"), SHARES),
    "hinge": (lambda z, y: F.relu(1 - z * y).mean(), NUMBERS),
    "exponential": (lambda z, y: (z * y).sum(1).exp().mean(), NUMBERS),
}  # fmt: skip


def concave(z, y):
    return -F.cross_entropy(z, y)


def in_place(z, y):
    z.clamp_(-1, 1)
    return F.cross_entropy(z, y)


def positional_in_place(z, y):
    F.relu(z, True)
    return F.cross_entropy(z, y)


def through_data(z, y):
    z.data.relu_()
    return z.sum()


REFUSED = {
    "errors": (dss.error_rate, LABELS),
    "concave": (concave, LABELS),
    "a product": (lambda z, y: (z * z.flip(1)).mean(), LABELS),
    "cube": (lambda z, y: (z**3).mean(), LABELS),
    "convex of convex": (lambda z, y: F.cross_entropy(z, y) ** 2, LABELS),
    "a difference of convex ones": (lambda z, y: z.abs().mean() - z.square().mean(), LABELS),
    "a negative multiple": (lambda z, y: (F.cross_entropy(z, y, reduction="none") * (y - 1.0)).mean(), LABELS),
    "rounded": (lambda z, y: torch.div(z, 0.1, rounding_mode="floor").mean(), LABELS),
    "in place": (in_place, LABELS),
    "in place by position": (positional_in_place, LABELS),
    "by data": (through_data, LABELS),
    "negative softplus": (lambda z, y: F.softplus(z, -1.0).mean(), LABELS),
    "a branch": (lambda z, y: z.mean() if z.sum() > 0 else -z.mean(), LABELS),
    "probabilities": (lambda z, y: F.binary_cross_entropy(torch.sigmoid(z), y), BITS),
    "targets below 0": (lambda z, y: F.cross_entropy(z, y), SHARES - 0.5),
    "bits outside, weighted": (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 1, 3])), NUMBERS),
    "weight of the outputs": (lambda z, y: (z.square().sum(), z.abs().sum()), LABELS),
    "Dice": (lambda z, y: 1 - (z * y).sum() / (z.square().sum() + y.sum()), BITS),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVEX)
def test_what_is_called_convex_lies_below_its_chords(name):
    loss, target = CONVEX[name]
    check_convex(loss, target)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 10.0):
        ends = scale * torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
        values = [loss(torch.lerp(*ends, t), target).mean().item() for t in (0.0, 0.3, 0.5, 1.0)]
        assert values[1] <= 0.7 * values[0] + 0.3 * values[3] + 1e-12 * max(map(abs, values))
        assert values[2] <= (values[0] + values[3]) / 2 + 1e-12 * max(map(abs, values))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_to_be_convex_is_refused(name):
    with pytest.raises(dss.EnclosureError, match="not known to be convex in the outputs"):
        check_convex(*REFUSED[name])


def test_sums_and_signs_of_curvatures():
    constant, affine, convex, concave_, unknown = Curvature
    assert convex + affine is convex and concave_ + constant is concave_ and affine + affine is affine
    assert convex + concave_ is unknown and unknown + affine is unknown and constant + constant is constant
    assert -convex is concave_ and -affine is affine and not (-convex).is_convex


def test_log_probabilities_of_a_network_keep_the_proof():
    """A network that ends in a log-softmax under nll_loss is one with a linear end under cross-entropy."""
    x, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 3
    bounds = []
    for end, loss in ((nn.LogSoftmax(1), F.nll_loss), (nn.Identity(), F.cross_entropy)):
        net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), end)
        judge = dss.NetworkObjective(net, loss, (x, y))
        generator = torch.Generator().manual_seed(2)
        beads = torch.randn(1, judge.space.size, generator=generator).repeat(2, 1)
        judge.space.unflatten(beads)["2.weight"][1] *= -2
        bounds.append(prove_by_convexity(judge, dss.Path(beads)).upper)
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)
    with pytest.raises(dss.EnclosureError, match="concave in the outputs"):
        check_convex(F.mse_loss, NUMBERS, CONCAVE)
    check_convex(F.nll_loss, LABELS, AFFINE)


class LostScale(nn.Module):
    """Reads a parameter in a way that tracing does not see."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.scale = nn.Linear(4, 5), nn.Linear(5, 3), nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.last(torch.relu(self.first(x)) * (2.0 * self._parameters["scale"]))


def test_a_parameter_that_tracing_loses_is_noticed_even_if_no_bead_moves_it():
    x, y = torch.randn(30, 4), torch.arange(30) % 3
    net = LostScale()
    judge = dss.NetworkObjective(net, F.cross_entropy, (x, y))
    beads = judge.space.flatten(net.state_dict()).repeat(2, 1)
    judge.space.unflatten(beads)["last.bias"][1] += 1
    with pytest.raises(dss.EnclosureError, match="compute something else"):
        prove_by_convexity(judge, dss.Path(beads))


@pytest.mark.parametrize("options", [{"whole": True}, {}])
@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3, 0.2])),
        nn.CrossEntropyLoss(reduction="sum"),
        lambda z, y: (F.cross_entropy(z, y, reduction="sum"), len(y)),
        lambda z, y: F.cross_entropy(z, y, reduction="none"),
    ],
    ids=["weighted", "sum", "pair", "vector"],
)
def test_the_bound_is_that_of_the_loss_of_all_data(loss, options):
    """However a loss is reduced: against its own value on all the data, in float64."""
    x, y = torch.randn(31, 4, generator=torch.Generator().manual_seed(1)), torch.arange(31) % 3
    if options and loss.__class__.__name__ == "function":
        loss = partial(F.cross_entropy, label_smoothing=0.1)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    net[0].requires_grad_(False)
    judge = dss.NetworkObjective(net, loss, (x, y), **options)
    beads = torch.randn(3, judge.space.size, generator=torch.Generator().manual_seed(2))
    proof = prove_by_convexity(judge, dss.Path(beads))
    losses = judge(beads.double())
    assert (proof.bounds >= losses - 1e-13 * losses.abs()).all()
    assert torch.allclose(proof.bounds, losses, rtol=3e-6)
