"""Probabilities and limits of several tests at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
from scipy.special import chdtrc, chdtri, fdtrc, fdtri

from interlace.choices import Adjustment
from interlace.errors import InterlaceError
from interlace.inference.means.largest import Largest, largest, range_bound, range_exceeds
from interlace.inference.tables import two_sided
from interlace.model.confidence import reach
from interlace.sums.terms import Floats

ADJUSTMENTS: tuple[Adjustment, ...] = get_args(Adjustment)
_SYNONYMS = {"bh": "fdr", "hsd": "tukey", "dunnettx": "dunnett", "single-step": "mvt", "no": "none"}
# Methods that go through the tests in order, which have no intervals of their own.
STEPWISE = ("holm", "hochberg", "hommel", "fdr", "by")

# Different degrees of freedom up to which each has its own limit, and nodes between which those of
# more are interpolated.
_MANY, _NODES = 8, 7


@dataclass(frozen=True, eq=False)
class Family:
    """Tests that are adjusted together.

    Parameters
    ----------
    statistic, df
        ``(q,)``; nan for what is not estimable.
    correlation
        ``(q, q)`` of the estimates.
    means
        Number of means compared, for Tukey's method.
    rank
        How many of the tests are independent functions of the coefficients, for Scheffe's.
    """

    statistic: Floats
    df: Floats
    correlation: Floats
    means: int
    rank: int

    @property
    def size(self) -> int:
        """Tests, those that are not estimable counted too, as in R."""
        return len(self.statistic)

    def largest(self) -> Largest:
        """The largest of the statistics that can be told."""
        known = np.isfinite(self.statistic)
        return largest(self.correlation[np.ix_(known, known)])


def adjustment(name: str | None, default: str) -> str:
    """The name of an adjustment, checked.

    Raises
    ------
    InterlaceError
        It is unknown.
    """
    found = default if name is None else _SYNONYMS.get(str(name).lower(), str(name).lower())
    if found not in ADJUSTMENTS:
        known = ", ".join(repr(a) for a in ADJUSTMENTS)
        raise InterlaceError(f"adjust must be one of {known}, not {name!r}")
    return found


def fitting(adjust: str, scheme: str, groups: int) -> tuple[str, str | None]:
    """The adjustment that fits a scheme of contrasts, and a note if it is another than asked."""
    if adjust == "tukey" and (scheme not in ("pairwise", "reversed") or groups != 1):
        return "sidak", "adjust='tukey' is for all pairs of one set of means: 'sidak' was used"
    return adjust, None


def adjusted(family: Family, adjust: str) -> Floats:
    """Adjusted probabilities, ``(q,)``.

    Notes
    -----
    Tukey: the studentised range of the means.  Dunnett and mvt: the largest of the correlated
    ``|t|``, with the correlations of the estimates; exact but for the integration, and with the
    degrees of freedom of each test.
    """
    p = two_sided(family.statistic, family.df)
    known = np.isfinite(p)
    n = family.size
    if not known.any() or adjust == "none":
        return p
    if adjust == "bonferroni":
        return np.minimum(n * p, 1.0)
    if adjust == "sidak":
        return np.asarray(-np.expm1(n * np.log1p(-p)))
    out = np.full(n, np.nan)
    if adjust in STEPWISE:
        out[known] = _stepwise(p[known], n, adjust)
        return out
    if adjust == "scheffe":
        return np.asarray(_f_above(family.statistic**2 / family.rank, family.rank, family.df))
    tail = _tail(family, adjust)
    pairs = zip(np.abs(family.statistic[known]), family.df[known], strict=True)
    out[known] = [tail(float(t), float(df)) for t, df in pairs]
    return out


def _stepwise(p: Floats, n: int, adjust: str) -> Floats:
    """Probabilities of the known among ``n`` tests, by methods that go through them in order.

    Those of Holm; Hochberg (1988), Biometrika 75, 800-802; Hommel; and the false discovery rates of
    Benjamini and Hochberg, and of Benjamini and Yekutieli (2001), Annals of Statistics 29,
    1165-1188, for tests that depend on each other in any way.
    """
    if adjust == "hommel":
        return _closed(np.append(p, np.ones(n - len(p))))[: len(p)]
    order = np.argsort(p)
    rank = np.arange(1, len(p) + 1)
    if adjust == "holm":
        stepped = np.maximum.accumulate((n - rank + 1) * p[order])
    else:
        any_way = float((1.0 / np.arange(1, n + 1)).sum()) if adjust == "by" else 1.0
        factors = n - rank + 1 if adjust == "hochberg" else any_way * n / rank
        stepped = np.minimum.accumulate((factors * p[order])[::-1])[::-1]
    out = np.empty(len(p))
    out[order] = np.minimum(stepped, 1.0)
    return out


def _closed(p: Floats) -> Floats:
    """Hommel's probabilities: the largest of Simes' tests of all sets that a test is in.

    Of the sets of one size that with the largest of the others is the worst.  Hommel (1988),
    Biometrika 75, 383-386.
    """
    out = p.copy()
    for i, own in enumerate(p):
        others = np.sort(np.delete(p, i))
        for size in range(2, len(p) + 1):
            members = np.sort(np.append(others[-(size - 1) :], own))
            simes = float((size * members / np.arange(1, size + 1)).min())
            out[i] = max(out[i], simes)
    return out


def _f_above(F: Floats, rank: int, df: Floats) -> Floats:
    """Upper tails of F, with infinite denominators too."""
    finite = np.isfinite(df)
    tails = fdtrc(rank, np.where(finite, df, 1.0), F)
    return np.where(finite, tails, chdtrc(rank, rank * F))


def _tail(family: Family, adjust: str) -> Callable[[float, float], float]:
    """Probability that the largest of the statistics is above a value."""
    if adjust == "tukey":
        return lambda t, df: range_exceeds(t * 2.0**0.5, family.means, df)
    return family.largest().exceeds


def limits(family: Family, adjust: str, level: float) -> Floats:
    """What the estimates may be off in standard errors, jointly with probability ``level``: (q,).

    Methods that go through the tests in order have no intervals of their own: Bonferroni's, as in
    R.
    """
    n, tail = family.size, 1.0 - level
    df = family.df
    if adjust == "none":
        return reach(level, df)
    if adjust == "sidak":
        return reach(float(level ** (1.0 / n)), df)
    if adjust == "bonferroni" or adjust in STEPWISE:
        return reach(1.0 - tail / n, df)
    if adjust == "scheffe":
        return _scheffe(family, level)
    known = np.isfinite(family.statistic)
    out = np.full(n, np.nan)
    if not known.any():
        return out
    if adjust == "tukey":
        scale = 2.0**-0.5
        out[known] = _over_df(lambda d: scale * range_bound(tail, family.means, d), df[known])
    else:
        found = family.largest()
        out[known] = _over_df(lambda d: found.bound(tail, d), df[known])
    return out


def _scheffe(family: Family, level: float) -> Floats:
    """Roots of quantiles of F: a limit for all combinations of the tests."""
    r, df = family.rank, family.df
    finite = np.isfinite(df)
    bound = np.where(finite, r * fdtri(r, np.where(finite, df, 1.0), level), chdtri(r, 1.0 - level))
    return np.sqrt(bound)


def _over_df(bound: Callable[[float], float], df: Floats) -> Floats:
    """A limit for every number of degrees of freedom, a smooth function of their inverse."""
    x = 1.0 / df
    distinct, at = np.unique(x, return_inverse=True)
    if len(distinct) <= _MANY:
        return np.array([bound(1.0 / v if v > 0.0 else np.inf) for v in distinct])[at]
    low, high = float(distinct[0]), float(distinct[-1])
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    places = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    values = np.array([bound(1.0 / v) for v in places])
    series = np.polynomial.chebyshev.chebfit(nodes, values, _NODES - 1)
    scaled = (2.0 * x - low - high) / (high - low)
    return np.asarray(np.polynomial.chebyshev.chebval(scaled, series))
