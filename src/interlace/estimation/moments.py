"""Where to start a search: variances by a method of moments."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from interlace.estimation.criterion import Criterion
from interlace.solver.blocks import multiply
from interlace.solver.equations import Exact
from interlace.solver.pieces import flatten
from interlace.sums.terms import Floats

# Bounds on the moment estimate of a template, in units of the residual standard deviation.
_LOWEST, _HIGHEST = 0.05, 6.0


def moment_start(criterion: Criterion) -> list[Floats]:
    """Templates ``c I`` per term from a method of moments, see :func:`moment_ratios`."""
    A = criterion.A
    squares = np.array([*((zv[..., -1] ** 2).sum() for zv in A.zv), A.vv[-1, -1]])
    ratios = moment_ratios(moment_matrix(criterion), squares[:, None])[:, 0]
    return [t.template.start(c) for c, t in zip(ratios, A.terms, strict=True)]


def moment_ratios(M: Floats, squares: Floats) -> Floats:
    """Ratios of standard deviations, per term and residual, within bounds: ``(terms, B)``.

    With ``M`` the projection off the fixed effects and ``r = M y``, the expectations of
    ``|Z_j' r|^2`` and ``r'r`` are linear in the variances ``s_j`` and ``s_0`` (MINQUE(0) with one
    variance a term, Rao 1972); ``squares`` (terms + 1, B) are their values for ``B`` responses, and
    the matrix is that of :func:`moment_matrix`.
    """
    own = M.diagonal()
    known = own > 1e-10 * own.max()  # else the fixed effects hold all of the term
    scale = np.sqrt(np.where(known, own, own.max()))[:, None]
    s = np.linalg.lstsq(M / (scale * scale.T), squares / scale, rcond=None)[0] / scale
    residual = np.maximum(s[-1], 0.02 * squares[-1] / M[-1, -1])
    within = np.minimum(np.maximum(s[:-1] / residual, _LOWEST**2), _HIGHEST**2)
    ratios: Floats = np.sqrt(within)
    return np.where(known[:-1, None], ratios, 1.0)


def moment_matrix(criterion: Criterion) -> Floats:
    """Expected squares per unit of each variance, ``(terms + 1, terms + 1)``; no response in it."""
    A, size = criterion.A, len(criterion.A.terms)
    M = np.empty((size + 1, size + 1))
    for i in range(size):
        for j in range(i + 1):
            M[i, j] = M[j, i] = _squared_norm(criterion, i, j)
        M[i, size] = M[size, i] = np.einsum("lii->", A.zz[i]) - (A.zv[i][..., :-1] ** 2).sum() / A.n
    M[size, size] = A.n - A.p
    return M


def _squared_norm(criterion: Criterion, i: int, j: int) -> float:
    """Sum of squares of ``Z_i' M Z_j``, ``M`` projecting off the fixed effects."""
    A = criterion.A
    Bi, Bj = (A.zv[t][..., :-1].reshape(A.terms[t].q, A.p) for t in (i, j))
    if i == j:
        squares = (A.zz[i] ** 2).sum()
        image = multiply(A.zz[i], A.zv[i][..., :-1]).reshape(Bi.shape)
    else:
        squares = (A.cells[min(i, j), max(i, j)].values ** 2).sum()
        image = _cross(criterion, i, j) @ Bj
    fixed = ((Bi.T @ Bi) * (Bj.T @ Bj)).sum()
    return float(squares - 2.0 * (Bi * image).sum() / A.n + fixed / A.n**2)


def _cross(criterion: Criterion, i: int, j: int) -> Floats | csr_matrix | csc_matrix:
    """``Z_i' Z_j``, as the exact solver holds it already."""
    A, equations = criterion.A, criterion.equations
    if isinstance(equations, Exact):
        return equations.laid_out(A).cross[i, j]
    flat = flatten(A.cells[min(i, j), max(i, j)], *(A.terms[t].l for t in sorted((i, j))))
    return flat if i < j else flat.T
