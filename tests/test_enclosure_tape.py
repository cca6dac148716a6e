"""A recorded pass gives, played for other cells and samples, what the rules give: bit for bit."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dss
from dss.certificates.proof import prove
from dss.enclosure import Blocks, blocks
from dss.enclosure.tape import CannotRecord, Tape
from dss.objectives.network import apart
from models.mlp import MLP
from models.recurrent import LanguageModel
from models.transformer import RowTransformer

F64 = torch.float64


class Writing(nn.Module):
    """It writes into memory of its own, from its input and from zeros."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        h = self.layer(x)
        h += 1.0
        sums = torch.zeros_like(h)
        sums[:, 1:] = h[:, :-1].relu()
        return sums + h.abs()


def images(count, generator):
    return torch.randn(count, 1, 8, 8, generator=generator)


NETWORKS = {
    "mlp": (lambda: MLP(6, 3, width=8, depth=4), lambda n, g: torch.randn(n, 6, generator=g)),
    "conv": (dss.DigitsNet, images),
    "writes": (Writing, lambda n, g: torch.randn(n, 4, generator=g)),
    "transformer": (RowTransformer, images),
    "gelu": (lambda: MLP(6, 3, width=8, depth=3, activation=nn.GELU), lambda n, g: torch.randn(n, 6, generator=g)),
    "lstm": (lambda: LanguageModel(5, width=4), lambda n, g: torch.randint(5, (n, 6), generator=g)),
}  # fmt: skip


def apart_of(judge, beads) -> Any:
    """The samples apart, of which private parts are asked."""
    return judge.apart(beads)


def judged(name, count=70) -> tuple[dss.NetworkObjective, torch.Tensor, Any]:
    """A judge, some beads, and the samples apart."""
    torch.manual_seed(0)
    make, draw = NETWORKS[name]
    generator = torch.Generator().manual_seed(1)
    x = draw(count, generator)
    y = torch.randint(5, (count, 6), generator=generator) if name == "lstm" else torch.randint(3, (count,), generator=generator)
    judge = dss.NetworkObjective(make(), F.cross_entropy, (x, y))
    start = torch.stack([judge.space.flatten(make().state_dict()) for _ in range(3)])
    return judge, start, apart_of(judge, start)


def cells(beads, count, rows, samples, seed):
    """Random cells of the path and samples for each."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.randint(len(beads) - 1, (count,), generator=generator)
    lower = torch.randint(8, (count,), generator=generator).to(F64) / 8
    index = torch.stack([torch.randperm(samples, generator=generator)[:rows] for _ in range(count)])
    return beads[at], beads[at + 1], lower, lower + 1 / 8, index


@pytest.mark.parametrize("name", NETWORKS)
def test_a_played_pass_is_the_pass_bit_for_bit(name, monkeypatch):
    judge, beads, some = judged(name)
    plain = apart_of(judge, beads)
    monkeypatch.setattr(plain.blocks, "can_record", True)
    monkeypatch.setattr(plain.blocks, "_has_tape", lambda *_: False)
    for seed in range(4):
        case = cells(beads, 3, 65, judge.samples, seed)
        assert torch.equal(some.enclose(*case), plain.enclose(*case))
    assert some.blocks.tape is not None and plain.blocks.tape is None


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 70])
def test_blocks_are_bounds_of_the_same_samples(rows):
    judge, beads, some = judged("conv")
    case = cells(beads, 4, rows, judge.samples, 5)
    together = apart_of(judge, beads)
    together.blocks = None
    found, expected = some.enclose(*case), together.enclose(*case)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_what_depends_on_the_cell_alone_is_computed_once():
    judge, beads, some = judged("mlp")
    some.enclose(*cells(beads, 3, 65, judge.samples, 0))
    assert some.blocks.tape.before and len(some.blocks.tape.before) + len(some.blocks.tape.steps) > 100
    # one tape for all cells and all numbers of samples
    first = some.blocks.tape
    some.enclose(*cells(beads, 3, 17, judge.samples, 0))
    assert some.blocks.tape is first


def test_constants_repetitions_and_writes_are_played_right():
    table = torch.arange(12.0, dtype=F64).view(3, 4)

    def function(cell, block):
        once, again = cell.exp() * table, cell.exp() * table
        sums = block.new_zeros(3, 4)
        sums += once
        sums[1] += block
        parts = torch.stack([sums, again * block]).unbind(0)
        return parts[0] + parts[1] @ parts[1].T @ table

    generator = torch.Generator().manual_seed(0)
    draw = [(torch.randn(3, 4, generator=generator, dtype=F64), torch.randn(4, generator=generator, dtype=F64)) for _ in range(4)]
    played = Tape(function, [draw[0][0]], [draw[0][1]])
    for cell, block in itertools.product([cell for cell, _ in draw], [block for _, block in draw]):
        played.at([cell])
        assert torch.equal(played.play([block]), function(cell, block))


def lie_at(tape):
    """Where the results of a tape's steps lie, in their order."""
    return [kwargs["out"].data_ptr() for _, _, kwargs in tape.steps if "out" in kwargs]


def test_a_result_lies_where_an_argument_was_that_is_read_there_last_and_entry_by_entry():
    def chain(cell, block):
        return ((block * cell + 1) * 2 - cell).abs()

    def turned(cell, block):
        once = block * cell
        return (once + once.T) * once.T.contiguous()

    def widened(cell, block):
        row = block[0] * 2
        return row[None] * cell - row

    for function in (chain, turned, widened):
        cell, block = torch.randn(2, 4, 4, dtype=F64)
        tape = Tape(function, [cell], [block])
        for cell, block in torch.randn(3, 2, 4, 4, dtype=F64):
            tape.at([cell])
            assert torch.equal(tape.play([block]), function(cell, block))
    places = lie_at(Tape(chain, [cell], [block]))
    assert len(places) == 5 and len(set(places)) <= 2  # the output's is its own


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2 if x.sum() > 0 else x,
        lambda x: x * x[0].item(),
        lambda x: torch.zeros(4, dtype=F64).copy_(x),
        lambda x: x.mul_(2) + 1,
        lambda x: x[x.nonzero()],
    ],
    ids=["branch", "number", "into a constant", "into an input", "shape"],
)
def test_what_depends_on_numbers_is_not_recorded(function):
    with pytest.raises(CannotRecord):
        Tape(function, [torch.ones(4, dtype=F64)], [])


def test_a_pass_that_is_too_large_is_not_recorded_and_bounded_all_the_same():
    judge, beads, some = judged("conv")
    expected = some.enclose(*cells(beads, 3, 65, judge.samples, 0))
    other = apart_of(judge, beads)
    other.blocks.memory = 10**6  # reached in the midst of the network, where whatever is raised would count as a refusal
    found = other.enclose(*cells(beads, 3, 65, judge.samples, 0))
    assert other.blocks.tape is None and not other.blocks.can_record
    assert torch.equal(found, expected)


def test_another_arithmetic_is_another_tape(monkeypatch):
    judge, beads, some = judged("mlp")
    some.enclose(*cells(beads, 3, 65, judge.samples, 0))
    first = some.blocks.tape
    monkeypatch.setattr(blocks, "is_plain_float32", lambda device: False)
    some.enclose(*cells(beads, 1, 65, judge.samples, 0))
    assert some.blocks.tape is not first


@pytest.mark.parametrize("bytes_per_sample", [0, 1, 3000, 10**6])
def test_a_block_has_a_reasonable_size(bytes_per_sample):
    assert blocks.LEAST <= Blocks(bytes_per_sample).size <= blocks.MOST
    assert Blocks(bytes_per_sample, most=5).size == 5 and Blocks(bytes_per_sample, most=0).size == 1


@pytest.mark.parametrize("samples", [1, 60, 64, 65, 200, 597, 2047])
@pytest.mark.parametrize("bytes_per_sample", [1, 12_000])
def test_blocks_of_all_samples_are_full_but_for_less_than_one_each(samples, bytes_per_sample):
    block = Blocks(bytes_per_sample, samples=samples)
    calls = -(-samples // block.size)
    assert calls == -(-samples // Blocks(bytes_per_sample).size) and calls * block.size - samples < calls


def test_a_proof_ends_as_without_blocks(monkeypatch):
    judge, beads, _ = judged("mlp")
    t = torch.linspace(0, 1, 33)[:, None]
    most = max(judge(torch.lerp(a, b, t)).max().item() for a, b in itertools.pairwise(beads))
    *_, found = prove(judge, beads, threshold=1.02 * most)
    monkeypatch.setattr(apart, "SMALL", 0)
    *_, expected = prove(judge, beads, threshold=1.02 * most)
    assert (found.verdict, found.cells) == (expected.verdict, expected.cells)
    assert found.upper == pytest.approx(expected.upper, abs=1e-6)


def test_a_constant_that_is_written_into_after_it_was_read_ends_the_recording():
    """Played, both reads would see its last numbers."""

    def function(cell, block):
        counted = torch.zeros(3, dtype=F64)
        first = block + counted * cell
        counted += 1
        return first + counted

    with pytest.raises(CannotRecord, match="after it was read"):
        Tape(function, [torch.ones(3, dtype=F64)], [torch.ones(3, dtype=F64)])


def test_a_constant_that_is_written_into_before_it_is_read_is_played():
    def function(cell, block):
        counted = torch.zeros(3, dtype=F64)
        counted += 2
        return block * counted + cell

    cell, block = torch.rand(3, dtype=F64), torch.rand(3, dtype=F64)
    tape = Tape(function, [torch.ones(3, dtype=F64)], [torch.ones(3, dtype=F64)])
    tape.at([cell])
    assert torch.equal(tape.play([block]), function(cell, block))


def test_complex_numbers_end_a_recording():
    """Played, rotary pairs gave bounds that were too low."""

    def turned(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(torch.stack([x, y], -1))
        return torch.view_as_real(pairs * pairs.conj()).sum(-1)

    with pytest.raises(CannotRecord, match="complex"):
        Tape(turned, [torch.ones(3)], [torch.ones(3)])
