"""Which values of a diagnostic are far from the bulk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from interlace.errors import InterlaceError
from interlace.sums.terms import Floats

Cutoff = str | float | ArrayLike | None
# Probability that any of the values of healthy data is beyond a nominal cut-off.
CHANCE = 0.05
# Standard normal quartile; shares of the median below which a spread is rounding.
_QUARTILE, _ROUNDING = float(ndtri(0.75)), 1e-6


def cutoff_limits(
    values: ArrayLike, measure: str, cutoff: Cutoff, known: Mapping[str, float] | None = None
) -> tuple[float, float]:
    """Limits beyond which values of a measure are remarkable; infinite where there is none.

    Parameters
    ----------
    values
        ``(n,)`` values of the measure, one a row or a group.
    measure
        Its name: of ``covratio`` (around 1), ``rvc.`` and ``dfbetas.`` (around 0) small values are
        remarkable as well.
    cutoff
        ``"nominal"``: what no value of healthy data exceeds, 19 times in 20, from ``known`` or else
        :func:`nominal_cutoff`; ``"internal"`` (:func:`internal_cutoff`); ``"4/n"`` or a number: a
        distance from 0, or from 1 for ``covratio``; two numbers: the limits themselves; ``None``.
    known
        Nominal upper limits by measure, which tables of ``hlm_influence`` carry in
        ``attrs["nominal_cutoffs"]``.

    Raises
    ------
    InterlaceError
        Another cut-off, or no finite value.

    Examples
    --------
    >>> cutoff_limits([0.9, 1.0, 1.1], "covratio", 0.3)
    (0.7, 1.3)
    >>> cutoff_limits([0.0, 0.1, 0.2, 0.9], "cooksd", "4/n")
    (-inf, 1.0)
    """
    if cutoff is None:
        return -np.inf, np.inf
    both = measure.startswith(("covratio", "rvc", "dfbetas"))
    if isinstance(cutoff, str) and cutoff == "nominal":
        if known and measure in known:
            return -np.inf, float(known[measure])
        return nominal_cutoff(values, measure)
    if isinstance(cutoff, str) and cutoff == "internal":
        return internal_cutoff(values, two_sided=both)
    if isinstance(cutoff, str) and cutoff != "4/n":
        raise InterlaceError(_REFUSED.format(cutoff))
    numbers = 4.0 / np.size(values) if isinstance(cutoff, str) else cutoff
    ends = np.atleast_1d(np.asarray(numbers, dtype=np.float64))
    if len(ends) > 2 or np.isnan(ends).any():
        raise InterlaceError(_REFUSED.format(cutoff))
    if len(ends) == 2:
        return float(ends.min()), float(ends.max())
    centre, reach = float(measure == "covratio"), float(ends[0])
    return centre - reach if both else -np.inf, centre + reach


_NOTHING = "a cut-off needs at least one finite value, and there is none"
_REFUSED = "cutoff must be 'nominal', 'internal', '4/n', a number, or two numbers, not {!r}"


def nominal_cutoff(values: ArrayLike, measure: str) -> tuple[float, float]:
    """Limits beyond which no value of healthy data lies, 19 times in 20, from the values alone.

    Parameters
    ----------
    values
        ``(n,)``; those that are not finite are left out.
    measure
        Its name, as in :func:`cutoff_limits`.

    Returns
    -------
    (low, high)
        Around 1 for ``covratio`` and around 0 for ``rvc.`` and ``dfbetas.``, else ``-inf`` and the
        upper limit; infinite where all values are equal.

    Raises
    ------
    InterlaceError
        There is no finite value.

    Notes
    -----
    Distances are brought to a scale on which they are about normal: fourth roots, which do that to
    squares (as third roots nearly do, Wilson and Hilferty 1931, Proceedings of the National Academy
    of Sciences 17, 684-688), of ``dfbetas.`` from 0 and of other measures from their other end; of
    ``rvc.``, and of ``covratio`` of refits, the wider of that and of logarithms of distances from
    the median.  The limit is the median and so many times the distance of the upper quartile from
    it that a normal sample stays within with probability 0.95, by Bonferroni's inequality.

    Examples
    --------
    >>> squares = np.random.default_rng(1).normal(size=200) ** 2
    >>> low, high = nominal_cutoff(squares, "cooksd")
    >>> bool(squares.max() < high), bool(40.0 < high)
    (True, False)
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if not len(x):
        raise InterlaceError(_NOTHING)
    if measure.startswith("dfbetas"):
        reach = _reach(np.abs(x), 0.25)
        return -reach, reach
    first, last, middle = float(x.min()), float(x.max()), float(np.median(x))
    low, high = last - _reach(last - x, 0.25), first + _reach(x - first, 0.25)
    falls = measure == "covratio" and first < 1.0
    if falls or measure.startswith("rvc"):
        reach = _reach(np.abs(x - middle), 0.0)
        return min(low, middle - reach), max(high, middle + reach)
    return -np.inf, high


def _reach(distances: Floats, power: float) -> float:
    """The limit of distances (n,), on the scale of a power; 0 is that of logarithms."""
    if not power:
        distances = distances[distances > 0.0]
    if not len(distances):
        return np.inf
    scaled = distances**power if power else np.log(distances)
    middle, upper = (float(q) for q in np.quantile(scaled, [0.5, 0.75]))
    spread = (upper - middle) / _QUARTILE
    if spread <= _ROUNDING * max(abs(middle), 1.0 - power):
        spread = float(scaled.std())
    if spread <= _ROUNDING * max(abs(middle), 1.0 - power):
        return np.inf
    end = middle - float(ndtri(0.5 * CHANCE / len(distances))) * spread
    return float(end ** (1.0 / power) if power else np.exp(end))


def internal_cutoff(values: ArrayLike, *, two_sided: bool = False) -> tuple[float, float]:
    """Limits three interquartile ranges beyond the quartiles.

    Parameters
    ----------
    values
        ``(n,)``; those that are not finite are left out.
    two_sided
        Whether small values are remarkable as well, as of COVRATIO and relative variance changes.

    Returns
    -------
    (low, high)
        ``Q1 - 3 IQR`` (or ``-inf``) and ``Q3 + 3 IQR``, HLMdiag's cut-offs by internal scaling
        (Loy and Hofmann 2014, Journal of Statistical Software 56(5)).

    Raises
    ------
    InterlaceError
        There is no finite value.

    Examples
    --------
    >>> internal_cutoff([0.0, 1.0, 2.0, 3.0, 4.0])
    (-inf, 9.0)
    >>> internal_cutoff([0.0, 1.0, 2.0, 3.0, 4.0], two_sided=True)
    (-5.0, 9.0)
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if not len(x):
        raise InterlaceError(_NOTHING)
    first, third = (float(q) for q in np.quantile(x, [0.25, 0.75]))
    reach = 3.0 * (third - first)
    return (first - reach if two_sided else -np.inf), third + reach
