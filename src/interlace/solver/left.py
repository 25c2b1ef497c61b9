"""What is left of the response: decided with a margin over rounding."""

from __future__ import annotations

import numpy as np

from interlace.sums.terms import Floats

# A residual sum of squares is a difference of sums of the size of ``y'y``; below this share of them
# none of its digits is known, and which sign it has is up to the processor.
_UNKNOWN = 16.0 * float(np.finfo(np.float64).eps)


def check_left(r2: float, yy: float) -> float:
    """``r2``, which must be more than rounding of ``y'y``.

    Raises
    ------
    numpy.linalg.LinAlgError
        The model reproduces the response as far as can be told.
    """
    if not r2 > _UNKNOWN * yy:
        raise np.linalg.LinAlgError("no residual variance is left")
    return r2


def left_or_nan(r2: Floats, yy: Floats) -> Floats:
    """:func:`check_left` of many data sets: NaN where nothing is left."""
    return np.where(r2 > _UNKNOWN * yy, r2, np.nan)
