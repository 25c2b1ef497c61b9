"""Normal quantile plots with a simultaneous envelope, from numbers alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, ndtr, ndtri

from interlace.errors import InterlaceError
from interlace.model.confidence import check_level
from interlace.sums.terms import Floats

# Quantiles looked at: all of a small sample, else those at both ends and some between.
_ALL, _ENDS, _BETWEEN = 500, 100, 300
# Simulated samples that calibrate the envelope.
_DRAWS = 1000


def qq_envelope(values: ArrayLike, *, level: float = 0.95) -> pd.DataFrame:
    """Order statistics against normal quantiles, and the band in which all of them should lie.

    Parameters
    ----------
    values
        ``(n,)`` numbers in any units; those that are not finite are left out.
    level
        Probability that a normal sample with unknown mean and variance lies wholly in the band.

    Returns
    -------
    DataFrame
        By increasing value: ``position`` of the value in ``values``, ``theoretical`` standard
        normal quantile, ``sample``, ``line``, ``lower``, ``upper`` (in units of the values).  Of
        more than 500 values the 100 at each end and 300 between, evenly spaced in ``theoretical``.

    Raises
    ------
    InterlaceError
        Fewer than 3 finite values or none that differ, or a level not strictly between 0 and 1.

    Notes
    -----
    Of a normal sample the probability transforms of the order statistics are
    ``Beta(i, n + 1 - i)``.  Each gets the same local level, which 1000 simulated samples,
    standardised by their own mean and standard deviation, calibrate to the simultaneous one [1]_.
    The simulation is seeded: the same ``n`` and level give the same band.  It takes the values as
    independent, which residuals and random effects are nearly when groups are many.

    References
    ----------
    .. [1] Aldor-Noiman, Brown, Buja, Rolke and Stine (2013), The American Statistician 67, 249-260.

    Examples
    --------
    >>> table = qq_envelope([3.1, -0.4, 1.2, 0.3, -1.0])
    >>> table[["position", "theoretical", "sample"]].round(2).head(2)
       position  theoretical  sample
    0         4        -1.18    -1.0
    1         1        -0.50    -0.4
    >>> bool((table["lower"] < table["upper"]).all())
    True
    """
    check_level(level)
    every = np.asarray(values, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(every))
    x = every[finite]
    if len(x) < 3 or not np.ptp(x) > 0.0:
        raise InterlaceError("a quantile plot needs at least 3 finite values, and not all the same")
    order = finite[np.argsort(x, kind="stable")]
    n, mean, sd = len(x), float(x.mean()), float(x.std(ddof=1))
    ranks = ranks_shown(n)
    low, high = _band(n, level)
    z = _normal_quantiles(n, ranks)
    columns = {
        "position": order[ranks - 1],
        "theoretical": z,
        "sample": every[order[ranks - 1]],
        "line": mean + sd * z,
        "lower": mean + sd * low,
        "upper": mean + sd * high,
    }
    return pd.DataFrame(columns)


def ranks_shown(n: int) -> NDArray[np.int64]:
    """Ranks (from 1) of ``n`` sorted values that a picture needs: all, or the ends and some."""
    if n <= _ALL:
        return np.arange(1, n + 1)
    ends = np.arange(1, _ENDS + 1)
    low, high = (float(z) for z in _normal_quantiles(n, np.array([_ENDS, n + 1 - _ENDS])))
    z = np.linspace(low, high, _BETWEEN + 2)[1:-1]
    between = np.rint(ndtr(z) * n).astype(np.int64)
    return np.unique(np.concatenate([ends, between, n + 1 - ends]))


def _normal_quantiles(n: int, ranks: NDArray[np.int64]) -> Floats:
    """Blom's approximation of the expected order statistics."""
    return np.asarray(ndtri((ranks - 0.375) / (n + 0.25)))


@cache
def _band(n: int, level: float) -> tuple[Floats, Floats]:
    """Limits of the standardised order statistics shown."""
    i = ranks_shown(n)
    local = _local_level(n, level)
    low = ndtri(betaincinv(i, n + 1.0 - i, 0.5 * local))
    high = -ndtri(betaincinv(n + 1.0 - i, i, 0.5 * local))
    return np.asarray(low), np.asarray(high)


def _local_level(n: int, level: float) -> float:
    """Probability that each order statistic may leave the band so that one in all does rarely."""
    i = ranks_shown(n)
    z = _standardised_draws(n, i)
    # Only the tail that a value lies in is computed: below its median from below, else from above.
    low = z < _normal_quantiles(n, i)
    u = ndtr(np.where(low, z, -z))
    tail = betainc(np.where(low, i, n + 1.0 - i), np.where(low, n + 1.0 - i, i), u)
    worst = 2.0 * np.minimum(tail, 1.0 - tail).min(axis=1)
    return float(np.quantile(worst, 1.0 - level))


def _standardised_draws(n: int, ranks: NDArray[np.int64]) -> Floats:
    """Order statistics of normal samples less their mean, over their standard deviation.

    Uniform order statistics are cumulated gamma variables; those between two ranks are drawn as one
    sum, and their values taken as those of the neighbours for mean and standard deviation.
    """
    rng = np.random.default_rng(20130249)
    gaps = np.diff(ranks, prepend=0, append=n + 1)
    spacings = rng.standard_gamma(gaps, size=(_DRAWS, len(gaps)))
    z = np.asarray(ndtri(np.cumsum(spacings, axis=1)[:, :-1] / spacings.sum(axis=1)[:, None]))
    share = np.full(len(ranks), 1.0)
    inner = gaps[1:-1] - 1
    share[:-1] += 0.5 * inner
    share[1:] += 0.5 * inner
    mean = z @ share / n
    centred = z - mean[:, None]
    return np.asarray(centred / np.sqrt(centred**2 @ share / (n - 1.0))[:, None])
