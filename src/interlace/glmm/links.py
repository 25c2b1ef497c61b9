"""Links: the mean of a response as a function of the linear predictor, to third order.

A family asks for the coordinate in which its likelihood keeps all digits: the mean itself, its
logarithm, or the logarithms of a probability and its complement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_ndtr, ndtr, ndtri

from interlace.glmm.jets import Jet, straight
from interlace.sums.terms import Floats

Mask = NDArray[np.bool_]

_ROOT_TWO_PI = float(np.sqrt(2.0 * np.pi))
# A link that takes predictors of both signs up to this has no bound that a search would meet.
_WIDE = 100.0


class Link(Protocol):
    """What every link can do."""

    @property
    def name(self) -> str: ...

    def inside(self, eta: Floats) -> Mask:
        """Which linear predictors give a mean that the response can have, ``(n,)``."""
        ...

    def mean(self, eta: Floats) -> Jet:
        """The mean ``mu(eta)``."""
        ...

    def to_eta(self, mean: Floats) -> Floats:
        """The linear predictor of a mean."""
        ...


class PositiveLink(Link, Protocol):
    """A link of a positive mean."""

    def log_mean(self, eta: Floats) -> Jet:
        """``log mu(eta)``."""
        ...


class ProbabilityLink(Link, Protocol):
    """A link of a probability."""

    def log_success(self, eta: Floats) -> Jet:
        """``log mu(eta)``."""
        ...

    def log_failure(self, eta: Floats) -> Jet:
        """``log(1 - mu(eta))``."""
        ...


def all_inside(link: Link, eta: Floats) -> bool:
    """Whether every linear predictor gives a mean that the response can have."""
    return bool(link.inside(eta).all())


def unbounded(link: Link) -> bool:
    """Whether predictors of both signs give a possible mean, up to any that a search would meet."""
    return all_inside(link, np.array([-_WIDE, _WIDE]))


def _always(eta: Floats) -> Mask:
    return np.isfinite(eta)


def _positive(eta: Floats) -> Mask:
    return np.asarray((eta > 0.0) & np.isfinite(eta))


# ------------------------------------------------------------------ means


@dataclass(frozen=True)
class Identity:
    """``mu = eta``."""

    name: str = "identity"
    positive: bool = False

    def inside(self, eta: Floats) -> Mask:
        return _positive(eta) if self.positive else _always(eta)

    def mean(self, eta: Floats) -> Jet:
        return straight(eta)

    def log_mean(self, eta: Floats) -> Jet:
        r = 1.0 / eta
        return Jet(np.log(eta), r, -(r**2), 2.0 * r**3)

    def to_eta(self, mean: Floats) -> Floats:
        return mean


@dataclass(frozen=True)
class Log:
    """``mu = exp(eta)``."""

    name: str = "log"

    def inside(self, eta: Floats) -> Mask:
        return np.asarray((eta < 700.0) & np.isfinite(eta))

    def mean(self, eta: Floats) -> Jet:
        mu = np.exp(eta)
        return Jet(mu, mu, mu, mu)

    def log_mean(self, eta: Floats) -> Jet:
        return straight(eta)

    def to_eta(self, mean: Floats) -> Floats:
        return np.log(mean)


@dataclass(frozen=True)
class Inverse:
    """``mu = 1 / eta``."""

    name: str = "inverse"
    positive: bool = False

    def inside(self, eta: Floats) -> Mask:
        return _positive(eta) if self.positive else _always(eta) & (eta != 0.0)

    def mean(self, eta: Floats) -> Jet:
        mu = 1.0 / eta
        return Jet(mu, -(mu**2), 2.0 * mu**3, -6.0 * mu**4)

    def log_mean(self, eta: Floats) -> Jet:
        r = 1.0 / eta
        return Jet(-np.log(eta), -r, r**2, -2.0 * r**3)

    def to_eta(self, mean: Floats) -> Floats:
        return 1.0 / mean


@dataclass(frozen=True)
class SquareRoot:
    """``mu = eta^2`` for ``eta > 0``."""

    name: str = "sqrt"

    def inside(self, eta: Floats) -> Mask:
        return _positive(eta)

    def mean(self, eta: Floats) -> Jet:
        return Jet(eta**2, 2.0 * eta, 2.0, 0.0)

    def log_mean(self, eta: Floats) -> Jet:
        r = 1.0 / eta
        return Jet(2.0 * np.log(eta), 2.0 * r, -2.0 * r**2, 4.0 * r**3)

    def to_eta(self, mean: Floats) -> Floats:
        return np.sqrt(mean)


# ------------------------------------------------------------------ probabilities


@dataclass(frozen=True)
class Logit:
    """``mu = 1 / (1 + exp(-eta))``."""

    name: str = "logit"

    def inside(self, eta: Floats) -> Mask:
        return _always(eta)

    def mean(self, eta: Floats) -> Jet:
        mu, nu = expit(eta), expit(-eta)
        v = mu * nu
        return Jet(mu, v, v * (nu - mu), v * (1.0 - 6.0 * v))

    def log_success(self, eta: Floats) -> Jet:
        mu, nu = expit(eta), expit(-eta)
        v = mu * nu
        return Jet(-np.logaddexp(0.0, -eta), nu, -v, -v * (nu - mu))

    def log_failure(self, eta: Floats) -> Jet:
        mu, nu = expit(eta), expit(-eta)
        v = mu * nu
        return Jet(-np.logaddexp(0.0, eta), -mu, -v, -v * (nu - mu))

    def to_eta(self, mean: Floats) -> Floats:
        return np.asarray(np.log(mean) - np.log1p(-mean))


@dataclass(frozen=True)
class Probit:
    """``mu`` the normal distribution function at ``eta``."""

    name: str = "probit"

    def inside(self, eta: Floats) -> Mask:
        return _always(eta)

    def mean(self, eta: Floats) -> Jet:
        f = np.exp(-0.5 * eta**2) / _ROOT_TWO_PI
        return Jet(ndtr(eta), f, -eta * f, (eta**2 - 1.0) * f)

    def log_success(self, eta: Floats) -> Jet:
        log_mean = log_ndtr(eta)
        h = np.exp(-0.5 * eta**2 - log_mean) / _ROOT_TWO_PI
        d2 = -h * (eta + h)
        return Jet(log_mean, h, d2, -d2 * (eta + h) - h * (1.0 + d2))

    def log_failure(self, eta: Floats) -> Jet:
        return _mirrored(self.log_success(-eta))

    def to_eta(self, mean: Floats) -> Floats:
        return np.asarray(ndtri(mean))


@dataclass(frozen=True)
class LogLog:
    """``mu = 1 - exp(-exp(eta))``, the complementary log-log link."""

    name: str = "cloglog"

    def inside(self, eta: Floats) -> Mask:
        return np.asarray((eta < 700.0) & np.isfinite(eta))

    def mean(self, eta: Floats) -> Jet:
        m = np.exp(eta)
        f = m * np.exp(-m)
        return Jet(-np.expm1(-m), f, f * (1.0 - m), f * ((1.0 - m) ** 2 - m))

    def log_success(self, eta: Floats) -> Jet:
        m = np.exp(eta)
        mu = -np.expm1(-m)
        r = m * np.exp(-m) / mu
        slope = 1.0 - m - r
        d2 = r * slope
        return Jet(np.log(mu), r, d2, d2 * slope - r * (m + d2))

    def log_failure(self, eta: Floats) -> Jet:
        m = -np.exp(eta)
        return Jet(m, m, m, m)

    def to_eta(self, mean: Floats) -> Floats:
        return np.asarray(np.log(-np.log1p(-mean)))


@dataclass(frozen=True)
class Cauchit:
    """``mu`` the Cauchy distribution function at ``eta``."""

    name: str = "cauchit"

    def inside(self, eta: Floats) -> Mask:
        return _always(eta)

    def mean(self, eta: Floats) -> Jet:
        q = 1.0 / (1.0 + eta**2)
        f = q / np.pi
        mu = np.arctan2(1.0, -eta) / np.pi
        return Jet(mu, f, -2.0 * eta * q * f, (6.0 * eta**2 - 2.0) * q**2 * f)

    def log_success(self, eta: Floats) -> Jet:
        mu, f1, f2, f3 = self.mean(eta)
        d1 = f1 / mu
        d2 = f2 / mu - d1**2
        return Jet(np.log(mu), d1, d2, f3 / mu - 3.0 * d1 * d2 - d1**3)

    def log_failure(self, eta: Floats) -> Jet:
        return _mirrored(self.log_success(-eta))

    def to_eta(self, mean: Floats) -> Floats:
        return np.asarray(np.tan(np.pi * (mean - 0.5)))


@dataclass(frozen=True)
class LogProbability:
    """``mu = exp(eta)`` for ``eta < 0``: coefficients are logarithms of risk ratios."""

    name: str = "log"

    def inside(self, eta: Floats) -> Mask:
        return np.asarray((eta < 0.0) & np.isfinite(eta))

    def mean(self, eta: Floats) -> Jet:
        mu = np.exp(eta)
        return Jet(mu, mu, mu, mu)

    def log_success(self, eta: Floats) -> Jet:
        return straight(eta)

    def log_failure(self, eta: Floats) -> Jet:
        q = 1.0 / np.expm1(-eta)
        d2 = -q * (1.0 + q)
        return Jet(np.log(-np.expm1(eta)), -q, d2, d2 * (1.0 + 2.0 * q))

    def to_eta(self, mean: Floats) -> Floats:
        return np.log(mean)


def _mirrored(jet: Jet) -> Jet:
    """``f(-eta)`` from ``f`` at ``-eta``."""
    return Jet(jet.value, -jet.d1, jet.d2, -jet.d3)


# The links that families have by default.
IDENTITY, LOG, LOGIT = Identity(), Log(), Logit()
