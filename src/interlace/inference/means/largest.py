"""The distribution of the largest of several correlated |t|, and of the studentised range.

For normal ``x = B u`` with ``u`` of ``r`` independent standard normals write ``u`` as a length
times a direction ``e``.  Given the direction, the largest ``|x_j|`` is ``m(e) = max |b_j e|`` times
the length, and the length over the estimated standard deviation has an F distribution, so that

``P(max |t_j| > c) = E[ P(F(r, df) > c^2 / (r m(e)^2)) ]``,

an average of smooth functions over directions (Deak 1980, Numerische Mathematik 35, 35-44): for one
set of directions it holds for every ``c`` and every ``df``.  Directions are those of a scrambled
Sobol sequence with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.special import chdtrc, fdtrc, gammaln, ndtr, ndtri

from interlace.sums.terms import Floats

# Directions, bins of their m(e), the seed, and numbers held at a time.
_POINTS, _BINS, _SEED, _NUMBERS = 1 << 16, 256, 1, 1 << 22
# Eigenvalues of a correlation matrix below this share of the largest count as zero.
_FLAT = 1e-10
# Nodes of the quadratures of the studentised range, half the width of the normal one, and the
# degree of its series in the width.
_NODES, _WIDTH, _TERMS = 96, 9.0, 160


@dataclass(frozen=True, eq=False)
class Largest:
    """The largest of ``q`` correlated ``|t|``.

    ``size`` holds values of ``m(e)``, ``share`` how often they occur among the directions ``e``;
    ``rank`` is that of the correlations.
    """

    size: Floats
    share: Floats
    rank: int

    def exceeds(self, bound: float, df: float) -> float:
        """Probability that the largest is above ``bound``."""
        with np.errstate(divide="ignore"):
            squares = (bound / self.size) ** 2
        if np.isinf(df):
            return float(self.share @ chdtrc(self.rank, squares))
        return float(self.share @ fdtrc(self.rank, df, squares / self.rank))

    def bound(self, probability: float, df: float) -> float:
        """What the largest exceeds with a probability."""
        return root(lambda c: self.exceeds(c, df) - probability)


def largest(correlation: Floats) -> Largest:
    """The largest of ``|t|`` with correlations ``(q, q)``."""
    values, vectors = np.linalg.eigh(correlation)
    live = values > _FLAT * values[-1]
    B = vectors[:, live] * np.sqrt(values[live])
    B /= np.linalg.norm(B, axis=1, keepdims=True)
    rank = B.shape[1]
    if rank == 1:
        return Largest(np.ones(1), np.ones(1), 1)
    directions = _directions(rank)
    rows = max(1, _NUMBERS // len(B))
    parts = [
        np.abs(directions[start : start + rows] @ B.T).max(axis=1)
        for start in range(0, len(directions), rows)
    ]
    return Largest(*_binned(np.concatenate(parts)), rank)


def _directions(r: int) -> Floats:
    """Directions in ``r`` dimensions, ``(points, r)``, spread evenly."""
    if r == 2:  # equal steps on a circle
        angle = np.pi * (np.arange(_POINTS) + 0.5) / _POINTS
        return np.column_stack((np.cos(angle), np.sin(angle)))
    from scipy.stats.qmc import Sobol  # takes longer to import than all else together

    points = Sobol(r, seed=_SEED).random(_POINTS)
    normal = ndtri(np.clip(points, 1e-12, 1.0 - 1e-12))
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def _binned(size: Floats) -> tuple[Floats, Floats]:
    """Means and shares of values in narrow bins, within which all functions here are straight."""
    low, high = size.min(), size.max()
    at = np.minimum((size - low) / max(high - low, 1e-300) * _BINS, _BINS - 1).astype(np.intp)
    number = np.bincount(at, minlength=_BINS)
    some = number > 0
    return np.bincount(at, size, _BINS)[some] / number[some], number[some] / len(size)


# The studentised range ----------------------------------------------------------------------------


def range_exceeds(width: float, k: int, df: float) -> float:
    """Probability that the range of ``k`` normals over an independent s is above ``width``.

    ``s^2`` is chi-squared over its degrees of freedom.  By Gauss-Legendre quadrature, of the normal
    part in the smallest of the ``k`` and of the other in ``log s``.
    """
    if not width > 0.0:
        return 1.0
    nodes, weights = _gauss()
    if np.isinf(df):
        return 1.0 - float(_normal_range(np.array([width]), k)[0])
    # Beyond these ends the density is below exp(-36) of its largest value.
    low = -0.5 * (36.0 / df + np.sqrt((36.0 / df) ** 2 + 144.0 / df))
    high = 0.5 * np.log1p(12.0 * np.sqrt(2.0 / df) + 80.0 / df)
    log_s = 0.5 * (high - low) * nodes + 0.5 * (high + low)
    # Density of log s: 2 (df/2)^(df/2) / Gamma(df/2) exp(df (log s - s^2 / 2)).
    log_density = (
        np.log(2.0)
        + 0.5 * df * np.log(0.5 * df)
        - gammaln(0.5 * df)
        + df * (log_s - 0.5 * np.exp(2.0 * log_s))
    )
    share = 0.5 * (high - low) * weights * np.exp(log_density)
    inside = _normal_range(width * np.exp(log_s), k)
    return float(np.clip(1.0 - share @ inside / share.sum(), 0.0, 1.0))


@lru_cache(maxsize=1)
def _gauss() -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss-Legendre quadrature."""
    return leggauss(_NODES)


def _normal_range(width: Floats, k: int) -> Floats:
    """Probability that the range of ``k`` standard normals is at most each ``width``."""
    at = np.minimum(width / _WIDTH - 1.0, 1.0)
    return np.asarray(np.polynomial.chebyshev.chebval(at, _range_series(k)), dtype=np.float64)


@lru_cache(maxsize=64)
def _range_series(k: int) -> Floats:
    """Chebyshev series of that probability for widths of 0 to twice ``_WIDTH``."""
    nodes, weights = _gauss()
    z = _WIDTH * nodes[:, None]
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)

    def within(x: Floats) -> Floats:
        inside = np.maximum(ndtr(z) - ndtr(z - _WIDTH * (x + 1.0)), 0.0)
        return np.asarray(k * _WIDTH * (weights @ (density * inside ** (k - 1))))

    return np.asarray(np.polynomial.Chebyshev.interpolate(within, _TERMS).coef, dtype=np.float64)


def range_bound(probability: float, k: int, df: float) -> float:
    """What the studentised range exceeds with a probability."""
    return root(lambda w: range_exceeds(w, k, df) - probability)


def root(f: Callable[[float], float]) -> float:
    """Where a falling function of a positive number crosses zero, by the Illinois rule."""
    low, high = 0.0, 4.0
    below, above = f(low), f(high)
    while above > 0.0 and high < 1e12:
        low, below, high = high, above, 2.0 * high
        above = f(high)
    side = 0
    for _ in range(100):
        middle = (low * above - high * below) / (above - below)
        value = f(middle)
        if abs(value) < 1e-13 or high - low < 1e-12 * high:
            return middle
        if value > 0.0:
            low, below = middle, value
            above, side = above * (0.5 if side == 1 else 1.0), 1
        else:
            high, above = middle, value
            below, side = below * (0.5 if side == -1 else 1.0), -1
    return 0.5 * (low + high)
