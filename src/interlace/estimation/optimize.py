"""Trust-region Newton for smooth functions with exact gradients; knows nothing of mixed models.

Made for functions with flat directions (exact symmetries) and with saddle points at symmetric
places: curvature enters by absolute value, so saddles are left rather than approached; directions
without curvature and without slope are left out of the step; a point with neither slope nor
predicted gain, but with a direction of negative curvature, is stepped off.  The rules are those of
:mod:`interlace.estimation.search`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from interlace.estimation.search import (
    AWAY,
    LOWER,
    MOVES,
    SECANT,
    SHRINKS,
    Bounds,
    Model,
    Outcome,
    Secant,
    Step,
    bounds,
    length,
    lost,
    model_of,
    next_radius,
    secant,
    trustworthy,
    verdict,
)

Floats = NDArray[np.float64]


class Point(Protocol):
    """What the optimiser needs to know of the function at one point.

    The value is infinite where the function cannot be evaluated; nothing else is asked there.
    """

    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Floats: ...
    @property
    def newton_matrix(self) -> Floats: ...


P = TypeVar("P", bound=Point)


@dataclass(frozen=True, eq=False)
class Minimum(Generic[P]):
    """Where the optimiser stopped, and its certificate.

    ``eigenvalues`` are those of the Newton matrix at ``x``, ``predicted_gain`` what its quadratic
    model still promises there.
    """

    x: Floats
    point: P
    gradient: Floats
    eigenvalues: Floats
    predicted_gain: float
    n_evaluations: int
    outcome: Outcome

    @property
    def converged(self) -> bool:
        """Whether nothing is left to gain."""
        return self.outcome.found

    @property
    def message(self) -> str:
        """The outcome in words."""
        if self.outcome is Outcome.EXHAUSTED:
            return f"no convergence in {self.n_evaluations} evaluations"
        return self.outcome.sentence


@dataclass(frozen=True, eq=False)
class _Search(Generic[P]):
    """Where a search is, and how it got there.

    ``last`` is the last step if it was small, with the gradient where it began and the gain that
    was promised there; ``slow`` counts such steps in a row that left much of their promise;
    ``before`` is the value where the last step began.
    """

    function: Callable[[Floats], P]
    x: Floats
    point: P
    n: int
    radius: float
    trusted: bool = False
    correction: Floats | None = None
    last: tuple[Floats, Floats, float] | None = None
    slow: int = 0
    before: float = np.inf

    def limits(self, gain_tolerance: float) -> Bounds[float]:
        """What counts as no gain here."""
        return bounds(self.point.value, len(self.x), gain_tolerance)

    def model(self, limit: Bounds[float]) -> Model[float]:
        """The quadratic model around the point, as corrected."""
        newton = self.point.newton_matrix
        if self.correction is not None:
            newton = newton + self.correction
        return model_of(self.point.gradient, newton, limit.noise)


def minimize(
    function: Callable[[Floats], P],
    start: Floats,
    *,
    gain_tolerance: float = 1e-12,
    max_evaluations: int = 200,
    radius: float = 1.0,
    correct: Secant = SECANT,
    watch: Callable[[int, P, float], None] | None = None,
    doubt: Callable[[P, Floats], float] | None = None,
    glance: Callable[[Floats, P, float], bool] | None = None,
    leave: Callable[[Floats, P, float], bool] | None = None,
) -> Minimum[P]:
    """Minimise by trust-region Newton.

    Stops when the predicted reduction is below ``gain_tolerance`` (raised to the rounding error of
    the value where that is larger) at a point reached by a step that was short and went as
    predicted; without such a step, one more is taken.  Trial values may be infinite or NaN: such
    steps are shortened.  ``correct`` says when the Newton matrix is corrected by gradients.  Where
    values are estimates, ``doubt`` says how far their difference along a step from a point may be
    off.  ``watch`` is called with the number of evaluations, the point and its predicted gain after
    every accepted step.  ``glance`` is given ``x``, the point and the value before, ``leave``
    ``x``, the point and its gain: they say whether the search is of no use any more, the first one
    before derivatives are taken.
    """
    search = _Search(function, start, function(start), 1, radius)
    if not np.isfinite(search.point.value):
        return _nothing(search, Outcome.INVALID)
    while True:
        if glance is not None and glance(search.x, search.point, search.before):
            return _nothing(search, Outcome.KNOWN)
        limit = search.limits(gain_tolerance)
        search, model = _corrected(search, limit, correct)
        if watch is not None:
            watch(search.n, search.point, float(model.gain))
        if leave is not None and leave(search.x, search.point, float(model.gain)):
            return _minimum(search, model, Outcome.KNOWN)
        outcome: Outcome | None = None
        if model.gain < limit.tolerance and search.trusted:
            outcome = Outcome.CONVERGED
        else:
            search, outcome = _moved(search, model, limit, max_evaluations, correct, doubt)
        if outcome is None:
            continue
        left = _step_off(search, model, limit) if outcome.found else (search, False)
        search = left[0]
        if not left[1]:
            return _minimum(search, model, outcome)


def _corrected(
    search: _Search[P], limit: Bounds[float], correct: Secant
) -> tuple[_Search[P], Model[float]]:
    """The model, and what it takes from the last steps where they were slow."""
    model = search.model(limit)
    if search.last is None:
        return replace(search, slow=0) if search.slow else search, model
    step, gradient, gain = search.last
    slow = search.slow + 1 if model.gain > correct.slow * gain else 0
    search = replace(search, slow=slow) if slow != search.slow else search
    if slow > 1 and model.gain > 100.0 * limit.tolerance:
        correction = np.zeros((len(step), len(step)))
        if search.correction is not None:
            correction = search.correction
        newton = search.point.newton_matrix + correction
        missed = search.point.gradient - gradient - newton @ step
        search = replace(search, correction=secant(correction, step, missed, correct.clear))
        model = search.model(limit)
    return search, model


def _moved(
    search: _Search[P],
    model: Model[float],
    limit: Bounds[float],
    max_evaluations: int,
    correct: Secant,
    doubt: Callable[[P, Floats], float] | None,
) -> tuple[_Search[P], Outcome | None]:
    """The next point, by shorter and shorter steps; or why there is none."""
    x, point, radius, n = search.x, search.point, search.radius, search.n
    seen = 0.0
    while n < max_evaluations:
        move, promised = model.step(radius)
        trial = search.function(x + move)
        n += 1
        step = Step(float(length(move)), float(promised), point.value - trial.value)
        unsure = 0.0 if doubt is None else doubt(point, move)
        gain = float(model.gain)
        if promised < LOWER and np.isfinite(trial.value):
            seen = max(seen, abs(step.actual - step.promised))
        found = verdict(gain, step, limit, unsure)
        if found == SHRINKS:
            radius = 0.25 * step.length
        elif found == MOVES:
            moved = _Search(
                search.function,
                x + move,
                trial,
                n,
                radius=float(next_radius(radius, step, unsure)),
                trusted=bool(trustworthy(gain, step, limit, unsure)),
                correction=search.correction,
                slow=search.slow,
                last=(move, point.gradient, gain) if gain < correct.small else None,
                before=float(point.value),
            )
            return moved, None
        else:
            if found == Outcome.STUCK and lost(gain, seen):
                found = Outcome.NEGLIGIBLE
            return replace(search, n=n), Outcome(found)
    return replace(search, n=n), Outcome.EXHAUSTED


def _step_off(
    search: _Search[P], model: Model[float], limit: Bounds[float]
) -> tuple[_Search[P], bool]:
    """Try to leave along negative curvature, with shorter and shorter steps; whether it did."""
    if search.correction is not None:
        model = model_of(search.point.gradient, search.point.newton_matrix)
    if not model.escapable(limit.noise):
        return search, False
    for tried, away in enumerate(AWAY, start=1):
        x = search.x + away * model.vectors[:, 0]
        trial = search.function(x)
        if trial.value < search.point.value - LOWER:
            n = search.n + tried
            return _Search(search.function, x, trial, n, search.radius), True
    return replace(search, n=search.n + len(AWAY)), False


def _nothing(search: _Search[P], outcome: Outcome) -> Minimum[P]:
    """Where a search ended without derivatives."""
    nothing = np.full(len(search.x), np.nan)
    return Minimum(search.x, search.point, nothing, nothing, np.nan, search.n, outcome)


def _minimum(search: _Search[P], model: Model[float], outcome: Outcome) -> Minimum[P]:
    """Certificate at the point reached; the eigenvalues are those without any correction."""
    values = model.eigenvalues
    if search.correction is not None:
        values = model_of(search.point.gradient, search.point.newton_matrix).eigenvalues
    gain = float(model.gain)
    return Minimum(search.x, search.point, search.point.gradient, values, gain, search.n, outcome)
