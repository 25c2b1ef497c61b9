"""The dense remainder scaled by the templates, and its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interlace.solver.blocks import from_upper
from interlace.solver.plan import Plan
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats


def scale_columns(
    A: CrossProducts, plan: Plan, templates: Sequence[Floats], M: Floats, out: Floats
) -> None:
    """``M Lambda``, on the columns of the dense terms, into ``out``, which may be ``M`` itself."""
    for j in plan.dense:
        term, a, T = A.terms[j], plan.offsets[j], templates[j]
        columns, into = M[:, a : a + term.q], out[:, a : a + term.q]
        if term.k == 1:
            np.multiply(columns, T[0, 0], out=into)
        else:
            shape = (len(M), term.l, term.k)
            np.matmul(columns.reshape(shape), T, out=into.reshape(shape))
    if out is not M:
        out[:, plan.q_dense :] = M[:, plan.q_dense :]


def scale_rows(A: CrossProducts, plan: Plan, templates: Sequence[Floats], M: Floats) -> None:
    """``Lambda M`` in place, on the rows of the dense terms."""
    for j in plan.dense:
        term, a, T = A.terms[j], plan.offsets[j], templates[j]
        rows = M[a : a + term.q]
        if term.k == 1:
            rows *= T[0, 0]
        else:
            rows[:] = np.matmul(T, rows.reshape(term.l, term.k, -1)).reshape(term.q, -1)


def level_blocks(A: CrossProducts, plan: Plan, j: int, M: Floats) -> Floats:
    """The diagonal blocks of a dense term in ``M``: a view ``(l, k, k)`` that can be written to."""
    term, a = A.terms[j], plan.offsets[j]
    own = M[a : a + term.q, a : a + term.q].reshape(term.l, term.k, term.l, term.k)
    return np.asarray(np.einsum("ajak->ajk", own))


def diagonal_blocks(A: CrossProducts, plan: Plan, j: int, M: Floats) -> Floats:
    """The diagonal blocks of a dense term in ``M``, a copy ``(l, k, k)``."""
    return level_blocks(A, plan, j, M).copy()


def mirror_blocks(A: CrossProducts, plan: Plan, M: Floats) -> None:
    """Complete the diagonal blocks of the dense terms from their upper triangles, in place."""
    for j in plan.dense:
        if A.terms[j].k > 1:
            own = level_blocks(A, plan, j, M)
            own[:] = from_upper(own)
