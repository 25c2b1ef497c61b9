"""Laws: the distribution of a response given its mean, as a value with a row an entry.

The likelihood of a family is in :mod:`interlace.glmm.families`; this is what residuals, simulation
and predictive intervals ask of it beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from scipy.special import (
    betainc,
    digamma,
    expit,
    gammainc,
    gammaincc,
    gammaln,
    log_ndtr,
    logit,
    ndtr,
    xlog1py,
    xlogy,
)

from interlace.glmm.families import Family, NegativeBinomial
from interlace.glmm.rising import log_rising
from interlace.sums.terms import Floats

Support = Literal["counts", "positive", "zero-positive", "shares", "any"]

# Halvings of an interval, which leave nothing of it.
_HALVINGS = 200
# Beta draws of 0 and 1, which the density does not have, are moved inside by this.
_INSIDE = 1e-300


@dataclass(frozen=True, eq=False)
class Law:
    """The distribution of every row.

    Attributes
    ----------
    mean
        Means, of proportions if binomial, in any shape.
    trials
        Of a binomial response; ones otherwise.
    auxiliary
        The dispersion, size or precision; not used by families without one.
    """

    mean: Floats
    trials: Floats
    auxiliary: Floats

    # What values there are: counts, or numbers that are positive, positive or 0, shares, or any.
    support: ClassVar[Support] = "counts"
    # Whether its saturated model, and so a deviance, is defined.
    has_deviance: ClassVar[bool] = True

    @property
    def unit_variance(self) -> Floats:
        """The variance function: of one trial, and without a dispersion that multiplies it."""
        raise NotImplementedError

    @property
    def variance(self) -> Floats:
        """Variance of the response as it is counted."""
        raise NotImplementedError

    def cdf(self, y: Floats) -> Floats:
        """``P(Y <= y)``."""
        raise NotImplementedError

    def sf(self, y: Floats) -> Floats:
        """``P(Y > y)``."""
        raise NotImplementedError

    def mass_at_zero(self) -> Floats:
        """``P(Y = 0)`` of a law whose other values have a density."""
        return self.cdf(np.zeros_like(self.mean))

    def draw(self, rng: np.random.Generator) -> Floats:
        """A new response."""
        raise NotImplementedError

    def deviance(self, y: Floats) -> Floats:
        """Twice what the log-likelihood lacks of its largest value over means, dispersion 1."""
        raise NotImplementedError


# ------------------------------------------------------------------ counts


@dataclass(frozen=True, eq=False)
class _Binomial(Law):
    @property
    def unit_variance(self) -> Floats:
        return self.mean * (1.0 - self.mean)

    @property
    def variance(self) -> Floats:
        return self.trials * self.unit_variance

    def cdf(self, y: Floats) -> Floats:
        k, left = np.clip(y, 0.0, self.trials), self.trials - y
        part = betainc(np.maximum(left, 1.0), k + 1.0, 1.0 - self.mean)
        return np.where(y < 0.0, 0.0, np.where(left <= 0.0, 1.0, part))

    def sf(self, y: Floats) -> Floats:
        k, left = np.clip(y, 0.0, self.trials), self.trials - y
        part = betainc(k + 1.0, np.maximum(left, 1.0), self.mean)
        return np.where(y < 0.0, 1.0, np.where(left <= 0.0, 0.0, part))

    def draw(self, rng: np.random.Generator) -> Floats:
        return np.asarray(rng.binomial(self.trials.astype(np.int64), self.mean), dtype=np.float64)

    def deviance(self, y: Floats) -> Floats:
        n, fails = self.trials, self.trials - y
        top = xlogy(y, y / n) + xlogy(fails, fails / n)
        return np.asarray(2.0 * (top - xlogy(y, self.mean) - xlog1py(fails, -self.mean)))


@dataclass(frozen=True, eq=False)
class _Count(Law):
    @property
    def unit_variance(self) -> Floats:
        return self.variance


@dataclass(frozen=True, eq=False)
class _Poisson(_Count):
    @property
    def variance(self) -> Floats:
        return self.mean

    def cdf(self, y: Floats) -> Floats:
        return np.where(y < 0.0, 0.0, gammaincc(np.maximum(y, 0.0) + 1.0, self.mean))

    def sf(self, y: Floats) -> Floats:
        return np.where(y < 0.0, 1.0, gammainc(np.maximum(y, 0.0) + 1.0, self.mean))

    def draw(self, rng: np.random.Generator) -> Floats:
        return np.asarray(rng.poisson(self.mean), dtype=np.float64)

    def deviance(self, y: Floats) -> Floats:
        return np.asarray(2.0 * (xlogy(y, y / self.mean) - (y - self.mean)))


@dataclass(frozen=True, eq=False)
class _NegativeBinomial(_Count):
    """By the size ``k`` and the probability ``k / (k + mean)``."""

    @property
    def size(self) -> Floats:
        raise NotImplementedError

    @property
    def _share(self) -> Floats:
        return self.size / (self.size + self.mean)

    def cdf(self, y: Floats) -> Floats:
        part = betainc(self.size, np.maximum(y, 0.0) + 1.0, self._share)
        return np.where(y < 0.0, 0.0, part)

    def sf(self, y: Floats) -> Floats:
        part = betainc(np.maximum(y, 0.0) + 1.0, self.size, 1.0 - self._share)
        return np.where(y < 0.0, 1.0, part)

    def draw(self, rng: np.random.Generator) -> Floats:
        rate = rng.gamma(self.size, self.mean / self.size)
        return np.asarray(rng.poisson(rate), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Quadratic(_NegativeBinomial):
    """Of kind 2."""

    @property
    def size(self) -> Floats:
        return self.auxiliary

    @property
    def variance(self) -> Floats:
        return self.mean + self.mean**2 / self.auxiliary

    def deviance(self, y: Floats) -> Floats:
        k = self.auxiliary
        around = (y + k) * np.log((y + k) / (self.mean + k))
        return np.asarray(2.0 * (xlogy(y, y / self.mean) - around))


@dataclass(frozen=True, eq=False)
class _Linear(_NegativeBinomial):
    """Of kind 1."""

    @property
    def size(self) -> Floats:
        return self.mean / self.auxiliary

    @property
    def variance(self) -> Floats:
        return self.mean * (1.0 + self.auxiliary)

    def deviance(self, y: Floats) -> Floats:
        """The best size ``k`` solves ``psi(y + k) - psi(k) = log(1 + phi)``; 0 for ``y = 0``."""
        log_part = np.log1p(self.auxiliary) + 0.0 * y
        some = np.where(y > 0.0, y, 1.0)

        def falls(t: Floats) -> Floats:
            k = np.exp(t)
            return np.asarray(digamma(some + k) - digamma(k) - log_part)

        best = np.exp(root(falls, np.full(y.shape, -50.0), np.full(y.shape, 50.0)))
        size = np.where(y > 0.0, best, 0.0)
        here = _rising(y, self.size) - self.size * log_part
        return np.maximum(2.0 * (_rising(y, size) - size * log_part - here), 0.0)


def _rising(y: Floats, k: Floats) -> Floats:
    """``log Gamma(y + k) - log Gamma(k)``, 0 for ``y = 0``."""
    from_log = np.zeros(np.broadcast(y, k).shape)
    some = y > 0.0
    if some.any():
        from_log[some] = log_rising(y[some], k[some]).value + y[some] * np.log(k[some])
    return from_log


# ------------------------------------------------------------------ numbers


@dataclass(frozen=True, eq=False)
class _Gamma(Law):
    support = "positive"

    @property
    def unit_variance(self) -> Floats:
        return self.mean**2

    @property
    def variance(self) -> Floats:
        return self.auxiliary * self.mean**2

    def cdf(self, y: Floats) -> Floats:
        shape = 1.0 / self.auxiliary
        return np.asarray(gammainc(shape, np.maximum(y, 0.0) * shape / self.mean))

    def sf(self, y: Floats) -> Floats:
        shape = 1.0 / self.auxiliary
        return np.asarray(gammaincc(shape, np.maximum(y, 0.0) * shape / self.mean))

    def draw(self, rng: np.random.Generator) -> Floats:
        found = rng.gamma(1.0 / self.auxiliary, self.mean * self.auxiliary)
        return np.maximum(found, _INSIDE)

    def deviance(self, y: Floats) -> Floats:
        a = y / self.mean
        return np.asarray(2.0 * (a - 1.0 - np.log(a)))


@dataclass(frozen=True, eq=False)
class _InverseGaussian(Law):
    support = "positive"

    @property
    def unit_variance(self) -> Floats:
        return self.mean**3

    @property
    def variance(self) -> Floats:
        return self.auxiliary * self.mean**3

    def _parts(self, y: Floats) -> tuple[Floats, Floats]:
        """``sqrt(lambda / y) (y / mu - 1)`` and the second summand of the distribution function."""
        y = np.maximum(y, _INSIDE)
        root_part, a = np.sqrt(1.0 / (self.auxiliary * y)), y / self.mean
        second = 2.0 / (self.auxiliary * self.mean) + log_ndtr(-root_part * (a + 1.0))
        return root_part * (a - 1.0), np.exp(second)

    def cdf(self, y: Floats) -> Floats:
        z, second = self._parts(y)
        return np.where(y <= 0.0, 0.0, np.minimum(ndtr(z) + second, 1.0))

    def sf(self, y: Floats) -> Floats:
        z, second = self._parts(y)
        return np.where(y <= 0.0, 1.0, np.maximum(ndtr(-z) - second, 0.0))

    def draw(self, rng: np.random.Generator) -> Floats:
        return np.maximum(rng.wald(self.mean, 1.0 / self.auxiliary), _INSIDE)

    def deviance(self, y: Floats) -> Floats:
        return np.asarray((y - self.mean) ** 2 / (self.mean**2 * y))


@dataclass(frozen=True, eq=False)
class _Beta(Law):
    support = "shares"

    @property
    def unit_variance(self) -> Floats:
        return self.mean * (1.0 - self.mean)

    @property
    def variance(self) -> Floats:
        return self.unit_variance / (1.0 + self.auxiliary)

    @property
    def _shapes(self) -> tuple[Floats, Floats]:
        return self.mean * self.auxiliary, (1.0 - self.mean) * self.auxiliary

    def cdf(self, y: Floats) -> Floats:
        a, b = self._shapes
        return np.asarray(betainc(a, b, np.clip(y, 0.0, 1.0)))

    def sf(self, y: Floats) -> Floats:
        a, b = self._shapes
        return np.asarray(betainc(b, a, 1.0 - np.clip(y, 0.0, 1.0)))

    def draw(self, rng: np.random.Generator) -> Floats:
        return np.clip(rng.beta(*self._shapes), _INSIDE, 1.0 - 1e-16)

    def deviance(self, y: Floats) -> Floats:
        """The best mean solves ``psi(mu phi) - psi((1 - mu) phi) = logit y``."""
        f = self.auxiliary

        def falls(t: Floats) -> Floats:
            up, down = 1.0 / (1.0 + np.exp(-t)), 1.0 / (1.0 + np.exp(t))
            return np.asarray(logit(y) - digamma(up * f) + digamma(down * f))

        best = root(falls, np.full(y.shape, -200.0), np.full(y.shape, 200.0))
        return np.maximum(2.0 * (self._log(y, best) - self._log(y, logit(self.mean))), 0.0)

    def _log(self, y: Floats, t: Floats) -> Floats:
        """The log density at a logit of the mean, without what does not depend on it."""
        a, b = self.auxiliary / (1.0 + np.exp(-t)), self.auxiliary / (1.0 + np.exp(t))
        return np.asarray(a * np.log(y) + b * np.log1p(-y) - gammaln(a) - gammaln(b))


@dataclass(frozen=True, eq=False)
class _Gaussian(Law):
    support = "any"

    @property
    def unit_variance(self) -> Floats:
        return np.ones_like(self.mean)

    @property
    def variance(self) -> Floats:
        return self.auxiliary + 0.0 * self.mean

    def cdf(self, y: Floats) -> Floats:
        return np.asarray(ndtr((y - self.mean) / np.sqrt(self.auxiliary)))

    def sf(self, y: Floats) -> Floats:
        return np.asarray(ndtr((self.mean - y) / np.sqrt(self.auxiliary)))

    def draw(self, rng: np.random.Generator) -> Floats:
        return np.asarray(rng.normal(self.mean, np.sqrt(self.auxiliary)))

    def deviance(self, y: Floats) -> Floats:
        return np.asarray((y - self.mean) ** 2)


_LAWS: Mapping[str, type[Law]] = {
    "binomial": _Binomial,
    "poisson": _Poisson,
    "gamma": _Gamma,
    "inverse-gaussian": _InverseGaussian,
    "beta": _Beta,
    "gaussian": _Gaussian,
}


def is_simple(family: Family) -> bool:
    """Whether the law of a family follows from a mean and one number beside it."""
    return isinstance(family, NegativeBinomial) or family.name in _LAWS


def law_of(family: Family, mean: Floats, trials: Floats | float, auxiliary: Floats | float) -> Law:
    """The law of a family of one parameter beside the mean at most, with a mean for every row."""
    if isinstance(family, NegativeBinomial):
        kind: type[Law] = _Quadratic if family.kind == 2 else _Linear
    else:
        kind = _LAWS[family.name]
    trials, auxiliary = (
        np.broadcast_to(np.asarray(part, dtype=np.float64), mean.shape)
        for part in (trials, auxiliary)
    )
    return kind(mean, trials, auxiliary)


def root(falls: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Where falling functions cross 0, by halving intervals until nothing is left of them."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        above = falls(middle) > 0.0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
        if not (np.abs(high - low) > 1e-15 * np.maximum(np.abs(low), 1.0)).any():
            break
    return 0.5 * (low + high)


def quantile(cdf: Callable[[Floats], Floats], p: float, support: Support, around: Law) -> Floats:
    """Smallest values at which a distribution function of every row reaches ``p``.

    ``around`` is a law that tells where to look.
    """
    shape = around.mean.shape

    def short(y: Floats) -> Floats:
        return p - cdf(y)

    if support == "counts":
        return _whole(short, np.zeros(shape))
    if support in ("positive", "zero-positive"):
        found = np.exp(
            root(lambda t: short(np.exp(t)), np.full(shape, -700.0), np.full(shape, 700.0))
        )
        return np.where(short(np.zeros(shape)) <= 0.0, 0.0, found)
    if support == "shares":
        wide = np.full(shape, 700.0)
        return expit(root(lambda t: short(expit(t)), -wide, wide))
    low, high = around.mean.copy(), around.mean.copy()
    step = np.sqrt(around.variance)
    for _ in range(_HALVINGS):
        above, below = short(low) < 0.0, short(high) > 0.0
        if not (above | below).any():
            break
        low, high = np.where(above, low - step, low), np.where(below, high + step, high)
        step = 2.0 * step
    return root(short, low, high)


def _whole(short: Callable[[Floats], Floats], zero: Floats) -> Floats:
    """The smallest counts that are not short."""
    low, high = zero - 1.0, zero + 1.0
    for _ in range(_HALVINGS):
        wanting = short(high) > 0.0
        if not wanting.any():
            break
        low, high = np.where(wanting, high, low), np.where(wanting, 2.0 * high, high)
    while (high - low > 1.0).any():
        middle = np.floor(0.5 * (low + high))
        wanting = short(middle) > 0.0
        low, high = np.where(wanting, middle, low), np.where(wanting, high, middle)
    return high
