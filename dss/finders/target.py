"""To which loss a bead is trained."""

from dataclasses import dataclass

from dss.base.errors import InputError


@dataclass(frozen=True)
class Target:
    """A judged loss below the threshold, given by a factor or by a distance (Freeman & Bruna 2017: alpha L0).

    Attributes:
        alpha: the target is alpha times the threshold, for positive thresholds.
        margin: the target is the threshold less this; by default 5 % of the threshold's size. Give at most one.

    Raises:
        InputError: both are given, or one is out of its range.
    """

    alpha: float | None = None
    margin: float | None = None

    def __post_init__(self):
        if self.alpha is not None and self.margin is not None:
            raise InputError("a target comes from alpha or from a margin, got both; leave one out")
        if (self.alpha is not None and not 0 < self.alpha <= 1) or (self.margin is not None and self.margin < 0):
            raise InputError(f"alpha lies in (0, 1] and a margin is not negative, got {self.alpha} and {self.margin}")

    def below(self, threshold: float) -> float:
        """The target for a threshold.

        Raises:
            InputError: alpha with a threshold that is not positive, or no default margin for a threshold of zero.
        """
        if self.alpha is not None:
            if threshold <= 0:
                raise InputError(f"alpha needs a positive threshold, got {threshold:g}; give a margin instead")
            return self.alpha * threshold
        if self.margin is None and threshold == 0:
            raise InputError("a threshold of 0 has no natural margin; give one")
        return threshold - (0.05 * abs(threshold) if self.margin is None else self.margin)
