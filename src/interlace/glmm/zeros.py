"""Zeros beside a law: zero inflation, truncation at zero, and hurdles.

All three change the likelihood of a family by a function of ``l_0(eta, omega)``, its log density
at zero; derivatives follow by the chain rule from those of the family there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from interlace.glmm.families import (
    Beta,
    Curve,
    Family,
    Gamma,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
    Slope,
)
from interlace.glmm.links import Link
from interlace.sums.terms import Floats

POISSON = Poisson()
# Mean below which the law at zero is not told from a certain zero; bounds on the share of zeros
# with which a search begins.
_TINY = 1e-12
_LEAST, _MOST = 0.02, 0.98


class _Outer(NamedTuple):
    """A function of ``l_0``: value and three derivatives, ``(n,)`` each."""

    value: Floats
    d1: Floats
    d2: Floats
    d3: Floats


def _composed(f: _Outer, at: Curve) -> Curve:
    """``f(l_0(eta))``, its derivatives in ``eta``, without an expected curvature."""
    g = f.d1 * at.g
    W = f.d1 * at.W - f.d2 * at.g**2
    dW = f.d1 * at.dW + 3.0 * f.d2 * at.g * at.W - f.d3 * at.g**3
    return Curve(f.value, g, W, dW, W)


def _composed_slope(f: _Outer, at: Curve, s: Slope) -> Slope:
    """Derivatives of ``f(l_0(eta, omega))`` in the family's own auxiliary predictors."""
    cross = f.d2 * at.g * s.l + f.d1 * s.g
    W = -(f.d3 * s.l * at.g**2 + 2.0 * f.d2 * at.g * s.g - f.d2 * s.l * at.W - f.d1 * s.W)
    second = f.d1 * s.second + f.d2 * s.l[:, None] * s.l
    return Slope(f.d1 * s.l, cross, W, second)


def _bordered(s: Slope, own: Slope, across: Floats) -> Slope:
    """Derivatives in a family's predictors, and in one more: ``own``, and ``across`` (K, n)."""
    second = np.concatenate(
        (
            np.concatenate((s.second, across[:, None]), axis=1),
            np.concatenate((across[None], own.second), axis=1),
        )
    )
    l, g, W = (np.concatenate(pair) for pair in zip(s[:3], own[:3], strict=True))
    return Slope(l, g, W, second)


# ------------------------------------------------------------------ truncation


@dataclass(frozen=True)
class Truncated:
    """Counts of a family that cannot be zero: ``l - log(1 - exp(l_0))``.

    ``base`` is Poisson or negative binomial.
    """

    base: Poisson | NegativeBinomial = POISSON

    @property
    def name(self) -> str:
        return f"truncated-{self.base.name}"

    @property
    def link(self) -> Link:
        return self.base.link

    @property
    def auxiliary(self) -> str:
        return self.base.auxiliary

    @property
    def predictors(self) -> tuple[str, ...]:
        return self.base.predictors

    def _outer(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> tuple[_Outer, Curve]:
        """``-log(1 - exp(l_0))`` as a function of ``l_0``, and ``l_0``."""
        at = self.base.curve(0.0 * y, trials, eta, omega)
        at = at._replace(l=np.minimum(at.l, -_TINY))
        q = 1.0 / np.expm1(-at.l)
        return _Outer(
            -np.log(-np.expm1(at.l)), q, q * (1.0 + q), q * (1.0 + q) * (1.0 + 2.0 * q)
        ), at

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        whole = self.base.curve(y, trials, eta, omega)
        part = _composed(*self._outer(y, trials, eta, omega))
        l, g, W, dW = (a + b for a, b in zip(whole[:4], part[:4], strict=True))
        return Curve(l, g, W, dW, np.maximum(whole.expected + part.W, 1e-3 * whole.expected))

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        whole = self.base.slope(y, trials, eta, omega)
        outer, at = self._outer(y, trials, eta, omega)
        part = _composed_slope(outer, at, self.base.slope(0.0 * y, trials, eta, omega))
        return Slope(*(a + b for a, b in zip(whole, part, strict=True)))

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return self.base.constant(y, trials)

    def start(self, y: Floats, trials: Floats) -> Floats:
        return np.maximum(y - 0.5, 0.5)

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        """From the counts themselves: means before truncation may be far below them."""
        return self.base.spread(y, trials, np.full_like(y, y.mean()), df)


# ------------------------------------------------------------------ more zeros


class _WithZeros:
    """What inflation and hurdles share: a predictor of zeros after the family's own."""

    base: Family

    @property
    def link(self) -> Link:
        return self.base.link

    @property
    def auxiliary(self) -> str:
        return self.base.auxiliary

    @property
    def predictors(self) -> tuple[str, ...]:
        return (*self.base.predictors, "zero-inflation")

    def constant(self, y: Floats, trials: Floats) -> Floats:
        """Of the rows that are not zero."""
        return np.where(y == 0.0, 0.0, self.base.constant(_positive(y), trials))

    def start(self, y: Floats, trials: Floats) -> Floats:
        """That of the family, zeros taking the mean of the others."""
        found = self.base.start(_positive(y), trials)
        return np.where(y == 0.0, found[y > 0.0].mean(), found)

    def _start_of_zeros(self, y: Floats, share: float) -> Floats:
        """The logit of a share of zeros within bounds."""
        share = float(np.clip(share, _LEAST, _MOST))
        return np.array([np.log(share / (1.0 - share))])


@dataclass(frozen=True)
class Inflated(_WithZeros):
    """Zeros in excess: with probability ``expit(omega_z)`` a zero, otherwise the family's law."""

    base: Family

    @property
    def name(self) -> str:
        return f"zero-inflated {self.base.name}"

    @staticmethod
    def _outer(l0: Floats, z: Floats) -> _Outer:
        """``log(p + (1 - p) exp(l_0))``; its slope is the share that the law has in a zero."""
        r = expit(l0 - z)
        v = r * (1.0 - r)
        return _Outer(np.logaddexp(z, l0) - np.logaddexp(0.0, z), r, v, v * (1.0 - 2.0 * r))

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        z, zero = omega[-1], y == 0.0
        whole = self.base.curve(y, trials, eta, omega[:-1])
        part, rest = _composed(self._outer(whole.l, z), whole), -np.logaddexp(0.0, z)
        l = np.where(zero, part.l, whole.l + rest)
        g, W, dW = (np.where(zero, a, b) for a, b in zip(part[1:4], whole[1:4], strict=True))
        return Curve(l, g, W, dW, whole.expected * expit(-z))

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        z, zero, p = omega[-1], y == 0.0, expit(omega[-1])
        at = self.base.curve(y, trials, eta, omega[:-1])
        whole = self.base.slope(y, trials, eta, omega[:-1])
        outer = self._outer(at.l, z)
        part = _composed_slope(outer, at, whole)
        _, r, v, third = outer
        own = Slope(
            np.where(zero, 1.0 - r, 0.0) - p,
            np.where(zero, -v * at.g, 0.0),
            np.where(zero, third * at.g**2 - v * at.W, 0.0),
            np.where(zero, v, 0.0) - p * (1.0 - p),
        )
        across = np.where(zero, -v * whole.l, 0.0)
        mixed = Slope(*(np.where(zero, a, b) for a, b in zip(part, whole, strict=True)))
        border = Slope(own.l[None], own.g[None], own.W[None], own.second[None, None])
        return _bordered(mixed, border, across)

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        own = self.base.spread(y, trials, mean, df)
        expected = np.exp(self.base.curve(0.0 * y, trials, self.link.to_eta(mean), _wide(own, y)).l)
        share = float((y == 0.0).mean() - expected.mean()) / float(1.0 - expected.mean())
        return np.concatenate((own, self._start_of_zeros(y, share)))


@dataclass(frozen=True)
class Hurdle(_WithZeros):
    """Zeros with probability ``expit(omega_z)``, otherwise a law that has none."""

    base: Truncated | Gamma | InverseGaussian | Beta

    @property
    def name(self) -> str:
        return f"hurdle {self.base.name}"

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        z, zero = omega[-1], y == 0.0
        whole = self.base.curve(_positive(y), trials, eta, omega[:-1])
        l = np.where(zero, z, whole.l) - np.logaddexp(0.0, z)
        g, W, dW, expected = (np.where(zero, 0.0, part) for part in whole[1:])
        return Curve(l, g, W, dW, expected)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        zero, p = y == 0.0, expit(omega[-1])
        whole = self.base.slope(_positive(y), trials, eta, omega[:-1])
        mixed = Slope(*(np.where(zero, 0.0, part) for part in whole))
        none = np.zeros_like(p)[None]
        own = Slope((zero - p)[None], none, none, -(p * (1.0 - p))[None, None])
        return _bordered(mixed, own, np.zeros_like(mixed.l))

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        some = y > 0.0
        own = self.base.spread(y[some], trials[some], mean[some], df * float(some.mean()))
        return np.concatenate((own, self._start_of_zeros(y, float(1.0 - some.mean()))))


def _positive(y: Floats) -> Floats:
    """The response with a possible value in place of zeros."""
    return np.where(y == 0.0, y.max(initial=0.0) or 1.0, y)


def _wide(omega: Floats, y: Floats) -> Floats:
    """Auxiliary predictors for every row, ``(K, n)``."""
    return np.broadcast_to(omega[:, None], (len(omega), len(y)))


def base_of(family: Family) -> Family:
    """The family without what is done to its zeros."""
    while isinstance(family, Inflated | Hurdle | Truncated):
        family = family.base
    return family
