"""Functions of the fixed effects with their errors, degrees of freedom, tests and intervals."""

from __future__ import annotations

import numpy as np

from interlace.inference.means.averages import Functions
from interlace.inference.wald import Reference, Rescaled
from interlace.model.reference import standard_errors
from interlace.sums.terms import Floats

# A function whose weights are all below this share of the largest is zero whatever the data.
_ZERO = 1e-12


def estimates(functions: Functions, beta: Floats, reference: Reference) -> dict[str, Floats]:
    """``estimate, se, df`` of every function, ``(k,)`` each; nan where it is not estimable."""
    L, known = functions.L, functions.estimable
    out = {name: np.full(len(L), np.nan) for name in ("estimate", "se", "df")}
    out["estimate"][known] = L[known] @ beta
    out["se"][known] = standard_errors(reference, L[known])
    some = known & (np.abs(np.nan_to_num(L)).max(axis=1) > _ZERO)
    if some.any():
        out["df"][some] = reference.df(L[some])
    return out


def correlation(L: Floats, reference: Reference) -> Floats:
    """Correlations of functions, ``(k, k)``; nan for those without variance."""
    if isinstance(reference, Rescaled):
        return correlation(reference.rows(L)[0], reference.of)
    V = L @ reference.vcov @ L.T
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(np.diag(V))
        R = np.asarray(V / np.outer(size, size), dtype=np.float64)
    np.fill_diagonal(R, 1.0)
    return R
