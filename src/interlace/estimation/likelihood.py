"""The Gaussian likelihood: its constant by ML and REML, the residual variance, and its parameters.

With ``r2`` the penalised residual sum of squares and ``nu`` its degrees of freedom (``n`` for ML,
``n - p`` for REML), ``sigma^2 = r2 / nu`` maximises the likelihood, and minus twice its logarithm
is ``nu (1 + log(2 pi r2 / nu))`` and determinants.  Working units are those of the stored
cross-products: responses are divided by their size, and fixed effects have a basis of their own.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

Numbers = TypeVar("Numbers", float, Floats)


def degrees(A: CrossProducts, *, reml: bool) -> int:
    """Degrees of freedom ``nu`` of the residual variance: ``n - p`` for REML, ``n`` for ML."""
    return A.n - A.p if reml else A.n


def residual_variance(r2: Numbers, nu: Numbers | int) -> Numbers:
    """``sigma^2 = r2 / nu``."""
    return r2 / nu


def gaussian(nu: Numbers, log_r2: float = 0.0) -> Numbers:
    """``nu (1 + log(2 pi r2 / nu))``: the criterion without determinants at the best ``sigma``."""
    value: Numbers = nu * (1.0 + np.log(2.0 * np.pi / nu) + log_r2)
    return value


def gaussian_at(n: int, log_variance: float, relative_r2: float) -> float:
    """``n log(2 pi sigma^2) + r2 / sigma^2``: the same at a given ``sigma``."""
    return float(n * (np.log(2.0 * np.pi) + log_variance) + relative_r2)


def constant(A: CrossProducts, scale: Numbers, *, reml: bool) -> Numbers:
    """Terms of the criterion that depend on no template.

    ``scale`` are working units of the response in one of the user's.
    """
    nu = degrees(A, reml=reml)
    value = gaussian(float(nu)) - A.sum_log_w - (2.0 * A.basis.log_det_fixed if reml else 0.0)
    shifted: Numbers = value - 2.0 * nu * np.log(scale)
    return shifted


def criterion_value(
    A: CrossProducts, r2: float, *, reml: bool, logdet_u: float = 0.0, logdet_x: float = 0.0
) -> float:
    """Minus twice the profiled (restricted) log-likelihood, all constants included.

    ``logdet_u`` is ``log|Lambda' Z'Z Lambda + I|``, ``logdet_x`` is ``log|X' V^-1 X|`` in working
    units, of which REML takes account.
    """
    log_r2 = math.log(r2) - 2.0 * math.log(A.basis.response_scale)
    value = logdet_u + gaussian(float(degrees(A, reml=reml)), log_r2) - A.sum_log_w
    if reml:
        value += logdet_x - 2.0 * A.basis.log_det_fixed
    return float(value)


def n_parameters(A: CrossProducts) -> int:
    """Fixed effects, entries of theta, and the residual variance."""
    return A.p + sum(term.n_theta for term in A.terms) + 1
