"""The minimum of a path at one value of what it holds: Newton from a good start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from interlace.estimation.optimize import minimize
from interlace.inference.profiles.constrained import Path, PathPoint
from interlace.sums.terms import Floats

# A Newton step that promises less than this is taken on trust: it is known to a tenth.
_TRUST = 3e-5
# Share of the largest curvature that counts as downward, and a gain that cannot have caused it.
_BENT, _NIL = 1e-5, 1e-9
# Plain Newton steps before the trust region takes over, and the gain that is too much for them.
_PLAIN, _FAR = 5, 0.5


@dataclass(frozen=True, eq=False)
class _Nowhere:
    """Where the deviance cannot be computed, so far out are the templates."""

    size: int
    value: float = np.inf
    slope: float = 0.0
    curvature: float = 0.0

    @property
    def gradient(self) -> Floats:
        return np.zeros(self.size)

    @property
    def cross(self) -> Floats:
        return np.zeros(self.size)

    @property
    def newton_matrix(self) -> Floats:
        return np.eye(self.size)


def point_at(path: Path, psi: float, phi: Floats) -> PathPoint:
    """The path at one point; of infinite deviance where its equations cannot be factored."""
    try:
        return path.at(psi, phi)
    except np.linalg.LinAlgError:
        return _Nowhere(len(phi))


def constrained_minimum(
    path: Path, psi: float, x: Floats, point: PathPoint, minimum: float
) -> tuple[float, float, Floats]:
    """Least deviance at ``psi``, its slope along ``psi``, and the ``phi`` where it is.

    ``x`` is the ``phi`` to start from, ``point`` the path there.  The last Newton
    step is not evaluated: its promise corrects value and slope.  ``minimum`` is the deviance at the
    estimate: the rise from it is what must be accurate.  A direction that curves downward may be a
    rotation, bent by what is left of the slope: then it straightens with the next steps, and where
    it does not it is followed.
    """
    for _ in range(_PLAIN):
        step, gain, bent = _newton_step(point)
        trust = _TRUST * float(np.clip(point.value - gain - minimum, 1e-2, 1.0) ** 2)
        if gain > _FAR or (gain < _NIL and bent):
            break
        if gain < trust and not bent:
            return point.value - gain, point.slope + float(point.cross @ step), x + step
        trial = point_at(path, psi, x + step)
        if trial.value > point.value - 0.2 * gain:
            break
        point, x = trial, x + step
    found = minimize(_remembering(path, psi, x, point), x, gain_tolerance=trust)
    step, gain, _ = _newton_step(found.point)
    slope = found.point.slope + float(found.point.cross @ step)
    return found.point.value - gain, slope, found.x + step


def _remembering(
    path: Path, psi: float, phi: Floats, point: PathPoint
) -> Callable[[Floats], PathPoint]:
    """The path at ``psi`` as a function, the first point known already."""
    return lambda x: point if x is phi else point_at(path, psi, x)


def _newton_step(point: PathPoint) -> tuple[Floats, float, bool]:
    """Newton step, what it promises, and whether some direction curves downward."""
    gradient = point.gradient
    if not len(gradient):
        return gradient, 0.0, False
    values, vectors = np.linalg.eigh(point.newton_matrix)
    largest = np.abs(values).max()
    live = np.abs(values) > 1e-9 * largest
    slope = vectors.T @ gradient
    inverse = np.where(live, 1.0, 0.0) / np.where(live, np.abs(values), 1.0)
    steep = np.abs(slope[~live]).max(initial=0.0) > 1e-3 * np.sqrt(largest)
    bent = bool(values[0] < -_BENT * largest or steep)
    return -vectors @ (inverse * slope), float(0.5 * (inverse * slope**2).sum()), bent
