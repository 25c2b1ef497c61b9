"""A minimum held on a surface, where one function of the free numbers has one value.

The search goes on along the surface ``f(x) = psi``, by Newton steps in its tangent with the
curvature of the surface counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from interlace.errors import InterlaceError
from interlace.estimation.optimize import Point
from interlace.estimation.parameters import selected
from interlace.inference.profiles.crossing import Crossings
from interlace.inference.profiles.curves import Profile, Scale
from interlace.machine.progress import counter
from interlace.model.confidence import check_level, normal_reach
from interlace.sums.terms import Floats

# Gain at which an inner search ends, its steps, and halvings of one of these.
GAIN, _STEPS, _HALVINGS = 1e-9, 60, 30
# Distance from the surface in units of psi, steps to it, and the longest of these.
_ON, _TO, _FAR = 1e-12, 100, 0.25
# The largest inverse hyperbolic tangent of a correlation tried.
_INSIDE = 9.0
# Steps after which the curvature of the surface is computed again.
_AGAIN = 3
# Step of differences; directions without curvature; a standard deviation that counts as zero.
_STEP, _FLAT, _ZERO = 1e-5, 1e-9, 1e-5


@dataclass(frozen=True, eq=False)
class Located:
    """A criterion at the point ``x``."""

    x: Floats
    of: Point

    @property
    def value(self) -> float:
        return self.of.value

    @property
    def gradient(self) -> Floats:
        return self.of.gradient

    @property
    def newton_matrix(self) -> Floats:
        return self.of.newton_matrix


class Numbers(Protocol):
    """Standard deviations, correlations and the like as functions of the free numbers."""

    @property
    def start(self) -> Floats:
        """The free numbers at the estimate."""
        ...

    @property
    def least(self) -> float:
        """The criterion there."""
        ...

    @property
    def covariance(self) -> Floats:
        """Covariance of the free numbers."""
        ...

    @property
    def size(self) -> float:
        """A standard deviation of rows, beside which others may be zero."""
        ...

    def all(self, x: Floats) -> tuple[Floats, Floats]:
        """Values ``(m,)`` and Jacobian ``(m, size)``."""
        ...

    def at(self, x: Floats) -> Point:
        """The criterion at a point."""
        ...


def wanted_crossings(
    names: tuple[Sequence[str], Sequence[str]],
    parm: str | Sequence[str] | None,
    coefficient: Callable[[int], Crossings],
    numbers: Numbers,
) -> Iterator[Crossings]:
    """The parameters asked for, each with what holds it.

    ``names`` are of the coefficients, which ``coefficient`` holds, and of the ``numbers``.
    """
    fixed, every = names[0], [*names[0], *names[1]]
    wanted = selected(every, parm, len(fixed))
    for i, name in enumerate(every):
        if name in wanted and i < len(fixed):
            yield coefficient(i)
        elif name in wanted:
            yield crossings(numbers, i - len(fixed), name)


def profiled(
    wanted: Sequence[Crossings], least: float, level: float, progress: bool | None
) -> Profile:
    """Profiles of parameters up to a level, with a bar for who watches."""
    z, curves = normal_reach(check_level(level)), []
    with counter(len(wanted), progress, what="profile", unit="parameters") as advance:
        for one in wanted:
            curves.append(one.curve(z, level))
            advance(1)
    return Profile(tuple(curves), least, level)


def crossings(numbers: Numbers, i: int, name: str) -> Crossings:
    """One of the numbers held, on a scale without bounds.

    Raises
    ------
    InterlaceError
        It is a standard deviation that is estimated as zero, or a correlation at its bound.
    """
    scale, x = Scale(kind_of(name)), numbers.start
    value, slope = (part[i] for part in numbers.all(x))
    edge = "zero" if scale.kind == "exp" and not value > _ZERO * numbers.size else ""
    if scale.kind == "tanh" and not abs(value) < 1.0 - _ZERO**2:
        edge = "not determined" if np.isnan(value) else f"{value:.0f}"
    if edge:
        raise InterlaceError(
            f"'{name}' is estimated as {edge}, where a profile does not begin: use "
            "conf_int(method='bootstrap'), or compare with a model without it"
        )
    to, rate = SCALES[scale.kind]
    psi = float(to(value))
    variance = float(slope @ numbers.covariance @ slope)
    se = float(rate(value) * np.sqrt(max(variance, 0.0)))

    def held(x: Floats) -> tuple[float, Floats]:
        values, J = numbers.all(x)
        return float(to(values[i])), np.asarray(rate(values[i]) * J[i])

    solve, bound = Surface(numbers.at, held), _INSIDE if scale.kind == "tanh" else np.inf
    return Crossings(
        name, psi, se, solve, numbers.least, x, low=-bound, high=bound, scale=scale, walled=True
    )


SCALES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "linear": (lambda v: v, lambda v: 1.0),
    "exp": (np.log, lambda v: 1.0 / v if v else np.inf),
    "tanh": (np.arctanh, lambda v: 1.0 / (1.0 - v**2)),
}


def kind_of(name: str) -> str:
    """The scale on which a parameter is held, by its name."""
    own = name.rpartition(": ")[2]
    if own.startswith(("sd", "sigma", "range", "ratio_")):
        return "exp"
    return "tanh" if own.startswith(("cor_", "rho")) else "linear"


@dataclass(frozen=True, eq=False)
class Surface:
    """The criterion where a function of the free numbers has one value."""

    criterion: Callable[[Floats], Point]
    held: Callable[[Floats], tuple[float, Floats]]

    def __call__(self, psi: float, near: Floats) -> tuple[float, float, Floats]:
        """The least value, its slope by ``psi``, and where it is."""
        x = self.onto(near, psi)
        at = None if x is None else Located(x, self.criterion(x))
        if at is None or not np.isfinite(at.value):
            return np.inf, 0.0, near
        bend = self._bend(at.x)
        for i in range(1, _STEPS + 1):
            step, gain, slope = self._newton(at, bend)
            if gain < GAIN:
                return at.value - gain, slope, at.x
            new = self._along(at, step, gain, psi)
            if new is None:
                break
            at = new
            if i % _AGAIN == 0:
                bend = self._bend(at.x)
        return at.value, slope, at.x

    def onto(self, x: Floats, psi: float) -> Floats | None:
        """The point of the surface that is reached along its normals."""
        for _ in range(_TO):
            value, a = self.held(x)
            miss, size = psi - value, float(a @ a)
            if not np.isfinite(value) or not size > 0.0:
                return None
            if abs(miss) < _ON * max(abs(psi), 1.0):
                return x
            x = x + a * (np.clip(miss, -_FAR, _FAR) / size)
        return None

    def _newton(self, at: Located, bend: Floats) -> tuple[Floats, float, float]:
        """A Newton step in the tangent, what it promises, and the multiplier."""
        _, a = self.held(at.x)
        slope = float(at.gradient @ a / (a @ a))
        N = np.linalg.svd(a[None])[2][1:].T
        H = N.T @ (at.newton_matrix - slope * bend) @ N
        values, vectors = np.linalg.eigh(0.5 * (H + H.T))
        size = np.abs(values)
        live = size > _FLAT * size.max(initial=0.0)
        pull = (vectors.T @ (N.T @ at.gradient))[live]
        step = -N @ (vectors[:, live] @ (pull / size[live]))
        return step, float(0.5 * (pull**2 / size[live]).sum()), slope

    def _bend(self, x: Floats) -> Floats:
        """Second derivatives of the function, by differences of the first."""
        eye = _STEP * np.eye(len(x))
        rows = [self.held(x + d)[1] - self.held(x - d)[1] for d in eye]
        found = np.array(rows) / (2.0 * _STEP)
        return 0.5 * (found + found.T)

    def _along(self, at: Located, step: Floats, gain: float, psi: float) -> Located | None:
        """A lower point on the way; ``None`` if there is none."""
        for halving in range(_HALVINGS):
            share = 0.5**halving
            x = self.onto(at.x + share * step, psi)
            new = None if x is None else Located(x, self.criterion(x))
            if new is not None and new.value < at.value - 0.1 * share * gain:
                return new
        return None
