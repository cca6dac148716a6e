"""May saved models be averaged? The loss along the lines between them, the soups they make, and the verdict in words.

    checked = dss.check(train, [a, b], judge=judge)
    checked.safe, checked.sentence          # True, "the average is at most 0.0021 worse than the ends: safe"
    checked.uniform.point                   # the average `(p,)`

`line` looks along a straight line, `soups` averages, `answer` is the verdict, `check` finds it. `docs/check.md` has the definitions.
"""

from dss.averaging.answer import Check
from dss.averaging.check import check
from dss.averaging.line import LossLine
from dss.averaging.soups import Soup
from dss.averaging.tolerance import Tolerance

__all__ = ["Check", "LossLine", "Soup", "Tolerance", "check"]
