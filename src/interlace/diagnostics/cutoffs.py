"""Which values of a diagnostic are far from the bulk."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from interlace.errors import InterlaceError

Cutoff = str | float | ArrayLike | None


def cutoff_limits(values: ArrayLike, measure: str, cutoff: Cutoff) -> tuple[float, float]:
    """Limits beyond which values of a measure are remarkable; infinite where there is none.

    Parameters
    ----------
    values
        ``(n,)`` values of the measure, one a row or a group.
    measure
        Its name: of ``covratio`` (around 1), ``rvc.`` and ``dfbetas.`` (around 0) small values are
        remarkable as well.
    cutoff
        ``"internal"`` (:func:`internal_cutoff`); ``"4/n"`` or a number: a distance from 0, or from
        1 for ``covratio``; two numbers: the limits themselves; ``None``.

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
    if isinstance(cutoff, str) and cutoff == "internal":
        return internal_cutoff(values, two_sided=both)
    if isinstance(cutoff, str) and cutoff != "4/n":
        raise InterlaceError(
            f"cutoff must be 'internal', '4/n', a number, or two numbers, not {cutoff!r}"
        )
    numbers = 4.0 / np.size(values) if isinstance(cutoff, str) else cutoff
    ends = np.atleast_1d(np.asarray(numbers, dtype=np.float64))
    if len(ends) > 2 or np.isnan(ends).any():
        raise InterlaceError(
            f"cutoff must be 'internal', '4/n', a number, or two numbers, not {cutoff!r}"
        )
    if len(ends) == 2:
        return float(ends.min()), float(ends.max())
    centre, reach = float(measure == "covratio"), float(ends[0])
    return centre - reach if both else -np.inf, centre + reach


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
        raise InterlaceError("a cut-off needs at least one finite value, and there is none")
    first, third = (float(q) for q in np.quantile(x, [0.25, 0.75]))
    reach = 3.0 * (third - first)
    return (first - reach if two_sided else -np.inf), third + reach
