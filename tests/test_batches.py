"""Batches of every kind reach the model as they are built, and the data stays the caller's."""

from collections import UserDict, namedtuple

import numpy as np
import pytest
import torch
from data_tables import CLASSES, FEATURES, N, X, Y, generator, net, point_of, table
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import (
    DataLoader,
    Dataset,
    TensorDataset,
)

import dss
from dss.objectives.network.data import as_samples


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


@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name][2]])
def test_targets_of_any_kind_are_proved(name):
    data, target, loss, _ = TARGETS[name]
    model = Two()
    objective = dss.NetworkObjective(model, loss, data, target=target)
    start = point_of(model)[0]
    path = dss.Path.straight(start, start + 0.1)
    most = max(objective(torch.lerp(*path.beads, t)[None]).item() for t in torch.linspace(0, 1, 201))
    certificate = dss.certify(objective, path, threshold=1.05 * most, prove=True)
    assert certificate.proven and (1 - 1e-6) * most <= certificate.upper <= 1.05 * most
    assert not dss.certify(objective, path, threshold=0.99 * most, prove=True).passed


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
