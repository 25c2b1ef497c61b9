"""Profile likelihood of generalised models: the criterion with one parameter held.

The criterion is joint in the templates, the fixed effects and the auxiliary coefficients.  Every
parameter that has a name can be held by linear equations in the user's units: a coefficient or an
auxiliary one is an entry; a standard deviation is the only entry of its row of a template (a
template may be turned, ``T -> T Q``, without changing the model), a correlation ``r`` ties the row
``t (r, sqrt(1 - r^2), 0, ...)`` to one that has its first entry alone.  The search goes on in what
is left, by the exact gradient and Newton matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from interlace.covariance.templates import Diagonal, Full
from interlace.errors import InterlaceError
from interlace.estimation.optimize import minimize
from interlace.estimation.parameters import selected
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.laplace import Evaluation
from interlace.glmm.problem import Problem
from interlace.inference.general_errors import general_errors
from interlace.inference.profiles.crossing import Crossings
from interlace.inference.profiles.profile import Profile, Scale
from interlace.machine.progress import counter
from interlace.model.confidence import check_level, normal_reach, tails
from interlace.sums.terms import Floats

# Gain at which an inner search ends.
_GAIN = 1e-9
# Differences of the way that a held parameter moves the others; the largest correlation tried.
_STEP, _INSIDE = 1e-6, 1.0 - 1e-7


@dataclass(frozen=True, eq=False)
class Held:
    """One parameter held: all packed ones are ``back (base(psi) + free(psi) z)``.

    Attributes
    ----------
    name, estimate, se
        Of the parameter, on the scale on which it is held.
    back
        From the user's units to packed parameters, square.
    base, free
        Functions of the value held.
    start
        ``z`` at the estimate.
    low, high
        Bounds of the value.
    scale
        What makes the parameter of the value held.
    """

    name: str
    estimate: float
    se: float
    back: Floats
    base: Callable[[float], Floats]
    free: Callable[[float], Floats]
    start: Floats
    low: float = -np.inf
    high: float = np.inf
    scale: Scale = field(default_factory=lambda: Scale("linear"))

    def at(self, psi: float, z: Floats) -> Floats:
        """Packed parameters."""
        return np.asarray(self.back @ (self.base(psi) + self.free(psi) @ z))

    def slope(self, psi: float, z: Floats) -> Floats:
        """How packed parameters move with the value held, the others staying."""
        low, high = max(psi - _STEP, self.low), min(psi + _STEP, self.high)
        return (self.at(high, z) - self.at(low, z)) / (high - low)


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
    found = {}
    for one in _wanted(estimate, parm):
        found[one.name] = _crossings(estimate, one).limits(z)
    return pd.DataFrame.from_dict(found, orient="index", columns=tails(level))


def _wanted(estimate: GeneralEstimate, parm: str | Sequence[str] | None) -> list[Held]:
    """The parameters asked for, each with what holds it."""
    if estimate.approximation.nodes > 1 and any(t.k > 1 for t in estimate.A.terms):
        raise InterlaceError(
            "models with several effects a level are profiled with Laplace's approximation only: "
            "leave quadrature out, or use conf_int(method='bootstrap')"
        )
    held = list(_parameters(estimate))
    names = [one.name for one in held]
    wanted = selected(names, parm, estimate.A.p)
    return [one for one in held if one.name in wanted]


# ------------------------------------------------------------------ one path


def _crossings(estimate: GeneralEstimate, held: Held) -> Crossings:
    """The least deviance along a parameter."""
    problem = estimate.summed.problem

    def solve(psi: float, near: Floats) -> tuple[float, float, Floats]:
        search = _Search(problem, estimate, held, psi)
        found = minimize(search, near, gain_tolerance=_GAIN)
        value = float(found.point.value)
        if not np.isfinite(value):
            return value, 0.0, found.x
        last = search.points[tuple(found.x)]
        return value, float(last.gradient @ held.slope(psi, found.x)), found.x

    return Crossings(
        held.name,
        held.estimate,
        held.se,
        solve,
        estimate.summed.value,
        held.start,
        held.low,
        held.high,
        held.scale,
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """A point of the search in what is left beside the held parameter."""

    point: Evaluation
    M: Floats

    @property
    def value(self) -> float:
        return self.point.value

    @property
    def work(self) -> str:
        return self.point.work

    @property
    def gradient(self) -> Floats:
        return np.asarray(self.M.T @ self.point.gradient)

    @property
    def newton_matrix(self) -> Floats:
        return np.asarray(self.M.T @ self.point.newton_matrix @ self.M)


@dataclass(frozen=True, eq=False)
class _Nowhere:
    """A point without a likelihood."""

    value: float = np.inf
    work: str = ""
    gradient: Floats = field(default_factory=lambda: np.zeros(0))
    newton_matrix: Floats = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(eq=False)
class _Search:
    """The criterion as a function of what is left."""

    problem: Problem
    estimate: GeneralEstimate
    held: Held
    psi: float
    last: Evaluation | None = None
    points: dict[tuple[float, ...], Evaluation] = field(default_factory=dict)

    def __call__(self, z: Floats) -> _Part | _Nowhere:
        at = self.problem.unpack(self.held.at(self.psi, z))
        if self.last is None:
            e = self.estimate.summed.e
            start = [own @ T for own, T in zip(e, at.templates, strict=True)]
        else:
            start = self.last.predicted(at)
        found = self.estimate.approximation(self.problem, at, start)
        if found is None:
            return _Nowhere()
        self.last = found
        self.points[tuple(z)] = found
        return _Part(found, self.held.back @ self.held.free(self.psi))


# ------------------------------------------------------------------ the parameters


def _parameters(estimate: GeneralEstimate) -> Iterator[Held]:
    """All parameters that have names, each with what holds it."""
    problem = estimate.problem
    t, p, r = problem.sizes
    back = _back(estimate)
    y: Floats = np.asarray(np.linalg.solve(back, estimate.x), dtype=np.float64)
    se = np.sqrt(np.diag(estimate.vcov))
    for j, name in enumerate(estimate.A.names):
        yield _entry(name, t + j, y, float(se[j]), back)
    yield from _variances(estimate, back, y)
    if r == 1:
        error = float(np.sqrt(estimate.covariance[-1, -1]))
        yield _entry(estimate.family.auxiliary, t + p, y, error, back, Scale("exp"))


def _back(estimate: GeneralEstimate) -> Floats:
    """From the user's units to packed parameters, ``(t + p + r,) * 2``."""
    problem = estimate.problem
    t, p, r = problem.sizes
    total = np.eye(t + p + r)
    start = 0
    for term, B in zip(problem.rows.terms, problem.rows.random, strict=True):
        size = term.template.size
        inverse = np.linalg.inv(B)
        for i, unit in enumerate(np.eye(size)):
            total[start : start + size, start + i] = term.template.pack(
                inverse @ term.template(unit)
            )
        start += size
    total[t : t + p, t : t + p] = np.linalg.inv(problem.rows.fixed)
    return total


def _entry(
    name: str, i: int, y: Floats, se: float, back: Floats, scale: Scale | None = None
) -> Held:
    """A parameter that is an entry."""
    unit = np.eye(len(y))
    rest = np.delete(unit, i, axis=1)
    return Held(
        name,
        float(y[i]),
        se,
        back,
        lambda psi: psi * unit[:, i],
        lambda psi: rest,
        np.delete(y, i),
        scale=Scale("linear") if scale is None else scale,
    )


def _variances(estimate: GeneralEstimate, back: Floats, y: Floats) -> Iterator[Held]:
    """Standard deviations and correlations of all terms, in the order of their names."""
    errors = general_errors(estimate)
    start = 0
    for j, term in enumerate(estimate.A.terms):
        template, S = term.template, estimate.covariances[j]
        own = slice(start, start + template.size)
        start += template.size
        if not isinstance(template, Full | Diagonal):
            raise InterlaceError(
                f"the covariance of '{term.group}' has a structure whose parameters cannot be "
                f"profiled: name the coefficients wanted in parm="
            )
        for b, a in zip(*template.entries, strict=True):
            sd = np.sqrt(np.diag(S))
            if a == b:
                name = f"sd_{term.columns[a]}|{term.group}"
                se = float(np.nan_to_num(errors.sds[j][a], nan=0.1))
                yield _deviation(name, template, S, a, (own, y, se, back))
            elif sd[a] > 0.0 and sd[b] > 0.0:
                name = f"cor_{term.columns[b]}.{term.columns[a]}|{term.group}"
                se = float(np.nan_to_num(errors.correlations[j][a, b], nan=0.1))
                yield _correlation(name, S, (a, b), (own, y, max(se, 0.02), back))


_Place = tuple[slice, Floats, float, Floats]


def _turned(S: Floats, first: Sequence[int]) -> Floats:
    """A template of a covariance in which the rows ``first`` are triangular, ``(k, k)``."""
    k = len(S)
    order = [*first, *(i for i in range(k) if i not in first)]
    P = S[np.ix_(order, order)]
    values, vectors = np.linalg.eigh(P)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    L = np.linalg.qr(root.T)[1].T
    L = L * np.where(np.diag(L) < 0.0, -1.0, 1.0)
    T = np.empty((k, k))
    T[order] = L
    return T


def _deviation(name: str, template: Full | Diagonal, S: Floats, a: int, place: _Place) -> Held:
    """A standard deviation: the only entry of its row."""
    own, y, se, back = place
    k = len(S)
    T = np.diag(np.sqrt(np.diag(S))) if isinstance(template, Diagonal) else _turned(S, [a])
    new = y.copy()
    new[own] = template.pack(T)
    row = np.zeros((k, k), dtype=bool)
    row[a] = True
    fixed = np.zeros(len(y), dtype=bool)
    fixed[own] = template.pack(row.astype(np.float64)) != 0.0
    unit = np.zeros((k, k))
    unit[a, a if isinstance(template, Diagonal) else 0] = 1.0
    direction = np.zeros(len(y))
    direction[own] = template.pack(unit)
    rest = np.eye(len(y))[:, ~fixed]
    return Held(
        name,
        float(np.sqrt(S[a, a])),
        max(se, 1e-3 * float(np.sqrt(S[a, a])), 1e-8),
        back,
        lambda psi: psi * direction,
        lambda psi: rest,
        new[~fixed],
        low=0.0,
    )


def _correlation(name: str, S: Floats, pair: tuple[int, int], place: _Place) -> Held:
    """A correlation of the effects ``pair`` of a full template."""
    own, y, se, back = place
    (a, b), k = pair, len(S)
    T = _turned(S, [a, b])
    template = Full(k)
    new = y.copy()
    new[own] = template.pack(T)
    rows = np.zeros((k, k), dtype=bool)
    rows[[a, b]] = True
    fixed = np.zeros(len(y), dtype=bool)
    fixed[own] = template.pack(rows.astype(np.float64)) != 0.0
    others = np.eye(len(y))[:, ~fixed]
    sd = np.sqrt(np.diag(S))

    def free(psi: float) -> Floats:
        columns = np.zeros((len(y), 2))
        for i, (row, values) in enumerate(
            ((a, (1.0, 0.0)), (b, (psi, np.sqrt(max(1.0 - psi**2, 0.0)))))
        ):
            unit = np.zeros((k, k))
            unit[row, :2] = values
            columns[own, i] = template.pack(unit)
        return np.concatenate((columns, others), axis=1)

    nothing = np.zeros(len(y))
    return Held(
        name,
        float(np.clip(S[a, b] / (sd[a] * sd[b]), -_INSIDE, _INSIDE)),
        se,
        back,
        lambda psi: nothing,
        free,
        np.concatenate(([sd[a], sd[b]], new[~fixed])),
        low=-_INSIDE,
        high=_INSIDE,
    )
