"""Activations of two networks as arrays to be matched: what enters each contraction, unit by unit, over the data."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from dss.symmetry.evaluation import InDouble, Network, tensors_in
from dss.symmetry.layout import Block
from dss.symmetry.specification import Specification
from dss.symmetry.terms import Term

# Numbers kept for each network.
LARGEST = 2**24
# A unit whose standard deviation is below this is dead: it is like no other.
DEAD = 1e-12

Entry = tuple[int, int]


class Recorder(InDouble):
    """A run that keeps some operands of some operations: (number of the operation, which of its tensors)."""

    def __init__(self, wanted: Sequence[Entry]):
        super().__init__()
        self.wanted = set(wanted)
        self.found: dict[Entry, Tensor] = {}

    def see(self, func, args: tuple, kwargs: dict, result: object) -> None:
        positions = [position for number, position in self.wanted if number == self.calls]
        if positions:
            operands = tensors_in((args, kwargs))
            self.found |= {(self.calls, position): operands[position].clone() for position in positions}


def activation_terms(
    specification: Specification,
    batches: Sequence[Network],
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    reflected: Collection[str] = (),
) -> list[Term]:
    """Arrays whose inner products are correlations of units.

    Args:
        specification: of both networks.
        batches: the network on batches of data, all as large as the one that the specification was read from.
        a, b: states, with the buffers that each is judged with.
        reflected: groups whose activations may change sign.
    """
    blocks = {
        (number, position): [block for block in found if any(name in specification.groups for name in block.axes)]
        for number, position, found in specification.entries
    }
    wanted = [entry for entry, found in blocks.items() if found]
    size = sum(torch.tensor(block.sizes).prod().item() for found in blocks.values() for block in found)
    batches = batches[: max(1, int(LARGEST // max(size, 1)))]
    first, second = ([_recorded(batch, state, wanted) for batch in batches] for state in (a, b))
    return [
        _term(block, [run[entry] for run in first], [run[entry] for run in second], reflected)
        for entry in wanted
        for block in blocks[entry]
    ]


def _recorded(network: Network, state: Mapping[str, Tensor], wanted: Sequence[Entry]) -> dict[Entry, Tensor]:
    recorder = Recorder(wanted)
    network.outputs(state, recorder)
    return recorder.found


def _term(block: Block, first: Sequence[Tensor], second: Sequence[Tensor], reflected: Collection[str]) -> Term:
    """One block of both networks, batches stacked, each unit centred and of length one."""
    a, b = (torch.stack([block.of(tensor.contiguous()) for tensor in run]) for run in (first, second))
    term = Term.of((None, *block.axes), a, b, [False, *(name in reflected for name in block.axes)])
    for array in (term.a, term.b):
        array -= array.mean(-1, keepdim=True)
        spread = array.std(-1, keepdim=True, correction=0)
        array /= (spread * array.shape[-1] ** 0.5).masked_fill(spread < DEAD, torch.inf)
    return term
