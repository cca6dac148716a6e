"""Data is read as it is given: loaders by iterating over them by hand, under the same seed."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from data_tables import FEATURES, N, X, Y, generator, net, point_of, seed_all, table
from torch.nn.functional import cross_entropy
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

import dss
from dss.objectives.network.data import as_samples


class Noisy(Dataset):
    """Samples that are drawn anew whenever they are looked at, by any of the three usual generators."""

    def __init__(self, draw):
        self.x, self.y = table()
        self.draw = draw

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] + self.draw(), self.y[i]


class Stream(IterableDataset):
    def __init__(self, jitter=0.0):
        self.x, self.y, self.jitter = *table(), jitter

    def __iter__(self):
        for x, y in zip(self.x, self.y, strict=True):
            yield x + self.jitter * torch.rand(()), y


class Reversed(DataLoader):
    """A loader with an order of its own."""

    def __iter__(self):
        return iter(list(super().__iter__())[::-1])


class Buffered:
    """Batches in one buffer, filled again and again; no Dataset, no DataLoader."""

    def __iter__(self):
        x, y = table()
        buffer = torch.empty(5, FEATURES)
        for i in range(0, 35, 5):
            yield buffer.copy_(x[i : i + 5]), y[i : i + 5]


class Owner(Dataset):
    """Augmentation from a generator that the data set holds."""

    def __init__(self, rng):
        self.x, self.y, self.rng = *table(), rng

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        noise = self.rng.random() if hasattr(self.rng, "random") else torch.rand((), generator=self.rng).item()
        return self.x[i] + noise, self.y[i]


class Batches(Dataset):
    """A data set whose items are batches already."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        x, y = table()
        return x[7 * i : 7 * i + 5 + i], y[7 * i : 7 * i + 5 + i]


GLOBAL = np.random.default_rng(4)


class Named(Noisy):
    """Augmentation from a generator of the file's."""

    def __getitem__(self, i):
        return self.x[i] + GLOBAL.random(dtype=np.float32), self.y[i]


def closing_over(rng):
    return lambda: torch.rand((), generator=rng)


plain = TensorDataset(*table())
LOADERS = {
    "in order": lambda: DataLoader(plain, batch_size=5),
    "last batch dropped": lambda: DataLoader(plain, batch_size=5, drop_last=True),
    "shuffled": lambda: DataLoader(plain, batch_size=5, shuffle=True),
    "shuffled and dropped": lambda: DataLoader(plain, batch_size=16, shuffle=True, drop_last=True),
    "shuffled by its own generator": lambda: DataLoader(plain, batch_size=5, shuffle=True, generator=generator()),
    "half of the samples": lambda: DataLoader(plain, batch_size=5, sampler=SubsetRandomSampler(range(0, N, 2))),
    "with replacement": lambda: DataLoader(plain, batch_size=5, sampler=RandomSampler(plain, True, 50)),
    "weighted": lambda: DataLoader(plain, sampler=WeightedRandomSampler(torch.rand(N).tolist(), 20, generator=generator())),
    "weighted without generator": lambda: DataLoader(plain, sampler=WeightedRandomSampler([1.0] * 9 + [0.0] * 28, 20)),
    "batch sampler": lambda: DataLoader(plain, batch_sampler=BatchSampler(SubsetRandomSampler(range(11)), 4, True)),
    "list of batches": lambda: DataLoader(plain, batch_sampler=[[0, 3], [5], [7, 7, 9]]),
    "whole batches indexed": lambda: DataLoader(plain, sampler=BatchSampler(range(10), 4, False), batch_size=None),
    "one of three ranks": lambda: DataLoader(plain, batch_size=5, sampler=DistributedSampler(plain, 3, 1, seed=3)),
    "subset": lambda: DataLoader(Subset(plain, [3, 1, 30]), batch_size=2),
    "concatenated": lambda: DataLoader(ConcatDataset([plain, TensorDataset(*table(1, 5))]), batch_size=7),
    "split at random": lambda: DataLoader(random_split(plain, [30, 7], generator())[1], batch_size=2),
    "iter of its own": lambda: Reversed(plain, batch_size=5),
    "single samples": lambda: DataLoader(plain, batch_size=None),
    "batches from the data set": lambda: DataLoader(Batches(), batch_size=None),
    "stream": lambda: DataLoader(Stream(), batch_size=5, drop_last=True),
    "noisy stream": lambda: DataLoader(Stream(1.0), batch_size=5),
    "noise of torch": lambda: DataLoader(Noisy(lambda: torch.rand(())), batch_size=5, shuffle=True),
    "noise of numpy": lambda: DataLoader(Noisy(lambda: np.random.rand()), batch_size=5, shuffle=True),
    "noise of random": lambda: DataLoader(Noisy(random.random), batch_size=5, shuffle=True),
    "torch's generator in the data": lambda: DataLoader(Owner(generator()), batch_size=5),
    "numpy's generator in the data": lambda: DataLoader(Owner(np.random.default_rng(1)), batch_size=5),
    "numpy's old generator in the data": lambda: DataLoader(Owner(np.random.RandomState(1)), batch_size=5),
    "random's generator in the data": lambda: DataLoader(Owner(random.Random(1)), batch_size=5),
    "generator in a closure": lambda: DataLoader(Noisy(closing_over(generator())), batch_size=5),
    "generator of the file": lambda: DataLoader(Named(None), batch_size=5),
    "generator in a partial": lambda: DataLoader(Noisy(partial(torch.rand, (), generator=generator())), batch_size=5),
    "bound method of a generator": lambda: DataLoader(Noisy(random.Random(2).random), batch_size=5),
    "collated": lambda: DataLoader(plain, batch_size=5, collate_fn=lambda rows: (torch.stack([x for x, _ in rows]) * 2,
                                                                                torch.tensor([int(y) for _, y in rows]))),
    "any iterable": Buffered,
    "bare data set": lambda: Noisy(lambda: torch.rand(())),
    "bare stream": lambda: Stream(1.0),
}  # fmt: skip
# Nothing is drawn, or from generators that no seed of ours reaches.
FIXED = {"in order", "last batch dropped", "list of batches", "whole batches indexed", "one of three ranks", "subset", "concatenated",
         "split at random", "iter of its own", "single samples", "batches from the data set", "stream", "collated", "any iterable",
         "shuffled by its own generator", "weighted", *(name for name in LOADERS if "generator in" in name or "of the file" in name or "of a generator" in name)}  # fmt: skip


def by_hand(loader, seed):
    """Every sample that a user's own loop sees, one after the other."""
    seed_all(seed)
    state = GLOBAL.bit_generator.state
    if isinstance(loader, (IterableDataset, Noisy)):
        loader = DataLoader(loader, batch_size=256)
    pairs = [(x.clone(), y) for x, y in loader]
    GLOBAL.bit_generator.state = state
    single = pairs[0][1].ndim == 0
    return tuple(map(torch.stack if single else torch.cat, zip(*pairs, strict=True)))


@pytest.mark.parametrize("name", LOADERS)
def test_what_is_judged_is_what_a_loop_over_the_loader_sees(name):
    x, y = by_hand(LOADERS[name](), seed=3)
    model = net()
    objective = dss.NetworkObjective(model, cross_entropy, LOADERS[name](), seed=3)
    assert torch.equal(objective.data.inputs[0], x) and torch.equal(objective.data.target, y)
    assert objective.samples == len(x)
    assert objective(point_of(model)).item() == pytest.approx(cross_entropy(model(x), y).item(), rel=1e-6)


@pytest.mark.parametrize("name", LOADERS)
def test_reading_moves_no_generator_and_repeats_under_its_seed(name):
    loader = LOADERS[name]()
    seed_all(11)
    expected = torch.rand(3), np.random.rand(3), random.random()
    seed_all(11)
    first, again, other = (as_samples(loader, seed=seed).digest() for seed in (3, 3, 4))
    found = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(found[0], expected[0]) and (found[1] == expected[1]).all() and found[2] == expected[2]
    assert first == again and (first == other) == (name in FIXED)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with a single core
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_under_the_seed_too_and_the_callers_are_left_alone(persistent):
    data = Noisy(lambda: torch.rand(()) + np.random.rand() + random.random())
    loader = DataLoader(data, batch_size=5, num_workers=2, shuffle=True, persistent_workers=persistent)
    mine = [y for _, y in loader] if persistent else []
    workers = vars(loader).get("_iterator")
    first, again, other = (as_samples(loader, seed=seed).digest() for seed in (3, 3, 4))
    assert first == again != other and vars(loader).get("_iterator") is workers
    assert len(mine) == (8 if persistent else 0)


@pytest.mark.parametrize("change", [lambda x, y: (x + 1e-6, y), lambda x, y: (x, y.flip(0)), lambda x, y: (x.double(), y),
                                    lambda x, y: (x[1:], y[1:]), lambda x, y: (x.view(N, 2, 2), y)])  # fmt: skip
def test_a_digest_tells_order_bits_dtypes_and_shapes(change):
    assert as_samples((X, Y)).digest() == as_samples(DataLoader(plain, batch_size=3)).digest()
    assert as_samples((X, Y)).digest() != as_samples(change(X, Y)).digest()
