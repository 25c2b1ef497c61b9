"""Rules of the trust-region Newton search, as functions of numbers: of one function or of many.

:mod:`interlace.estimation.optimize` searches for the minimum of one function,
:mod:`interlace.batch.optimize` for those of many at once.  Both decide by what stands here: by
floats for one function, by arrays with an axis in front for many.

Every decision has a margin over rounding errors: a gain that is too small to be told from them
ends a search whichever way the last digits fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
# A number of one function, or an array of those of many.
Numbers = TypeVar("Numbers", float, Floats)

# Relative size below which an eigenvalue of the Newton matrix counts as flat.
FLAT = 1e-7
# A step that promised less than this and kept its promise confirms that the model can be trusted.
SHORT = 1e-5
# Lengths of the steps that try to leave a saddle point, and the reduction that counts as having.
AWAY, LOWER = (0.3, 0.1, 0.03, 0.01, 0.003), 1e-8
# A predicted gain that an evaluation failed to find counts as rounding error below this.
_NEGLIGIBLE = 1e-10
# Values are wanted to this accuracy: where two of them differ by less, they are one.
SAME = 1e-6
# Slopes and curvatures of a flat function, over the rounding error of its values.
_ROUNDING = 50.0
# Radius of the region of trust below which no step is tried.
_SHORTEST = 1e-12


class Outcome(IntEnum):
    """How a search ended."""

    CONVERGED = 0
    EXHAUSTED = 1
    STUCK = 2
    INVALID = 3
    NEGLIGIBLE = 4
    KNOWN = 5

    @property
    def found(self) -> bool:
        """Whether it ended at a minimum."""
        return self in _FOUND

    @property
    def sentence(self) -> str:
        """In words."""
        return _SENTENCES[self]


_FOUND = (Outcome.CONVERGED, Outcome.NEGLIGIBLE)
_SENTENCES = {
    Outcome.CONVERGED: "predicted gain below tolerance",
    Outcome.EXHAUSTED: "too many evaluations",
    Outcome.STUCK: "no step reduces the criterion",
    Outcome.INVALID: "the criterion cannot be evaluated at the start",
    Outcome.NEGLIGIBLE: "predicted gain negligible, none found",
    Outcome.KNOWN: "left where it ran into a minimum known already",
}
# Verdicts on a step that end no search.
MOVES, SHRINKS = -1, -2


@dataclass(frozen=True)
class Secant:
    """When the Newton matrix is corrected by the gradients seen.

    Where two steps in a row that promised less than ``small`` left more than ``slow`` of what they
    promised, it is far from the second derivatives.  What it missed of a change of the gradient
    corrects it if the share ``clear`` of that lies along the step.
    """

    small: float = 0.02
    slow: float = 0.3
    clear: float = 1e-8


# Best for Gaussian models.
SECANT = Secant()


# ------------------------------------------------------------------ one number, or many


def pick(where: bool | Mask, one: float | Floats, other: float | Floats) -> float | Floats:
    """``one`` where a condition holds, ``other`` elsewhere."""
    if isinstance(where, np.ndarray):
        return np.where(where, one, other)
    return one if where else other


def _larger(one: float, other: Numbers) -> Numbers:
    """The larger of two numbers."""
    return np.maximum(one, other) if isinstance(other, np.ndarray) else max(one, other)


def _everywhere(where: np.bool_ | Mask) -> bool:
    """Whether a condition holds for all functions."""
    return bool(where.all() if isinstance(where, np.ndarray) else where)


def _beside(numbers: float | Floats) -> float | Floats:
    """Numbers of functions beside those of their variables, ``(..., 1)``."""
    return numbers[..., None] if isinstance(numbers, np.ndarray) else numbers


@dataclass(frozen=True, eq=False)
class Bounds(Generic[Numbers]):
    """Gains that count as none: predicted, and predicted but not found; and rounding errors."""

    tolerance: Numbers
    negligible: Numbers
    noise: Numbers

    def take(self: Bounds[Floats], which: Mask) -> Bounds[Floats]:
        """Those of some functions."""
        return Bounds(self.tolerance[which], self.negligible[which], self.noise[which])


def bounds(value: Numbers, size: int, gain_tolerance: float) -> Bounds[Numbers]:
    """Bounds at a value of a function of ``size`` variables.

    A negligible gain is well above both the tolerance and the rounding error, so that a gain near
    the one or the other converges on either side.
    """
    noise = 4e-16 * (abs(value) + size)
    least = max(_NEGLIGIBLE, min(10.0 * gain_tolerance, 1e-8))
    return Bounds(_larger(gain_tolerance, 10.0 * noise), _larger(least, 100.0 * noise), noise)


# ------------------------------------------------------------------ the model around a point


@dataclass(frozen=True, eq=False)
class Model(Generic[Numbers]):
    """Quadratic model around a point, in the eigenvectors of the Newton matrix.

    Curvature enters by absolute value, so that saddles are left rather than approached; directions
    without curvature and without slope are not ``live`` and left out.  ``gain`` is the reduction
    that the full step promises.
    """

    eigenvalues: Floats
    vectors: Floats
    slope: Floats
    live: Mask
    gain: Numbers

    def take(self: Model[Floats], which: Mask) -> Model[Floats]:
        """Those of some functions."""
        return Model(
            self.eigenvalues[which],
            self.vectors[which],
            self.slope[which],
            self.live[which],
            self.gain[which],
        )

    def step(self, radius: Numbers) -> tuple[Floats, Numbers]:
        """Step inside the radius and the reduction that the model promises for it."""
        curvature = np.where(self.live, np.abs(self.eigenvalues), 1.0)
        slope = np.where(self.live, self.slope, 0.0)
        s = -slope / np.maximum(curvature, 1e-300)
        near = length(s) <= radius
        if not _everywhere(near):
            s = -slope / (curvature + _beside(_shift(curvature, slope, radius, near)))
        promised = -np.add.reduce(self.slope * s + 0.5 * self.eigenvalues * s**2, axis=-1)
        return turned(self.vectors, s), promised

    @property
    def further(self) -> Floats:
        """Newton step in the directions that are not flat."""
        size = np.abs(self.eigenvalues)
        curved = size > FLAT * size.max(axis=-1, initial=0.0)[..., None]
        return turned(
            self.vectors, np.where(curved, -self.slope, 0.0) / np.where(curved, size, 1.0)
        )

    def escapable(self, noise: Numbers) -> Mask:
        """Whether the first eigenvector is a direction of negative curvature."""
        largest = np.abs(self.eigenvalues).max(axis=-1, initial=0.0)
        lowest = self.eigenvalues.min(axis=-1, initial=0.0)
        return np.asarray(lowest < -np.maximum(1e-5 * largest, noise))


def model_of(
    gradient: Floats,
    newton: Floats,
    noise: Numbers = 0.0,  # type: ignore[assignment]
) -> Model[Numbers]:
    """Eigen-decomposition of the Newton matrix, live directions and promised gain.

    Where neither slope nor any curvature can be told from ``noise``, no direction is live.
    """
    values, vectors = np.linalg.eigh(newton)
    slope = (gradient[..., None, :] @ vectors)[..., 0, :]
    curvature, steepness = np.abs(values), np.abs(slope)
    largest = np.maximum.reduce(curvature, axis=-1, initial=0.0, keepdims=True)
    flat, rounding = FLAT * largest, _ROUNDING * _beside(noise)
    live = (curvature > flat) | (steepness > 1e-6 * np.sqrt(np.maximum(largest, 1e-300)))
    live &= ~((largest <= rounding) & (steepness <= rounding))
    safe = np.where(live, np.maximum(curvature, flat), 1.0)
    gain = 0.5 * np.add.reduce(np.where(live, slope**2 / safe, 0.0), axis=-1)
    return Model(values, vectors, slope, live, gain)


def turned(vectors: Floats, s: Floats) -> Floats:
    """Coordinates in the eigenvectors to those of the variables."""
    return np.asarray((vectors @ s[..., None])[..., 0])


def _shift(
    curvature: Floats, slope: Floats, radius: Numbers, near: np.bool_ | Mask
) -> float | Floats:
    """Smallest shift >= 0 of the curvature that keeps the step inside the radius.

    It is zero for the functions whose step is ``near`` enough without one.
    """
    if not isinstance(near, np.ndarray):
        return _bisected(curvature, slope, radius)
    far, shift = ~near, np.zeros(near.shape)
    within = np.broadcast_to(radius, far.shape)[far]
    shift[far] = _bisected(curvature[far], slope[far], within)
    return shift


def _bisected(curvature: Floats, slope: Floats, radius: Numbers) -> float | Floats:
    """The same for functions whose steps are all too far."""
    low: float | Floats = 0.0 * radius
    high: float | Floats = length(slope) / _larger(1e-300, radius)
    for _ in range(60):
        open_ = high - low >= 1e-3 * high  # none goes on because another one does
        if not np.logical_or.reduce(open_, axis=None):
            break
        middle = 0.5 * (low + high)
        long = length(slope / (curvature + _beside(middle))) > radius
        low, high = pick(open_ & long, middle, low), pick(open_ & ~long, middle, high)
    return high


def length(s: Floats) -> Floats:
    """Euclidean length."""
    return np.asarray(np.sqrt(np.add.reduce(s**2, axis=-1)))


# ------------------------------------------------------------------ what a step has shown


@dataclass(frozen=True, eq=False)
class Step(Generic[Numbers]):
    """A step tried: its length, what the model promised for it and what came of it."""

    length: Numbers
    promised: Numbers
    actual: Numbers


@overload
def verdict(gain: float, step: Step[float], limit: Bounds[float], unsure: float = 0.0) -> int: ...
@overload
def verdict(
    gain: Floats, step: Step[Floats], limit: Bounds[Floats], unsure: float = 0.0
) -> NDArray[np.intp]: ...
def verdict(
    gain: float | Floats,
    step: Step[float] | Step[Floats],
    limit: Bounds[float] | Bounds[Floats],
    unsure: float = 0.0,
) -> float | Floats | NDArray[np.intp]:
    """``MOVES``, ``SHRINKS``, or the :class:`Outcome` that ends the search.

    ``unsure`` is how far the difference of the values may be off.
    """
    none = gain < limit.tolerance
    rounding = 10.0 * limit.noise
    lost_in_it = (step.promised < rounding) & (step.promised > -rounding)
    good = none | (step.actual > 0.05 * step.promised - unsure) | lost_in_it
    better = step.actual >= -limit.tolerance - unsure
    failed = pick(0.25 * step.length < _SHORTEST, Outcome.STUCK, SHRINKS)
    failed = pick(gain < limit.negligible, Outcome.NEGLIGIBLE, failed)
    ended = pick(none, Outcome.CONVERGED, Outcome.STUCK)
    return pick(good, pick(better, MOVES, ended), failed)


def lost(gain: Numbers, seen: Numbers) -> bool | Mask:
    """Whether a search that is stuck has nothing left to gain but rounding errors.

    ``seen`` is the largest error of steps that promised next to nothing: what is promised is less,
    and the value is right to ``SAME`` nevertheless.
    """
    return (gain <= seen) & (seen <= SAME)


def trustworthy(
    gain: Numbers, step: Step[Numbers], limit: Bounds[Numbers], unsure: float = 0.0
) -> bool | Mask:
    """Whether the step was short and went as predicted: a stop at its end is confirmed."""
    missed = abs(step.actual - step.promised)
    kept = missed <= 0.5 * abs(step.promised) + limit.tolerance + unsure
    return (gain < SHORT) & kept


def next_radius(radius: Numbers, step: Step[Numbers], unsure: float = 0.0) -> float | Floats:
    """Grow after good steps that reached the boundary, shrink after poor ones."""
    actual = step.actual + unsure
    far = (actual > 0.75 * step.promised) & (step.length > 0.8 * radius)
    grown = pick(far, 2.5 * radius, radius)
    return pick(actual < 0.25 * step.promised, 0.5 * step.length, grown)


# ------------------------------------------------------------------ corrections of the model


def secant(correction: Floats, step: Floats, missed: Floats, share: float = 1e-8) -> Floats:
    """Symmetric rank-one update: the curvature along the last step is what the gradients say.

    ``missed`` is the change of the gradient along the step less that of the model; nothing is
    corrected unless this ``share`` of it lies along the step.
    """
    along = (missed * step).sum(axis=-1)
    clear = np.abs(along) >= share * length(missed) * length(step)
    clear &= along != 0.0
    scaled = np.where(clear, 1.0 / np.where(clear, along, 1.0), 0.0)[..., None, None]
    return correction + missed[..., :, None] * missed[..., None, :] * scaled
