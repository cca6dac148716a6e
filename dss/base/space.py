"""The map between named parameters and flat points, for one architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import accumulate
from math import prod

import torch
from torch import Tensor, nn

from dss.base.errors import InputError


@dataclass(frozen=True)
class ParameterSpace:
    """Flat coordinates of one architecture: the entries of `named_parameters`, in order, one after the other.

    Buffers (such as BatchNorm's running statistics) are not coordinates, and tied weights count once.

    Attributes:
        names, shapes: one per parameter tensor.
        aliases: other names of tied parameters, to the name that is a coordinate.
        buffers: names that a state dict may hold beside the parameters.
        dtype, device: of the model that the space was read from; points follow the state dicts instead.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    buffers: frozenset[str] = frozenset()
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")

    @classmethod
    def of(cls, model: nn.Module) -> "ParameterSpace":
        """Read the space off a model; the model is not touched.

        Raises:
            InputError: the model has no parameters, or parameters of several dtypes or devices.
        """
        parameters = dict(model.named_parameters())
        kinds = {(p.dtype, p.device) for p in parameters.values()}
        if len(kinds) != 1:
            raise InputError(
                f"a model with parameters of one dtype on one device is needed, got {sorted(map(str, kinds))}; "
                "convert it with model.to(...)"
            )
        name_of = {id(p): name for name, p in parameters.items()}
        every = dict(model.named_parameters(remove_duplicate=False))
        aliases = {name: name_of[id(p)] for name, p in every.items() if name not in parameters}
        buffers = frozenset(name for name, _ in model.named_buffers(remove_duplicate=False))
        dtype, device = kinds.pop()
        return cls(tuple(parameters), tuple(tuple(p.shape) for p in parameters.values()), aliases, buffers, dtype, device)

    @cached_property
    def size(self) -> int:
        """The number p of coordinates."""
        return self.offsets[-1]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor starts in a point, and p at the end."""
        return tuple(accumulate(map(prod, self.shapes), initial=0))

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """A point `(p,)` from a state dict, in its widest dtype (float32 at least), on its device.

        Buffers of the architecture are ignored; a tied parameter may come under any or all of its names.

        Raises:
            InputError: keys missing, unexpected or of another shape (all in one message), values not finite,
                or two names of a tied parameter that disagree.
        """
        tensors = self._resolve_aliases(state)
        problems = self._key_problems(tensors)
        if problems:
            raise InputError("the parameters do not fit the model: " + "; ".join(problems))
        kept = [tensors[name].detach() for name in self.names]
        dtype = reduce(torch.promote_types, (t.dtype for t in kept), torch.float32)
        point = torch.cat([t.reshape(-1).to(kept[0].device, dtype) for t in kept])
        if not point.isfinite().all():
            bad = [name for name in self.names if not tensors[name].isfinite().all()]
            raise InputError(f"finite weights are needed, got NaN or infinity in {', '.join(bad)}")
        return point

    def unflatten(self, points: Tensor) -> dict[str, Tensor]:
        """Named views `(..., *shape)` of points `(..., p)`; nothing is copied."""
        lead, offsets = points.shape[:-1], self.offsets
        return {
            name: points[..., a:b].view(*lead, *shape)
            for name, shape, a, b in zip(self.names, self.shapes, offsets, offsets[1:], strict=False)
        }

    def coordinates(self, keep: tuple[str, ...]) -> Tensor:
        """A mask `(p,)` of the coordinates whose tensor is in `keep`, for lengths over a subset.

        Raises:
            InputError: a name is not a parameter.
        """
        unknown = sorted(set(keep) - set(self.names))
        if unknown:
            raise InputError(f"no parameter is called {', '.join(unknown)}; there are {', '.join(self.names)}")
        sizes = torch.tensor([prod(shape) for shape in self.shapes])
        return torch.tensor([name in keep for name in self.names]).repeat_interleave(sizes)

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
        missing = [name for name in shapes if name not in tensors]
        unexpected = [name for name in tensors if name not in shapes and name not in self.buffers]
        misshaped = [
            f"{name} is {tuple(tensors[name].shape)}, not {shape}"
            for name, shape in shapes.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ]
        integral = [f"{name} is {t.dtype}" for name, t in tensors.items() if name in shapes and not t.is_floating_point()]
        kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped, "not real numbers": integral}
        return [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
