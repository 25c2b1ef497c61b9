"""Profile likelihood of generalised models: the criterion with one parameter held.

The criterion is joint in the templates, the fixed effects and the auxiliary coefficients.  Every
parameter that has a name can be held by linear equations in the user's units: a coefficient or an
auxiliary one is an entry; a standard deviation is the only entry of its row of a template (a
template may be turned, ``T -> T Q``, without changing the model), a correlation ``r`` ties the row
``t (r, sqrt(1 - r^2), 0, ...)`` to one that has its first entry alone.  The search goes on in what
is left, by the exact gradient and Newton matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from interlace.errors import InterlaceError
from interlace.estimation.optimize import Point, minimize
from interlace.estimation.parameters import selected
from interlace.glmm.estimate import GeneralEstimate, maximised
from interlace.glmm.laplace import Evaluation
from interlace.glmm.points import Impossible, Part
from interlace.glmm.problem import Problem
from interlace.inference.profiles.crossing import Crossings, Solve
from interlace.inference.profiles.curves import Profile
from interlace.inference.profiles.general_held import Curved, Held, parameters_of, turned
from interlace.inference.profiles.numbers import term_numbers
from interlace.inference.profiles.surface import crossings
from interlace.machine.progress import counter
from interlace.model.confidence import check_level, normal_reach, tails
from interlace.sums.terms import Floats

# Begins the message for fits of the iterative solver.
_NEEDS = "profiles of generalised models need"
# Gain at which an inner search ends, and steps to the optimum where nodes lie elsewhere.
_GAIN, _STEPS = 1e-9, 30


# ------------------------------------------------------------------ what is asked


def profile_general(
    estimate: GeneralEstimate,
    *,
    parm: str | Sequence[str] | None = None,
    level: float = 0.99,
    progress: bool | None = None,
) -> Profile:
    """Profile of the deviance along parameters; see the method ``profile``."""
    check_level(level)
    estimate.summed.equations.exact(_NEEDS)
    estimate = maximised(estimate)
    held = _wanted(estimate, parm)
    z = normal_reach(level)
    curves = []
    with counter(len(held), progress, what="profile", unit="parameters") as advance:
        for one in held:
            curves.append(_crossings(estimate, one).curve(z, level))
            advance(1)
    return Profile(tuple(curves), estimate.evaluation.value, level)


def profile_limits_general(
    estimate: GeneralEstimate, *, parm: str | Sequence[str] | None, level: float
) -> pd.DataFrame:
    """Profile-likelihood limits alone."""
    z = normal_reach(check_level(level))
    estimate.summed.equations.exact(_NEEDS)
    estimate, found = maximised(estimate), {}
    for one in _wanted(estimate, parm):
        found[one.name] = _crossings(estimate, one).limits(z)
    return pd.DataFrame.from_dict(found, orient="index", columns=tails(level))


def _wanted(estimate: GeneralEstimate, parm: str | Sequence[str] | None) -> list[Held | Curved]:
    """The parameters asked for, each with what holds it."""
    held = list(parameters_of(estimate))
    names = [one.name for one in held]
    wanted = selected(names, parm, estimate.A.p)
    return [one for one in held if one.name in wanted]


# ------------------------------------------------------------------ one path


def _crossings(estimate: GeneralEstimate, held: Held | Curved) -> Crossings:
    """The least deviance along a parameter."""
    if isinstance(held, Curved):
        return _on_surface(estimate, held)
    problem = estimate.summed.problem

    def solve(psi: float, near: Floats) -> tuple[float, float, Floats]:
        search = _Search(problem, estimate, held, psi)
        found = minimize(search, near, gain_tolerance=_GAIN)
        value = float(found.point.value)
        if not np.isfinite(value):
            return value, 0.0, found.x
        last = search.points[tuple(found.x)]
        return value, float(last.gradient @ held.slope(psi, found.x)), found.x

    psi, least, start = held.estimate, estimate.summed.value, held.start
    if turned(estimate):
        psi, least, start = _settled(held, solve)
    return Crossings(
        held.name,
        psi,
        held.se,
        solve,
        least,
        start,
        held.low,
        held.high,
        held.scale,
    )


def _on_surface(estimate: GeneralEstimate, held: Curved) -> Crossings:
    """The same of a parameter of a structure."""
    if turned(estimate):
        raise InterlaceError(
            f"'{held.name}' cannot be profiled by quadrature with several effects a level: fit "
            "with quadrature=1, or use conf_int(method='bootstrap')"
        )
    return crossings(GeneralNumbers(estimate, held.term), held.index, held.name)


@dataclass(frozen=True, eq=False)
class GeneralNumbers:
    """Standard deviations and correlations of one term, as functions of all packed parameters."""

    estimate: GeneralEstimate
    term: int

    @property
    def start(self) -> Floats:
        """Packed parameters at the estimate."""
        return self.estimate.x

    @property
    def least(self) -> float:
        """The criterion there."""
        return self.estimate.summed.value

    @property
    def covariance(self) -> Floats:
        """Covariance of the packed parameters."""
        return self.estimate.covariance

    @property
    def size(self) -> float:
        """Linear predictors are of size 1."""
        return 1.0

    def at(self, x: Floats) -> Point:
        """The criterion at a point; of infinite value where it has none."""
        problem = self.estimate.summed.problem
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = self.estimate.approximation(problem, problem.unpack(x), self.estimate.u)
        return Nowhere() if found is None else found

    def all(self, x: Floats) -> tuple[Floats, Floats]:
        """Values ``(m,)`` and Jacobian ``(m, size)``."""
        rows = self.estimate.problem.rows
        with np.errstate(divide="ignore", invalid="ignore"):
            return list(term_numbers(rows.terms, rows.random, x))[self.term]


@dataclass(frozen=True, eq=False)
class Nowhere:
    """A point without a likelihood."""

    value: float = np.inf
    gradient: Floats = field(default_factory=lambda: np.zeros(0))
    newton_matrix: Floats = field(default_factory=lambda: np.zeros((0, 0)))


def _settled(held: Held, solve: Solve) -> tuple[float, float, Floats]:
    """The optimum where nodes lie as the coordinates of a held parameter have them: Newton's steps
    from the estimate, with the curvature that its standard error tells.
    """
    psi, z = held.estimate, held.start
    for _ in range(_STEPS):
        value, slope, z = solve(psi, z)
        step = -0.5 * slope * held.se**2
        to = float(np.clip(psi + step, held.low, held.high))
        if abs(slope * (to - psi)) < _GAIN:
            return psi, value, z
        psi = to
    return psi, value, z


@dataclass(eq=False)
class _Search:
    """The criterion as a function of what is left."""

    problem: Problem
    estimate: GeneralEstimate
    held: Held
    psi: float
    last: Evaluation | None = None
    points: dict[tuple[float, ...], Evaluation] = field(default_factory=dict)

    def __call__(self, z: Floats) -> Part | Impossible:
        at = self.problem.unpack(self.held.at(self.psi, z))
        if self.last is None:
            e = self.estimate.summed.e
            start = [own @ T for own, T in zip(e, at.templates, strict=True)]
        else:
            start = self.last.predicted(at)
        found = self.estimate.approximation(self.problem, at, start)
        if found is None:
            return Impossible()
        self.last = found
        self.points[tuple(z)] = found
        return Part(found, self.held.back @ self.held.free(self.psi))
