"""Networks up to the order of their units: which reorderings change nothing, and the one that brings two networks closest.

from dss.symmetry import Specification
specification = Specification.of(model, inputs)            # read off one run of the model
specification.groups, specification.pinned                 # what may be reordered, and why the rest may not
aligned = dss.align(objective, a, b).point                 # b, its units in the order of a's
"""

from dss.symmetry.alignment import Alignment, align
from dss.symmetry.layout import Group
from dss.symmetry.specification import Specification

__all__ = ["Alignment", "Group", "Specification", "align"]
