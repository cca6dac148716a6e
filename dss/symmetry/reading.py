"""What a run of a network tells about its parameters: their axes with types, what is free, and why the rest is not."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dss.symmetry import rules
from dss.symmetry.axes import Axis, atoms, pin, resolve
from dss.symmetry.evaluation import Network, tensors_in
from dss.symmetry.nesting import nested
from dss.symmetry.trace import Axes, Trace

assert rules.__all__  # importing them is what registers them


@dataclass(frozen=True, eq=False)
class Reading:
    """Types of a network's parameters and buffers.

    Attributes:
        tensors: the axes of each, by name.
        trace: the run they were read from.
        parameters: names of those tensors whose units are of interest.
    """

    tensors: Mapping[str, Axes]
    trace: Trace
    parameters: tuple[str, ...]

    @classmethod
    def of(cls, network: Network, fixed: Collection[str]) -> "Reading":
        """Run the network, once more if it took packed parts out of a view, and pin what must not move."""
        reading, outputs = _run(network, frozenset())
        if reading.trace.selected:
            reading, outputs = _run(network, frozenset(reading.trace.selected))
        for axes in outputs:
            for axis in axes:
                pin(axis, "output")
        for name in fixed:
            for axis in reading.tensors.get(name, ()):
                pin(axis, f"{name} is fixed" if name in reading.parameters else f"{name} is shared")
        reading.pin_idle()
        return reading

    def pin_idle(self) -> None:
        """Pin atoms of parameters along which no data runs: nothing is known of them."""
        live = {atom for axis in {id(a): a for a in self.trace.live}.values() for atom in atoms(axis)}
        for atom in self.atoms():
            if atom not in live:
                pin(atom, "no data runs along it here")

    def atoms(self) -> dict[Axis, tuple[str, int]]:
        """All atoms of the parameters, with the first place where each occurs: (parameter, axis)."""
        found: dict[Axis, tuple[str, int]] = {}
        for name in self.parameters:
            for number, axis in enumerate(self.tensors[name]):
                for atom in atoms(axis):
                    found.setdefault(resolve(atom), (name, number))
        return found

    def nested(self) -> dict[Axis, Axis]:
        """Atoms ordered within the units of others."""
        return nested([*self.tensors.values(), *self.trace.records], self.trace.mixes)


def _run(network: Network, cases: frozenset) -> tuple[Reading, list[Axes]]:
    """One run; the reading, and the axes of the outputs."""
    network, state = network.copied(), network.state
    axes = {name: tuple(map(Axis, tensor.shape)) for name, tensor in state.items()}
    known = [(state[name], found) for name, found in axes.items()]
    trace = Trace(known, tensors_in((network.args, dict(network.kwargs))), cases)
    outputs = network.run(state, trace)
    parameters = tuple(name for name, _ in network.model.named_parameters())
    return Reading(axes, trace, parameters), [trace.axes(tensor) for tensor in outputs]
