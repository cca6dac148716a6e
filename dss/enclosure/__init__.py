"""Taylor-model arithmetic on tensors: rigorous bounds on a network's loss along a whole segment.

`enclose` is the door. `rule` is where a new operation is added: one small function, registered under its name.
"""

from dss.enclosure import rules as rules
from dss.enclosure.blocks import Blocks
from dss.enclosure.cells import bytes_per_cell, enclose, suited, weighted_mean
from dss.enclosure.registry import known_operations, rule
from dss.enclosure.standin import StandIn
from dss.enclosure.value import CORNERS, Enclosure, lift

__all__ = [
    "CORNERS",
    "Blocks",
    "Enclosure",
    "StandIn",
    "bytes_per_cell",
    "enclose",
    "known_operations",
    "lift",
    "rule",
    "suited",
    "weighted_mean",
]
