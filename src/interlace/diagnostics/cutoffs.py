"""Which values of a diagnostic are far from the bulk."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from interlace.errors import InterlaceError


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
