"""A bound on the loss along a whole path: cells of segments, split where the bound is worst."""

import heapq
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace

import torch
from torch import Tensor

from dss.base.chunks import all_finite
from dss.base.errors import InputError, NotFinite
from dss.certificates.bracket import Bracket, Verdict, lower_side
from dss.certificates.cells import OPTIONS, Cell, Pace
from dss.certificates.elsewhere import Elsewhere
from dss.certificates.samplewise import Samplewise
from dss.certificates.tripwire import check_bounds
from dss.objectives.objective import Objective


def prove(
    objective: Objective,
    beads: Tensor,
    *,
    threshold: float | None = None,
    tolerance: float | None = None,
    max_cells: int | None = 100_000,
    max_seconds: float | None = None,
    batch_cells: int = 32,
    executor: Executor | None = None,
    source: Callable[[], Objective] | None = None,
) -> Iterator[Bracket]:
    """Bound the loss on a whole path, better with every bracket; the last one has a finished verdict.

    With a threshold the proof ends when every cell's bound is at or below it, or at the first computed loss above it.
    With a tolerance it ends when `upper - seen <= tolerance * |seen|`. Give one of the two. A limit never proves.

    Args:
        objective: bounds cells by `enclose` and computes losses.
        beads: `(n, p)`, n >= 2, the path's points.
        max_cells, max_seconds: limits, checked between batches, which shrink as the time runs out. Cells that were tried on a
            part of the data count too.
        batch_cells: cells split together at most; more is faster and less best-first.
        executor: where cells are bounded, each a task of its own: any `concurrent.futures.Executor`.
        source: yields the same objective in another process, for workers that cannot be sent this one.

    Yields:
        A bracket per batch.

    Raises:
        InputError: beads or options that cannot be used.
        NotFinite: NaN or infinity in the beads, or, with a tolerance, as the loss at a point of the path.
        EnclosureError: the objective cannot be enclosed.
        SoundnessError: the network itself contradicts the bounds; then no finished bracket is given.
    """
    max_cells = sys.maxsize if max_cells is None else max_cells
    _check(beads, threshold, tolerance, max_cells, batch_cells)
    proof = _Proof(objective, beads, threshold, tolerance)
    proof.elsewhere = None if executor is None else Elsewhere(objective, executor, source)
    deadline = math.inf if max_seconds is None else time.monotonic() + max_seconds
    proof.begin()
    while True:
        bracket = proof.bracket(max_cells, deadline)
        if bracket.verdict.finished:
            check_bounds(objective, beads, bracket.bounds, proof.evaluations)
            if tolerance is not None:  # it costs as much as some cells do, and a threshold does not ask for it
                bracket = replace(bracket, lower=lower_side(objective, beads, bracket))
        yield bracket
        if bracket.verdict.finished:
            return
        proof.refine(batch_cells, deadline)


class _Proof:
    """The cells that cover the path, in a heap, and the largest loss seen: branch and bound for a maximum (Moore 1966).

    heap, untried and waiting together cover the path at every moment, and every cell in them has a bound, if only its
    parent's: so `bracket` may be read at any moment, and a proof that is stopped has proved what it says.
    """

    def __init__(self, objective: Objective, beads: Tensor, threshold: float | None, tolerance: float | None):
        self.objective, self.beads, self.threshold, self.tolerance = objective, beads, threshold, tolerance
        self.elsewhere: Elsewhere | None = None
        self.heap: list[Cell] = []
        # Cells not bounded yet on their own, of which the bound of a larger cell is known: those to be tried on a part of
        # the data, and those to be bounded.
        self.untried: list[Cell] = []
        self.waiting: list[Cell] = []
        self.part = objective.part(OPTIONS.rehearsal) if objective.samples >= OPTIONS.large else None
        self.bounding, self.trying = Pace(), Pace()
        apart = objective.apart(beads) if self.part is None and objective.samples >= OPTIONS.few else None
        self.apart = None if apart is None else Samplewise(apart, objective.samples, self._found)
        self.seen, self.place = -math.inf, (0, 0.0)
        self.evaluations: list[tuple[int, float, float]] = []

    def begin(self) -> None:
        """Look at the beads; every segment starts as one cell."""
        last = len(self.beads) - 2
        self._look([(min(i, last), float(i > last)) for i in range(last + 2)])
        self._queue([Cell(-math.inf, segment, 0.0, 1.0) for segment in range(last + 1)])

    def refine(self, count: int, deadline: float) -> None:
        """Split the worst cells above the goal, after a look at their middles, and bound their parts as time allows."""
        if not self.untried and not self.waiting:
            self._split(count)
        if self._refuted:
            return
        # Tries come first: they are cheap, and may show that a cell which waits is hopeless.
        if self.untried and self.part is not None:
            # Without a deadline the number must not depend on the time: looks move the goal of a tolerance.
            count = OPTIONS.at_once if deadline == math.inf else self.trying.affordable(OPTIONS.at_once, deadline)
            self.untried = self._try(self.part, self.untried[:count]) + self.untried[count:]
        else:
            count = self.bounding.affordable(OPTIONS.most_parts * count, min(deadline, time.monotonic() + OPTIONS.patience))
            smaller = self._bound(self.waiting[:count])
            self.waiting = self.waiting[count:] + smaller

    def _queue(self, cells: list[Cell]) -> None:
        """Cells to be bounded, after a try if the data is large."""
        if self.part is None:
            self.waiting = cells
        else:
            self.untried = cells

    def _split(self, count: int) -> None:
        """Take the worst cells from the heap; their parts wait to be bounded."""
        worst = []
        # Only what lies above the goal: a proof ends when nothing does, and how far below the rest lies does not matter.
        while self.heap and len(worst) < count and self.heap[0].bound > self.goal:
            worst.append(heapq.heappop(self.heap))
        # A loss at each middle refutes early, and tells how much of a bound's excess is the loss's own: the rest is the gap.
        losses = self._look([(cell.segment, cell.middle) for cell in worst])
        # Sorted, so that the order of bounding does not depend on the heap's ties.
        cut = [(cell, self._parts(cell, loss)) for cell, loss in zip(worst, losses)]
        if self.apart is not None:
            for cell, parts in cut:
                self.apart.pass_on(cell, parts, self._middle(cell))
        self._queue(sorted(part for _, parts in cut for part in parts))

    def _try(self, objective: Objective, cells: list[Cell]) -> list[Cell]:
        """Bound cells on a part of the data: the promising ones wait to be bounded, and parts of the others are returned.

        The loss on the whole data is known at a cell's middle, and the gap above it is taken to be that of the part.
        """
        places = [(cell.segment, cell.middle) for cell in cells]
        bounds, losses = self._bounds(objective, self.trying, cells), self._losses(objective, places)
        # The part's bound proves nothing of the whole; it only decides whether to spend the whole data on this cell or on its
        # parts, so a wrong guess costs time and never truth.
        gaps = [bound - loss for bound, loss in zip(bounds, losses)]
        smaller = []
        for cell, loss, gap in zip(cells, self._look(places), gaps):
            if loss + gap <= self.goal or cell.narrow:
                self.waiting.append(cell)
            else:
                parts = self._parts(replace(cell, key=-(loss + gap)), loss)
                smaller += [replace(part, key=cell.key) for part in parts]
        return smaller

    @property
    def goal(self) -> float:
        """Cells at or below need no more work."""
        if self.threshold is not None:
            return self.threshold
        assert self.tolerance is not None
        return self.seen + self.tolerance * abs(self.seen)

    @property
    def _refuted(self) -> bool:
        return self.threshold is not None and self.seen > self.threshold

    def _parts(self, cell: Cell, loss: float) -> list[Cell]:
        """Equal parts: the excess of a bound shrinks like a power of the width, which tells how many are needed."""
        room, excess = self.goal - loss, cell.bound - loss
        wanted = (excess / room) ** (1 / OPTIONS.order) if room > 0 else OPTIONS.most_parts
        count = OPTIONS.many_parts if wanted > OPTIONS.hopeless else min(max(2, math.ceil(wanted)), OPTIONS.most_parts)
        count += self.apart is not None and count == 3  # ends that floats hold exactly
        cuts = [cell.lower + (cell.upper - cell.lower) * i / count for i in range(count)] + [cell.upper]
        return [Cell(cell.key, cell.segment, a, b) for a, b in itertools.pairwise(cuts)]

    def _bound(self, cells: list[Cell]) -> list[Cell]:
        """Bound cells; parts of those that were hopeless on a few samples are returned."""
        smaller: list[Cell] = []
        if self.apart is None:
            bounds = self._bounds(self.objective, self.bounding, cells)
        else:
            cells, smaller = self._rehearsed(self.apart, cells)
            bounds = self.apart.bounds(cells, self.goal, done=self.threshold is not None)
        for cell, bound in zip(cells, bounds):
            # What bounds a cell bounds its parts.
            heapq.heappush(self.heap, replace(cell, key=max(-bound, cell.key)))
        return smaller

    def _rehearsed(self, apart: Samplewise, cells: list[Cell]) -> tuple[list[Cell], list[Cell]]:
        """Cells that are worth all samples, and parts of those that a few showed to be hopeless."""
        unknown = [cell for cell in cells if apart.is_unknown(cell) and not cell.narrow]
        if not unknown:
            return cells, []
        losses, gaps = (
            self._look([(cell.segment, cell.middle) for cell in unknown]),
            apart.tried(unknown, [self._middle(cell) for cell in unknown]),
        )
        hopeless, smaller = set(), []
        for cell, loss, gap in zip(unknown, losses, gaps):
            if gap > OPTIONS.doubtful * max(0.0, self.goal - loss):
                apart.forget(cell)
                hopeless.add(cell)
                self.bounding.note(1, 0.0)
                smaller += [replace(part, key=cell.key) for part in self._parts(replace(cell, key=-(loss + gap)), loss)]
        return [cell for cell in cells if cell not in hopeless], sorted(smaller)

    def _middle(self, cell: Cell) -> Tensor:
        """The point in the middle of a cell."""
        return torch.lerp(self.beads[cell.segment], self.beads[cell.segment + 1], cell.middle)

    def _found(self, cells: list[Cell], index: Tensor, *, tried: bool) -> Tensor:
        """Bounds `(k, m, c)` on some samples of cells, which count unless they are only tried."""
        assert self.apart is not None
        began = time.monotonic()
        enclose = self.apart.apart.enclose if self.elsewhere is None else self.elsewhere.on_samples
        found = enclose(*self._ends(cells), index)
        self.bounding.note(0 if tried else len(cells), time.monotonic() - began)
        return found

    def _bounds(self, objective: Objective, pace: Pace, parts: list[Cell]) -> list[float]:
        """Bounds of an objective on cells; what is not known is infinite."""
        began = time.monotonic()
        # Tries are cheap, and of another objective.
        enclose = objective.enclose if self.elsewhere is None or objective is self.part else self.elsewhere.on_cells
        bounds = enclose(*self._ends(parts)).amax(1)
        pace.note(len(parts), time.monotonic() - began)
        return torch.where(bounds.isnan(), math.inf, bounds).tolist()

    def _ends(self, parts: list[Cell]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Beads at the start and the end of cells' segments, and the ends of the cells."""
        index = torch.tensor([part.segment for part in parts], device=self.beads.device)
        lower, upper = (torch.tensor(side, dtype=torch.float64, device=self.beads.device)
                        for side in ([part.lower for part in parts], [part.upper for part in parts]))  # fmt: skip
        return self.beads[index], self.beads[index + 1], lower, upper

    def _look(self, places: list[tuple[int, float]]) -> list[float]:
        """Compute losses and remember the largest."""
        losses = self._losses(self.objective, places)
        self.evaluations += [(*place, loss) for place, loss in zip(places, losses)]
        best = max(range(len(losses)), key=losses.__getitem__)
        if losses[best] > self.seen:
            self.seen, self.place = losses[best], places[best]
        if self.tolerance is not None and self.seen == math.inf:
            segment, t = self.place
            raise NotFinite(
                f"the loss at t={t:g} of segment {segment} is not finite, so nothing brackets it; a threshold can be refuted"
            )
        return losses

    def _losses(self, objective: Objective, places: list[tuple[int, float]]) -> list[float]:
        """Losses at points of the path; one that is not a number counts as infinite."""
        index = torch.tensor([segment for segment, _ in places], device=self.beads.device)
        t = torch.tensor([t for _, t in places], dtype=self.beads.dtype, device=self.beads.device)[:, None]
        with torch.no_grad():
            # The lerp that hits both ends exactly.
            losses = objective(torch.lerp(self.beads[index], self.beads[index + 1], t)).double()
        return torch.where(losses.isnan(), math.inf, losses).tolist()

    def bracket(self, max_cells: int, deadline: float) -> Bracket:
        """The present state."""
        cells = self.heap + self.waiting + self.untried
        upper = max(cell.bound for cell in cells)
        bounds = torch.tensor(sorted((cell.segment, cell.lower, cell.upper, cell.bound) for cell in cells), dtype=torch.float64)
        verdict = self._verdict(upper, max_cells, deadline)
        return Bracket(upper, self.seen, *self.place, self.bounding.cells, verdict, bounds)

    def _verdict(self, upper: float, max_cells: int, deadline: float) -> Verdict:
        if self._refuted:
            return Verdict.REFUTED
        if upper <= self.goal and math.isfinite(upper):
            return Verdict.PROVEN if self.tolerance is None else Verdict.BRACKETED
        if self.bounding.cells + self.trying.cells >= max_cells:
            return Verdict.CELLS
        if time.monotonic() >= deadline:
            return Verdict.SECONDS
        waits = self.waiting or self.untried
        return Verdict.RESOLUTION if not waits and self.heap[0].narrow else Verdict.OPEN


def _check(beads: Tensor, threshold: float | None, tolerance: float | None, max_cells: int, batch_cells: int) -> None:
    if beads.dim() != 2 or len(beads) < 2 or not beads.is_floating_point():
        raise InputError(f"beads must be a floating-point tensor (n, p) with n >= 2, got {tuple(beads.shape)}")
    if not all_finite(beads):
        raise NotFinite("a path needs finite beads, got NaN or infinity")
    if (threshold is None) == (tolerance is None):
        raise InputError(f"give a threshold or a tolerance, got threshold={threshold}, tolerance={tolerance}")
    if threshold is not None and not math.isfinite(threshold):
        raise InputError(f"threshold must be finite, got {threshold}")
    if tolerance is not None and not (tolerance > 0 and math.isfinite(tolerance)):
        raise InputError(f"tolerance must be positive and finite, got {tolerance}")
    if max_cells < 1 or batch_cells < 1:
        raise InputError(f"max_cells and batch_cells must be at least 1, got {max_cells} and {batch_cells}")
