"""Ordered categories: cumulative models.

``P(Y <= j) = F(threshold_j - eta)`` for a distribution function ``F``: logistic, normal, or that of
the smallest extreme (complementary log-log).  The log-likelihood of a row, ``log(F(a) - F(b))`` at
the thresholds around its category less ``eta``, is concave in ``eta`` for all three (Pratt, 1981,
JASA 76, 103-106).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, log_ndtr

from interlace.glmm.families import Curve, Slope
from interlace.glmm.links import LOGIT, ProbabilityLink
from interlace.sums.terms import Floats

_WHOLE = re.compile(r"-?\d{1,15}")
_LOG_ROOT_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


class _Density(NamedTuple):
    """``log f``, ``f' / f`` and ``f'' / f`` at arguments."""

    log: Floats
    first: Floats
    second: Floats


class _Row(NamedTuple):
    """Of both thresholds of a row, upper and lower: ``f / P``, ``f' / P``, ``f'' / P``."""

    log_p: Floats
    up: tuple[Floats, Floats, Floats]
    low: tuple[Floats, Floats, Floats]


@dataclass(frozen=True)
class Ordinal:
    """Ordered categories, with their labels from the lowest.

    The response holds their :attr:`scores`; ``omega`` are the thresholds between them.  A family
    without labels takes those of the response.
    """

    link: ProbabilityLink = LOGIT
    labels: tuple[str, ...] = ()
    name: ClassVar[str] = "ordinal"
    auxiliary: ClassVar[str] = ""

    @property
    def categories(self) -> int:
        """Number of categories."""
        return len(self.labels)

    @property
    def scores(self) -> Floats:
        """The labels if these are rising whole numbers, otherwise 1, 2, ..."""
        if all(_WHOLE.fullmatch(label) for label in self.labels):
            found = np.array([float(label) for label in self.labels])
            if (np.diff(found) > 0.0).all():
                return found
        return np.arange(1.0, self.categories + 1.0)

    def codes(self, y: Floats) -> NDArray[np.int64]:
        """Positions 0, 1, ... of the categories of a response of scores."""
        return np.searchsorted(self.scores, y).astype(np.int64)

    @property
    def predictors(self) -> tuple[str, ...]:
        """The thresholds, by the labels on both sides."""
        return tuple(f"threshold:{a}|{b}" for a, b in pairwise(self.labels))

    def _row(self, y: Floats, eta: Floats, omega: Floats) -> _Row:
        j = self.codes(y)
        wide = np.full((1, omega.shape[1]), np.inf)
        edges = np.concatenate((-wide, omega, wide))
        upper, lower = edges[j + 1, np.arange(len(j))] - eta, edges[j, np.arange(len(j))] - eta
        log_p = _log_between(self.link.name, upper, lower)
        return _Row(log_p, self._over(upper, log_p), self._over(lower, log_p))

    def _over(self, x: Floats, log_p: Floats) -> tuple[Floats, Floats, Floats]:
        """The density and its derivatives over the probability; 0 at an infinite threshold."""
        open_end = np.isinf(x)
        d = _density(self.link.name, np.where(open_end, 0.0, x))
        f = np.exp(np.where(open_end, -np.inf, d.log - log_p))
        return f, f * d.first, f * d.second

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        log_p, up, low = self._row(y, eta, omega)
        n1, n2, n3 = (a - b for a, b in zip(up, low, strict=True))
        W = np.maximum(n1**2 - n2, 0.0)  # which concavity says, and rounding may not
        return Curve(log_p, -n1, W, 2.0 * n1**3 - 3.0 * n1 * n2 + n3, W)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        _, (A, A1, A2), (B, B1, B2) = self._row(y, eta, omega)
        n1, n2 = A - B, A1 - B1
        k, n = omega.shape
        l, g, W = np.zeros((3, k, n))
        second = np.zeros((k, k, n))
        rows, j = np.arange(n), self.codes(y)
        for at, (f, f1, f2), sign in ((j, (A, A1, A2), 1.0), (j - 1, (B, B1, B2), -1.0)):
            some = (at >= 0) & (at < k)
            where = at[some], rows[some]
            l[where] = sign * f[some]
            g[where] = -sign * (f1 - n1 * f)[some]
            curved = 2.0 * n1 * f1 - 2.0 * n1**2 * f - f2 + n2 * f
            W[where] = sign * curved[some]
            second[at[some], at[some], rows[some]] = (sign * f1 - f**2)[some]
        both = (j >= 1) & (j < k)
        high, r = j[both], rows[both]
        second[high, high - 1, r] = second[high - 1, high, r] = (A * B)[both]
        return Slope(l, g, W, second)

    def probabilities(self, eta: Floats, omega: Floats) -> Floats:
        """Of every category, ``(n, categories)``."""
        edges = np.concatenate(
            (np.full((1, len(eta)), -np.inf), omega - eta, np.full((1, len(eta)), np.inf))
        )
        parts = [np.exp(_log_between(self.link.name, b, a)) for a, b in pairwise(edges)]
        return np.stack(parts, axis=1)

    def densities(self, eta: Floats, omega: Floats) -> Floats:
        """``f(threshold - eta)`` at every threshold, ``(categories - 1, n)``."""
        return np.exp(_density(self.link.name, omega - eta).log)

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return np.zeros_like(y)

    def start(self, y: Floats, trials: Floats) -> Floats:
        return np.full_like(y, float(self.link.mean(np.zeros(1)).value[0]))

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        """Thresholds of the shares of the categories around fitted predictors."""
        counts = np.bincount(self.codes(y), minlength=self.categories) + 0.5
        shares = np.cumsum(counts)[:-1] / counts.sum()
        return np.asarray(self.link.to_eta(shares) + self.link.to_eta(mean).mean())


def _log_between(link: str, upper: Floats, lower: Floats) -> Floats:
    """``log(F(upper) - F(lower))``, right in both tails."""
    if link == "logit":
        tails = log_expit(upper) + log_expit(-lower)
        return np.asarray(tails + _log_gap(lower - upper))
    if link == "probit":
        right = upper + lower > 0.0
        high, low = np.where(right, -lower, upper), np.where(right, -upper, lower)
        log_high = log_ndtr(high)
        return np.asarray(log_high + _log_gap(log_ndtr(low) - log_high))
    below, above = np.exp(lower), np.exp(upper)
    return np.asarray(-below + _log_gap(below - above))


def _log_gap(x: Floats) -> Floats:
    """``log(1 - exp(x))``; minus infinity where thresholds are not in order."""
    ordered = x < 0.0
    return np.where(ordered, np.log(-np.expm1(np.where(ordered, x, -1.0))), -np.inf)


def _density(link: str, x: Floats) -> _Density:
    """Of the logistic, the normal, and the smallest extreme value's law."""
    if link == "logit":
        F = np.exp(log_expit(x))
        return _Density(log_expit(x) + log_expit(-x), 1.0 - 2.0 * F, 1.0 - 6.0 * F * (1.0 - F))
    if link == "probit":
        return _Density(-0.5 * x**2 - _LOG_ROOT_TWO_PI, -x, x**2 - 1.0)
    rise = np.exp(x)
    return _Density(x - rise, 1.0 - rise, (1.0 - rise) ** 2 - rise)
