"""``log Gamma(y + k) - log Gamma(k) - y log k`` and its derivatives in ``log k``.

The part of a negative binomial likelihood that depends on its size ``k``.  For large ``k`` the
terms cancel to nothing; differences of Stirling's series keep the digits.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from interlace.glmm.jets import Jet
from interlace.sums.terms import Floats

# From here on the series is exact to the last digit.
_LARGE = 100.0
# Stirling's series of log Gamma: coefficients of x^-1, x^-3, x^-5, x^-7.
_SERIES = ((1, 1.0 / 12.0), (3, -1.0 / 360.0), (5, 1.0 / 1260.0), (7, -1.0 / 1680.0))


def log_rising(y: Floats, k: Floats) -> Jet:
    """Value and derivatives in ``log k``, for counts ``y`` (n,) and sizes ``k`` (n,)."""
    large = k > _LARGE
    if large.all():
        return _by_series(y, k)
    if not large.any():
        return _by_gamma(y, k)
    near, far = _by_gamma(y, np.minimum(k, _LARGE)), _by_series(y, np.maximum(k, _LARGE))
    return Jet(*(np.where(large, b, a) for a, b in zip(near, far, strict=True)))


def _by_gamma(y: Floats, k: Floats) -> Jet:
    """By the gamma function and its derivatives."""
    s = y + k
    first = k * (digamma(s) - digamma(k)) - y
    second = k**2 * (polygamma(1, s) - polygamma(1, k)) + y
    third = k**3 * (polygamma(2, s) - polygamma(2, k)) - 2.0 * y
    value = gammaln(s) - gammaln(k) - y * np.log(k)
    return _in_log(value, first, second, third)


def _by_series(y: Floats, k: Floats) -> Jet:
    """By Stirling's series, in which what cancels is taken out."""
    s = y + k
    log_ratio = np.log1p(y / k)
    value = (s - 0.5) * log_ratio - y
    first = k * log_ratio - y + 0.5 * y / s
    second = y**2 / s - 0.5 * (1.0 - (k / s) ** 2)
    third = -(y**2) * (3.0 * k + 2.0 * y) / s**2 + (1.0 - (k / s) ** 3)
    for power, c in _SERIES:
        ratio = (k / s) ** power
        scale = c * (1.0 / k) ** power
        value = value + scale * (ratio - 1.0)
        first = first - power * scale * (ratio * (k / s) - 1.0)
        second = second + power * (power + 1) * scale * (ratio * (k / s) ** 2 - 1.0)
        third = third - power * (power + 1) * (power + 2) * scale * (ratio * (k / s) ** 3 - 1.0)
    return _in_log(value, first, second, third)


def _in_log(value: Floats, first: Floats, second: Floats, third: Floats) -> Jet:
    """From ``k^j`` times the ``j``-th derivatives in ``k`` to those in ``log k``."""
    return Jet(value, first, second + first, third + 3.0 * second + first)
