"""How many points hang together: barriers are an ultrametric, known between two values, and grown lazily into a tree.

    tree = dss.merge_tree(train, points, judge=judge)      # straight lines, then K - 1 searches at most
    tree.components(0.1)                                   # (1, 1): at least one component, and at most one
    tree.path(0, 3)                                        # the path that proves it
    tree.merges[-1].height                                 # the lowest threshold at which all are known to be joined

`closure` spreads what is known, `minimax` searches one pair, `searching` certifies it, `growth` chooses the pairs, `tree` holds
the answer.
"""

from dss.topology.growth import merge_tree
from dss.topology.minimax import MinimaxString
from dss.topology.searching import Searched
from dss.topology.tree import Merge, MergeTree

__all__ = ["Merge", "MergeTree", "MinimaxString", "Searched", "merge_tree"]
