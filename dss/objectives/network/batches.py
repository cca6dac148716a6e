"""What one batch of data is: what of it the model is given, and what the loss is.

A batch is nested of tuples, lists, dicts and arrays whose axis 0 counts the samples:

    (x, y)                          model(x),                            loss(output, y)
    (x1, x2, y), ((x1, x2), y)      model(x1, x2),                       loss(output, y)
    {"ids": i, "mask": m, "labels": y}, ({"ids": i, "mask": m}, y)
                                    model(ids=i, mask=m),                loss(output, y)
"""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_map, tree_unflatten

from dss.base.errors import InputError

Tree = Any
"""A tensor, or a tuple, list or dict of trees."""
Target = str | Sequence[str] | Callable[[Tree], Tree] | None
"""Which part of a batch is the target: a key, several, or a function of the batch, which the model then gets whole."""

KEYS = ("labels", "label", "target", "targets")
"""Where the target of a dict is looked for."""
# Entries that a description names.
_SHOWN = 8


@dataclass(frozen=True)
class Layout:
    """How a model is given tensors.

    Attributes:
        places: its positional arguments and its keyword arguments, with the number of a tensor where it stands.
        names: of the tensors, for people.
    """

    places: tuple[tuple, dict]
    names: tuple[str, ...]

    @classmethod
    def of(cls, positional: tuple, keywords: dict) -> "tuple[list[Tensor], Layout]":
        """The tensors of a call in a fixed order, and where they stand."""
        found = tree_flatten_with_path((positional, keywords))[0]
        by_position = len(tree_flatten(positional)[0])
        names = (f"{'input' * (i < by_position)}{keystr(path[1:])}" for i, (path, _) in enumerate(found))
        return [leaf for _, leaf in found], cls(numbered((positional, keywords)), tuple(names))

    @property
    def plain(self) -> bool:
        """Whether the tensors are the positional arguments."""
        return self.places == (tuple(range(len(self.names))), {})

    def call(self, function: Callable, *tensors: Tensor) -> Any:
        """`function` of the tensors, each in its place."""
        positional, keywords = filled(self.places, tensors)
        return function(*positional, **keywords)

    def fitted(self, model: nn.Module) -> nn.Module:
        """`model`, taking the tensors as positional arguments: a second object for the same layers, the first is left alone.

        Raises:
            InputError: its `forward` does not take these arguments.
        """
        self._check(model)
        if self.plain:
            return model
        twin = copy.copy(model)
        # By the twin, not bound to the model: a deep copy of the twin must call itself, in its own mode.
        forward = vars(model).get("forward") or partial(type(model).forward, twin)
        twin.forward = partial(self.call, forward)
        return twin

    def _check(self, model: nn.Module) -> None:
        positional, keywords = self.places
        try:
            takes = signature(model.forward)
        except (TypeError, ValueError):  # a forward that is not written in Python
            return
        try:
            takes.bind(*positional, **keywords)
        except TypeError as error:
            given = [f"{len(positional)} by position"] if positional else []
            given += [f"{', '.join(keywords)} by name"] if keywords else []
            raise InputError(
                f"the data gives the model {' and '.join(given)}, but {type(model).__name__}.forward takes "
                f"{', '.join(takes.parameters)} ({error}); let a batch hold what it takes, by collate_fn"
            ) from error


def numbered(tree: Tree) -> Tree:
    """The tree with the number of each tensor in its place."""
    leaves, structure = tree_flatten(tree)
    return tree_unflatten(range(len(leaves)), structure)


def filled(places: Tree, tensors: Sequence) -> Tree:
    """The reverse: a tree with tensors in the places of their numbers."""
    return tree_map(lambda number: tensors[number], places)


def target_names(target: Tree) -> list[str]:
    """What the tensors of a target are called."""
    return [f"target{keystr(path)}" for path, _ in tree_flatten_with_path(target)[0]]


def split(batch: Tree, target: Target) -> tuple[tuple, dict, Tree]:
    """Positional arguments and keyword arguments of the model, and the target.

    Raises:
        InputError: which of it is the target cannot be told.
    """
    if callable(target):
        return *_arguments(batch), tidy(target(batch), ".target")
    if target is not None:
        return _without(batch, (target,) if isinstance(target, str) else tuple(target), single=isinstance(target, str))
    if isinstance(batch, dict):
        found = [key for key in KEYS if key in batch]
        if len(found) == 1:
            return _without(batch, (found[0],), single=True)
        raise InputError(
            f"a batch was {describe(batch)}, with {'none' if not found else 'more than one'} of {', '.join(KEYS)}; "
            f"say which entry the loss compares with by target='...'; {_ITSELF}"
        )
    if isinstance(batch, (tuple, list)) and len(batch) >= 2:
        *inputs, last = batch
        return *_arguments(inputs[0] if len(inputs) == 1 else tuple(inputs)), last
    raise InputError(f"a batch was {describe(batch)}, which has no target; batches of (inputs, target) are needed; {_ITSELF}")


_ITSELF = "where the loss looks at the inputs themselves, say target=lambda batch: batch"


def _without(batch: Tree, keys: tuple[str, ...], *, single: bool) -> tuple[tuple, dict, Tree]:
    """A dict without the target's keys, and these: one by itself, several as a dict."""
    if not isinstance(batch, dict):
        raise InputError(f"target={keys[0]!r} names an entry of a dict, but a batch was {describe(batch)}; leave it out")
    missing = [key for key in keys if key not in batch]
    if missing or not keys:
        raise InputError(f"there is no entry {', '.join(map(repr, missing))} for the target: a batch was {describe(batch)}")
    rest = {key: value for key, value in batch.items() if key not in keys}
    found = {key: batch[key] for key in keys}
    return (), rest, found[keys[0]] if single else found


def _arguments(inputs: Tree) -> tuple[tuple, dict]:
    """By position, or the entries of a dict by name."""
    if isinstance(inputs, dict):
        return (), inputs
    return (tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)), {}


def tidy(batch: object, place: str = "") -> Tree:
    """A batch with tensors at its leaves; arrays are not copied.

    Raises:
        InputError: a leaf is no array of numbers, one row a sample.
    """
    if isinstance(batch, Mapping):
        # In one order, so that the same entries are the same data however they were written down.
        return {name: tidy(batch[name], f"{place}[{name!r}]") for name in sorted(batch, key=str)}
    if place and _is_numbers(batch):
        return _from_lists(batch, f"batch{place}")
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return batch._make(tidy(x, f"{place}[{i}]") for i, x in enumerate(batch))  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(batch, (tuple, list)) and not any(isinstance(x, (str, bytes)) for x in batch):
        return type(batch)(tidy(x, f"{place}[{i}]") for i, x in enumerate(batch))
    return _leaf(batch, place)


def _leaf(value: object, place: str) -> Tensor:
    where = f"batch{place}"
    if isinstance(value, np.ndarray):
        value = _from_numpy(value, where)
    if not isinstance(value, Tensor):
        raise InputError(
            f"{where} is {describe(value)}; only tensors and arrays of numbers can be given to a model: turn it into one, or "
            "leave it out, in collate_fn"
        )
    if value.layout is not torch.strided or value.is_nested:
        raise InputError(f"{where} is a sparse or nested tensor; make it dense, or pad it, in collate_fn")
    if value.ndim == 0:
        raise InputError(f"{where} is a single number, {value.item():g}; axis 0 of everything in a batch must count the samples")
    return value.detach()


def _is_numbers(value: object) -> bool:
    """Whether it is nested of Python's lists and numbers alone."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(
        isinstance(x, (bool, int, float)) or _is_numbers(x) for x in value
    )  # fmt: skip


def _from_lists(numbers: object, where: str) -> Tensor:
    try:
        return torch.tensor(numbers)
    except ValueError as error:
        raise InputError(f"{where} has rows of unequal lengths ({error}); pad or crop them to one") from error


def _from_numpy(array: np.ndarray, where: str) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is not writable: it is never written to
            return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is an array of {array.dtype}, which torch cannot hold: {error}") from error


def describe(value: object) -> str:
    """What something is, in few words: types, dtypes, shapes, keys."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        shown = [f"{name!r}: {describe(entry)}" for name, entry in list(value.items())[:_SHOWN]]
        return f"a dict {{{', '.join(shown + ['...'] * (len(value) > _SHOWN))}}}"
    if isinstance(value, (tuple, list)):
        if len(value) > 1 and len({type(x) for x in value}) == 1 and not isinstance(value[0], (Tensor, np.ndarray, Mapping)):
            return f"a {type(value).__name__} of {len(value)} {type(value[0]).__name__}"
        shown = [describe(entry) for entry in value[:_SHOWN]] + ["..."] * (len(value) > _SHOWN)
        return f"a {type(value).__name__} ({', '.join(shown)})"
    return f"a {type(value).__name__}"
