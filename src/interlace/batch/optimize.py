"""Trust-region Newton for many functions of one shape at once.

The batched twin of :mod:`interlace.estimation.optimize`: both decide by the rules of
:mod:`interlace.estimation.search`.  Every array has the replicates in front; replicates that are
done leave the active set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from interlace.estimation.optimize import Minimum, P
from interlace.estimation.search import (
    AWAY,
    LOWER,
    MOVES,
    SECANT,
    SHRINKS,
    Bounds,
    Floats,
    Mask,
    Model,
    Outcome,
    Secant,
    Step,
    bounds,
    length,
    model_of,
    next_radius,
    secant,
    trustworthy,
    verdict,
)

Index = NDArray[np.intp]
N = TypeVar("N", np.float64, np.intp)


@dataclass(frozen=True, eq=False)
class Points:
    """Values ``(B,)``, gradients ``(B, c)`` and Newton matrices ``(B, c, c)``.

    A value is infinite where the function cannot be evaluated.
    """

    value: Floats
    gradient: Floats
    newton: Floats

    def take(self, which: Index | Mask) -> Points:
        """Those of some replicates."""
        return Points(self.value[which], self.gradient[which], self.newton[which])


class Problem(Protocol):
    """``B`` functions of ``c`` variables."""

    def evaluate(self, x: Floats) -> Points:
        """All functions at ``x`` (B, c)."""
        ...

    def take(self, which: Index | Mask) -> Self:
        """Some of the functions."""
        ...


@dataclass(frozen=True, eq=False)
class Minima:
    """Where every search stopped; ``outcome`` is an :class:`Outcome` by number.

    ``reasons`` say more of replicates that have no minimum.
    ``further`` (B, c) is the Newton step from there, flat directions left out: nothing to gain, but
    digits of ``x``.
    """

    x: Floats
    further: Floats
    value: Floats
    gradient: Floats
    newton: Floats
    predicted_gain: Floats
    n_evaluations: NDArray[np.intp]
    outcome: NDArray[np.intp]
    reasons: Mapping[int, str] = field(default_factory=dict)

    @property
    def converged(self) -> Mask:
        """Whether nothing is left to gain."""
        return np.isin(self.outcome, [one for one in Outcome if one.found])

    def take(self, which: Index) -> Minima:
        """Those of some replicates; reasons are left out."""
        return Minima(
            self.x[which],
            self.further[which],
            self.value[which],
            self.gradient[which],
            self.newton[which],
            self.predicted_gain[which],
            self.n_evaluations[which],
            self.outcome[which],
        )

    def or_lower(self, other: Minima, rows: Index, margin: float) -> Minima:
        """These, or those that others found for some replicates where they are lower.

        Both count in the evaluations.
        """
        better = other.converged & ~(other.value >= self.value[rows] - margin)
        where = rows[better]
        n = self.n_evaluations.copy()
        n[rows] += other.n_evaluations
        return Minima(
            _with(self.x, where, other.x[better]),
            _with(self.further, where, other.further[better]),
            _with(self.value, where, other.value[better]),
            _with(self.gradient, where, other.gradient[better]),
            _with(self.newton, where, other.newton[better]),
            _with(self.predicted_gain, where, other.predicted_gain[better]),
            n,
            _with(self.outcome, where, other.outcome[better]),
            self.reasons,
        )

    def with_minimum(self, i: int, found: Minimum[P]) -> Minima:
        """With the minimum that the single optimiser found for one replicate."""
        one = Minima(
            found.x[None],
            np.zeros((1, len(found.x))),
            np.array([found.point.value]),
            found.gradient[None],
            found.point.newton_matrix[None],
            np.array([found.predicted_gain]),
            np.array([found.n_evaluations]),
            np.array([int(found.outcome)]),
        )
        lost = replace(self, value=_with(self.value, np.array([i]), np.array([np.inf])))
        return lost.or_lower(one, np.array([i]), 0.0)

    def unsettled(self, other: Minima, rows: Index, margin: float) -> Minima:
        """The same, stuck where others came lower for some replicates, but did not converge."""
        lower = ~other.converged & (other.value < self.value[rows] - margin)
        stuck = np.full(lower.sum(), int(Outcome.STUCK))
        return replace(
            self,
            value=_with(self.value, rows[lower], other.value[lower]),
            outcome=_with(self.outcome, rows[lower], stuck),
        )

    def failing(self, i: int, why: str) -> Minima:
        """The same, of which one replicate has no minimum for a reason."""
        outcome = _with(self.outcome, np.array([i]), np.array([int(Outcome.INVALID)]))
        return replace(self, outcome=outcome, reasons={**self.reasons, i: why})

    @property
    def failures(self) -> dict[int, str]:
        """Why a search found no minimum, by replicate."""
        failed = np.flatnonzero(~self.converged).tolist()
        ended = {i: f"no convergence: {Outcome(self.outcome[i]).sentence}" for i in failed}
        return ended | {i: why for i, why in self.reasons.items() if i in ended}


def _with(array: NDArray[N], where: Index, values: NDArray[N]) -> NDArray[N]:
    """A copy with some rows replaced."""
    out = array.copy()
    out[where] = values
    return out


@dataclass(frozen=True, eq=False)
class _Last:
    """The last step of every replicate, with the gradient where it began and the gain promised.

    The gain is infinite where the step was not small; ``slow`` counts small steps in a row that
    left much of their promise, ``new`` says where the point has been reached by this step.
    """

    step: Floats
    gradient: Floats
    gain: Floats
    slow: NDArray[np.intp]
    new: Mask

    def take(self, which: Mask) -> _Last:
        """Those of some replicates."""
        return _Last(
            self.step[which],
            self.gradient[which],
            self.gain[which],
            self.slow[which],
            self.new[which],
        )


@dataclass(frozen=True, eq=False)
class _Search:
    """The active replicates: ``which`` of all, where they are, and how they got there."""

    which: Index
    problem: Problem
    x: Floats
    points: Points
    radius: Floats
    trusted: Mask
    n: NDArray[np.intp]
    last: _Last
    correction: Floats | None = None

    def take(self, keep: Mask) -> _Search:
        """Some of them."""
        if keep.all():
            return self
        return _Search(
            self.which[keep],
            self.problem.take(keep),
            self.x[keep],
            self.points.take(keep),
            self.radius[keep],
            self.trusted[keep],
            self.n[keep],
            self.last.take(keep),
            None if self.correction is None else self.correction[keep],
        )

    def models(self, limit: Bounds[Floats]) -> Model[Floats]:
        """The quadratic models around the points, as corrected."""
        newton = self.points.newton
        if self.correction is not None:
            newton = newton + self.correction
        return model_of(self.points.gradient, newton, limit.noise)


def minimize_many(
    problem: Problem,
    start: Floats,
    *,
    gain_tolerance: float = 1e-9,
    max_evaluations: int = 200,
    radius: float = 1.0,
    correct: Secant = SECANT,
) -> Minima:
    """Minimise every function of a problem from ``start`` (B, c); see :func:`optimize.minimize`."""
    B, c = start.shape
    out = Minima(
        start.copy(),
        np.zeros((B, c)),
        np.empty(B),
        np.empty((B, c)),
        np.zeros((B, c, c)),
        np.empty(B),
        np.empty(B, dtype=np.intp),
        np.empty(B, dtype=np.intp),
    )
    search = _begin(out, problem, start, radius)
    while len(search.which):
        search, models, limit = _settled(out, search, gain_tolerance, max_evaluations, correct)
        if len(search.which):
            search = _advance(out, search, models, limit, correct)
    return out


def _begin(out: Minima, problem: Problem, start: Floats, radius: float) -> _Search:
    """All replicates at the start, less those that cannot be evaluated there."""
    B, c = start.shape
    search = _Search(
        np.arange(B),
        problem,
        start,
        problem.evaluate(start),
        np.full(B, radius),
        np.zeros(B, dtype=bool),
        np.ones(B, dtype=np.intp),
        _Last(
            np.zeros((B, c)),
            np.zeros((B, c)),
            np.full(B, np.inf),
            np.zeros(B, dtype=np.intp),
            np.zeros(B, dtype=bool),
        ),
    )
    bad = ~np.isfinite(search.points.value)
    if not bad.any():
        return search
    _record(out, search, np.full(B, np.nan), np.full(B, int(Outcome.INVALID)), bad)
    return search.take(~bad)


def _settled(
    out: Minima, search: _Search, gain_tolerance: float, max_evaluations: int, correct: Secant
) -> tuple[_Search, Model[Floats], Bounds[Floats]]:
    """Models at all points, less those of the replicates that need no further step."""
    while True:
        limit = bounds(search.points.value, search.x.shape[1], gain_tolerance)
        search, models = _corrected(search, limit, correct)
        verdicts = np.where(search.n >= max_evaluations, int(Outcome.EXHAUSTED), MOVES)
        settled = (models.gain < limit.tolerance) & search.trusted
        verdicts[settled] = Outcome.CONVERGED
        going = verdicts == MOVES
        search = _ended(out, search, models, limit, verdicts)
        if len(search.which) == going.sum():  # none has been stepped off a saddle
            return search, models.take(going), limit.take(going)


def _corrected(
    search: _Search, limit: Bounds[Floats], correct: Secant
) -> tuple[_Search, Model[Floats]]:
    """The models, and what they take from the last steps where these were slow."""
    models, last = search.models(limit), search.last
    missing = models.gain > correct.slow * last.gain
    slow = np.where(last.new, np.where(missing, last.slow + 1, 0), last.slow)
    rows = np.flatnonzero(last.new & (slow > 1) & (models.gain > 100.0 * limit.tolerance))
    search = replace(search, last=replace(last, slow=slow, new=np.zeros_like(last.new)))
    if not len(rows):
        return search, models
    points = search.points
    correction = np.zeros_like(points.newton)
    if search.correction is not None:
        correction = search.correction.copy()
    step, newton = last.step[rows], points.newton[rows] + correction[rows]
    missed = points.gradient[rows] - last.gradient[rows] - (newton @ step[..., None])[..., 0]
    correction[rows] = secant(correction[rows], step, missed, correct.clear)
    search = replace(search, correction=correction)
    return search, search.models(limit)


def _advance(
    out: Minima, search: _Search, models: Model[Floats], limit: Bounds[Floats], correct: Secant
) -> _Search:
    """One trial step of every replicate."""
    moves, promised = models.step(search.radius)
    trial = search.problem.evaluate(search.x + moves)
    step = Step(length(moves), promised, search.points.value - trial.value)
    verdicts = verdict(models.gain, step, limit)
    moved = verdicts == MOVES
    shrunk = np.where(verdicts == SHRINKS, 0.25 * step.length, search.radius)
    last = _Last(
        np.where(moved[:, None], moves, search.last.step),
        np.where(moved[:, None], search.points.gradient, search.last.gradient),
        np.where(
            moved, np.where(models.gain < correct.small, models.gain, np.inf), search.last.gain
        ),
        search.last.slow,
        moved,
    )
    search = replace(
        search,
        x=np.where(moved[:, None], search.x + moves, search.x),
        points=_choose(moved, trial, search.points),
        radius=np.where(moved, next_radius(search.radius, step), shrunk),
        trusted=np.where(moved, trustworthy(models.gain, step, limit), search.trusted),
        n=search.n + 1,
        last=last,
    )
    return _ended(out, search, models, limit, verdicts)


def _choose(which: Mask, first: Points, second: Points) -> Points:
    """``first`` where ``which``, else ``second``."""
    if which.all():
        return first
    return Points(
        np.where(which, first.value, second.value),
        np.where(which[:, None], first.gradient, second.gradient),
        np.where(which[:, None, None], first.newton, second.newton),
    )


def _ended(
    out: Minima,
    search: _Search,
    models: Model[Floats],
    limit: Bounds[Floats],
    verdicts: NDArray[np.intp],
) -> _Search:
    """Write down the replicates that have ended; those on a saddle step off instead."""
    done = verdicts >= 0
    if not done.any():
        return search
    found = np.isin(verdicts, [one for one in Outcome if one.found])
    search, left = _step_off(search, models, limit, found)
    done &= ~left
    _record(out, search, models.gain, verdicts, done)
    out.further[search.which[done]] = models.take(done).further
    return search.take(~done)


def _step_off(
    search: _Search, models: Model[Floats], limit: Bounds[Floats], found: Mask
) -> tuple[_Search, Mask]:
    """Try to leave along negative curvature, with shorter and shorter steps; who did."""
    left = np.zeros(len(found), dtype=bool)
    if search.correction is not None:
        models = model_of(search.points.gradient, search.points.newton, np.zeros(len(found)))
    saddle = found & models.escapable(limit.noise)
    if not saddle.any():
        return search, left
    x, n = search.x.copy(), search.n.copy()
    value, gradient = search.points.value.copy(), search.points.gradient.copy()
    newton = search.points.newton.copy()
    for away in AWAY:
        rows = np.flatnonzero(saddle & ~left)
        if not len(rows):
            break
        moved = search.x[rows] + away * models.vectors[rows, :, 0]
        trial = search.problem.take(rows).evaluate(moved)
        n[rows] += 1
        lower = trial.value < search.points.value[rows] - LOWER
        there = rows[lower]
        left[there] = True
        x[there], value[there] = moved[lower], trial.value[lower]
        gradient[there], newton[there] = trial.gradient[lower], trial.newton[lower]
    points = Points(value, gradient, newton)
    return _afresh(replace(search, x=x, n=n, points=points), left), left


def _afresh(search: _Search, left: Mask) -> _Search:
    """Nothing remembered of the steps of some replicates."""
    correction = search.correction
    if correction is not None:
        correction = np.where(left[:, None, None], 0.0, correction)
    last = search.last
    last = replace(
        last,
        gain=np.where(left, np.inf, last.gain),
        slow=np.where(left, 0, last.slow),
        new=last.new & ~left,
    )
    return replace(search, trusted=search.trusted & ~left, correction=correction, last=last)


def _record(
    out: Minima, search: _Search, gain: Floats, outcome: NDArray[np.intp], done: Mask
) -> None:
    """Write down where some replicates stopped."""
    rows = search.which[done]
    out.x[rows] = search.x[done]
    out.value[rows] = search.points.value[done]
    out.gradient[rows] = search.points.gradient[done]
    out.newton[rows] = search.points.newton[done]
    out.predicted_gain[rows] = gain[done]
    out.n_evaluations[rows] = search.n[done]
    out.outcome[rows] = outcome[done]
