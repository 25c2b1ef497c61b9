"""A response given to a fit for the rows that it used."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from interlace.design.design import Design
from interlace.design.labels import aligned, are_positions, as_series, row_name
from interlace.errors import InterlaceError
from interlace.sums.terms import Floats

# Entropy of noise that stands in: columns of made-up data are often the first numbers of a small
# seed, and must not be the same.
_ENTROPY = 0x7374616E645F696E


def stand_in(n: int) -> Floats:
    """Noise in place of a response, where only the other columns matter, ``(n,)``."""
    return np.random.default_rng(_ENTROPY).standard_normal(n)


def new_response(y: ArrayLike, held: Design) -> Floats:
    """Finite numbers, one for each row used; a Series is brought into their order by its index.

    Raises
    ------
    InterlaceError
        It is something else.
    """
    used = _of_rows_used(y, held)
    try:
        response = np.asarray(used, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InterlaceError(f"the new response must be numbers: {error}") from error
    if response.shape != held.y.shape:
        raise InterlaceError(
            f"the new response has shape {response.shape}, but the model was fitted to "
            f"{len(held.y)} rows: pass one value for each row used"
        )
    if not np.isfinite(response).all():
        row = int(np.argmax(~np.isfinite(response)))
        raise InterlaceError(f"the new response is {response[row]} in {called(row, held)}")
    return response


def called(row: int, held: Design) -> str:
    """What messages call a row used."""
    return row_name(held.index, int(np.flatnonzero(held.kept)[row]))


def _of_rows_used(y: ArrayLike, held: Design) -> ArrayLike:
    """A response of the rows used; one with an index is brought into their order by it."""
    series = as_series(y)
    if series is None or series.index.equals(held.labels):
        return y
    if held.index is None and are_positions(series.index) and len(series) == len(held.y):
        return y
    if held.index is not None and series.index.equals(held.index):
        return series[held.kept]
    return aligned(series, "y", held.labels, "the data")
