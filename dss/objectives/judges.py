"""Judges that torch does not name."""

import torch
from torch import Tensor

from dss.base.errors import InputError
from dss.enclosure import StandIn
from dss.objectives.wrappers import Wrapped


def error_rate(
    output: Tensor, target: Tensor, *, ignore_index: int | None = None, threshold: float = 0.0
) -> Tensor | tuple[Tensor, Tensor]:
    """Share of predictions that are wrong; laid out as for `cross_entropy`.

    Args:
        output: `(n, classes, ...)` scores with `(n, ...)` integer classes or one-hot rows `(n, classes, ...)` as target; or
            one score for each prediction, `(n,)` or `(n, 1, ...)`, with `(n,)`, `(n, ...)` or `(n, 1, ...)` zeros and ones.
        target: what is right.
        ignore_index: a target that does not count. Give it as `functools.partial(dss.error_rate, ignore_index=-100)`.
        threshold: a single score above it means class 1: 0 for logits, 0.5 for probabilities.

    Returns:
        The share `()`; or, with `ignore_index`, the pair of errors `()` and of predictions that count `()`, because samples
        may then weigh differently.

    Raises:
        InputError: shapes or values that mean none of these.
    """
    scores, labels = _scores_and_labels(output, target, threshold)
    counts = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    # Bounds are taken sample by sample under vmap, where no value can be asked for; plain evaluations have asked.
    if not isinstance(output, StandIn):
        _check_values(target, labels[counts], tuple(scores.shape))
    wrong = (scores.argmax(1) != torch.where(counts, labels, 0)).double()
    return wrong.mean() if ignore_index is None else ((wrong * counts.double()).sum(), counts.sum())


def _scores_and_labels(output: Tensor, target: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Scores `(n, classes, ...)` and which of them should be largest, `(n, ...)`, told by shapes alone."""
    shape = tuple(output.shape)
    places = shape[:1] + shape[2:]
    if shape[:1] and shape[1:2] in ((), (1,)) and target.shape in (shape, places):
        score = output.reshape(places) - threshold
        return torch.stack([-score, score], 1), target.reshape(places).long()
    if len(shape) > 1 and target.shape == shape:
        return output, target.int().argmax(1)  # torch has no argmax of bools
    if len(shape) > 1 and target.shape == places and not target.is_floating_point():
        return output, target.long()
    raise InputError(
        f"an error rate needs scores (n, classes, ...) and integer classes (n, ...), as cross_entropy does, or one score for each "
        f"target 0 or 1; got scores {shape} and {str(target.dtype)[6:]} targets {tuple(target.shape)}; move the classes to axis 1, "
        "or reshape"
    )


def _check_values(target: Tensor, labels: Tensor, scores: tuple[int, ...]) -> None:
    """Refuse targets that name no class: soft or several labels, padding, numbers to be regressed."""
    if target.shape == scores and not ((target == 0) | (target == 1)).all() & (target.sum(1) == 1).all():
        raise InputError(
            "an error rate needs one right class a prediction, but the targets are neither classes nor one-hot: soft labels, or "
            "several at once, have no error rate; judge by the loss"
        )
    if target.is_floating_point() and target.shape != scores and not (target == target.round()).all():
        raise InputError("an error rate of single scores needs targets 0 and 1, got numbers in between; judge by the loss")
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < scores[1]:
        raise InputError(
            f"targets must be classes 0 to {scores[1] - 1}, got {int(labels.min())} to {int(labels.max())}; padding is left out "
            "by functools.partial(dss.error_rate, ignore_index=...)"
        )


class Perplexity(Wrapped):
    """`exp` of a mean cross-entropy, as language models are judged; the mean is taken before the exponential.

    Args:
        objective: the mean cross-entropy in nats.
    """

    @property
    def description(self) -> str:
        return f"perplexity of {self.objective.description}"

    def __call__(self, points: Tensor) -> Tensor:
        return self.objective(points).exp()

    def estimate(self, points: Tensor, generator: torch.Generator) -> Tensor:
        return self.objective.estimate(points, generator).exp()

    def plain(self, points: Tensor) -> Tensor:
        return self.objective.plain(points).exp()

    def enclose(self, starts: Tensor, ends: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        # exp is increasing and convex, so exp of a convex bound is one; its rounding is far below 2^-40.
        return self.objective.enclose(starts, ends, lower, upper).exp() * (1 + 2.0**-40)

    def apart(self, points: Tensor) -> None:
        return None

    def floor(self, starts: Tensor, ends: Tensor, t: Tensor) -> Tensor:
        return self.objective.floor(starts, ends, t).exp() * (1 - 2.0**-40)
