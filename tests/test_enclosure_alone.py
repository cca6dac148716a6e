"""Networks whose way depends on a sample's numbers are bounded sample by sample; targets may be trees of tensors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dss
from dss.base.errors import EnclosureError
from dss.enclosure import enclose, suited
from dss.enclosure.ways import groups_of

F64 = torch.float64
N, LENGTH, WIDTH, ALL = 7, 5, 4, (0, 1, 2)
KEPT = torch.tensor([5, 2, 3, 5, 1, 4, 2])
X = torch.randn(N, LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(LENGTH) < KEPT[:, None]).long()
Y = torch.tensor([0, 1, 2, 1, 0, 2, 2])


class Reader(nn.Module):
    """A mean over the tokens that count, taken as `way` does."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.body, self.head = way, nn.Linear(WIDTH, 6), nn.Linear(6, 3)

    def forward(self, x, mask):
        return self.head(self.way(F.gelu(self.body(x)), mask, x))


def by_products(h, mask, x):
    return (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def unless_all(h, mask, x):
    return h.mean(1) if mask.all() else by_products(h, mask, x)


def by_length(h, mask, x):
    return torch.stack([row[: int(count)].mean(0) for row, count in zip(h, mask.sum(1))])


def by_choice(h, mask, x):
    return torch.stack([row[keep == 1].mean(0) for row, keep in zip(h, mask)])


def by_indices(h, mask, x):
    return torch.stack([row[keep.nonzero()[:, 0]].mean(0) for row, keep in zip(h, mask)])


def until_the_last(h, mask, x):
    kept = [row[: keep.tolist().index(0)] if 0 in keep.tolist() else row for row, keep in zip(h, mask)]
    return torch.stack([row.mean(0) for row in kept])


def by_size(h, mask, x):
    pairs = zip(by_products(h, mask, x), x)
    return torch.stack([row * 2 if float(data.max()) > 1.5 else row for row, data in pairs])


def cells(model, width):
    start = {name: p.detach()[None] for name, p in model.named_parameters()}
    draw = torch.Generator().manual_seed(1)
    end = {name: p + 0.4 * torch.randn(p.shape, generator=draw) for name, p in start.items()}
    lower = torch.tensor([0.25], dtype=F64)
    return start, end, lower, lower + width


@pytest.mark.parametrize("way", [unless_all, by_length, by_choice, by_indices, until_the_last, by_size])
@pytest.mark.parametrize("width", [0.25, 1 / 64])
def test_a_way_that_depends_on_the_data_is_followed_for_every_sample(way, width):
    start, end, lower, upper = cells(Reader(way), width)
    found = enclose(Reader(way), F.cross_entropy, start, end, lower, upper, (X, MASK), Y, fixed=ALL)
    if way is not by_size:  # the same network without a branch
        together = enclose(Reader(by_products), F.cross_entropy, start, end, lower, upper, (X, MASK), Y)
        torch.testing.assert_close(found, together, rtol=1e-3, atol=1e-9)
    model = Reader(way).double()
    for t in torch.linspace(lower.item(), upper.item(), 21, dtype=F64):
        point = {name: torch.lerp(start[name][0].double(), end[name][0].double(), t) for name in start}
        loss = F.cross_entropy(torch.func.functional_call(model, point, (X.double(), MASK)), Y)
        assert loss <= found.amax()


def test_samples_of_one_mask_go_together():
    more = [torch.cat([part, part.flip(0)]) for part in (Y, X, MASK)]  # every mask twice, and two of them four times
    y, x, mask = more
    model = Reader(by_length)
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    for way, expected in ((by_products, ()), (by_length, (2,)), (by_size, ALL)):
        assert suited(Reader(way), F.cross_entropy, tensors, (x, mask), y)["fixed"] == expected
    assert sorted(map(len, groups_of([mask]))) == [2, 2, 2, 4, 4]
    given = *cells(model, 1 / 8), (x, mask), y
    alone, grouped, small = (
        enclose(model, F.cross_entropy, *given, **options)
        for options in ({"fixed": ALL}, {"fixed": (2,)}, {"fixed": (2,), "chunk": 3})
    )
    torch.testing.assert_close(grouped, alone, rtol=1e-9, atol=0)
    torch.testing.assert_close(small, grouped, rtol=1e-12, atol=0)


@pytest.mark.parametrize("way", [unless_all, by_length, by_choice, by_size])
def test_paths_of_such_networks_are_proved_and_refuted(way):
    model = Reader(way)
    judge = dss.NetworkObjective(model, F.cross_entropy, ((X, MASK), Y))
    a = judge.flatten(model.state_dict())
    path = dss.Path(torch.stack([a, a + 0.3 * torch.randn(a.shape, generator=torch.Generator().manual_seed(2))]))
    most = max(judge(torch.lerp(*path.beads, t)[None]).item() for t in torch.linspace(0, 1, 201))
    proved = dss.certify(judge, path, threshold=1.01 * most, prove=True)
    assert proved.proven and most <= proved.upper * (1 + 1e-6) and proved.upper <= 1.01 * most
    assert not dss.certify(judge, path, threshold=0.99 * most, prove=True).passed


def test_a_branch_on_parameters_stays_refused():
    def by_value(h, mask, x):
        return unless_all(h, mask, x) if h.mean() > 0 else by_products(h, mask, x)

    with pytest.raises(EnclosureError, match="a branch on it cannot be followed"):
        enclose(Reader(by_value), F.cross_entropy, *cells(Reader(by_value), 0.25), (X, MASK), Y, fixed=ALL)


def test_samples_that_take_the_way_of_others_are_not_proved():
    """The largest entry of the whole data decides for all: alone, every other sample would take another way."""
    x = torch.rand(400, LENGTH, WIDTH, generator=torch.Generator().manual_seed(3))
    x[177] += 3  # none of those that a model is tried on when it is read

    def by_the_largest(h, mask, x):
        return by_products(h, mask, x) * (3 if x.max() > 2 else 1)

    data = (x, torch.ones(400, LENGTH).long()), torch.arange(400) % 3
    judge = dss.NetworkObjective(Reader(by_the_largest), F.cross_entropy, data)
    a = judge.flatten(Reader(by_the_largest).state_dict())
    found = dss.certify(judge, dss.Path(torch.stack([a, 1.1 * a])), threshold=100.0, grid=4, prove=True)
    assert not found.proven and "depends on how the data is cut" in found.reason


def test_targets_in_dictionaries_are_bounded_as_tensors_are():
    weight = torch.rand(N, generator=torch.Generator().manual_seed(4))

    def weighted(output, target):
        return (F.cross_entropy(output, target["label"], reduction="none") * target["more"][0]).mean()

    def plain(output, target):
        return (F.cross_entropy(output, target[:, 0].long(), reduction="none") * target[:, 1]).mean()

    given = cells(Reader(by_products), 1 / 8)
    tree = enclose(Reader(by_products), weighted, *given, (X, MASK), {"label": Y, "more": (weight,)})
    flat = enclose(Reader(by_products), plain, *given, (X, MASK), torch.stack([Y.float(), weight], 1))
    torch.testing.assert_close(tree, flat, rtol=1e-12, atol=0)


class Standardized(nn.Module):
    """A convolution whose weights are standardized as batches are, in the manner of BiT."""

    def __init__(self, of_data=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.of_data = nn.Conv2d(1, 4, 3), nn.Linear(4, 3), of_data

    def forward(self, x):
        weight = self.conv.weight
        weight = F.batch_norm(weight.reshape(1, len(weight), -1), None, None, training=True, momentum=0.0).reshape_as(weight)
        h = F.conv2d(x, weight, self.conv.bias).relu()
        h = F.batch_norm(h, None, None, training=True) if self.of_data else h
        return self.head(h.mean((2, 3)))


@pytest.mark.parametrize("width", [0.25, 1 / 64])
def test_weights_may_be_normalised_by_their_own_statistics_and_samples_may_not(width):
    images = torch.randn(N, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    start, end, lower, upper = cells(Standardized(), width)
    with pytest.raises(EnclosureError, match="batch norm takes its statistics from the batch"):
        enclose(Standardized(of_data=True), F.cross_entropy, start, end, lower, upper, images, Y)
    bound = enclose(Standardized(), F.cross_entropy, start, end, lower, upper, images, Y).amax()
    model, losses = Standardized().double(), []
    for t in torch.linspace(lower.item(), upper.item(), 41, dtype=F64):
        point = {name: torch.lerp(start[name][0].double(), end[name][0].double(), t) for name in start}
        losses.append(F.cross_entropy(torch.func.functional_call(model, point, (images.double(),)), Y).item())
    assert max(losses) <= bound and (width > 1 / 64 or bound - max(losses) < 1e-3)
