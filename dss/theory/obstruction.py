"""What every obstruction is: a side read exactly off the last layer, and a wall between the sides.

The last layer maps the last hidden features to the outputs, z = W h + c. Some function of (W, c) is continuous along every
path, is not zero at either end, and has opposite signs there; so it is zero somewhere on every path. Where it is zero the
outputs of the whole network are confined, whatever the layers below and whatever the inputs, and outputs so confined have a
loss of at least the wall. Nothing is asked of the losses of the ends, and nothing of the layers below: they may attend,
normalise by the batch, round or jump.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

from torch import Tensor

from dss.base.errors import InputError
from dss.objectives.objective import Objective
from dss.theory.head import Head, Reading, read_heads


@dataclass(frozen=True)
class Wall:
    """What an obstruction knows of two points.

    Attributes:
        lower: proved: every path between them has a point whose loss is at least this; -inf where nothing is proved.
        reason: why, or why not, in two sentences at most.
    """

    lower: float
    reason: str

    @property
    def proven(self) -> bool:
        """Whether there is a wall at all."""
        return self.lower > -inf

    @property
    def summary(self) -> dict[str, object]:
        """As JSON values."""
        return {"lower": self.lower if isfinite(self.lower) else None, "reason": self.reason}


class Obstruction(ABC):
    """Walls between networks with a narrow last hidden layer, for one loss on one set of targets.

    Attributes:
        threshold: its lowest wall: ends on different sides are joined by no path whose loss stays below it.
        targets: of the data on which the loss is judged, as given.
        output_bias: whether the last layer may have a bias.
        layer: the last layer's name in the model; None: whichever layer's output is the model's.
    """

    threshold: float
    targets: Tensor
    output_bias: bool
    layer: str | None

    def between(self, objective: Objective, start: Tensor, end: Tensor) -> Wall:
        """What is proved of the paths between two points `(p,)` of a network's parameter space.

        The two last layers are the stored numbers, and their sides are computed without rounding. Structure is not taken on
        trust: the model is run, and its output must be that of the last layer, the loss the one that the wall is for, and
        the targets the same. Otherwise nothing is proved, and the reason says why.
        """
        try:
            reading = read_heads(objective, start, end, self.layer)
            self._check(reading)
            lower = self.separation(*reading.heads)
        except InputError as error:
            return Wall(-inf, f"No wall is known between these ends: {error}.")
        if lower == -inf:
            return Wall(-inf, f"No wall is known between these ends: {self._same(*reading.heads)}.")
        return Wall(lower, self._why(*reading.heads, lower))

    @abstractmethod
    def separation(self, first: Head, second: Head) -> float:
        """The wall between two last layers; -inf if they are on the same side, or on none."""

    @abstractmethod
    def _accepts(self, reading: Reading) -> str | None:
        """What is wrong with the loss that was observed, in words; None if it is the one the walls are for."""

    @abstractmethod
    def _why(self, first: Head, second: Head, lower: float) -> str:
        """Two sentences: what differs, and what follows."""

    @abstractmethod
    def _same(self, first: Head, second: Head) -> str:
        """What two last layers have in common that no wall separates."""

    def _check(self, reading: Reading) -> None:
        """Refuse what the proof does not speak of."""
        if reading.heads[0].bias is not None and not self.output_bias:
            raise InputError("the last layer has a bias, and this obstruction is for networks without one there")
        complaint = self._accepts(reading)
        if complaint is not None:
            raise InputError(complaint)
        if reading.targets.shape != self.targets.shape or not bool((reading.targets == self.targets.to(reading.targets)).all()):
            raise InputError(
                "the objective is judged on other targets than the obstruction was made for; give it the same ones, in the precision "
                f"of the points, {reading.targets.dtype}"
            )


def highest_wall(obstructions: Sequence[Obstruction], objective: Objective, start: Tensor, end: Tensor) -> Wall | None:
    """The highest of the walls between two points; None without obstructions.

    Raises:
        InputError: something that is no obstruction.
    """
    foreign = [type(o).__name__ for o in obstructions if not isinstance(o, Obstruction)]
    if foreign:
        raise InputError(f"obstructions must be such as dss.theory.bottleneck_obstruction makes, got {', '.join(foreign)}")
    walls = [obstruction.between(objective, start, end) for obstruction in obstructions]
    return max(walls, key=lambda wall: wall.lower, default=None)
