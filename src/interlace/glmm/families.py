"""Families: the log-likelihood of a row as a function of its linear predictors, to third order.

``l(eta, omega)`` has one linear predictor ``eta``, whose mean the link gives, and ``K``
*auxiliary* predictors ``omega`` without random effects: the log of a dispersion, of a size or of a
precision, the logit of a share of zeros, thresholds.  A row must only know ``l`` and its
derivatives; with ``g = l'``, ``W = -l''`` (observed curvature) these are ``g, W, W' = -l'''`` in
``eta``, and ``l_o, g_o, W_o, l_oo`` in ``omega``.  All constants count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from scipy.special import digamma, expit, gammaln, polygamma

from interlace.errors import InterlaceError
from interlace.glmm.jets import Jet, chained
from interlace.glmm.links import (
    IDENTITY,
    LOG,
    LOGIT,
    Link,
    Log,
    Logit,
    PositiveLink,
    ProbabilityLink,
)
from interlace.glmm.rising import log_rising
from interlace.sums.terms import Floats


class Curve(NamedTuple):
    """Log-likelihood of every row in ``eta``: ``l, g, W, W'``, and the expected curvature."""

    l: Floats
    g: Floats
    W: Floats
    dW: Floats
    expected: Floats


class Slope(NamedTuple):
    """Derivatives of every row in its auxiliary predictors: of ``l``, ``g`` and ``W``, ``(K, n)``
    each, and the second ones of ``l``, ``(K, K, n)``.
    """

    l: Floats
    g: Floats
    W: Floats
    second: Floats


class Family(Protocol):
    """What the engine asks of a family.

    ``trials`` are ones except for a binomial response; ``omega`` has a row for each of the
    ``predictors``, none for many families.  ``auxiliary`` names the exponential of the first if it
    is a dispersion, a size or a precision, and is empty otherwise.
    """

    @property
    def name(self) -> str: ...
    @property
    def link(self) -> Link: ...
    @property
    def auxiliary(self) -> str: ...
    @property
    def predictors(self) -> tuple[str, ...]:
        """Names of the auxiliary predictors."""
        ...

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        """The log-likelihood without :meth:`constant`, and its derivatives in ``eta``."""
        ...

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        """Derivatives in ``omega``."""
        ...

    def constant(self, y: Floats, trials: Floats) -> Floats:
        """The part of the log-likelihood that depends on the response alone."""
        ...

    def start(self, y: Floats, trials: Floats) -> Floats:
        """A mean for every row, near its response and inside the link's domain."""
        ...

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        """First auxiliary predictors, by moments around fitted means: ``(K,)`` or ``(K, n)``."""
        ...


# ------------------------------------------------------------------ none and one


class Plain:
    """A family without auxiliary predictors."""

    auxiliary: ClassVar[str] = ""
    predictors: ClassVar[tuple[str, ...]] = ()

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        none = np.zeros((0, len(eta)))
        return Slope(none, none, none, none[None])

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        return np.zeros(0)


# ------------------------------------------------------------------ probabilities


@dataclass(frozen=True)
class Binomial(Plain):
    """Successes out of trials."""

    link: ProbabilityLink = LOGIT
    name: ClassVar[str] = "binomial"

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        if isinstance(self.link, Logit):
            return _logistic(y, trials, eta)
        up, down = self.link.log_success(eta), self.link.log_failure(eta)
        fails = trials - y
        l, d1, d2, d3 = (y * a + fails * b for a, b in zip(up, down, strict=True))
        return Curve(l, d1, -d2, -d3, -trials * np.asarray(up.d1) * down.d1)

    def constant(self, y: Floats, trials: Floats) -> Floats:
        total = np.zeros_like(y)
        ways = (trials != 1.0) | ((y != 0.0) & (y != 1.0))
        if ways.any():
            a, b = y[ways], trials[ways]
            total[ways] = gammaln(b + 1.0) - gammaln(a + 1.0) - gammaln(b - a + 1.0)
        return total

    def start(self, y: Floats, trials: Floats) -> Floats:
        return (y + 0.5) / (trials + 1.0)


def _logistic(y: Floats, trials: Floats, eta: Floats) -> Curve:
    """The canonical link, with one exponential a row."""
    small = np.exp(-np.abs(eta))
    inverse = 1.0 / (1.0 + small)
    mu = np.where(eta < 0.0, small * inverse, inverse)
    W = trials * small * inverse**2
    l = y * eta - trials * (np.maximum(eta, 0.0) + np.log1p(small))
    return Curve(l, y - trials * mu, W, W * (1.0 - 2.0 * mu), W)


@dataclass(frozen=True)
class Beta:
    """Shares between 0 and 1; ``omega`` is the log of the precision ``mu (1 - mu) / Var - 1``."""

    link: ProbabilityLink = LOGIT
    name: ClassVar[str] = "beta"
    auxiliary: ClassVar[str] = "precision"
    predictors: ClassVar[tuple[str, ...]] = ("precision",)

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        (omega,) = omega
        f, mu, nu, mean = self._shapes(eta, omega)
        a, b = mu * f, nu * f
        l = gammaln(f) - gammaln(a) - gammaln(b) + (a - 1.0) * np.log(y) + (b - 1.0) * np.log1p(-y)
        d1 = f * (np.log(y) - np.log1p(-y) - digamma(a) + digamma(b))
        d2 = -(f**2) * (polygamma(1, a) + polygamma(1, b))
        d3 = -(f**3) * (polygamma(2, a) - polygamma(2, b))
        jet = chained(Jet(l, d1, d2, d3), mean)
        return Curve(jet.value, *signed(jet, eta), -d2 * np.asarray(mean.d1) ** 2)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        (omega,) = omega
        f, mu, nu, mean = self._shapes(eta, omega)
        a, b = mu * f, nu * f
        p, q = digamma(a), digamma(b)
        p1, q1 = polygamma(1, a), polygamma(1, b)
        first = digamma(f) - mu * p - nu * q + mu * np.log(y) + nu * np.log1p(-y)
        second = polygamma(1, f) - mu**2 * p1 - nu**2 * q1
        cross1 = f * (np.log(y) - np.log1p(-y) - p + q + f * (nu * q1 - mu * p1))
        cross2 = -(f**2) * (2.0 * (p1 + q1) + f * (mu * polygamma(2, a) + nu * polygamma(2, b)))
        return chained_slope(f * first, cross1, cross2, f * first + f**2 * second, mean)

    def _shapes(self, eta: Floats, omega: Floats) -> tuple[Floats, Floats, Floats, Jet]:
        """Precision, mean, one less the mean, and the mean's derivatives."""
        mean = self.link.mean(eta)
        tiny = 1e-300
        nu = np.exp(self.link.log_failure(eta).value)
        return np.exp(omega), np.maximum(mean.value, tiny), np.maximum(nu, tiny), mean

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return np.zeros_like(y)

    def start(self, y: Floats, trials: Floats) -> Floats:
        return y

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        share = float(((y - mean) ** 2 / (mean * (1.0 - mean))).sum()) / df
        return np.array([np.log(max(1.0 / share - 1.0, 0.5))])


# ------------------------------------------------------------------ counts


@dataclass(frozen=True)
class Poisson(Plain):
    """Counts whose variance is their mean."""

    link: PositiveLink = LOG
    name: ClassVar[str] = "poisson"

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        t = self.link.log_mean(eta)
        m = np.exp(t.value)
        jet = chained(Jet(y * t.value - m, y - m, -m, -m), t)
        return Curve(jet.value, *signed(jet, eta), m * np.asarray(t.d1) ** 2)

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return np.asarray(-gammaln(y + 1.0))

    def start(self, y: Floats, trials: Floats) -> Floats:
        return y + 0.5


@dataclass(frozen=True)
class NegativeBinomial:
    """Counts with variance ``mu + mu^2 / k`` (``kind=2``) or ``mu (1 + phi)`` (``kind=1``).

    ``omega`` is the log of the size ``k``, or of the dispersion ``phi``.
    """

    kind: int = 2
    link: PositiveLink = LOG
    name: ClassVar[str] = "negative-binomial"

    def __post_init__(self) -> None:
        if self.kind not in (1, 2):
            raise InterlaceError(
                f"kind of a negative binomial is 1 (variance mu (1 + phi)) or 2 (mu + mu^2 / k), "
                f"not {self.kind!r}"
            )

    @property
    def auxiliary(self) -> str:
        return "size" if self.kind == 2 else "dispersion"

    @property
    def predictors(self) -> tuple[str, ...]:
        return (self.auxiliary,)

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        (omega,) = omega
        t = self.link.log_mean(eta)
        jet = self._quadratic(y, t, omega) if self.kind == 2 else self._linear(y, t, omega)
        m = np.exp(t.value)
        share = expit(omega - t.value) if self.kind == 2 else expit(-omega)
        return Curve(jet.value, *signed(jet, eta), m * share * np.asarray(t.d1) ** 2)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        (omega,) = omega
        t = self.link.log_mean(eta)
        parts = self._quadratic_slope if self.kind == 2 else self._linear_slope
        first, cross1, cross2, second = parts(y, t.value, omega)
        return chained_slope(first, cross1, cross2, second, t)

    def _quadratic(self, y: Floats, t: Jet, omega: Floats) -> Jet:
        """In ``log mu`` for kind 2: ``r = mu / (k + mu)``."""
        s, r = y + np.exp(omega), expit(t.value - omega)
        v = s * r * (1.0 - r)
        l = log_rising(y, np.exp(omega)).value + y * t.value
        l = l - s * np.logaddexp(0.0, t.value - omega)
        return chained(Jet(l, y - s * r, -v, -v * (1.0 - 2.0 * r)), t)

    @staticmethod
    def _quadratic_slope(
        y: Floats, t: Floats, omega: Floats
    ) -> tuple[Floats, Floats, Floats, Floats]:
        k, r = np.exp(omega), expit(t - omega)
        s, v = y + k, r * (1.0 - r)
        rising = log_rising(y, k)
        log_part = k * np.logaddexp(0.0, t - omega)
        first = rising.d1 - log_part + s * r
        second = rising.d2 - log_part + 2.0 * k * r - s * v
        return first, s * v - k * r, s * v * (1.0 - 2.0 * r) - k * v, second

    def _linear(self, y: Floats, t: Jet, omega: Floats) -> Jet:
        """In ``log mu`` for kind 1: a size ``k = mu / phi``."""
        k, log_part = np.exp(t.value - omega), np.logaddexp(0.0, omega)
        rising = log_rising(y, k)
        kL = k * log_part
        l = rising.value + y * (t.value - log_part) - kL
        return chained(Jet(l, rising.d1 + y - kL, rising.d2 - kL, rising.d3 - kL), t)

    @staticmethod
    def _linear_slope(y: Floats, t: Floats, omega: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        k, p = np.exp(t - omega), expit(omega)
        kL, kp = k * np.logaddexp(0.0, omega), k * p
        rising = log_rising(y, k)
        first = kL - rising.d1 - (k + y) * p
        second = rising.d2 - kL + 2.0 * kp - (k + y) * p * (1.0 - p)
        return first, kL - kp - rising.d2, kL - kp - rising.d3, second

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return np.asarray(-gammaln(y + 1.0))

    def start(self, y: Floats, trials: Floats) -> Floats:
        return y + 0.5

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        """From the Pearson statistic, half of whose excess is left to the random effects."""
        power = 2 if self.kind == 2 else 1
        excess = float((((y - mean) ** 2 - mean) / mean**power).sum()) / df
        size = 1.0 / max(0.5 * excess, 0.02)
        return np.array([np.log(size if self.kind == 2 else 1.0 / size)])


# ------------------------------------------------------------------ positive values


@dataclass(frozen=True)
class Gamma:
    """Positive values with variance ``phi mu^2``; ``omega = log phi``."""

    link: PositiveLink = LOG
    name: ClassVar[str] = "gamma"
    auxiliary: ClassVar[str] = "dispersion"
    predictors: ClassVar[tuple[str, ...]] = ("dispersion",)

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        (omega,) = omega
        t, shape = self.link.log_mean(eta), np.exp(-omega)
        a = y * np.exp(-t.value)
        l = shape * (np.log(a) - a - omega) - gammaln(shape)
        jet = chained(Jet(l, shape * (a - 1.0), -shape * a, shape * a), t)
        return Curve(jet.value, *signed(jet, eta), shape * np.asarray(t.d1) ** 2 + 0.0 * eta)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        (omega,) = omega
        t, shape = self.link.log_mean(eta), np.exp(-omega)
        a = y * np.exp(-t.value)
        in_shape = np.log(a) + 1.0 - a - omega - digamma(shape)
        second = shape * in_shape + shape - shape**2 * polygamma(1, shape)
        return chained_slope(-shape * in_shape, -shape * (a - 1.0), shape * a, second, t)

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return -np.log(y)

    def start(self, y: Floats, trials: Floats) -> Floats:
        return y

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        return np.array([np.log(max(((y / mean - 1.0) ** 2).sum() / df, 1e-8))])


@dataclass(frozen=True)
class InverseGaussian:
    """Positive values with variance ``phi mu^3``; ``omega = log phi``."""

    link: PositiveLink = LOG
    name: ClassVar[str] = "inverse-gaussian"
    auxiliary: ClassVar[str] = "dispersion"
    predictors: ClassVar[tuple[str, ...]] = ("dispersion",)

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        (omega,) = omega
        t = self.link.log_mean(eta)
        a, b, q, shape = self._parts(y, t.value, omega)
        l = -0.5 * (omega + shape * q)
        d1, d2, d3 = shape * (a - b), shape * (b - 2.0 * a), shape * (4.0 * a - b)
        jet = chained(Jet(l, d1, d2, d3), t)
        return Curve(jet.value, *signed(jet, eta), shape * b * np.asarray(t.d1) ** 2)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        (omega,) = omega
        t = self.link.log_mean(eta)
        a, b, q, shape = self._parts(y, t.value, omega)
        half = 0.5 * shape * q
        return chained_slope(half - 0.5, shape * (b - a), shape * (2.0 * a - b), -half, t)

    @staticmethod
    def _parts(y: Floats, t: Floats, omega: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """``y / mu^2``, ``1 / mu``, ``(y - mu)^2 / (mu^2 y)``, ``1 / phi``."""
        b = np.exp(-t)
        a = y * b**2
        return a, b, (y * b - 1.0) ** 2 / y, np.exp(-omega)

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return -0.5 * np.log(2.0 * np.pi * y**3)

    def start(self, y: Floats, trials: Floats) -> Floats:
        return y

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        return np.array([np.log(max(((y - mean) ** 2 / (mean**2 * y)).sum() / df, 1e-300))])


@dataclass(frozen=True)
class Gaussian:
    """Any values, with a constant variance ``phi``, where the link is not the identity."""

    link: Link = IDENTITY
    name: ClassVar[str] = "gaussian"
    auxiliary: ClassVar[str] = "dispersion"
    predictors: ClassVar[tuple[str, ...]] = ("dispersion",)

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        (omega,) = omega
        mean, shape = self.link.mean(eta), np.exp(-omega)
        r = y - mean.value
        f = Jet(-0.5 * (omega + shape * r**2), shape * r, -shape, 0.0)
        jet = chained(f, mean)
        return Curve(jet.value, *signed(jet, eta), shape * np.asarray(mean.d1) ** 2 + 0.0 * eta)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        (omega,) = omega
        mean, shape = self.link.mean(eta), np.exp(-omega)
        r = y - mean.value
        half = 0.5 * shape * r**2
        return chained_slope(half - 0.5, -shape * r, shape, -half, mean)

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return np.full_like(y, -0.5 * np.log(2.0 * np.pi))

    def start(self, y: Floats, trials: Floats) -> Floats:
        """The response, kept above a hundredth of its size where the link needs it positive."""
        if isinstance(self.link, Log):
            return np.maximum(y, 0.01 * float(np.abs(y).mean()))
        return y

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        return np.array([np.log(max(((y - mean) ** 2).sum() / df, 1e-300))])


# ------------------------------------------------------------------ what families share


def signed(jet: Jet, eta: Floats) -> tuple[Floats, Floats, Floats]:
    """``g, W, W'`` from the derivatives of ``l``, ``(n,)`` each."""
    zero = np.zeros_like(eta)
    return zero + jet.d1, zero - jet.d2, zero - jet.d3


def chained_slope(first: Floats, cross1: Floats, cross2: Floats, second: Floats, t: Jet) -> Slope:
    """From derivatives in a coordinate ``t`` of the mean to those in ``eta``.

    ``cross1`` and ``cross2`` are the derivatives of ``l_o`` in ``t``.
    """
    d1, d2 = np.asarray(t.d1), np.asarray(t.d2)
    W = -(cross2 * d1**2 + cross1 * d2)
    return Slope(first[None], (cross1 * d1)[None], W[None], second[None, None])
