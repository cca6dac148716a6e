"""Which units of a network may be reordered, read off the network itself."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import overload

import torch
from torch import Tensor, nn

from dss.base.errors import InputError
from dss.base.space import ParameterSpace
from dss.objectives.network.statistics import tracked_norms
from dss.symmetry.axes import Axis, atoms, pin
from dss.symmetry.evaluation import Network, difference
from dss.symmetry.layout import Block, Group, Permutations, blocks_of, identity, rearranged
from dss.symmetry.reading import Reading

# Relative change of the outputs, in float64, above which a permutation has changed the function.
TOLERANCE = 1e-9
# Random permutations that every specification has to stand.
DRAWS = 3


@dataclass(frozen=True, eq=False)
class Specification:
    """The groups of units of a network whose order is free, and how a permutation moves its parameters.

    Attributes:
        groups: by name; see `Group`.
        pinned: for every other axis of a parameter, such as "head.weight[0]", why its order has to stay.
        stayed: how many units or places each of the reasons keeps in order.
        unknown_ops: operations without a rule that touched units and pinned them.
        space: of the network's points.
        blocks: how each parameter and buffer is cut into blocks, by name.
        entries: data that enters contractions: (number of the operation, which of its tensors, its blocks).
        network: the copy that it was read from, in float64.
    """

    groups: Mapping[str, Group]
    pinned: Mapping[str, str]
    stayed: Mapping[str, int]
    unknown_ops: tuple[str, ...]
    space: ParameterSpace
    blocks: Mapping[str, tuple[Block, ...]]
    entries: tuple[tuple[int, int, tuple[Block, ...]], ...] = field(repr=False)
    network: Network = field(repr=False)

    @classmethod
    def of(
        cls, model: nn.Module, inputs: object, *, fixed: Collection[str] | None = None, space: ParameterSpace | None = None
    ) -> "Specification":
        """Read the specification off a model by running it once; the model is not touched.

        Every axis of every tensor of the run gets a type, and operations unify types; what they do not tell apart is a
        group. Then random permutations are tried in float64: a group that changes the outputs is pinned.

        Args:
            model: any module; it is run in `eval()`.
            inputs: of a few samples, two at least: one tensor, a tuple of positional arguments or a mapping of named ones.
            fixed: names of parameters and buffers whose axes have to stay; by default the parameters that do not require
                gradients and all buffers but BatchNorm's running statistics, which move along in a state dict.
            space: of the points to be moved; the model's own by default.

        Raises:
            InputError: the model fails on the inputs, or a fixed name is none of its tensors.
        """
        network = Network.of(model, inputs)
        if fixed is None:
            frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
            fixed = [*frozen, *shared_buffers(model, tracked_norms(model))]
        if unknown := sorted(set(fixed) - network.state.keys()):
            raise InputError(f"no parameter or buffer is called {', '.join(unknown)}; name fixed ones as in model.state_dict()")
        reading = Reading.of(network, fixed)
        return _checked(reading, network, space or ParameterSpace.of(model))

    @overload
    def apply(self, target: Tensor, permutations: Permutations) -> Tensor: ...

    @overload
    def apply(self, target: Mapping[str, Tensor], permutations: Permutations) -> dict[str, Tensor]: ...

    def apply(self, target: Tensor | Mapping[str, Tensor], permutations: Permutations) -> Tensor | dict[str, Tensor]:
        """A point `(p,)` or a state dict with its units reordered; entry i of a group is its former entry `permutation[i]`.

        Args:
            target: a point, or any part of a state dict: buffers such as running statistics move along.
            permutations: for names of groups, of shape `Group.shape`; groups left out stay as they are.

        Raises:
            InputError: an unknown group, no permutation, or a target of another shape.
        """
        self._check(permutations)
        if isinstance(target, Tensor):
            return self._apply_to_point(target, permutations)
        found = {}
        for name, tensor in target.items():
            blocks = self.blocks.get(self.space.aliases.get(name, name), ())
            found[name] = rearranged(tensor, blocks, self.groups, permutations)
        return found

    def random(self, generator: torch.Generator) -> dict[str, Tensor]:
        """A random permutation of every group."""
        return {
            name: torch.stack([torch.randperm(group.size, generator=generator) for _ in range(group.blocks)]).view(group.shape)
            for name, group in self.groups.items()
        }

    @property
    def identity(self) -> dict[str, Tensor]:
        """The permutations that move nothing."""
        return identity(self.groups)

    def _apply_to_point(self, point: Tensor, permutations: Permutations) -> Tensor:
        if point.shape != (self.space.size,):
            raise InputError(f"a point ({self.space.size},) of this network is needed, got {tuple(point.shape)}")
        result = point.clone()
        sources, targets = self.space.unflatten(point), self.space.unflatten(result)
        for name in self.space.names:
            targets[name].copy_(rearranged(sources[name], self.blocks[name], self.groups, permutations))
        return result

    def _check(self, permutations: Permutations) -> None:
        for name, permutation in permutations.items():
            if name not in self.groups:
                raise InputError(f"no group is called {name!r}; there are {', '.join(self.groups) or 'none'}")
            size, shape = self.groups[name].size, self.groups[name].shape
            if permutation.shape != shape or not torch.equal(permutation.sort(-1).values.cpu(), torch.arange(size).expand(shape)):
                raise InputError(f"group {name} needs permutations of 0 to {size - 1}, of shape {shape}")


def shared_buffers(model: nn.Module, recalibrated: Iterable[str]) -> list[str]:
    """Names of the buffers that two networks to be compared have in common: what they order must not move.

    Tables of positions are; BatchNorm's running statistics belong to the units, where they are recalibrated.
    """
    moving = {f"{norm}.{kind}" for norm in recalibrated for kind in ("running_mean", "running_var")}
    return [name for name, _ in model.named_buffers() if name not in moving]


def _checked(reading: Reading, network: Network, space: ParameterSpace) -> Specification:
    """The specification, with every group pinned that changes the outputs."""
    specification = _written(reading, network, space)
    state = generic_state(network)
    before = network.outputs(state)
    generator = torch.Generator().manual_seed(0)

    def changes(names: Collection[str]) -> bool:
        """Whether some random permutation of these groups changes the outputs."""
        draws = [specification.random(generator) for _ in range(DRAWS)]
        chosen = [{name: draw[name] for name in names} for draw in draws]
        return any(difference(before, network.outputs(specification.apply(state, p))) > TOLERANCE for p in chosen)

    while specification.groups and changes(specification.groups):
        # One by one tells which; if only all of them together do harm, there is no telling, and none may move.
        wrong = [name for name in specification.groups if changes([name])] or list(specification.groups)
        for atom, name in _names(reading).items():
            if name in wrong:
                pin(atom, "permuting it changed the outputs")
        specification = _written(reading, network, space)
    return specification


def generic_state(network: Network, seed: int = 0) -> dict[str, Tensor]:
    """A state near the network's own at which nothing is equal by chance: new networks have zeros and ones throughout."""
    generator = torch.Generator().manual_seed(seed)
    state, own = network.state, network.state
    for name, parameter in network.model.named_parameters():
        spread = parameter.detach().std(correction=0).item() or 0.1
        state[name] = state[name] + 0.5 * spread * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    for name, buffer in network.model.named_buffers():
        if name.endswith("running_mean"):
            # By shares of the deviation: farther, all units behind a ReLU would be dead, and nothing would tell them apart.
            deviation = own.get(name.replace("running_mean", "running_var"), torch.ones_like(buffer)).sqrt()
            state[name] = buffer + 0.5 * deviation * torch.randn(buffer.shape, generator=generator, dtype=buffer.dtype)
        elif name.endswith("running_var"):
            state[name] = buffer * (1 + torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype))
    return state


def _names(reading: Reading) -> dict[Axis, str]:
    """A name for every free atom, and for those that free ones are within."""
    hosts = set(reading.nested().values())
    found: dict[Axis, str] = {}
    taken: dict[str, int] = {}
    for atom, (parameter, axis) in reading.atoms().items():
        if atom.size > 1 and (atom.pinned is None or atom in hosts):
            place = f"{parameter}[{axis}]"
            taken[place] = taken.get(place, 0) + 1
            found[atom] = place if taken[place] == 1 else f"{place}#{taken[place]}"
    return found


def _written(reading: Reading, network: Network, space: ParameterSpace) -> Specification:
    """The specification that the types now say."""
    names, within = _names(reading), reading.nested()
    blocks = {name: tuple(blocks_of(axes, names)) for name, axes in reading.tensors.items()}
    places: dict[str, dict[tuple[str, int], None]] = {}
    for parameter in reading.parameters:
        for block in blocks[parameter]:
            for name, source in zip(block.axes, block.sources, strict=True):
                places.setdefault(name or "", {})[parameter, source] = None
    groups = {
        name: Group(name, atom.size, tuple(places[name]), *_host(atom, within, names))
        for atom, name in names.items()
        if atom.pinned is None
    }
    entries = [(call, position, tuple(blocks_of(axes, names))) for call, position, axes in reading.trace.entries]
    unknown = tuple(reading.trace.unknown)
    return Specification(groups, _pinned(reading), _stayed(reading), unknown, space, blocks, tuple(entries), network)


def _host(atom: Axis, within: Mapping[Axis, Axis], names: Mapping[Axis, str]) -> tuple[str | None, int]:
    outer = within.get(atom)
    return (None, 1) if outer is None else (names[outer], outer.size)


def _stayed(reading: Reading) -> dict[str, int]:
    """Pinned units of all parameters, each counted once, by the reason."""
    found: dict[str, int] = {}
    for atom in reading.atoms():
        if atom.pinned is not None and atom.size > 1:
            found[atom.pinned] = found.get(atom.pinned, 0) + atom.size
    return found


def _pinned(reading: Reading) -> dict[str, str]:
    """Why axes, or parts of them, have to stay."""
    found = {}
    for parameter in reading.parameters:
        for number, axis in enumerate(reading.tensors[parameter]):
            reasons = {atom.pinned: None for atom in atoms(axis) if atom.pinned is not None and atom.size > 1}
            if reasons:
                found[f"{parameter}[{number}]"] = "; ".join(reasons)
    return found
