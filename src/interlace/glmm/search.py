"""The search for the optimum of a generalised model, by either solver."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from interlace.estimation.basins import across
from interlace.estimation.optimize import Minimum, minimize
from interlace.estimation.search import Outcome, Secant
from interlace.glmm.curvature import Approximation
from interlace.glmm.laplace import Evaluation
from interlace.glmm.limits import RunOff
from interlace.glmm.points import Impossible, Part, Seen, Watch
from interlace.glmm.probing import Doubt, Left, left_open, more_probes
from interlace.glmm.problem import Problem
from interlace.sums.terms import Floats

# Gain at which a search ends: 1e-5 standard errors, above the rounding of modes.
GAIN = 1e-10
# Values of two minima that are one.
_SAME = 1e-9
# Generalised models gain from corrections of the Newton matrix much earlier than Gaussian ones.
CORRECT = Secant(small=0.02, slow=0.001, clear=0.1)


@dataclass(eq=False)
class Search:
    """The criterion as a function of those packed parameters that move, for the optimiser.

    It remembers the last point, from which the modes of the next are predicted.
    """

    problem: Problem
    approximation: Approximation
    u: list[Floats]
    start: Floats
    free: NDArray[np.bool_]
    last: Evaluation | None = None
    n_steps: int = 0

    def full(self, x: Floats) -> Floats:
        """All parameters, from those that move."""
        whole = self.start.copy()
        whole[self.free] = x
        return whole

    def __call__(self, x: Floats) -> Seen:
        """Evaluate at a packed vector of the parameters that move."""
        at = self.problem.unpack(self.full(x))
        at, start = (at, self.u) if self.last is None else self.last.ahead(at)
        found = self.approximation(self.problem, at, start)
        if found is None:
            return Impossible()
        self.n_steps += found.mode.n_steps
        self.last = found
        return found if self.free.all() else Part(found, np.eye(len(self.free))[:, self.free])


def settled(
    search: Search, watch: Watch | None, mc_tolerance: float
) -> tuple[Minimum[Seen], Left | None]:
    """The minimum, with as many random probes as it takes; and what these leave open."""
    found = minimised(search, watch)
    while search.problem.probes is not None:
        point, x = whole_of(found.point), search.full(found.x)
        if not isinstance(point, Evaluation):
            break
        left = left_open(search.problem, x, point, found.predicted_gain)
        more = more_probes(search.problem, left, mc_tolerance)
        if more is None or not found.converged:
            return found, left
        before = found.n_evaluations
        search.problem = replace(search.problem, probes=more)
        search.u, search.start, search.last = point.u, x, None
        again = minimised(search, _later(watch, before))
        found = replace(again, n_evaluations=before + again.n_evaluations)
    return found, None


def lowest(
    search: Search, watch: Watch | None, mc_tolerance: float
) -> tuple[Search, Minimum[Seen], Left | None]:
    """The lower of two minima where correlations are parameters of their own, on both sides of it.

    A search for one of them ends where it is zero, or at the wrong side; others have one minimum.
    """
    found, left = settled(search, watch, mc_tolerance)
    point = whole_of(found.point)
    if not isinstance(point, Evaluation):
        return search, found, left
    for templates in across(search.problem.rows.terms, point.at.templates):
        start = search.problem.pack(templates, point.at.beta, point.at.gamma)
        again = Search(search.problem, search.approximation, point.u, start, search.free)
        other, rest = settled(again, _later(watch, found.n_evaluations), mc_tolerance)
        lower = other.point.value < found.point.value - _SAME
        count = found.n_evaluations + other.n_evaluations
        if lower and other.converged >= found.converged:
            search, found, left = again, other, rest
        found = replace(found, n_evaluations=count)
    return search, found, left


def whole_of(point: Seen) -> Seen:
    """The point of all parameters behind one of those that move."""
    return point.point if isinstance(point, Part) else point


def _later(watch: Watch | None, before: int) -> Watch | None:
    """A watch that counts on from the evaluations ``before``."""
    return None if watch is None else lambda n, point, gain: watch(before + n, point, gain)


def minimised(search: Search, watch: Watch | None) -> Minimum[Seen]:
    """The minimum; at the Poisson limit where a negative binomial search runs into that."""
    run, free = RunOff(search.problem), search.free

    def leave(x: Floats, point: Seen, gain: float) -> bool:
        return run.seen(float(x[-1]), float(point.gradient[-1]))

    doubt = Doubt()

    def doubtful(point: Seen, step: Floats) -> float:
        found, whole = whole_of(point), np.zeros(len(search.free))
        whole[search.free] = step
        return doubt(found, whole) if isinstance(found, Evaluation) else 0.0

    def sought(start: Floats, leaving: bool = False) -> Minimum[Seen]:
        return minimize(
            search,
            start[search.free],
            gain_tolerance=GAIN,
            correct=CORRECT,
            watch=watch,
            leave=leave if leaving else None,
            doubt=None if search.problem.probes is None else doubtful,
        )

    found = sought(search.start, leaving=run.sign != 0)
    if found.outcome is not Outcome.KNOWN:
        return found
    left, n = search.full(found.x), found.n_evaluations
    limit = np.append(left[:-1], run.limit(float(left[-1]), float(found.point.gradient[-1])))
    search.start, search.free = limit, np.append(free[:-1], False)
    held = sought(limit)
    limit = search.full(held.x)
    asked = np.append(limit[:-1], run.asked(float(limit[-1])))
    search.free = free
    n += held.n_evaluations + 1
    there = search(asked[free])
    if not np.isfinite(there.value) or there.gradient[-1] * run.sign <= 0.0:
        return replace(held, x=limit[free], n_evaluations=n)
    again = sought(np.append(limit[:-1], left[-1]))
    return replace(again, n_evaluations=n + again.n_evaluations)
