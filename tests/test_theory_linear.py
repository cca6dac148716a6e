"""Linear networks: the polygon never rises above its ends, the square bottleneck's barrier is exact."""

from itertools import pairwise

import pytest
import torch

import dss
from dss.theory import linear_barrier, linear_path, ridge_path
from dss.theory.turning import Rotation

PLACES = torch.linspace(0, 1, 11, dtype=torch.float64)


def network(widths, generator, *, lost=False):
    matrices = [torch.randn(b, a, generator=generator, dtype=torch.float64) for a, b in pairwise(widths)]
    if lost:
        matrices[0][-1] = matrices[0][0]
        matrices[-1][:, 0] = 0
    return matrices


def product(matrices):
    return torch.linalg.multi_dot(list(matrices)[::-1]) if len(matrices) > 1 else matrices[0]


def error(matrices, x, y):
    return (x @ product(matrices).T - y).square().mean().item()


def highest(found, loss):
    """The largest loss on a grid of every piece."""
    return max(loss([torch.lerp(a, b, t) for a, b in zip(one, other)]) for one, other in pairwise(found.corners) for t in PLACES)


def draws(count):
    generator = torch.Generator().manual_seed(0)
    for i in range(count):
        layers = 1 + int(torch.randint(4, (), generator=generator))
        first, last = (1 + int(torch.randint(6, (), generator=generator)) for _ in range(2))
        hidden = [
            min(first, last) + 1 + int(torch.randint(1, 58, (), generator=generator)) // (1 + i % 9) for _ in range(layers - 1)
        ]
        widths = [first, *hidden, last]
        yield widths, network(widths, generator), network(widths, generator, lost=i % 3 == 0 and layers > 1), generator


def test_a_hundred_polygons_stay_below_their_ends():
    for widths, start, end, generator in draws(100):
        x, y = (torch.randn(30, n, generator=generator, dtype=torch.float64) for n in (widths[0], widths[-1]))
        found = linear_path(start, end, data=(x, y))
        ends = max(error(start, x, y), error(end, x, y))
        assert highest(found, lambda m, x=x, y=y: error(m, x, y)) <= ends * (1 + 1e-12)
        assert found.bound <= ends * (1 + 1e-12)
        assert all(torch.equal(a, b) for a, b in zip(found.corners[0], start))
        assert all(torch.equal(a, b) for a, b in zip(found.corners[-1], end))


def test_it_holds_for_another_convex_loss_too():
    generator = torch.Generator().manual_seed(1)
    start, end = (network([3, 5, 6, 4], generator) for _ in range(2))
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.randint(4, (20,))

    def entropy(matrices):
        return torch.nn.functional.cross_entropy(x @ product(matrices).T, y).item()

    assert highest(linear_path(start, end), entropy) <= max(entropy(start), entropy(end)) * (1 + 1e-12)


def test_the_product_moves_on_one_piece_only():
    generator = torch.Generator().manual_seed(2)
    start, end = (network([3, 5, 4, 7], generator) for _ in range(2))
    products = [product(corner) for corner in linear_path(start, end).corners]
    moved = [(a - b).abs().max() > 1e-10 for a, b in pairwise(products)]
    assert sum(moved) == 1


def test_points_of_the_path_are_flat_matrices():
    generator = torch.Generator().manual_seed(3)
    start, end = (network([2, 3, 2], generator) for _ in range(2))
    path = linear_path(start, end).path
    assert torch.equal(path.beads[0], torch.cat([w.flatten() for w in start]))
    assert path.beads.shape[1] == 12


def square(widths, generator, x, y, *, flip):
    """Two least-squares networks with a square bottleneck, of one sign or of two."""
    best = torch.linalg.lstsq(x, y).solution.T
    found = []
    for side in range(2):
        matrices = network(widths, generator)
        if widths[0] <= widths[-1]:
            if side and (torch.det(matrices[0]).sign() == torch.det(found[0][0]).sign()) == flip:
                matrices[0][0] *= -1
            matrices[1] = best @ torch.linalg.inv(matrices[0])
        else:
            if side and (torch.det(matrices[1]).sign() == torch.det(found[0][1]).sign()) == flip:
                matrices[1][0] *= -1
            matrices[0] = torch.linalg.inv(matrices[1]) @ best
        found.append(matrices)
    return found


@pytest.mark.parametrize("widths", [[1, 1, 1], [3, 3, 3], [3, 3, 5], [5, 3, 3]])
def test_the_barrier_of_a_square_bottleneck_is_exact(widths):
    """Every path of two signs meets a product of lower rank, and the constructed one is no higher than the best of those."""
    generator = torch.Generator().manual_seed(4)
    x, y = (torch.randn(25, n, generator=generator, dtype=torch.float64) for n in (widths[0], widths[-1]))
    apart = square(widths, generator, x, y, flip=True)
    barrier = linear_barrier(x, y, *apart)
    ends = max(error(matrices, x, y) for matrices in apart)
    assert barrier > ends * (1 + 1e-6)
    found = linear_path(*apart, data=(x, y))
    assert highest(found, lambda m: error(m, x, y)) == pytest.approx(barrier, rel=1e-8)
    assert found.bound == pytest.approx(barrier, rel=1e-8)
    together = square(widths, generator, x, y, flip=False)
    assert linear_barrier(x, y, *together) == pytest.approx(ends, rel=1e-12)
    turned = linear_path(*together, data=(x, y))
    assert highest(turned, lambda m: error(m, x, y)) <= turned.bound * (1 + 1e-12)
    assert turned.bound == pytest.approx(ends, rel=1e-3) and turned.bound < barrier


def sides(matrices):
    """Signs of the determinants between every square bottleneck and the narrow end."""
    narrow_below = matrices[0].shape[1] <= matrices[-1].shape[0]
    matrices = matrices if narrow_below else [w.T for w in reversed(matrices)]
    partial = [product(matrices[: k + 1]) for k in range(len(matrices) - 1)]
    return [torch.det(p).sign().item() for p in partial if p.shape[0] == p.shape[1]]


@pytest.mark.parametrize("widths", [[2, 2, 3], [4, 4, 4], [5, 3, 3], [3, 3, 3, 3], [3, 6, 3, 4], [4, 3, 3, 5, 3]])
def test_square_bottlenecks_of_equal_signs_are_turned_with_an_excess_that_vanishes(widths):
    generator = torch.Generator().manual_seed(11)
    x, y = (torch.randn(25, n, generator=generator, dtype=torch.float64) for n in (widths[0], widths[-1]))
    start = network(widths, generator)
    end = [w + 0.0 for w in start]
    while torch.equal(end[0], start[0]) or sides(end) != sides(start):
        end = network(widths, generator)
    ends = max(error(m, x, y) for m in (start, end))
    few, many = (linear_path(start, end, data=(x, y), arcs=arcs) for arcs in (8, 64))
    for found in (few, many):
        assert highest(found, lambda m: error(m, x, y)) <= found.bound * (1 + 1e-9)
        assert all(torch.equal(a, b) for a, b in zip(found.corners[-1], end))
    assert many.bound - ends <= (few.bound - ends) / 16 + 1e-9 * ends  # 1/64 in the limit
    assert linear_path(start, end).bound is None  # no data is needed


def test_a_rotation_of_half_a_turn_has_its_shares():
    for matrix in (torch.diag(torch.tensor([-1.0, 1, -1, 1])).double(), torch.tensor([[0.0, -1], [1, 0]]).double()):
        rotation = Rotation(matrix)
        assert torch.allclose(rotation.share(1), matrix) and torch.allclose(rotation.share(0), torch.eye(len(matrix)).double())
        third = rotation.share(1 / 3)
        assert torch.allclose(third @ third @ third, matrix) and torch.allclose(third @ third.T, torch.eye(len(matrix)).double())


def test_no_product_of_lower_rank_is_better():
    """Gradient descent over products of rank 2 comes down to the closed form, never below."""
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(40, 4, generator=generator).double(), torch.randn(40, 3, generator=generator).double()
    apart = square([4, 3, 3], generator, x, y, flip=True)
    barrier = linear_barrier(x, y, *apart)
    u, v = (torch.randn(shape, generator=generator).double().requires_grad_() for shape in ((3, 2), (2, 4)))
    optimizer = torch.optim.LBFGS([u, v], max_iter=400, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (x @ (u @ v).T - y).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert barrier - 1e-12 <= closure().item() <= barrier * (1 + 1e-6)


def test_deep_networks_with_square_bottlenecks_pass_through_lower_rank():
    generator = torch.Generator().manual_seed(6)
    for widths in ([3, 3, 4, 3], [2, 2, 2, 3], [3, 5, 3, 3]):
        x, y = (torch.randn(25, n, generator=generator, dtype=torch.float64) for n in (widths[0], widths[-1]))
        start, end = (network(widths, generator) for _ in range(2))
        found = linear_path(start, end, data=(x, y))
        assert highest(found, lambda m, x=x, y=y: error(m, x, y)) <= found.bound * (1 + 1e-10)
        assert found.bound >= linear_barrier(x, y, start, end) * (1 - 1e-12)


@pytest.mark.parametrize("arcs", [1, 4, 16])
def test_ridge_is_kept_on_the_circle(arcs):
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(30, 3, generator=generator).double(), torch.randn(30, 2, generator=generator).double()
    y += 3 * x[:, :2]
    ends, ridge = [network([3, 8, 2], generator) for _ in range(2)], 0.02

    def penalised(matrices):
        return error(matrices, x, y) + ridge / 2 * sum(w.square().sum() for w in matrices)

    for matrices in ends:
        leaves = [w.requires_grad_() for w in matrices]
        optimizer = torch.optim.LBFGS(leaves, max_iter=300, line_search_fn="strong_wolfe")

        def closure(optimizer=optimizer, leaves=leaves):
            optimizer.zero_grad()
            loss = (x @ (leaves[1] @ leaves[0]).T - y).square().mean() + ridge / 2 * sum(w.square().sum() for w in leaves)
            loss.backward()
            return loss

        optimizer.step(closure)
    ends = [[w.detach() for w in matrices] for matrices in ends]
    found = ridge_path(x, y, *ends, ridge=ridge, arcs=arcs)
    seen = max(penalised([torch.lerp(a, b, t) for a, b in zip(*pair)]).item() for pair in pairwise(found.corners) for t in PLACES)
    most = max(penalised(matrices).item() for matrices in ends)
    assert seen <= found.bound * (1 + 1e-12)
    assert arcs > 1 or seen > most * 1.001  # a chord does rise: the bound is not idle
    assert found.bound - most == pytest.approx(
        (y.square().mean() - most).item() * torch.sin(torch.tensor(torch.pi / 4 / arcs)).item() ** 2
    )


def test_what_does_not_fit_is_refused():
    generator = torch.Generator().manual_seed(8)
    wide, narrow, other = (network(widths, generator) for widths in ([3, 5, 3], [3, 2, 3], [3, 6, 3]))
    square = network([3, 3, 3], generator)
    mirrored = [square[0] * torch.tensor([[-1.0], [1], [1]]), square[1]]
    for start, end in ((wide, other), (narrow, narrow), (square, mirrored), ([], []), ([torch.ones(3)], [torch.ones(3)])):
        with pytest.raises(dss.InputError):
            linear_path(start, end)
    with pytest.raises(dss.InputError, match="3 min"):
        ridge_path(torch.ones(4, 3), torch.ones(4, 3), wide, wide, ridge=0.1)
