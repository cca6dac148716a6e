"""Lower many points together, each to its own target; a point that has arrived leaves the batch."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from torch.optim import Optimizer

from dss.base.adam import Adam
from dss.base.errors import InputError
from dss.base.gradients import with_gradients
from dss.objectives.objective import Objective

OptimizerFactory = Callable[[list[Tensor]], Optimizer]
Projection = Callable[[Tensor, Tensor], Tensor]

# Optimizers whose update of a coordinate depends on that coordinate alone: many points can share one tensor.
_ELEMENTWISE = (
    "SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "Adagrad", "Adadelta", "ASGD",
)  # fmt: skip


# Points with more bytes than this train one by one: temporaries of many large rows at once fall out of every cache,
# and the allocator gives them back to the system at every step.
LARGE_POINT = 2**20
# Points with more bytes train one after the other: gradients and an optimizer's moments are those of one point at a time.
HUGE_POINT = 2**25
# A point is judged again when the loss it is trained on has fallen by this share of what the judged one lacked, and after so many
# intervals in any case.
FALLEN, OVERDUE = 0.9, 10


def adam(parameters: list[Tensor]) -> Optimizer:
    """Adam at its usual rate of 1e-3: the paper's choice; fused, in one pass over memory."""
    return Adam(parameters, lr=1e-3, fused=True)


@dataclass(frozen=True)
class Descent:
    """How beads are trained.

    Attributes:
        optimizer: factory of any torch optimizer that needs no closure, such as
            `lambda parameters: torch.optim.SGD(parameters, lr=0.1)`.
        max_steps: after these a point has not reached its target.
        check_every: gradient steps between two judgements, where a step itself does not tell the loss. None: where a step tells the
            exact loss that is trained, a point is judged when that has fallen about as far as the judged one has to (`_Watch`);
            elsewhere, the cost of judging is kept below about half of the training's.
        clip_norm: largest norm of one point's gradient, or None.
    """

    optimizer: OptimizerFactory = adam
    max_steps: int = 5000
    check_every: int | None = None
    clip_norm: float | None = None

    def __post_init__(self):
        if self.max_steps < 0 or (self.check_every is not None and self.check_every < 1):
            raise InputError(f"steps must be counted upwards, got max_steps={self.max_steps}, check_every={self.check_every}")

    def interval(self, objective: Objective, judge: Objective) -> int:
        """Steps between judgements: a loss costs about a third of a gradient on as many samples."""
        return self.check_every or max(1, ceil(2 * judge.samples / (3 * objective.batch_samples)))


@dataclass(frozen=True, eq=False)
class Descended:
    """Where k points ended.

    Attributes:
        points: `(k, p)`.
        losses: `(k,)` float64, as judged.
        reached: `(k,)`, whether the judged loss is at most the target.
        gradient_steps: of all points together.
    """

    points: Tensor
    losses: Tensor
    reached: Tensor
    gradient_steps: int


@with_gradients()
def descend(
    objective: Objective,
    judge: Objective,
    points: Tensor,
    target: float,
    *,
    options: Descent,
    generator: torch.Generator,
    project: Projection | None = None,
    adopt: bool = False,
) -> Descended:
    """Train points until each one's judged loss is at most `target`.

    Row i gets the same treatment whether or not other rows train beside it: it has its own optimizer state, and the
    minibatches are shared.

    Args:
        objective: gradients come from its `estimate`.
        judge: tells when a point has arrived.
        points: `(k, p)`; left as they are.
        target: highest judged loss of a point that has arrived.
        options: optimizer and limits.
        generator: draws the minibatches.
        project: `(points (m, p), rows (m,)) -> (m, p)`, applied after every step: keeps rows on a constraint.
        adopt: write to `points`, which need no copy then.
    """
    if not adopt:
        points = points.clone()
    if project is None and points[0].nbytes > HUGE_POINT and len(points) > 1:
        return _in_turn(objective, judge, points, target, options, generator)
    free_loss = judge is objective and objective.exact_estimate
    interval = 1 if free_loss else options.interval(objective, judge)
    told = objective.exact_estimate and not free_loss and options.check_every is None
    watch = _Watch(len(points), interval) if told else None
    batch = _Batch(points, options)
    for step in range(options.max_steps + 1):
        last = step == options.max_steps
        if watch is not None and not last:
            watch.look(judge, batch, batch.gradient(objective, generator), target)
        elif last or step % interval == 0:
            batch.note(batch.gradient(objective, generator) if free_loss else judge(batch.points), target)
        if last or not len(batch.rows):
            break
        if not free_loss and watch is None:
            batch.gradient(objective, generator)
        batch.step(project)
    return Descended(batch.reached_points(), batch.losses, batch.losses <= target, batch.steps)


def _in_turn(
    objective: Objective, judge: Objective, points: Tensor, target: float, options: Descent, generator: torch.Generator
) -> Descended:
    """The same, one point after the other, over the same minibatches."""
    first, longest, parts = generator.get_state(), generator.get_state(), []
    for point in points.split(1):
        generator.set_state(first)
        parts.append(descend(objective, judge, point, target, options=options, generator=generator, adopt=True))
        if parts[-1].gradient_steps == max(part.gradient_steps for part in parts):
            longest = generator.get_state()
    generator.set_state(longest)
    losses, reached = (torch.cat([getattr(part, name) for part in parts]) for name in ("losses", "reached"))
    return Descended(points, losses, reached, sum(part.gradient_steps for part in parts))


class _Watch:
    """When the judge is asked about a row: when the loss it is trained on, known exactly at every step, says that it may have arrived.

    Each row's own losses alone decide, so that it trains as it would by itself. At most one step in an interval is judged.
    """

    def __init__(self, points: int, interval: int):
        self.interval = interval
        self.seen, self.age = (torch.full((points,), torch.inf, dtype=torch.float64) for _ in range(2))
        self.lacking = torch.zeros(points, dtype=torch.float64)

    def look(self, judge: Objective, batch: "_Batch", losses: Tensor, target: float) -> None:
        """Judge the rows that are due, and let those leave that have arrived; `losses` `(m,)` are those that the rows train on."""
        rows, losses = batch.rows, losses.double().cpu()
        self.age[rows] += 1
        # A loss that is no number is looked into.
        due = ~(self.seen[rows] - losses < FALLEN * self.lacking[rows]) | (self.age[rows] >= OVERDUE * self.interval)
        due &= self.age[rows] >= self.interval
        if not due.any():
            return
        judged = judge(batch.points if due.all() else batch.points[due.to(batch.points.device)])
        asked = rows[due]
        self.seen[asked], self.age[asked] = losses[due], 0
        batch.note(judged, target, due)
        self.lacking[asked] = batch.losses[asked] - target


class _Batch:
    """The rows that still train, and their optimizer."""

    def __init__(self, points: Tensor, options: Descent):
        self.options = options
        self.rows = torch.arange(len(points))
        self.arrivals = points
        self.losses = torch.full((len(points),), torch.inf, dtype=torch.float64)
        self.steps = 0
        trial = options.optimizer([torch.zeros(1, requires_grad=True)])
        elementwise = type(trial) is Adam or (
            type(trial).__module__.startswith("torch.optim") and type(trial).__name__ in _ELEMENTWISE
        )
        self.one_by_one = points[0].nbytes > LARGE_POINT
        self.stacked = elementwise and not self.one_by_one
        # Those that train one by one do so where their points lie: a copy would be one more model.
        rows = [points.clone()] if self.stacked else [row.detach() for row in points]
        self.parameters = [row.requires_grad_() for row in rows]
        self.optimizer = options.optimizer(self.parameters)

    @property
    def points(self) -> Tensor:
        """The rows in training, `(m, p)`, off the graph."""
        return self._joined().detach()

    def gradient(self, objective: Objective, generator: torch.Generator) -> Tensor:
        """Estimated losses `(m,)`; the gradients go where the optimizer looks for them."""
        self.optimizer.zero_grad()
        drawn, losses = generator.get_state(), []
        for rows in [p[None] for p in self.parameters] if self.one_by_one else [self._joined()]:
            generator.set_state(drawn)  # every row sees the same minibatch
            losses.append(objective.estimate(rows, generator))
            losses[-1].sum().backward()
        return torch.cat(losses).detach()

    def note(self, losses: Tensor, target: float, asked: Tensor | None = None) -> None:
        """Note the judged losses `(m,)`, and let rows leave that are at or below the target, or lost.

        Args:
            asked: `(rows in training,)`, which of them were judged; all by default.
        """
        losses, asked = losses.detach().double().cpu(), torch.ones(len(self.rows), dtype=torch.bool) if asked is None else asked
        self.losses[self.rows[asked]] = losses
        leaving = torch.zeros_like(asked)
        leaving[asked] = losses <= target
        if not losses.isfinite().all():  # what has run off to infinity does not come back
            leaving |= ~self.points.isfinite().all(1).cpu()
        if leaving.any():
            self._arrive()
            self._keep(~leaving)

    def step(self, project: Projection | None) -> None:
        """One step of the optimizer, then back onto the constraint."""
        self.steps += len(self.rows)
        if self.options.clip_norm is not None:
            self._clip(self.options.clip_norm)
        self.optimizer.step()
        if project is not None:
            projected = project(self.points, self.rows)
            with torch.no_grad():
                for parameter, value in zip(self.parameters, self._parted(projected), strict=True):
                    parameter.copy_(value)

    def reached_points(self) -> Tensor:
        """All points `(k, p)`: where they arrived, or where they stand."""
        if len(self.rows):
            self._arrive()
        return self.arrivals

    def _arrive(self) -> None:
        """Put the rows in training where they belong, unless they lie there already."""
        if self.stacked:
            self.arrivals[self.rows] = self.points

    def _joined(self) -> Tensor:
        if self.stacked:
            return self.parameters[0]
        return self.parameters[0][None] if len(self.parameters) == 1 else torch.stack(self.parameters)

    def _parted(self, points: Tensor) -> list[Tensor]:
        return [points] if self.stacked else list(points)

    def _clip(self, largest: float) -> None:
        for parameter in self.parameters:
            gradient = parameter.grad
            if gradient is not None:
                norms = gradient.norm(dim=-1, keepdim=True)
                gradient *= (largest / norms.clamp_min(largest)).to(norms)

    def _keep(self, keep: Tensor) -> None:
        """Drop the other rows, with their gradients and their part of the optimizer's state."""
        self.rows = self.rows[keep]
        if not self.stacked:
            self.parameters = [p for p, kept in zip(self.parameters, keep, strict=True) if kept]
            self.optimizer.param_groups[0]["params"] = self.parameters
        elif len(self.rows):
            self._slice(keep)

    def _slice(self, keep: Tensor) -> None:
        """The same optimizer over the rows kept: what has the parameter's shape belongs to rows."""
        old, state = self.parameters[0], self.optimizer.state[self.parameters[0]]
        keep = keep.to(old.device)
        rows = old.detach()[keep].requires_grad_()
        rows.grad = None if old.grad is None else old.grad[keep]
        self.parameters, self.optimizer = [rows], self.options.optimizer([rows])
        self.optimizer.state[rows] = {
            name: value[keep] if isinstance(value, Tensor) and value.shape == old.shape else value
            for name, value in state.items()
        }
