"""Theorem 2.4: the written path is no higher than its bound, wherever the two ends free their units."""

from itertools import combinations, pairwise

import pytest
import torch
from torch import nn

import dss
from dss.theory import hidden_layer, hidden_layer_path


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(hidden_layer, "STEPS", 150)


def teacher(n=60, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    rows = torch.randn(3, d, generator=generator, dtype=torch.float64)
    return x, torch.relu(x @ rows.T) @ torch.randn(3, generator=generator, dtype=torch.float64)


def network(width, seed, d=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, d, generator=generator).double(), torch.randn(width, generator=generator).double()


def error(x, y, rows, outer):
    return (torch.relu(x @ rows.T) @ outer - y).square().mean()


def highest(x, y, found, places=21):
    t = torch.linspace(0, 1, places, dtype=torch.float64)
    return max(error(x, y, *(torch.lerp(a, b, s) for a, b in zip(*pair))) for pair in pairwise(found.corners) for s in t)


@pytest.mark.parametrize(("width", "units"), [(2, 1), (5, 2), (7, 3), (8, 6)])
@pytest.mark.parametrize("seed", range(4))
def test_the_bound_is_the_largest_loss(width, units, seed):
    x, y = teacher()
    start, end = network(width, 2 * seed), network(width, 2 * seed + 1)
    found = hidden_layer_path(x, y, start, end, units=[units], restarts=2)
    assert highest(x, y, found).item() == pytest.approx(found.bound, rel=1e-9)
    assert all(torch.equal(a, b) for a, b in zip(found.corners[0], start))
    assert all(torch.equal(a, b) for a, b in zip(found.corners[-1], end))
    assert found.epsilon == found.bound - max(error(x, y, *start), error(x, y, *end)).item()


def test_the_general_proof_by_convexity_agrees():
    """As points of a torch model, the path is proved with the same bound by what knows nothing of the theorem."""
    x, y = teacher()
    found = hidden_layer_path(x, y, network(6, 0), network(6, 1), units=[3])
    model = nn.Sequential(nn.Linear(3, 6, bias=False), nn.ReLU(), nn.Linear(6, 1, bias=False), nn.Flatten(0)).double()
    judge = dss.NetworkObjective(model, nn.functional.mse_loss, (x, y))
    certificate = dss.certify(judge, found.path, threshold=1e3, prove=True)
    assert (certificate.proof, certificate.upper) == ("convexity", pytest.approx(found.bound, rel=1e-9))


def test_few_terms_against_brute_force():
    """No support of that size does better than the best of all, and the two searches together come close to it."""
    x, y = teacher()
    rows, _ = network(7, 3)
    hidden = torch.relu(x @ rows.T)
    for terms in (1, 2, 4, 7):
        outer = hidden_layer.best_terms(x, y, rows, terms)
        assert (outer != 0).sum() <= terms
        best = min(
            (hidden[:, s] @ torch.linalg.lstsq(hidden[:, s], y[:, None]).solution[:, 0] - y).square().mean().item()
            for s in map(list, combinations(range(7), terms))
        )
        assert best - 1e-12 <= error(x, y, rows, outer).item() <= 2 * best + 1e-3


def test_dead_and_equal_units_are_no_trouble():
    x, y = teacher()
    start, end = network(6, 4), network(6, 5)
    start[0][:2] = 0
    end[0][1:3] = end[0][0]
    found = hidden_layer_path(x, y, start, end, units=[2, 3])
    assert highest(x, y, found).item() == pytest.approx(found.bound, rel=1e-9)


def test_what_does_not_fit_is_refused():
    x, y = teacher()
    for args, options in (
        ((x, y[:, None], network(4, 0), network(4, 1)), {}),
        ((x, y, network(4, 0), network(5, 1)), {}),
        ((x, y, network(1, 0), network(1, 1)), {}),
        ((x, y, network(4, 0), network(4, 1)), {"units": [4]}),
    ):
        with pytest.raises(dss.InputError):
            hidden_layer_path(*args, **options)
