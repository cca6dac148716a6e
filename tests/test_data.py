"""Data is read as it is given: loaders by iterating over them by hand, under the same seed; batches of every kind."""

import random
from collections import UserDict, namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
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

N, FEATURES, CLASSES = 37, 4, 3


def table(seed=0, n=N):
    """Inputs that tell each sample, and classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, FEATURES, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


def generator(seed=5):
    return torch.Generator().manual_seed(seed)


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


def seed_all(seed):
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)


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


def net(features=FEATURES, outputs=CLASSES):
    seed_all(0)
    return nn.Sequential(nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, outputs))


def point_of(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()[None]


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


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_under_the_seed_too_and_the_callers_are_left_alone(persistent):
    data = Noisy(lambda: torch.rand(()) + np.random.rand() + random.random())
    loader = DataLoader(data, batch_size=5, num_workers=2, shuffle=True, persistent_workers=persistent)
    mine = [y for _, y in loader] if persistent else []
    workers = vars(loader).get("_iterator")
    first, again, other = (as_samples(loader, seed=seed).digest() for seed in (3, 3, 4))
    assert first == again != other and vars(loader).get("_iterator") is workers
    assert len(mine) == (8 if persistent else 0)


# Batches of every kind. ---------------------------------------------------------------------------------------------


class Two(nn.Module):
    """Two inputs by position or by name, the second of which may stay out."""

    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, ids, mask=None):
        return self.inner(ids if mask is None else ids * mask)


class Nested(nn.Module):
    """A dict of a list, and a tuple."""

    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, *, left, right):
        return self.inner(left["a"][0] + right[1])


X, Y = table()
M = (table(2)[0] > 0).float()
Pair = namedtuple("Pair", "x y")
# Data, model, and what the model is to say of it.
FORMS = {
    "pair": ((X, Y), net, lambda m: m(X)),
    "pair of lists": ([X, Y.tolist()], net, lambda m: m(X)),
    "named pair": (Pair(X, Y), net, lambda m: m(X)),
    "arrays": ((X.numpy(), Y.numpy()), net, lambda m: m(X)),
    "three": ((X, M, Y), Two, lambda m: m(X, M)),
    "inputs in a tuple": (((X, M), Y), Two, lambda m: m(X, M)),
    "inputs in a dict": (({"mask": M, "ids": X}, Y), Two, lambda m: m(X, M)),
    "dict": ({"ids": X, "mask": M, "labels": Y}, Two, lambda m: m(X, M)),
    "dict without an option": ({"label": Y, "ids": X}, Two, lambda m: m(X)),
    "mapping of arrays": (UserDict(ids=X.numpy(), targets=Y.numpy()), Two, lambda m: m(X)),
    "nested": ({"left": {"a": [X]}, "right": (M, X * M), "target": Y}, Nested, lambda m: m.inner(X + X * M)),
}


def rows_of(batch, i):
    """Sample i of a batch of everything."""
    if isinstance(batch, (dict, UserDict)):
        return {name: rows_of(value, i) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)) and not isinstance(batch[0], int):
        return tuple(rows_of(value, i) for value in batch)
    return batch[i]


@pytest.mark.parametrize("how", ["whole", "data set", "loader"])
@pytest.mark.parametrize("name", FORMS)
def test_inputs_reach_the_model_as_they_are_built(name, how):
    data, build, output = FORMS[name]
    if how != "whole":
        data = [rows_of(data, i) for i in range(N)]
        data = Rows(data) if how == "data set" else DataLoader(data, batch_size=6)
    model = build()
    objective = dss.NetworkObjective(model, cross_entropy, data, rows="vmap")
    assert objective(point_of(model)).item() == pytest.approx(cross_entropy(output(model), Y).item(), rel=1e-6)
    part = objective.part(N)
    assert part is not None and torch.equal(part(point_of(model)), objective(point_of(model)))


class Rows:
    """Like Hugging Face's data sets: no Dataset of torch's, `len` and `[i]` alone."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


@pytest.mark.parametrize(
    "data",
    [
        Rows([{"ids": x.tolist(), "labels": int(y)} for x, y in zip(X, Y, strict=True)]),
        Rows([[x.tolist(), int(y)] for x, y in zip(X, Y, strict=True)]),
        {"ids": X.tolist(), "labels": Y.tolist()},
        (X.tolist(), Y.tolist()),
    ],
)
def test_lists_of_numbers_are_arrays(data):
    model = Two()
    found = dss.NetworkObjective(model, cross_entropy, data)(point_of(model)).item()
    assert found == pytest.approx(cross_entropy(model(X), Y).item(), rel=1e-6)


def weighted(output, target):
    return (cross_entropy(output, target["y"], reduction="none") * target["w"]).mean()


def of_both(output, target):
    return cross_entropy(output, target[0]) + mse_loss(output, target[1])


W, V = torch.rand(N, generator=generator()), torch.rand(N, CLASSES, generator=generator())
TARGETS = {
    "key": ({"ids": X, "right": Y}, "right", cross_entropy, Y),
    "one of two usual keys": ({"ids": X, "label": V, "labels": Y}, "labels", None, None),
    "several keys": ({"ids": X, "y": Y, "w": W}, ("y", "w"), weighted, {"y": Y, "w": W}),
    "tuple of targets": ((X, (Y, V)), None, of_both, (Y, V)),
    "dict of targets": ((X, {"y": Y, "w": W}), None, weighted, {"y": Y, "w": W}),
    "the inputs themselves": (X, lambda x: (x[:, :CLASSES]), mse_loss, X[:, :CLASSES]),
    "the whole batch": ({"ids": X, "mask": M}, lambda batch: batch, lambda o, b: mse_loss(o, (b["ids"] * b["mask"])[:, :3]),
                        {"ids": X, "mask": M}),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name][2]])
def test_targets_may_be_named_built_or_computed(name):
    data, target, loss, expected = TARGETS[name]
    model = Two()
    objective = dss.NetworkObjective(model, loss, data, target=target)
    with torch.no_grad():
        output = model(X, M) if name == "the whole batch" else model(X)
    assert objective(point_of(model)).item() == pytest.approx(loss(output, expected).item(), rel=1e-6)
    points = point_of(model).requires_grad_()
    (found,) = torch.autograd.grad(objective(points).sum(), points)
    assert found.isfinite().all() and found.any()


def test_a_target_that_is_no_tensor_is_certified_by_samples_which_say_why():
    data, target, loss, _ = TARGETS["several keys"]
    model = Two()
    objective = dss.NetworkObjective(model, loss, data, target=target)
    start = point_of(model)[0]
    path = dss.Path.straight(start, start + 0.1)
    certificate = dss.certify(objective, path, threshold=9.0, prove=True)
    assert certificate.passed and not certificate.proven and "target" in certificate.reason


def test_inputs_by_name_are_proved_as_by_position():
    model = Two().double()
    x, m = X.double(), M.double()
    named = dss.NetworkObjective(model, cross_entropy, {"mask": m, "ids": x, "labels": Y})
    placed = dss.NetworkObjective(model, cross_entropy, (x, m, Y))
    start = point_of(model)[0]
    ends = start[None], (start + 0.2)[None], torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(named.enclose(*ends), placed.enclose(*ends), rtol=1e-12, atol=0)


class OwnLoss(nn.Module):
    """Like Hugging Face's models: given labels, it returns its loss beside the scores."""

    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, ids, attention_mask=None, labels=None):
        scores = self.inner(ids if attention_mask is None else ids * attention_mask)
        return {"loss": cross_entropy(scores, labels), "logits": scores}


@pytest.mark.parametrize("how", ["whole", "loader"])
def test_a_model_may_compute_its_own_loss(how):
    batch = {"ids": X, "attention_mask": M, "labels": Y}
    data = batch if how == "whole" else DataLoader(Rows([rows_of(batch, i) for i in range(N)]), batch_size=8)
    model = OwnLoss()
    objective = dss.NetworkObjective(model, lambda output, _: output["loss"], data, target=lambda batch: batch)
    assert objective(point_of(model)).item() == pytest.approx(model(**batch)["loss"].item(), rel=1e-6)


class Texts(Dataset):
    """Samples of unequal lengths."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return {"ids": torch.ones(2 + i // 4), "labels": 0}


class Broken(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        raise KeyError("no such file")


def loader_of(batches):
    return DataLoader(batches, batch_size=None)


REFUSED = {
    "text": (lambda: "digits", {}, "DataLoader"),
    "nothing": (lambda: None, {}, "got a NoneType"),
    "number": (lambda: 3, {}, "got a int"),
    "empty loader": (lambda: DataLoader(TensorDataset(X[:3], Y[:3]), batch_size=4, drop_last=True), {}, "empty"),
    "empty data set": (lambda: Rows([]), {}, "empty"),
    "empty stream": (lambda: iter(()), {}, "empty"),
    "no target": (lambda: X, {}, r"a batch was float32 \(37, 4\), which has no target.*target=lambda"),
    "no target in a tuple": (lambda: DataLoader(TensorDataset(X), batch_size=4), {}, r"a list \(float32 \(4, 4\)\), which has no"),
    "no key": (lambda: {"ids": X, "mask": M}, {}, r"'ids': float32 \(37, 4\), 'mask': .* with none of labels, label"),
    "two keys": (lambda: TARGETS["one of two usual keys"][0], {}, "more than one of labels, label"),
    "a key that is not there": (lambda: {"ids": X}, {"target": "y"}, r"no entry 'y' .*'ids': float32"),
    "a key of no dict": (lambda: (X, Y), {"target": "labels"}, r"names an entry of a dict, but .*int64 \(37,\)"),
    "nothing for the model": (lambda: {"labels": Y}, {}, "nothing for the model"),
    "lengths": (lambda: (X, Y[:5]), {}, r"as many samples.*\(37, 4\), int64 \(5,\)"),
    "words": (lambda: {"ids": X, "text": ["a"] * N, "labels": Y}, {}, r"batch\['text'\] is a list of 37 str.*leave it out"),
    "rows of unequal lengths": (lambda: {"ids": [[1, 2], [3]], "labels": [0, 1]}, {}, r"batch\['ids'\] has rows of unequal.*pad"),
    "a single number": (lambda: (X, 3), {}, r"batch\[1\] is a int"),
    "a scalar tensor": (lambda: (X, torch.tensor(3)), {}, r"batch\[1\] is a single number, 3"),
    "sparse": (lambda: (X.to_sparse(), Y), {}, "sparse"),
    "objects": (lambda: (np.array([object()] * N), Y), {}, "array of object"),
    "texts of unequal lengths": (lambda: DataLoader(Texts(), batch_size=8), {}, "equal size.*pad or crop.*collate_fn"),
    "batches of unequal lengths": (lambda: DataLoader(Texts(), batch_size=4), {}, r"\['ids'\] was float32 \(4, 2\) at first and float32 \(4, 3\) later; pad"),
    "batches of unequal dtypes": (lambda: loader_of([(X, Y), (X.double(), Y)]), {}, r"float32 \(37, 4\) at first and float64"),
    "batches built unalike": (lambda: loader_of([(X, Y), (X, X, Y)]), {}, "built alike"),
    "a data set that raises": (Broken, {}, "KeyError: 'no such file'"),
    "an entry that forward does not take": (lambda: {"ids": X, "token_type": M, "labels": Y}, {}, "ids, token_type by name, but Two.forward takes ids, mask"),
    "too many by position": (lambda: (X, M, M, Y), {}, "3 by position, but Two.forward takes ids, mask"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_and_described(name):
    build, options, message = REFUSED[name]
    with pytest.raises(dss.InputError, match=message):
        dss.NetworkObjective(Two(), cross_entropy, build(), **options)


def test_the_order_of_a_dicts_entries_says_nothing():
    one, other = {"ids": X, "mask": M, "labels": Y}, {"mask": M, "labels": Y, "ids": X}
    assert as_samples(one).digest() == as_samples(other).digest()
    objective = dss.NetworkObjective(Two(), cross_entropy, one, calibration=other)
    loader = as_samples(iter([{k: v[:5] for k, v in one.items()}, {k: v[5:] for k, v in other.items()}]))
    assert loader.digest() == objective.data_digest


def test_calibration_data_must_be_built_as_the_data_is():
    with pytest.raises(dss.InputError, match="calibration data must be built alike"):
        dss.NetworkObjective(Two(), cross_entropy, (X, Y), calibration=(X, M, Y))


# The caller's data stays his. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["tensors", "arrays", "data set", "dict"])
def test_a_model_that_writes_to_its_input_does_not_write_to_the_callers(given):
    x, y = X.clone(), Y.clone()
    data = {
        "tensors": (x, y),
        "arrays": (x.numpy(), y.numpy()),
        "data set": TensorDataset(x, y),
        "dict": {"input": x, "labels": y},
    }
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATURES, CLASSES))
    objective = dss.NetworkObjective(model, cross_entropy, data[given])
    points = point_of(model).requires_grad_()
    objective(points).sum().backward()
    assert torch.equal(x, X) and torch.equal(y, Y)


def test_data_changed_afterwards_is_not_what_is_judged():
    x, y = X.clone(), Y.clone()
    model = net()
    objective = dss.NetworkObjective(model, cross_entropy, (x, y))
    before = objective(point_of(model))
    x.zero_()
    assert torch.equal(objective(point_of(model)), before)


@pytest.mark.parametrize("change", [lambda x, y: (x + 1e-6, y), lambda x, y: (x, y.flip(0)), lambda x, y: (x.double(), y),
                                    lambda x, y: (x[1:], y[1:]), lambda x, y: (x.view(N, 2, 2), y)])  # fmt: skip
def test_a_digest_tells_order_bits_dtypes_and_shapes(change):
    assert as_samples((X, Y)).digest() == as_samples(DataLoader(plain, batch_size=3)).digest()
    assert as_samples((X, Y)).digest() != as_samples(change(X, Y)).digest()
