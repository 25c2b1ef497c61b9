"""``log Gamma(y + k) - log Gamma(k) - y log k`` and its derivatives in ``log k``.

The part of a negative binomial likelihood that depends on its size ``k``.  For large ``k`` the
terms cancel to nothing; differences of Stirling's series keep the digits.  Where counts are small
and sizes recur, sums over ``j < y`` of ``log(1 + j / k)`` and of its derivatives, made once for
every size, are quicker than either, and keep them too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, polygamma

from interlace.glmm.jets import Jet
from interlace.sums.terms import Floats

Places = NDArray[np.intp]

# From here on the series is exact to the last digit.
_LARGE = 100.0
# Cells of a table of sums for every row at most, each of them far cheaper than a gamma function.
_CELLS = 8
# Stirling's series of log Gamma: coefficients of x^-1, x^-3, x^-5, x^-7.
_SERIES = ((1, 1.0 / 12.0), (3, -1.0 / 360.0), (5, 1.0 / 1260.0), (7, -1.0 / 1680.0))


def log_rising(y: Floats, k: Floats) -> Jet:
    """Value and derivatives in ``log k``, for counts ``y`` (n,) and sizes ``k`` (n,)."""
    return _by_sums(y, k) or _by_functions(y, k)


def _by_sums(y: Floats, k: Floats) -> Jet | None:
    """By a table of sums for every size; ``None`` if that is large beside the rows.

    With ``r = j / (k + j)`` the derivatives of ``log(1 + j / k)`` are ``-r``, ``r (1 - r)`` and
    ``-r (1 - r) (1 - 2 r)``.
    """
    if not len(y) or not 0.0 <= (top := float(y.max())) < _CELLS * len(y):
        return None
    counts = y.astype(np.intp)
    sizes, index = _sizes(k)
    if (top + 1.0) * len(sizes) > _CELLS * len(y) or (counts != y).any() or (counts < 0).any():
        return None
    j = np.arange(top)[:, None]
    r = j / (sizes + j)
    v = r * (1.0 - r)
    place = counts * len(sizes) + index
    return Jet(*(_summed(one)[place] for one in (np.log1p(j / sizes), -r, v, -v * (1.0 - 2.0 * r))))


def _sizes(k: Floats) -> tuple[Floats, Places]:
    """Distinct sizes, and which of them every row has."""
    if (k == k[0]).all():
        return k[:1], np.zeros(len(k), dtype=np.intp)
    sizes, index = np.unique(k, return_inverse=True)
    return sizes, index


def _summed(terms: Floats) -> Floats:
    """Sums over the first 0, 1, 2, ... rows, one after the other."""
    table = np.zeros((len(terms) + 1, terms.shape[1]))
    np.cumsum(terms, axis=0, out=table[1:])
    return table.ravel()


def _by_functions(y: Floats, k: Floats) -> Jet:
    """By the gamma function, or where sizes are large by its series."""
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
