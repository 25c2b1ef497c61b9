"""How large influence gets by chance: limits that healthy data stay within.

Of a unit that is deleted, a row or a group, let ``G`` (p, p) be the whitened growth of the
covariance of the fixed effects (see ``diagnostics/changes.py``).  In data from the model
the whitened change is normal with covariance ``G``, so that ``p`` times Cook's distance is a sum of
independent squares weighted by the eigenvalues ``s`` of ``G``, and ``p`` times MDFFITS one weighted
by ``s / (1 + s)``.  The limit is the value that the largest of all units exceeds with probability
0.05, units taken as independent: nothing about it has to be simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, chdtr, erf

from interlace.diagnostics.changes import OneStep, whitener
from interlace.diagnostics.cutoffs import CHANCE
from interlace.glmm.laws import Law
from interlace.inference.means.largest import root
from interlace.inference.satterthwaite import Satterthwaite
from interlace.sums.terms import Floats

# Name under which tables keep their limits.
KEPT = "nominal_cutoffs"
# Groups up to which the variances between them are known so badly that it counts, and rows beyond
# which the residual variance is known well enough.
_FEW, _MANY = 200, 1000
# Weights below this share of the largest of a unit are rounding.
_ROUNDING = 1e-12

# Probabilities that the units are within a number, ``(m,)``.
Within = Callable[[float], Floats]


@dataclass(frozen=True, eq=False)
class Chance:
    """How large a measure gets by chance; ``unit`` is a size of it."""

    within: Within
    unit: float

    def beyond(self, value: float) -> float:
        """Probability that any unit of healthy data has more."""
        with np.errstate(divide="ignore"):
            return -float(np.expm1(np.log(self.within(value)).sum()))

    @property
    def limit(self) -> float:
        """What the largest of all units exceeds with the chance."""
        return self.unit * root(lambda c: self.beyond(c * self.unit) - CHANCE)


Chances = Mapping[str, Chance]


def limits_of(chances: Chances) -> dict[str, float]:
    """Limits by measure, as tables keep them."""
    return {name: chance.limit for name, chance in chances.items()}


def row_chances(step: OneStep, growth: Floats) -> Chances:
    """Chances of Cook's distance and MDFFITS of rows; ``growth`` (n,) are their eigenvalues."""
    df = float(step.estimate.A.n - step.estimate.A.p)
    df = df if df <= _MANY else np.inf
    return chances(growth[:, None], df, step.a.shape[1])


def group_chances(step: OneStep, growth: Floats, *, refitted: bool = False) -> Chances:
    """The same of groups, from their growths (m, p, p); ``refitted`` if without them.

    Notes
    -----
    The variance along a change is an estimate from the groups themselves: where they are few, none
    can be far from the others.  With Satterthwaite's degrees of freedom ``f`` of that direction
    the square over ``f`` is taken as ``Beta(1/2, (f - 1)/2)``, as it is in balanced designs
    (Thompson 1935, Annals of Mathematical Statistics 6, 214-219), not as a chi-squared variable.
    MDFFITS of refits has the variance without the group, and an F variable with ``f - 1``.
    """
    p = step.a.shape[1]
    growth = growth[np.isfinite(growth).all(axis=(1, 2))]
    if not p or not len(growth):
        return {}
    s, vectors = np.linalg.eigh(growth)
    df = np.full(len(growth), np.inf)
    if len(growth) <= _FEW:
        df = _degrees(step, s, vectors)
    return chances(s, df, p, refitted=refitted)


def _degrees(step: OneStep, s: Floats, vectors: Floats) -> Floats:
    """Degrees of freedom of the estimated variances of changes, ``(m,)``."""
    inverse = np.linalg.inv(whitener(step.factor))
    fixed = step.estimate.A.basis.fixed[:-1, :-1]
    rows = (vectors.swapaxes(1, 2) @ inverse) @ np.linalg.inv(fixed)
    nu = Satterthwaite(step.estimate).df(rows.reshape(-1, rows.shape[2])).reshape(s.shape)
    nu = np.where(np.isfinite(nu) & (nu >= 1.0), nu, np.where(np.isinf(nu), nu, 1.0))
    squares = s**2
    return np.asarray(squares.sum(axis=1) / (squares / nu).sum(axis=1))


def law_chances(law: Law, growth: Floats, p: int) -> Chances:
    """Chances of rows of a generalised model: their squares are those of responses of their law."""
    good = np.isfinite(growth) & (growth > 0.0)
    if not p or not good.any():
        return {}
    unit = np.where(good, growth, 1.0) / p
    sd, mean = np.sqrt(law.variance), law.mean * law.trials

    def within(weights: Floats) -> Within:
        def found(limit: float) -> Floats:
            away = sd * np.sqrt(limit / weights)
            above, below = law.sf(mean + away), law.cdf(np.nextafter(mean - away, -np.inf))
            return np.asarray(np.where(good, np.maximum(1.0 - above - below, 0.0), 1.0))

        return found

    return {
        "cooksd": Chance(within(unit), float(unit[good].max())),
        "mdffits": Chance(within(unit / (1.0 + p * unit)), float(unit[good].max())),
    }


def chances(s: Floats, df: Floats | float, p: int, *, refitted: bool = False) -> Chances:
    """Chances of both measures from eigenvalues (m, c) and degrees of freedom (m,) of units.

    Examples
    --------
    >>> found = limits_of(chances(np.full((180, 1), 0.01), np.inf, 1))
    >>> round(found["cooksd"], 4), round(found["mdffits"], 4)
    (0.1317, 0.1304)
    """
    good = np.isfinite(s).all(axis=1)
    s, df = np.maximum(s[good], 0.0), np.broadcast_to(df, good.shape)[good]
    if not p or not (s > 0.0).any():
        return {}
    cooksd, mdffits = s / p, s / (1.0 + s) / p
    return {
        "cooksd": Chance(squares_within(cooksd, df), float(cooksd.max())),
        "mdffits": Chance(squares_within(mdffits, df, apart=refitted), float(mdffits.max())),
    }


def squares_within(weights: Floats, df: Floats, *, apart: bool = False) -> Within:
    """Probabilities that sums of weighted squares (m, c) are below a number.

    Squares are over variances that are estimated with ``df`` (m,), from the unit too or ``apart``.

    Three moments are those of the sum (Hall 1983, Annals of Probability 11, 1028-1036; Buckley and
    Eagleson 1988, Australian Journal of Statistics 30A, 150-159); exact where all weights are
    equal or all but one are 0.
    """
    top = weights.max(axis=1, keepdims=True)
    shares = weights / np.where(top > 0.0, top, 1.0)
    shares = np.where(shares > _ROUNDING, shares, 0.0)
    first, second, third = (np.maximum((shares**i).sum(axis=1), _ROUNDING) for i in (1, 2, 3))
    a = second**3 / third**2
    known, alone = np.isinf(df), bool((np.abs(a - 1.0) < _ROUNDING).all())
    f = np.where(known, 1.0, np.maximum(df, a))

    def within(limit: float) -> Floats:
        with np.errstate(divide="ignore"):
            x = limit / np.where(top > 0.0, top, 0.0)[:, 0]
        x = np.maximum((np.minimum(x, 1e6) - first) * second / third + a, 0.0)
        if known.all():
            return np.asarray(erf(np.sqrt(0.5 * x)) if alone else chdtr(a, x))
        if apart:
            x = np.where(known, x, x * f / (f - a + x))
        tight = betainc(0.5 * a, np.maximum(0.5 * (f - a), 0.25), np.minimum(x / f, 1.0))
        return np.asarray(np.where(known, chdtr(a, x), tight))

    return within
