"""From the names on disk to the names in the model.

Wrappers put words into names (`module.`, `_orig_mod.`, FSDP's and checkpointing's own), peft leaves its adapter's name out
of files, weight normalisation has an old and a new spelling, and whole models are saved under a prefix or without one. Both
sides are brought to one spelling; then the prefix is sought under which the model's own names are all there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from dss.base.space import ParameterSpace

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
SPELLINGS = (
    (re.compile(r"(lora_\w+|ia3_l)\.(?!weight$|bias$)[^.]+"), r"\1"),
    (re.compile(r"modules_to_save\.[^.]+\."), ""),
    (re.compile(r"parametrizations\.([^.]+)\.original0$"), r"\1_g"),
    (re.compile(r"parametrizations\.([^.]+)\.original1$"), r"\1_v"),
    (re.compile(r"parametrizations\.([^.]+)\.original$"), r"\1_orig"),
)


def plain(name: str) -> str:
    """A name in the one spelling."""
    name = ".".join(word for word in name.split(".") if word not in WRAPPERS)
    for pattern, instead in SPELLINGS:
        name = pattern.sub(instead, name)
    return name


@dataclass(frozen=True)
class Names:
    """What a model calls its tensors; `required` are those without which a checkpoint is none of this model."""

    required: tuple[str, ...]
    every: tuple[str, ...]
    aliases: Mapping[str, str]

    @classmethod
    def of(cls, space: ParameterSpace) -> "Names":
        """Those of a space; what moves is required."""
        return cls(space.names, (*space.names, *space.aliases, *space.frozen, *sorted(space.buffers)), space.aliases)

    @cached_property
    def plain(self) -> dict[str, str]:
        """The model's names by their one spelling; what moves goes before what does not."""
        spelled: dict[str, str] = {}
        for name in self.every:
            spelled.setdefault(plain(name), name)
        return spelled

    @cached_property
    def other_names(self) -> dict[str, list[str]]:
        """A tied parameter's other names."""
        others: dict[str, list[str]] = {}
        for alias, name in self.aliases.items():
            others.setdefault(name, []).append(alias)
        return others

    def missing(self, have: Iterable[str]) -> list[str]:
        """The required names that are there under none of their names."""
        have = set(have)
        return [n for n in self.required if n not in have and not have & set(self.other_names.get(n, ()))]


@dataclass(frozen=True)
class Fit:
    """How a state dict's names go onto a model's.

    Attributes:
        prefix: what stands before the names on disk (and, after a `+`, what the model has before them).
        names: from a name on disk to the model's.
        missing: required names that are not there.
    """

    prefix: str
    names: dict[str, str]
    missing: list[str]


def fits(state: Mapping[str, Tensor], names: Names) -> list[Fit]:
    """The best way, and others as good under another prefix; names as they are go before any prefix."""
    if not names.missing(state):
        known = set(names.every)
        return [Fit("", {n: n for n in state if n in known} | _more(state, names), [])]
    spelled: dict[str, str] = {}
    for name in state:
        spelled.setdefault(plain(name), name)
    found = [_under(prefix, added, spelled, names) for prefix, added in _prefixes(spelled, names)]
    whole = [fit for fit in found if not fit.missing]
    if whole:
        bare = [fit for fit in whole if fit.prefix == ""]
        return bare or whole
    return [max(found, key=lambda fit: len(fit.names))] if found else [Fit("", {}, list(names.required))]


def _more(state: Mapping[str, Tensor], names: Names) -> dict[str, str]:
    """Names that are the model's but for their spelling, where the state has it under no exact one."""
    found = {name: names.plain[plain(name)] for name in state if name not in names.every and plain(name) in names.plain}
    return {name: own for name, own in found.items() if own not in state}


def _under(prefix: str, added: str, spelled: Mapping[str, str], names: Names) -> Fit:
    """Names with one prefix taken off and another put on."""
    found = {}
    for short, name in spelled.items():
        if short.startswith(prefix) and (own := names.plain.get(added + short[len(prefix) :])) is not None:
            found[name] = own
    return Fit(prefix if not added else f"+{added}", found, names.missing(found.values()))


def _prefixes(spelled: Mapping[str, str], names: Names) -> list[tuple[str, str]]:
    """Prefixes to take off and to put on, as the place of the model's first and last name among the file's tells."""
    found = {("", ""): None}
    for name in names.required[:1] + names.required[-1:]:
        for own in map(plain, (name, *names.other_names.get(name, ()))):
            shared = {short: _shared(short, own) for short in spelled}
            longest = max(shared.values(), default=0)
            for short, length in shared.items():
                if length == longest > 0:
                    found[(short[: len(short) - length], own[: len(own) - length])] = None
    return list(found)


def _shared(one: str, other: str) -> int:
    """How many letters two names share at their ends, in whole words."""
    count = 0
    for a, b in zip(reversed(one.split(".")), reversed(other.split("."))):
        if a != b:
            break
        count += len(a) + 1
    # A whole name has no dot before it.
    return min(count, len(one), len(other))
