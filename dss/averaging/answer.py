"""What a check found, and the verdict in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from dss.averaging.line import LossLine
from dss.averaging.soups import Soup
from dss.averaging.tolerance import Tolerance
from dss.base.shown import Drawn

Pair = tuple[int, int]

# Members of a soup that are named.
NAMED = 8


@dataclass(frozen=True, eq=False, repr=False)
class Check(Drawn):
    """Whether models may be averaged, and all that the answer rests on.

    Attributes:
        names: of the models.
        losses: `(n,)` judged.
        uniform: the average of all.
        greedy: the greedy soup.
        lines: of pairs i < j; of two models always, of more unless they were left out.
        tolerance: what counts as safe.
        metrics: other losses `(n,)` of the models, by name.
        judge: what judged, in words.
        align: how the units were reordered, if these are reordered copies.
        aligned: the same check of reordered copies, if it was asked for.
    """

    names: tuple[str, ...]
    losses: Tensor
    uniform: Soup
    greedy: Soup
    lines: Mapping[Pair, LossLine]
    tolerance: Tolerance
    metrics: Mapping[str, Tensor]
    judge: str
    align: str | None = None
    aligned: "Check | None" = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"Check({self.sentence})"

    @property
    def safe(self) -> bool:
        """Two models: whether no average of them, however weighted, is worse than their losses, weighted likewise, by more than
        the tolerance. More: whether the uniform average is not worse than their median loss by more than that: one bad model
        would raise the mean so far that everything is safe."""
        if len(self) == 2:
            line = self.lines[0, 1]
            return bool((line.losses[1:-1] <= self.tolerance.above(line.interpolated[1:-1])).all())
        return bool(self.uniform.loss <= self.tolerance.above(self.losses.quantile(0.5)))

    @property
    def repaired(self) -> bool:
        """Whether reordered copies are safe where the models are not."""
        return not self.safe and self.aligned is not None and self.aligned.safe

    @property
    def answer(self) -> "Check":
        """What may be averaged: the reordered copies where only these are safe, else the models themselves."""
        return self.aligned if self.repaired and self.aligned is not None else self

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return _verdict(self)

    def matrix(self, what: Literal["rise", "excess", "barrier"] = "rise") -> Tensor:
        """A figure of all pairs, `(n, n)` float64; NaN where a line was left out. On the diagonal 0, or the models' losses."""
        diagonal = self.losses if what == "barrier" else torch.zeros_like(self.losses)
        values = torch.full((len(self), len(self)), torch.nan, dtype=torch.float64)
        for (i, j), line in self.lines.items():
            values[i, j] = values[j, i] = getattr(line, what)
        return values.diagonal_scatter(diagonal)


def _verdict(check: Check) -> str:
    """One sentence: whether the models may be averaged, and what to do if not."""
    tried, outcome = check.aligned, _outcome(check)
    if check.safe:
        return f"{outcome}: safe"
    if tried is None:
        return f"{outcome}: {'connect' if check.align else 'align or connect'}"
    return f"{outcome}; with units reordered by {tried.align}, {_outcome(tried)}: {'safe' if tried.safe else 'connect'}"


def _outcome(check: Check) -> str:
    return _of_two(check) if len(check) == 2 else _of_many(check)


def _of_two(check: Check) -> str:
    line = check.lines[0, 1]
    if not check.safe:
        return f"a barrier of {line.rise:.3g} lies between them"
    better = check.losses.min().item() - line.middle
    if better > 0:
        return f"the average is {better:.3g} better than either end" + _rise_beside(line.rise)
    how = f"at most {line.rise:.3g} worse" if line.rise > 0 else "nowhere worse"
    return f"the average is {how} than the ends" + _though_one_is_better(check)


def _rise_beside(rise: float) -> str:
    return f", and other weights of the two at most {rise:.3g} worse" if rise > 0 else ""


def _though_one_is_better(check: Check) -> str:
    """What an average costs that lies between models of different worth."""
    best = int(check.losses.argmin())
    if check.uniform.loss <= check.tolerance.above(check.losses[best]):
        return ""
    return f", though {check.uniform.loss - check.losses[best].item():.3g} worse than {check.names[best]} alone"


def _of_many(check: Check) -> str:
    count, loss = len(check), check.uniform.loss
    worse, better = loss - check.losses.quantile(0.5).item(), check.losses.min().item() - loss
    if better > 0:
        return f"the average of all {count} is {better:.3g} better than the best of them"
    if check.safe:
        how = f"at most {worse:.3g} worse than" if worse > 0 else "no worse than"
        return f"the average of all {count} is {how} the median model" + _though_one_is_better(check)
    return f"the average of all {count} is {worse:.3g} worse than the median model; {_greedy(check)}"


def _greedy(check: Check) -> str:
    """What the greedy soup makes of it."""
    members = [check.names[i] for i in check.greedy.members]
    if len(members) == 1:
        return f"the greedy soup keeps the best model alone ({members[0]})"
    gain = check.losses.min().item() - check.greedy.loss
    named = ", ".join(members[:NAMED]) + (f" and {len(members) - NAMED} more" if len(members) > NAMED else "")
    return f"the greedy soup keeps {len(members)} of them ({named}) and is {gain:.3g} better than the best"
