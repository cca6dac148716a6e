"""A string that is spread over ranks: every rank holds its share, and the search is that of one process, bit for bit."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

import dss
from dss import ranks
from dss.base.digest import digest
from dss.objectives.wrappers import Tally
from dss.ranks.string import blocks, dealt, grown, spread
from dss.runs.history import Snapshot


def in_group(rank, file, out, world, work):
    """Call `work` as one of several ranks and keep what it says."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    Path(f"{out}-{rank}").write_text(json.dumps(work(rank, world)))
    dist.barrier()  # no rank goes while another may still speak to it
    dist.destroy_process_group()


def on_ranks(tmp_path, world, work):
    """What every rank found."""
    spawn(in_group, (str(tmp_path / "meet"), str(tmp_path / "found"), world, work), nprocs=world)
    return [json.loads((tmp_path / f"found-{rank}").read_text()) for rank in range(world)]


def string(beads, size=7):
    return dss.Path(torch.randn(beads, size, generator=torch.Generator().manual_seed(beads), dtype=torch.float64))


def moves(rank, world):
    """Whether strings are dealt out, grown and handed over as whole ones are."""
    same = {}
    for beads in (2, 3, 7):
        path, segments = string(beads), torch.arange(0, beads - 1, 2)
        parted = spread(path)
        held = [i for i, row in enumerate(parted.rows) if not row.is_meta]
        same[f"share, {beads}"] = held == list(blocks(beads)[rank])
        same[f"names, {beads}"] = parted.digests == path.digests and len(parted) == beads and parted.size == 7
        numbers, pairs = dealt(parted, segments, path.rows[0])
        own = segments[numbers]
        same[f"pairs, {beads}"] = (pairs is None) == (len(own) == 0) and (
            pairs is None or torch.equal(pairs.beads, torch.stack([path.rows[int(s) + k] for s in own for k in (0, 1)]))
        )
        new = {int(s): torch.full((7,), float(s) + 0.5).double() for s in own}
        longer = grown(parted, segments.tolist(), new, path.rows[0])
        whole = path.insert(segments, torch.stack([torch.full((7,), float(s) + 0.5).double() for s in segments]))
        same[f"grown, {beads}"] = longer.digests == whole.digests and all(
            longer.rows[i].is_meta or torch.equal(longer.rows[i], row) for i, row in enumerate(whole.rows)
        )
        same[f"share grown, {beads}"] = [i for i, row in enumerate(longer.rows) if not row.is_meta] == list(
            blocks(len(whole))[rank]
        )
        sent = {path.digests[0]}
        got = dict(ranks.fresh(longer, sent, path.rows[0]))
        told = dict(zip(whole.digests, whole.rows, strict=True))
        same[f"first, {beads}"] = (
            all(digest(bead) == name == digest(told[name]) for name, bead in got.items())
            and set(got) == (set(whole.digests[1:]) if rank == 0 else set())
            and sent == set(whole.digests)
        )
        last = Snapshot(dss.Step.unjudged(path, round=beads), Tally(3, 4), 5.0) if rank == 0 else None
        handed = ranks.dealt_out(ranks.spread_out(dss.GreedyString()), last)
        same[f"handed out, {beads}"] = (
            handed.step.round == beads
            and handed.tally == Tally(3, 4)
            and all(
                (i in blocks(beads)[rank]) != row.is_meta and (row.is_meta or torch.equal(row, path.rows[i]))
                for i, row in enumerate(handed.path.rows)
            )
        )
        same[f"whole, {beads}"] = ranks.dealt_out(dss.ElasticBand(), last).path.whole
    return same


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_each_rank_holds_the_beads_of_its_segments_and_what_moves_arrives(tmp_path, world):
    for same in on_ranks(tmp_path, world, moves):
        assert all(same.values()) and len(same) == 24, same


def objective():
    x = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    y = ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)).long()
    return dss.NetworkObjective(net, nn.functional.cross_entropy, (x, y), batch_size=13, rows="loop")


def ends(loss):
    """Two networks trained apart."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(2, loss.space.size, generator=generator, dtype=torch.float64)
    options = dss.Descent(partial(torch.optim.Adam, lr=0.03))
    return dss.descend(loss, loss, points, 0.2, options=options, generator=generator).points


FAST = dss.Descent(partial(torch.optim.Adam, lr=0.01), max_steps=1500)
FEW = dss.Limits(rounds=3)
FINDERS = {
    "breadth": dss.GreedyString(descent=FAST),
    "depth": dss.GreedyString(descent=FAST, schedule="depth", limits=FEW),
    "midpoint": dss.GreedyString(descent=FAST, insertion="midpoint", limits=FEW),
    "stalled": dss.GreedyString(descent=replace(FAST, max_steps=3)),
    "few evaluations": dss.GreedyString(descent=FAST, limits=dss.Limits(evaluations=150)),
    "few beads": dss.GreedyString(descent=FAST, limits=dss.Limits(beads=2)),
    "lost": dss.GreedyString(descent=dss.Descent(partial(torch.optim.SGD, lr=float("inf")))),
}


def searches(rank, world):
    """For each finder, whether every step is that of one process; how many beads this rank held in the last, and how it ended."""
    loss = objective()
    start, end = ends(loss)
    found = {}
    for name, finder in list(FINDERS.items())[: 1 if world > 2 else None]:
        alone = dss.Problem.of(loss, start, end, threshold=0.23)
        shared = dss.Problem.of(ranks.shared(loss), start, end, threshold=0.23)
        steps = list(zip(finder.steps(alone), ranks.spread_out(finder).steps(shared), strict=True))
        same = [
            one.path.digests == two.path.digests
            and torch.equal(one.maxima.nan_to_num(-1), two.maxima.nan_to_num(-1))
            and (one.status, one.round, one.gradient_steps) == (two.status, two.round, two.gradient_steps)
            for one, two in steps
        ]
        ranks.pooled(shared)
        dropped = name in ("few evaluations", "lost")  # of a round that is dropped, one process does less
        counted = alone.tally == shared.tally or dropped
        known = rank > 0 or dropped or shared.judge.known.items() >= alone.judge.known.items()
        path = steps[-1][1].path
        held = sum(not row.is_meta for row in path.rows)
        found[name] = [all(same), counted, known, held, len(path), steps[-1][1].status.value]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_a_search_spread_over_ranks_is_that_of_one_process(tmp_path, world):
    every = on_ranks(tmp_path, world, searches)
    for name in every[0]:
        results = [found[name] for found in every]
        beads = results[0][4]
        assert all(all(result[:3]) for result in results), (name, results)
        # Every bead somewhere, one more for each border between two shares; and no rank has more than its share.
        assert sum(result[3] for result in results) == beads + min(world, beads - 1) - 1
        assert max(result[3] for result in results) <= -(-(beads - 1) // world) + 1
    ended = {name: found[5] for name, found in every[0].items()}
    expected = ["found", "out of rounds", "out of rounds", "stalled", "out of evaluations", "out of beads", "diverged"]
    assert ended == dict(zip(list(FINDERS)[: len(ended)], expected, strict=False)) and every[0]["breadth"][4] > 4
