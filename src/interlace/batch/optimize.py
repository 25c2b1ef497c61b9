"""Trust-region Newton for many functions of one shape at once; the batched :mod:`optimize`.

The rules are those of :func:`interlace.estimation.optimize.minimize`: curvature enters by absolute
value, flat directions are left out, a stationary point with negative curvature is stepped off, and
a stop needs a step that was short and went as predicted.  Every array has the replicates in front;
replicates that are done leave the active set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from interlace.estimation.optimize import FLAT, NEGLIGIBLE, SHORT, Floats

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

_AWAY = (0.3, 0.1, 0.03, 0.01, 0.003)


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
    """Where every search stopped; ``message`` is one of :data:`MESSAGES` by number.

    ``further`` (B, c) is the Newton step from there, flat directions left out: nothing to gain, but
    digits of ``x``.
    """

    x: Floats
    further: Floats
    value: Floats
    gradient: Floats
    predicted_gain: Floats
    n_evaluations: NDArray[np.intp]
    message: NDArray[np.intp]

    @property
    def converged(self) -> Mask:
        """Whether the predicted gain is below the tolerance."""
        found: Mask = self.message == CONVERGED
        return found


MESSAGES = (
    "predicted gain below tolerance",
    "too many evaluations",
    "no step reduces the criterion",
    "the criterion cannot be evaluated at the start",
)
CONVERGED, EXHAUSTED, STUCK, INVALID = range(4)


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
        )

    @property
    def noise(self) -> Floats:
        """Rounding errors of the values."""
        noise: Floats = 4e-16 * (np.abs(self.points.value) + self.x.shape[1])
        return noise


@dataclass(frozen=True, eq=False)
class _Models:
    """Quadratic models in the eigenvectors of the Newton matrices."""

    eigenvalues: Floats
    vectors: Floats
    slope: Floats
    live: Mask
    gain: Floats

    def take(self, keep: Mask) -> _Models:
        """Those of some replicates."""
        if keep.all():
            return self
        return _Models(
            self.eigenvalues[keep],
            self.vectors[keep],
            self.slope[keep],
            self.live[keep],
            self.gain[keep],
        )

    @property
    def further(self) -> Floats:
        """Newton steps in the directions that are not flat."""
        size = np.abs(self.eigenvalues)
        curved = size > FLAT * size.max(axis=1, initial=0.0)[:, None]
        s = np.where(curved, -self.slope, 0.0) / np.where(curved, size, 1.0)
        return np.asarray((self.vectors @ s[:, :, None])[:, :, 0])

    def steps(self, radius: Floats) -> tuple[Floats, Floats]:
        """Steps inside the radii, and the reductions that the models promise for them."""
        curvature = np.where(self.live, np.abs(self.eigenvalues), 1.0)
        slope = np.where(self.live, self.slope, 0.0)
        s = -slope / (curvature + _shifts(curvature, slope, radius)[:, None])
        promised = -(self.slope * s + 0.5 * self.eigenvalues * s**2).sum(axis=1)
        return (self.vectors @ s[:, :, None])[:, :, 0], promised


def minimize_many(
    problem: Problem,
    start: Floats,
    *,
    gain_tolerance: float = 1e-9,
    max_evaluations: int = 200,
    radius: float = 1.0,
) -> Minima:
    """Minimise every function of a problem from ``start`` (B, c); see :func:`optimize.minimize`."""
    B, c = start.shape
    out = Minima(
        start.copy(),
        np.zeros((B, c)),
        np.empty(B),
        np.empty((B, c)),
        np.empty(B),
        np.empty(B, dtype=np.intp),
        np.empty(B, dtype=np.intp),
    )
    search = _begin(out, problem, start, radius)
    while len(search.which):
        search, models, tolerance = _settle(out, search, gain_tolerance)
        exhausted = search.n >= max_evaluations
        if exhausted.any():
            _finish(out, search, models, exhausted, EXHAUSTED)
            search, models = search.take(~exhausted), models.take(~exhausted)
            tolerance = tolerance[~exhausted]
        if len(search.which):
            search = _advance(out, search, models, tolerance)
    return out


def _begin(out: Minima, problem: Problem, start: Floats, radius: float) -> _Search:
    """All replicates at the start, less those that cannot be evaluated there."""
    B = len(start)
    points = problem.evaluate(start)
    search = _Search(
        np.arange(B),
        problem,
        start,
        points,
        np.full(B, radius),
        np.zeros(B, dtype=bool),
        np.ones(B, dtype=np.intp),
    )
    bad = ~np.isfinite(points.value)
    if bad.any():
        nothing = np.full(B, np.nan)
        _record(out, search, nothing, bad, INVALID)
        search = search.take(~bad)
    return search


def _settle(out: Minima, search: _Search, gain_tolerance: float) -> tuple[_Search, _Models, Floats]:
    """Models at all points; replicates at a minimum are finished, those on a saddle step off."""
    while True:
        models = _models(search.points)
        noise = search.noise
        tolerance = np.maximum(gain_tolerance, 10.0 * noise)
        settled = (models.gain < tolerance) & search.trusted
        saddle = settled & _escapable(models, noise)
        _finish(out, search, models, settled & ~saddle, CONVERGED)
        keep = ~settled | saddle
        if not saddle.any():
            return search.take(keep), models.take(keep), tolerance[keep]
        moved, left = _step_off(search, models, saddle)
        _finish(out, search, models, saddle & ~left, CONVERGED)
        search = moved.take(~settled | left)


def _advance(out: Minima, search: _Search, models: _Models, tolerance: Floats) -> _Search:
    """One trial step of every replicate."""
    steps, promised = models.steps(search.radius)
    trial = search.problem.evaluate(search.x + steps)
    actual = search.points.value - trial.value
    gain, noise = models.gain, search.noise
    trusted = (gain < SHORT) & (np.abs(actual - promised) <= 0.5 * np.abs(promised) + tolerance)
    accepted = (gain < tolerance) | (actual > 0.05 * promised) | (np.abs(promised) < 10.0 * noise)
    negligible = ~accepted & (gain < NEGLIGIBLE)
    lengths = np.linalg.norm(steps, axis=1)
    shrunk = 0.25 * lengths
    worse = accepted & ~(actual >= -tolerance)
    stuck = (~accepted & ~negligible & (shrunk < 1e-12)) | (worse & (gain >= tolerance))
    search = replace(search, n=search.n + 1)
    done = negligible | (worse & (gain < tolerance))
    _finish(out, search, models, done, CONVERGED)
    _finish(out, search, models, stuck, STUCK)
    moves = accepted & ~worse
    radius = np.where(moves, _next_radii(search.radius, actual, promised, lengths), shrunk)
    search = replace(
        search,
        x=np.where(moves[:, None], search.x + steps, search.x),
        points=_choose(moves, trial, search.points),
        radius=radius,
        trusted=trusted,
    )
    return search.take(~worse & ~stuck & ~negligible)


def _choose(which: Mask, first: Points, second: Points) -> Points:
    """``first`` where ``which``, else ``second``."""
    if which.all():
        return first
    return Points(
        np.where(which, first.value, second.value),
        np.where(which[:, None], first.gradient, second.gradient),
        np.where(which[:, None, None], first.newton, second.newton),
    )


def _models(points: Points) -> _Models:
    """Eigen-decompositions of the Newton matrices, live directions and promised gains."""
    values, vectors = np.linalg.eigh(points.newton)
    slope = (points.gradient[:, None, :] @ vectors)[:, 0]
    curvature = np.abs(values)
    largest = curvature.max(axis=1, initial=0.0)[:, None]
    steep = np.abs(slope) > 1e-6 * np.sqrt(np.maximum(largest, 1e-300))
    live = (curvature > FLAT * largest) | steep
    safe = np.where(live, np.maximum(curvature, FLAT * largest), 1.0)
    gain = np.where(live, 0.5 * slope**2 / safe, 0.0).sum(axis=1)
    return _Models(values, vectors, slope, live, gain)


def _shifts(curvature: Floats, slope: Floats, radius: Floats) -> Floats:
    """Smallest shifts >= 0 of the curvatures that keep the steps inside the radii."""

    def length(shift: Floats, rows: Mask | slice) -> Floats:
        return np.asarray(np.linalg.norm(slope[rows] / (curvature[rows] + shift[:, None]), axis=1))

    shift = np.zeros(len(slope))
    far = ~(length(np.full(len(slope), 1e-300), slice(None)) <= radius)
    if not far.any():
        return shift
    low = np.zeros(int(far.sum()))
    high = np.linalg.norm(slope[far], axis=1) / radius[far]
    for _ in range(60):
        middle = 0.5 * (low + high)
        long = length(middle, far) > radius[far]
        low, high = np.where(long, middle, low), np.where(long, high, middle)
        if (high - low < 1e-3 * high).all():
            break
    shift[far] = high
    return shift


def _next_radii(radius: Floats, actual: Floats, promised: Floats, length: Floats) -> Floats:
    """Grow after good steps that reached the boundary, shrink after poor ones."""
    far = (actual > 0.75 * promised) & (length > 0.8 * radius)
    grown = np.where(far, 2.5 * radius, radius)
    return np.where(actual < 0.25 * promised, 0.5 * length, grown)


def _escapable(models: _Models, noise: Floats) -> Mask:
    """Whether there is a direction of negative curvature."""
    lowest = models.eigenvalues[:, 0]
    bound = np.maximum(1e-5 * np.abs(models.eigenvalues).max(axis=1, initial=0.0), noise)
    found: Mask = lowest < -bound
    return found


def _step_off(search: _Search, models: _Models, saddle: Mask) -> tuple[_Search, Mask]:
    """Try to leave along negative curvature, with shorter and shorter steps; who did."""
    x, n, trusted = search.x.copy(), search.n.copy(), search.trusted.copy()
    value, gradient = search.points.value.copy(), search.points.gradient.copy()
    newton = search.points.newton.copy()
    left = np.zeros(len(x), dtype=bool)
    for length in _AWAY:
        rows = np.flatnonzero(saddle & ~left)
        if not len(rows):
            break
        moved = search.x[rows] + length * models.vectors[rows, :, 0]
        trial = search.problem.take(rows).evaluate(moved)
        n[rows] += 1
        lower = trial.value < search.points.value[rows] - 1e-8
        there = rows[lower]
        left[there], trusted[there] = True, False
        x[there], value[there] = moved[lower], trial.value[lower]
        gradient[there], newton[there] = trial.gradient[lower], trial.newton[lower]
    points = Points(value, gradient, newton)
    return replace(search, x=x, n=n, trusted=trusted, points=points), left


def _finish(out: Minima, search: _Search, models: _Models, done: Mask, message: int) -> None:
    """Write down where some replicates stopped."""
    if done.any():
        _record(out, search, models.gain, done, message)
        out.further[search.which[done]] = models.take(done).further


def _record(out: Minima, search: _Search, gain: Floats, done: Mask, message: int) -> None:
    rows = search.which[done]
    out.x[rows] = search.x[done]
    out.value[rows] = search.points.value[done]
    out.gradient[rows] = search.points.gradient[done]
    out.predicted_gain[rows] = gain[done]
    out.n_evaluations[rows] = search.n[done]
    out.message[rows] = message
