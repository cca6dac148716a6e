"""One connection on several ranks of `torch.distributed`.

    torchrun --nproc-per-node 2 -m dss connect a.pt b.pt --task task.py:mine --threshold 0.4 --out run

All ranks run the same search, step by step, from the same seed. Greedy search deals the string out: each rank holds the beads
of its own segments, judges its share of a round's segments and trains its share of the round's beads (`greedy`, `string`). Of the
other finders, which move all beads at once, each rank holds the string and evaluates its share of the rows (`rows`). What a rank
decides must then depend on nothing but what all of them know: limits in seconds are refused, and the first rank alone records and
certifies.
"""

from dss.ranks.greedy import SpreadGreedy, dealt_out, spread_out
from dss.ranks.group import from_first, is_first, joined, own_device
from dss.ranks.rows import alone, pooled, shared
from dss.ranks.string import fresh

__all__ = [
    "SpreadGreedy",
    "alone",
    "dealt_out",
    "fresh",
    "from_first",
    "is_first",
    "joined",
    "own_device",
    "pooled",
    "shared",
    "spread_out",
]
