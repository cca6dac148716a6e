"""The batches of a loader or a data set, in one fixed order: an objective is a function, and a function has fixed data.

A loader is iterated as it is, once. What it draws at random (the order, augmentation) is drawn under a seed, so that the same
seed gives the same data; generators of the caller's, global ones and those that his objects hold, go on afterwards as if
nothing had been drawn.
"""

import copy
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from dss.base.errors import InputError
from dss.base.randomness import seeded
from dss.objectives.network.batches import Target, Tree, split, tidy

# Samples of one batch, where there is no loader to say it.
TOGETHER = 256
# How far generators are looked for in the objects that a loader holds, and among how many of a kind.
_DEPTH, _MANY = 6, 64
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


def batches(data: object, target: Target) -> Iterator[Tree]:
    """Batches of tensors from a loader, a data set (of samples), or any other iterable of batches; read under `drawn_once`.

    Args:
        target: which part of a batch is the target; needed to tell batches from single samples.

    Raises:
        InputError: it is nothing of the kind, or raises while it is read.
    """
    loader = _loader(data)
    try:
        yield from map(tidy, _grouped(loader, target) if _is_unbatched(loader) else loader)
    except InputError:
        raise
    except Exception as error:  # the user's own code, or torch's on the user's samples: anything may come
        raise InputError(_words(error)) from error


@contextmanager
def drawn_once(data: object, seed: int) -> Iterator[None]:
    """Whatever reading `data` draws comes from `seed` or from generators of its own, and none of them moves for good."""
    found = list({id(g): g for g in _generators(data, _DEPTH, set())}.values())
    before = [_state(g) for g in found]
    try:
        with seeded(seed):
            yield
    finally:
        for generator, state in zip(found, before, strict=True):
            _restore(generator, state)


def _loader(data: object) -> Iterable:
    """What gives batches."""
    if isinstance(data, DataLoader):
        return _on_its_own(data)
    if isinstance(data, IterableDataset) or _is_map(data):
        if not isinstance(data, IterableDataset) and not len(data):  # pyright: ignore[reportArgumentType]
            return ()
        return DataLoader(data, batch_size=TOGETHER, collate_fn=_collate)  # pyright: ignore[reportArgumentType]
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes, Dataset)) and not hasattr(data, "__getitem__"):
        return data
    raise InputError(
        "data must be (inputs, target), a dict of arrays, a data set with len() and [i], an IterableDataset, a DataLoader or "
        f"another iterable of batches, got a {type(data).__name__}"
    )


def _is_map(data: object) -> bool:
    """Whether it has numbered samples, as torch's and Hugging Face's data sets have."""
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (str, bytes))


def _on_its_own(loader: DataLoader) -> DataLoader:
    """A loader that shares no workers with the caller's: persistent ones have generators that no seed reaches."""
    if loader.persistent_workers:
        loader = copy.copy(loader)
        loader._iterator = None
    return loader


def _collate(samples: list) -> Tree:
    """As torch does, but a list of numbers is a vector, not several columns."""
    return default_collate([_vectors(sample) for sample in samples])


def _vectors(sample: object, *, inside: bool = False) -> Any:
    if isinstance(sample, Mapping):
        return {name: _vectors(value, inside=True) for name, value in sample.items()}
    if isinstance(sample, list) and inside and sample and all(isinstance(x, (bool, int, float)) for x in sample):
        return torch.tensor(sample)
    if type(sample) is tuple or type(sample) is list:
        return [_vectors(x, inside=True) for x in sample]
    return sample


def _is_unbatched(loader: Iterable) -> bool:
    """Whether a loader hands out what the data set holds, be it batches or samples (`batch_size=None`)."""
    return isinstance(loader, DataLoader) and loader.batch_sampler is None and loader.batch_size is None


def _grouped(items: Iterable, target: Target) -> Iterator[Tree]:
    """The items of a loader with `batch_size=None`, those that are single samples put together: their target is a number."""
    waiting = []
    for item in items:
        if not _is_sample(item, target):
            yield item
            continue
        waiting.append(item)
        if len(waiting) == TOGETHER:
            yield _collate(waiting)
            waiting = []
    if waiting:
        yield _collate(waiting)


def _is_sample(item: Tree, target: Target) -> bool:
    try:
        *_, found = split(item, target)
    except InputError:  # told where batches are taken apart
        return False
    return isinstance(found, (bool, int, float, np.generic)) or (isinstance(found, torch.Tensor) and found.ndim == 0)


def _words(error: Exception) -> str:
    """What went wrong in the user's loader, and what to do if it is the usual thing."""
    words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    cure = "pad or crop samples to one size, in the data set or in collate_fn; " if "equal size" in words else ""
    return f"reading the data raised {words}; {cure}the same comes of iterating over it"


def _generators(holder: object, depth: int, seen: set[int]) -> Iterator[Any]:
    """Generators that an object refers to, or what it refers to does."""
    if isinstance(holder, _GENERATORS):
        yield holder
    elif depth and id(holder) not in seen and not isinstance(holder, (torch.Tensor, np.ndarray, type, ModuleType)):
        seen.add(id(holder))
        for part in _parts(holder):
            yield from _generators(part, depth - 1, seen)


def _parts(holder: object) -> list[object]:
    """What an object refers to: entries, attributes, what its functions have closed over and which generators they name."""
    if isinstance(holder, (list, tuple)):
        return list(holder[:_MANY])
    if isinstance(holder, dict):
        return list(holder.values())[:_MANY]
    if isinstance(holder, partial):
        return [holder.func, holder.args, holder.keywords]
    if isinstance(holder, (MethodType, BuiltinMethodType)):
        return [holder.__self__, getattr(holder, "__func__", None)]
    if isinstance(holder, FunctionType):
        named = (holder.__globals__.get(name) for name in holder.__code__.co_names)
        closed = (cell.cell_contents for cell in holder.__closure__ or () if cell != CellType())
        return [*(x for x in named if isinstance(x, _GENERATORS)), *closed]
    # The methods that hand out samples are looked into too: they may name a generator of their file.
    methods = (getattr(type(holder), name, None) for name in ("__getitem__", "__getitems__", "__iter__", "__call__"))
    return [*getattr(holder, "__dict__", {}).values(), *(x for x in methods if isinstance(x, FunctionType))]


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
