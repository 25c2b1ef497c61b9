"""Functions of the fixed effects with their errors, degrees of freedom, tests and intervals."""

from __future__ import annotations

import numpy as np

from interlace.inference.means.averages import Functions
from interlace.inference.wald import Reference
from interlace.sums.terms import Floats

# A function whose weights are all below this share of the largest is zero whatever the data.
_ZERO = 1e-12


def estimates(functions: Functions, beta: Floats, reference: Reference) -> dict[str, Floats]:
    """``estimate, se, df`` of every function, ``(k,)`` each; nan where it is not estimable."""
    L, known = functions.L, functions.estimable
    out = {name: np.full(len(L), np.nan) for name in ("estimate", "se", "df")}
    out["estimate"][known] = L[known] @ beta
    variances = np.einsum("ij,jk,ik->i", L[known], reference.vcov, L[known])
    out["se"][known] = np.sqrt(np.maximum(variances, 0.0))
    some = known & (np.abs(np.nan_to_num(L)).max(axis=1) > _ZERO)
    if some.any():
        out["df"][some] = reference.df(L[some])
    return out


def correlation(L: Floats, vcov: Floats) -> Floats:
    """Correlations of functions, ``(k, k)``; nan for those without variance."""
    V = L @ vcov @ L.T
    with np.errstate(invalid="ignore", divide="ignore"):
        size = np.sqrt(np.diag(V))
        R = np.asarray(V / np.outer(size, size), dtype=np.float64)
    np.fill_diagonal(R, 1.0)
    return R
