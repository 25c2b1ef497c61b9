"""Numbers whose squares leave the range of double precision: scaled, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from interlace.errors import InterlaceError
from interlace.sums.rows import Rows

# Sizes that are squared, and sizes of weights, which enter once; reciprocals are the smallest.
_SQUARED, _WEIGHT = 1e140, 1e301
# Weights within this power of 2 of 1 are left as they are.
_COMMON = 200


def check_sizes(rows: Rows) -> None:
    """Refuse numbers whose squares, or those of their reciprocals, leave the range of doubles.

    Variances are in squared units: of a response of 1e-200 they would be 0 without a word.

    Raises
    ------
    InterlaceError
        Naming the column, and a factor that brings it into range.
    """
    columns = [("the response", rows.response)]
    columns += [(f"column {name!r}", x) for name, x in zip(rows.names, rows.X.T, strict=True)]
    for term, Z in zip(rows.terms, rows.Z, strict=True):
        columns += [(f"column {c!r}", z) for c, z in zip(term.columns, Z.T, strict=True)]
    for what, column in columns:
        if column.strides[0] and len(column):
            _check(what, max(float(column.max()), -float(column.min())), _SQUARED)
    if rows.weights is not None and len(rows.weights):
        for size in (rows.weights.max(), rows.weights.min()):
            _check("a weight", float(size), _WEIGHT)


def _check(what: str, size: float, limit: float) -> None:
    """Refuse a size outside ``1 / limit`` to ``limit``; 0 is fine."""
    if size and not 1.0 / limit <= size <= limit:
        power = -round(np.log10(size))
        raise InterlaceError(
            f"{what} is of the size {size:.1e}: variances are in squared units, and squares of "
            f"such numbers are not in the range of double precision; give it in other units, "
            f"times 1e{power}"
        )


def tamed(rows: Rows) -> tuple[Rows, int]:
    """The rows with weights near 1, and the even power of 2 that their weights were of."""
    if rows.weights is None:
        return rows, 0
    power = 2 * (int(np.frexp(rows.weights.max())[1]) // 2)
    if abs(power) <= _COMMON:
        return rows, 0
    return replace(rows, weights=np.ldexp(rows.weights, -power)), power
