"""Expected responses where these are more than the inverse of the link, and their derivatives."""

from __future__ import annotations

from itertools import pairwise
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


def up_to(family: Ordinal, eta: Floats, omega: Floats) -> list[Expected]:
    """Probabilities of a category up to every threshold."""
    P, f = family.probabilities(eta, omega), family.densities(eta, omega)
    k = len(omega)
    return [Expected(P[:, : j + 1].sum(axis=1), -f[j], only(k, j, f[j])) for j in range(k)]


def of_categories(family: Ordinal, eta: Floats, omega: Floats) -> list[Expected]:
    """Probabilities of every category."""
    P, none = family.probabilities(eta, omega), Expected(0.0 * eta, 0.0 * eta, 0.0 * omega)
    edges = pairwise((none, *up_to(family, eta, omega), none))
    return [
        Expected(P[:, j], high.d_eta - low.d_eta, high.d_omega - low.d_omega)
        for j, (low, high) in enumerate(edges)
    ]


def of_zeros(eta: Floats, omega: Floats) -> Expected:
    """Probabilities of a zero from the part for these."""
    share = expit(omega[-1])
    slope = only(len(omega), len(omega) - 1, share * (1.0 - share))
    return Expected(share, np.zeros_like(eta), slope)


def only(k: int, j: int, value: Floats) -> Floats:
    """``value`` (n,) in row ``j`` of ``(k, n)`` zeros."""
    found = np.zeros((k, len(value)))
    found[j] = value
    return found
