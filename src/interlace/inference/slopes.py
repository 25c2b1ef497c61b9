"""Summands left of a bar: which of them can be left out of a random term."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interlace.design.encode import SideTerm
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

# Shares of sums of squares that are rounding: of a direction without rows, of what is left of 1.
_SINGULAR, _LEFT = 1e-11, 1e-11


def droppable(terms: Sequence[SideTerm]) -> list[SideTerm]:
    """Summands other than the intercept that are not part of an interaction with more factors."""
    return [
        one
        for one in terms
        if one.factors and not any(set(one.factors) < set(other.factors) for other in terms)
    ]


def constant_combination(Z: Floats) -> Floats | None:
    """Weights ``(k,)`` that make the columns of ``Z`` sum to 1 in every row, if there are any."""
    ones = np.ones(len(Z))
    weights = np.asarray(np.linalg.lstsq(Z, ones, rcond=None)[0], dtype=np.float64)
    return weights if np.abs(Z @ weights - ones).max() < 1e-9 else None


def constant_by_sums(A: CrossProducts, j: int, columns: Sequence[int]) -> Floats | None:
    """:func:`constant_combination` of some columns of term ``j``, from sums over the rows."""
    if A.moments is None or not len(columns):
        return None
    map_ = np.linalg.inv(A.basis.random[j])[:, list(columns)]
    moments, k = A.moments.random[j], len(columns)
    sums, gram = moments[0, 1:] @ map_, map_.T @ moments[1:, 1:] @ map_
    size = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    weights = np.linalg.lstsq(gram / np.outer(size, size), sums / size, rcond=_SINGULAR)[0] / size
    left = moments[0, 0] - 2.0 * weights @ sums + weights @ gram @ weights
    return np.asarray(weights).reshape(k) if left < _LEFT * moments[0, 0] else None
