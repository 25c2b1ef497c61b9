"""Responses of any sign with heavy tails: Student's t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from interlace.errors import InterlaceError
from interlace.glmm.families import Curve, Slope, signed
from interlace.glmm.jets import Jet, chained
from interlace.glmm.links import IDENTITY, Link
from interlace.sums.terms import Floats

# Degrees of freedom with which a search begins, and the normal law's quartile.
_FIRST_DF, _QUARTILE = 6.0, 0.6745


@dataclass(frozen=True)
class StudentT:
    """``mu + s t``, with ``t`` Student's of ``df`` degrees of freedom; ``None`` estimates them.

    ``omega`` is the log of the scale ``s``, and of the degrees of freedom if these are estimated.
    """

    df: float | None = None
    link: Link = IDENTITY
    name: ClassVar[str] = "student-t"
    auxiliary: ClassVar[str] = "scale"

    def __post_init__(self) -> None:
        if self.df is not None and not 0.0 < self.df < np.inf:
            raise InterlaceError(
                f"df of Student's t must be positive, not {self.df!r}; None estimates it, and "
                f"family='gaussian' has no heavy tails"
            )

    @property
    def predictors(self) -> tuple[str, ...]:
        return ("scale",) if self.df is not None else ("scale", "df")

    def _parts(self, y: Floats, eta: Floats, omega: Floats) -> tuple[Jet, Floats, Floats, Floats]:
        """The mean, ``1 / s``, the standardised residual ``x``, and the degrees of freedom."""
        mean, inverse = self.link.mean(eta), np.exp(-omega[0])
        nu = np.exp(omega[1]) if self.df is None else np.full_like(eta, self.df)
        return mean, inverse, (y - mean.value) * inverse, nu

    def curve(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Curve:
        mean, i, x, nu = self._parts(y, eta, omega)
        q = nu + x**2
        l = _normalised(nu) - omega[0] - 0.5 * (nu + 1.0) * np.log1p(x**2 / nu)
        # derivatives in the mean: those in x times -1 / s each
        d1 = i * (nu + 1.0) * x / q
        d2 = -(i**2) * (nu + 1.0) * (nu - x**2) / q**2
        d3 = -(i**3) * (nu + 1.0) * 2.0 * x * (3.0 * nu - x**2) / q**3
        jet = chained(Jet(l, d1, d2, d3), mean)
        expected = i**2 * (nu + 1.0) / (nu + 3.0) * np.asarray(mean.d1) ** 2
        return Curve(jet.value, *signed(jet, eta), expected + 0.0 * eta)

    def slope(self, y: Floats, trials: Floats, eta: Floats, omega: Floats) -> Slope:
        mean, i, x, nu = self._parts(y, eta, omega)
        q, m, x2 = nu + x**2, nu + 1.0, x**2
        # in log s: d x = -x
        first = [m * x2 / q - 1.0]
        cross1 = [-i * m * x * 2.0 * nu / q**2]
        cross2 = [i**2 * m * 2.0 * nu * (nu - 3.0 * x2) / q**3]
        second = [[-2.0 * m * x2 * nu / q**2]]
        if self.df is None:  # in log nu
            log_part = np.log1p(x2 / nu)
            a = 0.5 * (digamma(0.5 * m) - digamma(0.5 * nu)) - 0.5 / nu
            b = 0.25 * (polygamma(1, 0.5 * m) - polygamma(1, 0.5 * nu)) + 0.5 / nu**2
            in_nu = a - 0.5 * log_part + 0.5 * m * x2 / (nu * q)
            # second derivative in nu
            d = 0.5 * x2 / (nu * q) + 0.5 * x2 * (nu * q - m * (q + nu)) / (nu * q) ** 2
            first.append(nu * in_nu)
            cross1.append(i * nu * x * (x2 - 1.0) / q**2)
            cross2.append(-(i**2) * nu * _in_mean(x2, nu))
            mixed = nu * x2 * (x2 - 1.0) / q**2
            second[0].append(mixed)
            second.append([mixed, nu * in_nu + nu**2 * (b + d)])
        d1, d2 = np.asarray(mean.d1), np.asarray(mean.d2)
        c1, c2 = np.array(cross1), np.array(cross2)
        return Slope(np.array(first), c1 * d1, -(c2 * d1**2 + c1 * d2), np.array(second))

    def constant(self, y: Floats, trials: Floats) -> Floats:
        return np.zeros_like(y)

    def start(self, y: Floats, trials: Floats) -> Floats:
        return y

    def spread(self, y: Floats, trials: Floats, mean: Floats, df: float) -> Floats:
        """From the median of the absolute residuals."""
        scale = max(float(np.median(np.abs(y - mean))) / _QUARTILE, 1e-300)
        first = [np.log(scale)]
        return np.array(first if self.df is not None else [*first, np.log(_FIRST_DF)])


def _normalised(nu: Floats) -> Floats:
    """``log Gamma((nu + 1) / 2) - log Gamma(nu / 2) - log(nu pi) / 2``."""
    return np.asarray(gammaln(0.5 * nu + 0.5) - gammaln(0.5 * nu) - 0.5 * np.log(np.pi * nu))


def _in_mean(x2: Floats, nu: Floats) -> Floats:
    """Derivative in ``nu`` of ``(nu + 1) (nu - x^2) / (nu + x^2)^2``."""
    q = nu + x2
    top = (nu + 1.0) * (nu - x2)
    return np.asarray((2.0 * nu + 1.0 - x2) / q**2 - 2.0 * top / q**3)
