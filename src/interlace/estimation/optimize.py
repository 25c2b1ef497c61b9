"""Trust-region Newton for smooth functions with exact gradients; knows nothing of mixed models.

Made for functions with flat directions (exact symmetries) and with saddle points at symmetric
places: curvature enters by absolute value, so saddles are left rather than approached; directions
without curvature and without slope are left out of the step; a point with neither slope nor
predicted gain, but with a direction of negative curvature, is stepped off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Relative size below which an eigenvalue of the Newton matrix counts as flat.
FLAT = 1e-7
# A step that promised less than this and kept its promise confirms that the model can be trusted.
SHORT = 1e-5
# Where two steps in a row that promised less than SMALL left more than SLOW of what they promised,
# the Newton matrix is far from the second derivatives, and is corrected by the gradients seen.
SMALL, SLOW = 0.02, 0.3
# A predicted gain that an evaluation failed to find counts as rounding error below this.
NEGLIGIBLE = 1e-10


class Point(Protocol):
    """What the optimiser needs to know of the function at one point."""

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
    converged: bool
    message: str


@dataclass(frozen=True, eq=False)
class _Model:
    """Quadratic model around a point, in the eigenvectors of the Newton matrix."""

    eigenvalues: Floats
    vectors: Floats
    slope: Floats
    noise: float

    @property
    def curvature(self) -> Floats:
        """Absolute eigenvalues."""
        return np.abs(self.eigenvalues)

    @property
    def live(self) -> NDArray[np.bool_]:
        """Directions that are not flat."""
        largest = self.curvature.max(initial=0.0)
        steep = np.abs(self.slope) > 1e-6 * np.sqrt(max(largest, 1e-300))
        curved: NDArray[np.bool_] = self.curvature > FLAT * largest
        live: NDArray[np.bool_] = np.logical_or(curved, steep)
        return live

    @property
    def gain(self) -> float:
        """Reduction promised by the full step."""
        live = self.live
        floor = FLAT * self.curvature.max(initial=0.0)
        return float((0.5 * self.slope[live] ** 2 / np.maximum(self.curvature[live], floor)).sum())

    def step(self, radius: float) -> tuple[Floats, float]:
        """Step inside the radius and the reduction that the model promises for it."""
        live, curvature, slope = self.live, self.curvature, self.slope
        shift = _shift(curvature[live], slope[live], radius)
        s = np.zeros_like(slope)
        s[live] = -slope[live] / (curvature[live] + shift)
        promised = -float(slope @ s + 0.5 * (self.eigenvalues * s) @ s)
        return self.vectors @ s, promised

    def escape(self) -> Floats | None:
        """Unit direction of negative curvature without slope, if there is one."""
        worst = int(np.argmin(self.eigenvalues))
        if self.eigenvalues[worst] < -max(1e-5 * self.curvature.max(), self.noise):
            return self.vectors[:, worst]
        return None


def minimize(
    function: Callable[[Floats], P],
    start: Floats,
    *,
    gain_tolerance: float = 1e-12,
    max_evaluations: int = 200,
    radius: float = 1.0,
    watch: Callable[[int, P, float], None] | None = None,
    doubt: Callable[[P, Floats], float] | None = None,
) -> Minimum[P]:
    """Minimise by trust-region Newton.

    Stops when the predicted reduction is below ``gain_tolerance`` (raised to the rounding error of
    the value where that is larger) at a point reached by a step that was short and went as
    predicted; without such a step, one more is taken.  Where values are estimates, ``doubt`` says
    how far their difference along a step from a point may be off.  ``watch`` is called with the
    number of evaluations, the point and its predicted gain after every accepted step.
    """
    x, point, n = start, function(start), 1
    trusted = False
    correction = np.zeros((len(x), len(x)))
    last: _Step | None = None
    slow = 0
    while True:
        noise = 4e-16 * (abs(point.value) + len(x))
        tolerance = max(gain_tolerance, 10.0 * noise)
        model = _model(point, correction, noise)
        slow = slow + 1 if last is not None and model.gain > SLOW * last.gain else 0
        if last is not None and slow > 1 and model.gain > 100.0 * tolerance:
            correction = _secant(correction, last, point)
            model = _model(point, correction, noise)
        if watch is not None:
            watch(n, point, model.gain)
        settled = "predicted gain below tolerance" if model.gain < tolerance and trusted else ""
        while not settled:
            if n >= max_evaluations:
                return _minimum(x, point, model, n, False, f"no convergence in {n} evaluations")
            step, promised = model.step(radius)
            trial = function(x + step)
            n += 1
            actual = point.value - trial.value
            unsure = 0.0 if doubt is None else doubt(point, step)
            trusted = model.gain < SHORT
            if trusted and abs(actual - promised) > 0.5 * abs(promised) + tolerance + unsure:
                trusted = False
            good = actual > 0.05 * promised - unsure
            if model.gain < tolerance or good or abs(promised) < 10.0 * noise:
                break
            if model.gain < NEGLIGIBLE:
                settled = "predicted gain negligible, none found"
                continue
            radius = 0.25 * float(np.linalg.norm(step))
            if radius < 1e-12:
                return _minimum(x, point, model, n, False, "no step reduces the criterion")
        if settled:
            away = _step_off(function, x, point, _model(point, 0.0, noise))
            n += away.tried
            if away.point is None:
                return _minimum(x, point, model, n, True, settled)
            x, point, trusted, last = away.x, away.point, False, None
            correction = np.zeros_like(correction)
            continue
        if actual < -tolerance - unsure:
            done = model.gain < tolerance
            message = "predicted gain below tolerance" if done else "no step reduces the criterion"
            return _minimum(x, point, model, n, done, message)
        radius = _next_radius(radius, actual + unsure, promised, float(np.linalg.norm(step)))
        last = _Step(step, point.gradient, model.gain) if model.gain < SMALL else None
        x, point = x + step, trial


@dataclass(frozen=True, eq=False)
class _Step:
    """A step taken, with the gradient where it began and the gain that was promised there."""

    step: Floats
    gradient: Floats
    gain: float


def _secant(correction: Floats, last: _Step, point: Point) -> Floats:
    """Symmetric rank-one update: the curvature along the last step is what the gradients say."""
    step = last.step
    missed = point.gradient - last.gradient - (point.newton_matrix + correction) @ step
    along = float(missed @ step)
    if abs(along) < 1e-8 * float(np.linalg.norm(missed) * np.linalg.norm(step)):
        return correction
    return correction + np.outer(missed, missed) / along


def _model(point: Point, correction: Floats | float, noise: float) -> _Model:
    """Eigen-decomposition of the Newton matrix."""
    values, vectors = np.linalg.eigh(point.newton_matrix + correction)
    return _Model(values, vectors, vectors.T @ point.gradient, noise)


def _shift(curvature: Floats, slope: Floats, radius: float) -> float:
    """Smallest shift >= 0 of the curvature that keeps the step inside the radius."""

    def length(shift: float) -> float:
        return float(np.linalg.norm(slope / (curvature + shift)))

    if not len(slope) or length(1e-300) <= radius:
        return 0.0
    low, high = 0.0, float(np.linalg.norm(slope)) / radius
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if length(middle) > radius else (low, middle)
        if high - low < 1e-3 * high:
            break
    return high


def _next_radius(radius: float, actual: float, promised: float, length: float) -> float:
    """Grow after good steps that reached the boundary, shrink after poor ones."""
    if actual < 0.25 * promised:
        return 0.5 * length
    if actual > 0.75 * promised and length > 0.8 * radius:
        return 2.5 * radius
    return radius


@dataclass(frozen=True, eq=False)
class _Away(Generic[P]):
    """Outcome of an attempt to leave a stationary point; no ``point`` if it stays."""

    x: Floats
    point: P | None
    tried: int


def _step_off(function: Callable[[Floats], P], x: Floats, point: P, model: _Model) -> _Away[P]:
    """Try to leave along negative curvature, with shorter and shorter steps."""
    direction = model.escape()
    if direction is None:
        return _Away(x, None, 0)
    lengths = (0.3, 0.1, 0.03, 0.01, 0.003)
    for tried, length in enumerate(lengths, start=1):
        trial = function(x + length * direction)
        if trial.value < point.value - 1e-8:
            return _Away(x + length * direction, trial, tried)
    return _Away(x, None, len(lengths))


def _minimum(
    x: Floats, point: P, model: _Model, n: int, converged: bool, message: str
) -> Minimum[P]:
    """Certificate at the point reached; the eigenvalues are those without any correction."""
    eigenvalues = _model(point, 0.0, model.noise).eigenvalues
    return Minimum(x, point, point.gradient, eigenvalues, model.gain, n, converged, message)
