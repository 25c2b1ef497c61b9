"""Expected responses where these are more than the inverse of the link, and their derivatives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from interlace.glmm.families import Family
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.zeros import Hurdle, Inflated, Truncated
from interlace.sums.terms import Floats


class Expected(NamedTuple):
    """Means ``(n,)``, and derivatives in ``eta`` (n,) and in the auxiliary predictors (K, n)."""

    value: Floats
    d_eta: Floats
    d_omega: Floats


def expected(family: Family, eta: Floats, omega: Floats) -> Expected:
    """The expected response of every row; of ordered categories that of their scores"""
    if isinstance(family, Ordinal):
        scores = family.scores
        slopes = np.diff(scores)[:, None] * family.densities(eta, omega)
        return Expected(family.probabilities(eta, omega) @ scores, slopes.sum(axis=0), -slopes)
    if isinstance(family, Truncated):
        return _truncated(family, eta, omega)
    if isinstance(family, Inflated | Hurdle):
        own, share = expected(family.base, eta, omega[:-1]), expit(-omega[-1])
        zeros = -own.value * share * (1.0 - share)
        return Expected(
            own.value * share, own.d_eta * share, np.concatenate((own.d_omega * share, zeros[None]))
        )
    mean = family.link.mean(eta)
    return Expected(mean.value, mean.d1 + 0.0 * eta, np.zeros((len(omega), len(eta))))


def _truncated(family: Truncated, eta: Floats, omega: Floats) -> Expected:
    """``mu / (1 - f(0))``."""
    mean, zero, one = family.link.mean(eta), np.zeros_like(eta), np.ones_like(eta)
    at, slope = family.base.curve(zero, one, eta, omega), family.base.slope(zero, one, eta, omega)
    rest = -np.expm1(at.l)
    through = mean.value * np.exp(at.l) / rest**2
    return Expected(mean.value / rest, mean.d1 / rest + through * at.g, through * slope.l)
