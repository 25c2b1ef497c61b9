"""Wald tests and intervals of linear functions of the fixed effects.

A *reference* says what an estimate is compared with: the covariance of the fixed effects, and the
degrees of freedom of a test.  ``Normal`` here, ``Satterthwaite`` and ``KenwardRoger`` beside it all
answer the same three questions, so that tables and tests need not know which one was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import chdtrc, fdtrc

from interlace.model import reference
from interlace.model.optimum import AnyEstimate
from interlace.sums.terms import Floats


@dataclass(frozen=True)
class FTest:
    """F test of ``q`` linear hypotheses.

    ``statistic`` is compared with an F distribution of ``numerator_df`` and ``denominator_df``
    degrees of freedom (infinite: chi-squared over ``numerator_df``).  It is ``scaling`` times the
    plain Wald statistic over ``q``; only Kenward-Roger scales.
    """

    statistic: float
    numerator_df: int
    denominator_df: float
    scaling: float = 1.0

    @property
    def p_value(self) -> float:
        """Probability of a larger statistic under the hypothesis."""
        if np.isinf(self.denominator_df):
            return float(chdtrc(self.numerator_df, self.numerator_df * self.statistic))
        return float(fdtrc(self.numerator_df, self.denominator_df, self.statistic))


class Reference(reference.Reference, Protocol):
    """What the fixed effects of a model are compared with: as predictions have it, and jointly."""

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Joint test of ``L beta = value``, ``L`` (q, p) of full row rank, ``value`` (q,) or 0."""
        ...


@dataclass(frozen=True, eq=False)
class Normal:
    """Large samples: normal and chi-squared."""

    estimate: AnyEstimate

    @property
    def vcov(self) -> Floats:
        """``sigma^2 (X' Omega^-1 X)^-1``."""
        return self.estimate.vcov

    def df(self, L: Floats) -> Floats:
        """Infinite."""
        return np.full(len(L), np.inf)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Wald's chi-squared test, the statistic divided by its degrees of freedom."""
        return FTest(wald_f(self.estimate.beta, self.vcov, L, value), len(L), np.inf)


@dataclass(frozen=True, eq=False)
class Rescaled(reference.Rescaled):
    """Tests of coefficients in units of which the squares are out of range."""

    of: Reference

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Joint test of ``L beta = value``: that of the other coefficients."""
        power = int(self.rows(L)[1].max(initial=-(1 << 20)))
        return self.of.f_test(
            np.ldexp(L, self.powers - power), None if value is None else np.ldexp(value, -power)
        )


def wald_of(reference: Reference, beta: Floats, L: Floats) -> float:
    """:func:`wald_f` by a reference, ``L beta = 0``."""
    if isinstance(reference, Rescaled):
        power = reference.powers - int(reference.rows(L)[1].max(initial=-(1 << 20)))
        beta = np.ldexp(beta, -reference.powers)
        return wald_f(beta, reference.of.vcov, np.ldexp(L, power))
    return wald_f(beta, reference.vcov, L)


def wald_f(beta: Floats, vcov: Floats, L: Floats, value: Floats | None = None) -> float:
    """``d' (L V L')^-1 d / q`` with ``d = L beta - value``."""
    d = L @ beta if value is None else L @ beta - value
    return float(d @ np.linalg.solve(L @ vcov @ L.T, d)) / len(L)
