"""Cholesky residuals without the covariance matrix of the rows.

With ``V = L L'`` in the order of the rows, entry ``i`` of ``L^-1 r`` is the standardised error of
predicting ``r_i`` from the entries before it.  A Kalman filter whose state is the random effects
gives all of them: only the levels that have rows both before and after the present ones need be
remembered, and rows that share no level, even through others, do not inform each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix, hstack
from scipy.sparse.csgraph import connected_components

from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.sums.crossprod import Codes
from interlace.sums.rows import by_level
from interlace.sums.terms import Floats

# Rows taken together, for few and for many effects.
_FEW, _SHORT, _LONG = 256, 128, 512
# The state's covariance may take so many bytes, and the updates so many operations.
_MOST_BYTES, _MOST_WORK = 2e9, 1e13


def innovations(H: csr_matrix, r: Floats, *, names: str = "") -> Floats:
    """``L^-1 r`` with ``I + H H' = L L'``, ``(n,)``.

    Parameters
    ----------
    H
        ``(n, q)``, rows of standardised random effects.
    r
        ``(n,)``, in the same units.
    names
        The random effects, in words, for the error.

    Raises
    ------
    InterlaceError
        Too many effects must be remembered at a time.

    Notes
    -----
    With ``f`` the most effects remembered at a time the work is ``2 n f^2``, the memory ``8 f^2``
    bytes.  For nested or single factors ``f`` is about the effects of a few groups.

    Examples
    --------
    >>> H = csr_matrix(np.array([[1.0], [1.0]]))
    >>> L = np.linalg.cholesky(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> r = np.array([1.0, 3.0])
    >>> bool(np.allclose(innovations(H, r), np.linalg.solve(L, r)))
    True
    """
    H = H.copy()
    H.eliminate_zeros()
    order = np.argsort(_components(H), kind="stable")
    H = H[order]
    chunks = list(_chunks(*H.shape))
    life = _lifetimes(H)
    _refuse_hopeless(life, chunks, names)
    state = _State(np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros((0, 0)))
    found = np.empty(len(r))
    for chunk in chunks:
        state = state.moved(life, chunk)
        found[order[chunk]], state = state.observed(H[chunk][:, state.active], r[order[chunk]])
    return found


@dataclass(frozen=True, eq=False)
class _State:
    """Effects remembered, their means and covariance given the rows so far."""

    active: Codes
    mean: Floats
    covariance: Floats

    def moved(self, life: tuple[Codes, Codes], chunk: slice) -> _State:
        """Forget effects without further rows, and take in those of the chunk."""
        first, last = life
        keep = last[self.active] >= chunk.start
        new = np.flatnonzero((first >= chunk.start) & (first < chunk.stop))
        kept, size = int(keep.sum()), int(keep.sum()) + len(new)
        covariance = np.zeros((size, size))
        covariance[:kept, :kept] = self.covariance[np.ix_(keep, keep)]
        covariance[range(kept, size), range(kept, size)] = 1.0
        mean = np.concatenate((self.mean[keep], np.zeros(len(new))))
        return _State(np.concatenate((self.active[keep], new)), mean, covariance)

    def observed(self, H: csr_matrix, r: Floats) -> tuple[Floats, _State]:
        """Standardised errors of predicting some rows, and the state that knows them."""
        HP = H @ self.covariance
        L = np.linalg.cholesky(np.eye(len(r)) + H @ HP.T)
        both = np.column_stack((HP, r - H @ self.mean))
        solved = solve_triangular(L, both, lower=True, overwrite_b=True, check_finite=False)
        gain, error = solved[:, :-1], solved[:, -1]
        covariance = self.covariance - gain.T @ gain
        return error, _State(self.active, self.mean + gain.T @ error, covariance)


def _components(H: csr_matrix) -> Codes:
    """Which rows are connected through common effects, ``(n,)``."""
    n, q = H.shape
    edges = H.tocoo()
    pattern = csr_matrix((np.ones(H.nnz), (edges.row, n + edges.col)), shape=(n + q, n + q))
    return np.asarray(connected_components(pattern, directed=False)[1][:n])


def _chunks(n: int, q: int) -> Iterator[slice]:
    """Slices of rows taken together."""
    step = _SHORT if q <= _FEW else _LONG
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _lifetimes(H: csr_matrix) -> tuple[Codes, Codes]:
    """First and last row of every effect; effects without rows never live."""
    n, q = H.shape
    edges = H.tocoo()
    first, last = np.full(q, n), np.full(q, -1)
    np.minimum.at(first, edges.col, edges.row)
    np.maximum.at(last, edges.col, edges.row)
    return first, last


def _refuse_hopeless(life: tuple[Codes, Codes], chunks: list[slice], names: str) -> None:
    """Count the effects remembered in every chunk."""
    first, last = (np.sort(ends) for ends in life)
    born = np.searchsorted(first, [chunk.stop for chunk in chunks])
    # Effects without rows are "dead" from the start and are never born.
    dead = np.searchsorted(last, [chunk.start for chunk in chunks])
    alive = born - dead + int((last < 0).sum())
    rows = np.array([chunk.stop - chunk.start for chunk in chunks])
    size, work = int(alive.max(initial=0)), float((2.0 * rows * alive.astype(float) ** 2).sum())
    if 8.0 * size**2 > _MOST_BYTES or work > _MOST_WORK:
        raise InterlaceError(
            f"Cholesky residuals of {int(rows.sum())} rows would have to follow {size} random "
            f"effects at a time{names}: {8e-9 * size**2:.1f} GB and {work:.0e} operations; use "
            f"studentized residuals, or sort the rows so that those of a group stand together"
        )


def cholesky_residuals(design: Design, estimate: Estimate, marginal: Floats) -> Floats:
    """``L^-1 r`` of marginal residuals ``r`` (n,) with ``V = L L'`` in the order of the rows.

    Standard deviation 1 and uncorrelated if the model holds [1]_.  See :func:`innovations` for
    the cost and the error.

    References
    ----------
    .. [1] Houseman, Ryan and Coull (2004), Journal of the American Statistical Association 99,
       383-394.
    """
    root = design.root_weights
    blocks = [
        by_level(codes, root[:, None] * (Z @ T), term.q)
        for codes, Z, T, term in zip(
            design.codes, design.Z, estimate.user_templates, design.terms, strict=True
        )
    ]
    sizes = ", ".join(f"{t.group}: {t.l} levels x {t.k}" for t in design.terms)
    return innovations(
        hstack(blocks, format="csr"), root * marginal / estimate.sigma, names=f" ({sizes})"
    )
