"""The map between named parameters and flat points, for one architecture."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property, reduce
from math import prod

import torch
from torch import Tensor, nn

from dss.base.errors import InputError
from dss.base.quoting import listed, shown

Selection = str | Callable[[str], bool]
"""Which parameters move: a pattern as for files (`"head.*"`), or a function of the name."""


@dataclass(frozen=True)
class ParameterSpace:
    """Flat coordinates of one architecture: the entries of `named_parameters` that move, in order, one after the other.

    Frozen parameters (`requires_grad=False`, or not selected) are constants with the model's own values. They and buffers
    (such as BatchNorm's running statistics) are not coordinates, and tied weights count once.

    Attributes:
        names, shapes: one per parameter tensor that moves.
        aliases: other names of tied parameters, to the name under which `named_parameters` has them.
        buffers: names of the buffers, which a state dict may hold beside the parameters.
        frozen: the parameters that are constants, by name: the model's own tensors.
        dtype, device: of the parameters that move, in the model that the space was read from; points follow the state
            dicts instead.
        subset: whether `only` chose what moves.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    buffers: frozenset[str] = frozenset()
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    frozen: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)
    subset: bool = False

    @classmethod
    def of(cls, model: nn.Module, *, only: Selection | None = None, trainable: bool = True) -> "ParameterSpace":
        """Read the space off a model; the model is not touched.

        Args:
            only: move these alone, of those that may move: a pattern for whole names, or else, if it fits none, for what
                follows a dot in them (`"lora_*"`); or a function of the name. A tied parameter is meant by any of its names.
            trainable: whether only parameters with `requires_grad` may move; False lets frozen ones move too.

        Raises:
            InputError: nothing that may move, nothing that `only` fits, or moving parameters of several dtypes or devices.
        """
        parameters = dict(model.named_parameters())
        _check_initialised(parameters)
        aliases = _aliases(model, parameters)
        free = {name: p for name, p in parameters.items() if p.requires_grad or not trainable}
        _check_any(parameters, free)
        moving = free if only is None else _selected(only, parameters, free, aliases)
        kinds = {(p.dtype, p.device) for p in moving.values()}
        if len(kinds) != 1 or not all(p.is_floating_point() for p in moving.values()):
            raise InputError(
                "parameters that move must be real numbers of one dtype on one device, "
                f"got {sorted(map(str, kinds))}; convert the model with model.to(...), or freeze some"
            )
        dtype, device = kinds.pop()
        return cls(
            tuple(moving),
            tuple(tuple(p.shape) for p in moving.values()),
            aliases,
            frozenset(name for name, _ in model.named_buffers(remove_duplicate=False)),
            dtype,
            device,
            {name: p.detach() for name, p in parameters.items() if name not in moving},
            only is not None,
        )

    @cached_property
    def size(self) -> int:
        """The number p of coordinates."""
        return sum(self.sizes)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many coordinates each tensor has."""
        return tuple(map(prod, self.shapes))

    def flatten(self, state: Mapping[str, Tensor], *, adopt: bool = False) -> Tensor:
        """A point `(p,)` from a state dict, in its widest dtype (float32 at least), on its device.

        Buffers of the architecture are ignored; a tied parameter may come under any or all of its names. Frozen parameters
        may be missing; given, they must have the model's values.

        Args:
            adopt: leave frozen parameters to the caller, who gives the model their values.

        Raises:
            InputError: keys missing, unexpected or of another shape (all in one message), values not finite,
                two names of a tied parameter that disagree, or a frozen parameter with another value than the model's.
        """
        tensors = self._resolve_aliases(state)
        problems = self._key_problems(tensors)
        if problems:
            raise InputError("the parameters do not fit the model: " + "; ".join(problems))
        if not adopt:
            self._check_frozen(tensors)
        kept = [tensors[name].detach() for name in self.names]
        point = torch.empty(self.size, dtype=_widest(kept), device=kept[0].device)
        bad = []
        # One tensor after the other: the point is the only copy, and no mask is as long as it.
        for name, part, value in zip(self.names, point.split([t.numel() for t in kept]), kept, strict=True):
            part.copy_(value.reshape(-1))
            if not part.isfinite().all():
                bad.append(name)
        if bad:
            raise InputError(f"finite weights are needed, got NaN or infinity in {listed(bad)}")
        return point

    def check(self, points: Tensor) -> None:
        """Refuse what is not points `(k, p)`, one in each row.

        Raises:
            InputError: another shape, or whole numbers.
        """
        if points.dim() != 2 or points.shape[1] != self.size or not points.is_floating_point():
            hint = "; one point is point[None]" if points.shape == (self.size,) else ""
            raise InputError(
                f"points must be floating-point numbers (k, {self.size}), got {points.dtype} {tuple(points.shape)}{hint}"
            )

    def unflatten(self, points: Tensor) -> dict[str, Tensor]:
        """Named views `(..., *shape)` of points `(..., p)`; nothing is copied."""
        lead, parts = points.shape[:-1], points.split(self.sizes, -1)
        return {name: part.view((*lead, *shape)) for name, shape, part in zip(self.names, self.shapes, parts, strict=True)}

    def coordinates(self, keep: tuple[str, ...]) -> Tensor:
        """A mask `(p,)` of the coordinates whose tensor is in `keep`, for lengths over a subset.

        Raises:
            InputError: a name is not a parameter.
        """
        unknown = sorted(set(keep) - set(self.names))
        if unknown:
            raise InputError(f"no parameter is called {', '.join(unknown)}; there are {', '.join(self.names)}")
        return torch.tensor([name in keep for name in self.names]).repeat_interleave(torch.tensor(self.sizes))

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the parameters with two axes or more: the paper's lengths leave biases out."""
        return tuple(name for name, shape in zip(self.names, self.shapes, strict=True) if len(shape) > 1)

    def _resolve_aliases(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state under canonical names; tied copies must agree."""
        tensors = {name: value for name, value in state.items() if name not in self.aliases}
        for alias, name in self.aliases.items():
            if alias in state and not torch.equal(tensors.setdefault(name, state[alias]), state[alias]):
                raise InputError(f"{alias} and {name} are one tied parameter of the model, but the values given differ")
        return tensors

    def _key_problems(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Everything wrong with the keys and shapes, one phrase a kind."""
        shapes = dict(zip(self.names, self.shapes, strict=True))
        known = shapes | {name: tuple(value.shape) for name, value in self.frozen.items()}
        missing = [name for name in shapes if name not in tensors]
        unexpected = [name for name in tensors if name not in known and name not in self.buffers]
        misshaped = [
            f"{shown(name)} is {tuple(tensors[name].shape)}, not {shape}"
            for name, shape in known.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ]
        integral = [f"{shown(name)} is {t.dtype}" for name, t in tensors.items() if name in shapes and not t.is_floating_point()]
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped, "not real numbers": integral}
        return [f"{kind}: {listed(names)}" for kind, names in kinds.items() if names]

    def _check_frozen(self, tensors: Mapping[str, Tensor]) -> None:
        """Constants of a path are the model's: another value would silently be judged as that one."""
        differing = [name for name, value in self.frozen.items() if name in tensors and not agree(tensors[name], value)]
        if differing:
            raise InputError(
                f"frozen parameters are constants of a path, and these differ from the model's: {listed(differing)}; "
                "give the model their values first (load_state_dict) if all ends share them, or let them move: "
                "requires_grad_(True), or trainable=False and no narrower `only`"
            )


def _widest(tensors: Iterable[Tensor]) -> torch.dtype:
    """The dtype of a point: float32 holds all narrower floats exactly, those of eight bits too, which torch does not promote."""
    kinds = (torch.float32 if t.dtype.itemsize < 4 else t.dtype for t in tensors)
    return reduce(torch.promote_types, kinds, torch.float32)


def agree(given: Tensor, own: Tensor) -> bool:
    """Whether two tensors hold the same numbers, but for the dtype that one of them was saved in."""
    given, own = given.detach().to(own.device), own.detach()
    return torch.equal(given.to(own.dtype), own) or torch.equal(own.to(given.dtype), given)


def _aliases(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Other names of tied parameters, to their first one."""
    name_of = {id(p): name for name, p in parameters.items()}
    every = dict(model.named_parameters(remove_duplicate=False))
    return {name: name_of[id(p)] for name, p in every.items() if name not in parameters}


def _check_initialised(parameters: Mapping[str, Tensor]) -> None:
    lazy = [name for name, p in parameters.items() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise InputError(
            f"{', '.join(lazy[:6])} of the model have no shape yet (lazy modules); run the model once on some data, or load its "
            "state dict, before it is given"
        )


def _check_any(parameters: Mapping[str, Tensor], free: Mapping[str, Tensor]) -> None:
    if not parameters:
        raise InputError("a model with parameters is needed, got one without any")
    if not free:
        raise InputError(
            f"all {len(parameters)} parameters of the model are frozen (requires_grad=False), so nothing can move; "
            "unfreeze some with requires_grad_(True), or give trainable=False to move all of them"
        )


def _selected(
    only: Selection, parameters: Mapping[str, Tensor], free: Mapping[str, Tensor], aliases: Mapping[str, str]
) -> dict[str, Tensor]:
    """Those of `free` that `only` fits, in their order.

    Raises:
        InputError: it fits nothing, or frozen parameters alone.
    """
    names = [*parameters, *aliases]
    fitting = {aliases.get(name, name) for name in _fitting(only, names)}
    if not fitting:
        near = _near(only, names) if isinstance(only, str) else []
        raise InputError(
            f"only={only!r} fits no parameter; "
            + (f"near are {', '.join(near)}" if near else f"there are {', '.join(names[:20])}")
        )
    moving = {name: p for name, p in free.items() if name in fitting}
    if not moving:
        raise InputError(
            f"only={only!r} fits frozen parameters alone ({', '.join(sorted(fitting)[:5])}); unfreeze them with "
            "requires_grad_(True), or give trainable=False"
        )
    return moving


def _fitting(only: Selection, names: Iterable[str]) -> list[str]:
    if callable(only):
        return [name for name in names if only(name)]
    if not isinstance(only, str):
        raise InputError(f"only must be a pattern or a function of a name, got {type(only).__name__}")
    whole = [name for name in names if fnmatchcase(name, only)]
    return whole or [name for name in names if any(fnmatchcase(end, only) for end in _ends(name))]


def _ends(name: str) -> Iterable[str]:
    """What follows each dot."""
    parts = name.split(".")
    return (".".join(parts[i:]) for i in range(1, len(parts)))


def _near(pattern: str, names: list[str]) -> list[str]:
    """Up to five names that were perhaps meant: alike as a whole or in one part, or containing the pattern's letters."""
    plain = pattern.strip("*?.").lower()
    scored = get_close_matches(plain, [name.lower() for name in names], 5, 0.5)
    parts = [n for n in names if get_close_matches(plain, [e.lower() for e in (n, *_ends(n), *n.split("."))], 1, 0.6)]
    holding = [name for name in names if plain and plain in name.lower()]
    return list(dict.fromkeys([*holding, *parts, *(name for name in names if name.lower() in scored)]))[:5]
