"""Laws of truncated, inflated, heavy-tailed, compound and ordered responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, expit, gammainc, gammaln, stdtr

from interlace.errors import InterlaceError
from interlace.glmm.counted import BetaBinomial
from interlace.glmm.families import Family
from interlace.glmm.heavy import StudentT
from interlace.glmm.laws import Law, law_of
from interlace.glmm.links import Link
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.tweedie import Tweedie
from interlace.glmm.zeros import Hurdle, Inflated, Truncated
from interlace.sums.terms import Floats

# Terms of a Poisson number of parts at least, and standard deviations of it that are summed.
_BESIDE, _WIDTH = 20, 10.0


def law_at(family: Family, eta: Floats, omega: Floats, trials: Floats | float) -> Law:
    """The law of every row, at linear predictors (n,) and auxiliary predictors (K, n)."""
    trials = np.broadcast_to(np.asarray(trials, dtype=np.float64), eta.shape)
    if isinstance(family, Inflated | Hurdle):
        inner = law_at(family.base, eta, omega[:-1], trials)
        zeros = expit(omega[-1])
        return _WithZeros(inner.mean * (1.0 - zeros), trials, inner.auxiliary, inner, zeros)
    if isinstance(family, Truncated):
        inner = law_at(family.base, eta, omega, trials)
        none = inner.cdf(np.zeros_like(eta))
        return _Truncated(inner.mean / (1.0 - none), trials, inner.auxiliary, inner, none)
    if isinstance(family, Ordinal):
        P = family.probabilities(eta, omega)
        return _Ordinal(P @ family.scores, trials, np.ones_like(eta), P, family.scores)
    mean = mean_of(family.link, eta)
    first = np.exp(omega[0]) if len(omega) else np.ones_like(eta)
    if isinstance(family, BetaBinomial):
        return _BetaBinomial(mean, trials, first)
    if isinstance(family, StudentT):
        df = np.exp(omega[1]) if family.df is None else np.full_like(eta, family.df)
        return _StudentT(mean, trials, first, df)
    if isinstance(family, Tweedie):
        return _Tweedie(mean, trials, first, family.powers(omega))
    return law_of(family, mean, trials, first)


def mean_of(link: Link, eta: Floats) -> Floats:
    """The inverse of the link."""
    return np.asarray(link.mean(eta).value)


@dataclass(frozen=True, eq=False)
class _Made(Law):
    """A law without a deviance."""

    has_deviance = False

    @property
    def unit_variance(self) -> Floats:
        return self.variance

    def deviance(self, y: Floats) -> NoReturn:
        raise InterlaceError(
            "the saturated model of this family, and so its deviance, is not defined: ask for "
            "residuals of type 'quantile', 'pearson' or 'response'"
        )


# ------------------------------------------------------------------ zeros


@dataclass(frozen=True, eq=False)
class _Truncated(_Made):
    """``inner`` without its zeros, whose probability is ``none``."""

    inner: Law
    none: Floats
    support = "counts"

    @property
    def variance(self) -> Floats:
        second = (self.inner.variance + self.inner.mean**2) / (1.0 - self.none)
        return second - self.mean**2

    def cdf(self, y: Floats) -> Floats:
        part = (self.inner.cdf(y) - self.none) / (1.0 - self.none)
        return np.where(y < 1.0, 0.0, np.clip(part, 0.0, 1.0))

    def sf(self, y: Floats) -> Floats:
        return np.where(y < 1.0, 1.0, np.minimum(self.inner.sf(y) / (1.0 - self.none), 1.0))

    def draw(self, rng: np.random.Generator) -> Floats:
        """By the quantiles of uniform numbers."""
        u = rng.random(self.mean.shape)
        high = np.maximum(self.inner.draw(rng), 1.0)
        low = np.zeros_like(u)
        while (short := self.cdf(high) < u).any():
            low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
        while (high - low > 1.0).any():
            middle = np.floor(0.5 * (low + high))
            short = self.cdf(middle) < u
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        return high


@dataclass(frozen=True, eq=False)
class _WithZeros(_Made):
    """Zeros with a probability, ``inner`` otherwise; a mean of proportions if there are trials."""

    inner: Law
    zeros: Floats

    @property
    def support(self) -> str:  # type: ignore[override]
        return self.inner.support if self.inner.support == "counts" else "zero-positive"

    @property
    def variance(self) -> Floats:
        count = self.inner.mean * self.inner.trials
        return (1.0 - self.zeros) * (self.inner.variance + self.zeros * count**2)

    def cdf(self, y: Floats) -> Floats:
        return 1.0 - self.sf(y) if self.inner.support != "counts" else self._counted(y)

    def _counted(self, y: Floats) -> Floats:
        part = self.zeros + (1.0 - self.zeros) * self.inner.cdf(y)
        return np.where(y < 0.0, 0.0, part)

    def sf(self, y: Floats) -> Floats:
        return np.where(y < 0.0, 1.0, (1.0 - self.zeros) * self._above(y))

    def _above(self, y: Floats) -> Floats:
        if self.inner.support == "counts":
            return self.inner.sf(y)
        return np.where(y > 0.0, self.inner.sf(np.where(y > 0.0, y, 0.5)), 1.0)

    def draw(self, rng: np.random.Generator) -> Floats:
        drawn = self.inner.draw(rng)
        return np.where(rng.random(drawn.shape) < self.zeros, 0.0, drawn)


# ------------------------------------------------------------------ counts and numbers


@dataclass(frozen=True, eq=False)
class _BetaBinomial(_Made):
    """``auxiliary`` is the precision."""

    @property
    def unit_variance(self) -> Floats:
        share = (self.auxiliary + self.trials) / (self.auxiliary + 1.0)
        return self.mean * (1.0 - self.mean) * share

    @property
    def variance(self) -> Floats:
        return self.trials * self.unit_variance

    def cdf(self, y: Floats) -> Floats:
        k = np.arange(float(self.trials.max()) + 1.0)
        return np.asarray((self._masses(k) * (k <= y[..., None])).sum(axis=-1).clip(0.0, 1.0))

    def sf(self, y: Floats) -> Floats:
        k = np.arange(float(self.trials.max()) + 1.0)
        return np.asarray((self._masses(k) * (k > y[..., None])).sum(axis=-1).clip(0.0, 1.0))

    def _masses(self, k: Floats) -> Floats:
        """Probabilities of all numbers of successes, ``(..., m)``."""
        n, f, mu = self.trials[..., None], self.auxiliary[..., None], self.mean[..., None]
        left = np.maximum(n - k, 0.0)
        log = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(left + 1.0)
        log = log + betaln(k + mu * f, left + (1.0 - mu) * f) - betaln(mu * f, (1.0 - mu) * f)
        return np.where(k <= n, np.exp(log), 0.0)

    def draw(self, rng: np.random.Generator) -> Floats:
        p = rng.beta(self.mean * self.auxiliary, (1.0 - self.mean) * self.auxiliary)
        return np.asarray(rng.binomial(self.trials.astype(np.int64), p), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _StudentT(_Made):
    """``auxiliary`` is the scale; ``df`` the degrees of freedom."""

    df: Floats
    support = "any"

    @property
    def variance(self) -> Floats:
        """Infinite with two degrees of freedom or fewer."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.df > 2.0, self.df / (self.df - 2.0), np.inf)
        return self.auxiliary**2 * ratio

    def cdf(self, y: Floats) -> Floats:
        return np.asarray(stdtr(self.df, (y - self.mean) / self.auxiliary))

    def sf(self, y: Floats) -> Floats:
        return np.asarray(stdtr(self.df, (self.mean - y) / self.auxiliary))

    def draw(self, rng: np.random.Generator) -> Floats:
        return np.asarray(self.mean + self.auxiliary * rng.standard_t(self.df))


@dataclass(frozen=True, eq=False)
class _Tweedie(_Made):
    """A Poisson number of gamma parts; ``auxiliary`` is the dispersion."""

    power: Floats
    support = "zero-positive"

    @property
    def variance(self) -> Floats:
        return self.auxiliary * self.mean**self.power

    @property
    def _parts(self) -> tuple[Floats, Floats, Floats]:
        """Mean number of parts, and shape and scale of each."""
        p = self.power
        rate = self.mean ** (2.0 - p) / (self.auxiliary * (2.0 - p))
        return rate, (2.0 - p) / (p - 1.0), self.auxiliary * (p - 1.0) * self.mean ** (p - 1.0)

    def cdf(self, y: Floats) -> Floats:
        rate, shape, scale = self._parts
        top = float(rate.max(initial=0.0))
        j = np.arange(1.0, np.ceil(top + _WIDTH * np.sqrt(top)) + _BESIDE)
        log = j * np.log(rate[..., None]) - rate[..., None] - gammaln(j + 1.0)
        up = gammainc(j * shape[..., None], np.maximum(y, 0.0)[..., None] / scale[..., None])
        return np.where(y < 0.0, 0.0, np.exp(-rate) + (np.exp(log) * up).sum(axis=-1))

    def sf(self, y: Floats) -> Floats:
        return np.maximum(1.0 - self.cdf(y), 0.0)

    def draw(self, rng: np.random.Generator) -> Floats:
        rate, shape, scale = self._parts
        number = rng.poisson(rate)
        drawn = rng.gamma(np.where(number > 0, number * shape, 1.0), scale)
        return np.where(number > 0, drawn, 0.0)


# ------------------------------------------------------------------ categories


@dataclass(frozen=True, eq=False)
class _Ordinal(_Made):
    """Scores of categories with probabilities ``(n, categories)``."""

    probabilities: Floats
    scores: Floats
    support = "counts"

    @property
    def variance(self) -> Floats:
        return np.asarray(self.probabilities @ self.scores**2 - self.mean**2)

    def cdf(self, y: Floats) -> Floats:
        return self._summed(self.scores <= y[..., None])

    def sf(self, y: Floats) -> Floats:
        return self._summed(self.scores > y[..., None])

    def _summed(self, counted: NDArray[np.bool_]) -> Floats:
        return np.asarray((self.probabilities * counted).sum(axis=-1))

    def draw(self, rng: np.random.Generator) -> Floats:
        u = rng.random(self.mean.shape)
        total = np.cumsum(self.probabilities, axis=-1)[..., :-1]
        return np.asarray(self.scores[(u[..., None] > total).sum(axis=-1)])
