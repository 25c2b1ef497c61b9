"""The least deviance along one parameter, and where its signed root takes a value.

For searches whose constrained minimum is found from the nearest one known; what holds the
parameter, and what else is searched, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from interlace.errors import InterlaceError
from interlace.inference.profiles.curves import ProfileCurve, Scale
from interlace.model.confidence import normal_reach
from interlace.sums.terms import Floats

# Distance of zeta from what is looked for; steps to it.
_CLOSE, _STEPS = 1e-6, 60
# A deviance below the least by this shows that the fit is no minimum.
_LOWER = 1e-5
# Nodes of a curve to each side, by zeta over that of the level; the usual level has exact limits.
_NODES, _APART = (0.25, 0.5, 0.75), 0.02
_USUAL = 0.95

# From the value held and where the nearest minimum was: the deviance, its slope, and where it is.
Solve = Callable[[float, Floats], tuple[float, float, Floats]]


@dataclass(eq=False)
class Crossings:
    """The least deviance along a parameter, and what was seen of it.

    Attributes
    ----------
    name, estimate, se
        Of the parameter, on the scale on which it is held.
    solve
        The constrained minimum at one value.
    least, start
        The deviance at the estimate, and where it is.
    low, high
        Bounds of the value.
    scale
        What makes the parameter of the value held.
    walled
        Whether a value without a likelihood is just too far, and no error.
    """

    name: str
    estimate: float
    se: float
    solve: Solve
    least: float
    start: Floats
    low: float = -np.inf
    high: float = np.inf
    scale: Scale = field(default_factory=lambda: Scale("linear"))
    walled: bool = False
    seen: dict[float, tuple[float, float, Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seen[self.estimate] = (0.0, 1.0 / max(self.se, 1e-12), self.start)

    def crossing(self, target: float) -> float:
        """Where ``zeta`` is ``target``; the bound of the parameter if nowhere, infinite if far."""
        psi = self._guess(target)
        for _ in range(_STEPS):
            zeta, rate, _ = self.point(psi)
            if abs(zeta - target) < _CLOSE:
                return psi
            bound = self.low if target < 0.0 else self.high
            if psi == bound and abs(zeta) < abs(target):
                return psi
            psi = self._next(psi, zeta, rate, target)
            if not np.isfinite(psi):
                return psi
        return float(np.sign(target) * np.inf)

    def _guess(self, target: float) -> float:
        """A first value, from the nearest point seen on this side."""
        near = min(
            (p for p, (zeta, *_) in self.seen.items() if zeta * target >= 0.0),
            key=lambda p: abs(self.seen[p][0] - target),
        )
        zeta, rate, _ = self.seen[near]
        return self._next(near, zeta, rate, target)

    def _next(self, psi: float, zeta: float, rate: float, target: float) -> float:
        """A Newton step, between points that bracket the target where there are any."""
        known = rate > 0.0 and np.isfinite(zeta)
        step = (target - zeta) / rate if known else np.sign(target - zeta) * self.se
        step = float(np.clip(step, -4.0 * self.se, 4.0 * self.se))
        to = min(max(psi + step, self.low), self.high)
        below = [p for p, (z, *_) in self.seen.items() if z < target]
        above = [p for p, (z, *_) in self.seen.items() if z > target]
        low, high = max(below, default=-np.inf), min(above, default=np.inf)
        if low < to < high or not (np.isfinite(low) and np.isfinite(high)):
            far = abs(to - self.estimate) > 1e4 * self.se
            return float(np.sign(target) * np.inf) if far else to
        return 0.5 * (low + high)

    def point(self, psi: float) -> tuple[float, float, Floats]:
        """``zeta``, its slope, and where the minimum is, at a value."""
        if psi in self.seen:
            return self.seen[psi]
        near = min(self.seen, key=lambda p: abs(p - psi))
        value, fall, place = self.solve(psi, self.seen[near][2])
        rise = value - self.least
        if self.walled and not np.isfinite(rise):
            wall = float(np.copysign(np.inf, psi - self.estimate))
            self.seen[psi] = (wall, 0.0, self.seen[near][2])
            return self.seen[psi]
        if not np.isfinite(rise):
            raise InterlaceError(
                f"the profile of '{self.name}' could not be followed to {psi:.4g}, where the "
                f"model has no likelihood: use conf_int(method='bootstrap')"
            )
        if rise < -_LOWER:
            raise InterlaceError(
                f"the profile of '{self.name}' found a deviance that is lower than that of "
                f"the fit by {-rise:.2g}: the fit is not at its optimum"
            )
        side = 1.0 if psi > self.estimate else -1.0
        zeta = side * float(np.sqrt(max(rise, 0.0)))
        rate = fall / (2.0 * zeta) if zeta else 1.0 / max(self.se, 1e-12)
        self.seen[psi] = (zeta, rate, place)
        return self.seen[psi]

    def limits(self, z: float) -> tuple[float, float]:
        """The parameter where ``zeta`` is minus and plus ``z``."""
        low, high = (float(self.scale(self.crossing(side * z))) for side in (-1.0, 1.0))
        return low, high

    def curve(self, z: float, level: float) -> ProfileCurve:
        """Nodes from one end to the other, the estimate in the middle."""
        usual = normal_reach(_USUAL)
        limits: dict[float, tuple[float, float]] = {}
        ends: dict[float, list[float]] = {level: [], _USUAL: []}
        for side in (-1.0, 1.0):
            for share in _NODES:
                self.crossing(side * share * z)
            if usual < z:
                ends[_USUAL].append(self.crossing(side * usual))
            ends[level].append(self.crossing(side * z))
        for one, pair in ends.items():
            if len(pair) == 2:
                limits[one] = (float(self.scale(pair[0])), float(self.scale(pair[1])))
        nodes = {p: (zeta, rate) for p, (zeta, rate, _) in self.seen.items() if np.isfinite(zeta)}
        psi = np.array(_thinned(nodes))
        zeta, rates = (np.array([nodes[p][i] for p in psi]) for i in (0, 1))
        value = float(self.scale(self.estimate))
        return ProfileCurve(self.name, value, psi, zeta, rates, self.scale, limits)


def _thinned(nodes: dict[float, tuple[float, float]]) -> list[float]:
    """The values seen, without those that are close to another; the ends and the estimate stay."""
    order = sorted(nodes)
    kept = [order[0]]
    for psi in order[1:]:
        close = abs(nodes[psi][0] - nodes[kept[-1]][0]) < _APART
        if close and (psi == order[-1] or nodes[psi][0] == 0.0) and len(kept) > 1:
            kept[-1] = psi
        elif not close:
            kept.append(psi)
    return kept
