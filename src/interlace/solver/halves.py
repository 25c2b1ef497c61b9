"""Derivatives from half of an inverse, where one term is eliminated and its rows are held in full.

The inverse of the remainder is ``C = H'H`` with ``H = L^-1``, and the traces ask for little of it:
for the diagonal blocks of the dense terms, the squares of columns of ``H``; for the eliminated
term, ``R C~ R'``, the squares of ``H Lambda'R'``.  So ``C`` itself is never made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dtrtri

from interlace.solver.blocks import congruence, squares
from interlace.solver.plan import Plan
from interlace.solver.reverse import TermDerivatives, divided
from interlace.solver.scaled import diagonal_blocks, scale_columns
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class Half:
    """``H = L^-1`` (m, m) of the scaled remainder, of which the first ``size`` columns count."""

    A: CrossProducts
    plan: Plan
    templates: Sequence[Floats]
    H: Floats
    size: int

    def images(self, rows: Floats) -> Floats:
        """``R Lambda H'`` for rows ``R`` (l, k, m): ``(l, k, size)``."""
        l, k, m = rows.shape
        flat = rows.reshape(l * k, m)
        scaled = np.empty_like(flat, order="C")
        scale_columns(self.A, self.plan, self.templates, flat, out=scaled)
        turned = dtrmm(1.0, self.H, scaled.T, lower=1, overwrite_b=1)
        return np.asarray(turned.T, dtype=np.float64).reshape(rows.shape)[..., : self.size]

    def dense(self, j: int, S: Floats, *, divide: bool) -> TermDerivatives:
        """Derivatives for a term of the remainder ``S`` (m, m), both triangles.

        ``divide`` says whether its template may be divided by.
        """
        term, a, T = self.A.terms[j], self.plan.offsets[j], self.templates[j]
        own = self.H.T[a : a + term.q].reshape(term.l, term.k, -1)[..., : self.size]
        C = squares(own)
        if divide:
            W, PZZ = divided(T, term.l, C.sum(axis=0))
        else:
            met = self.images(S[a : a + term.q].reshape(term.l, term.k, -1))
            W = (met @ own.transpose(0, 2, 1)).sum(axis=0)
            PZZ = (diagonal_blocks(self.A, self.plan, j, S) - squares(met)).sum(axis=0)
        return TermDerivatives(W, 0.5 * (PZZ + PZZ.T), congruence(C, T.T))


def half_inverse(L: Floats) -> Floats:
    """``L^-1`` of a lower triangular matrix ``(m, m)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        A pivot is zero.
    """
    H, info = dtrtri(L, lower=1)
    if info:
        raise np.linalg.LinAlgError(f"pivot {info} of {len(L)} is zero")
    return np.asarray(H, dtype=np.float64)
