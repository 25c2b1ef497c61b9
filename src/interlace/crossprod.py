"""Cross-products of ``[Z X y]``: everything a linear mixed model needs from its rows.

They are sums over rows, so they form a monoid: two :class:`CrossProducts` of the same terms add and
subtract.  Squaring squares condition numbers; therefore the sums are taken in a *working basis*, in
which the fixed-effects columns are orthonormal, the response is its least-squares residual, and the
columns of each random-effects term are orthonormal too.  :class:`Basis` remembers the map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from interlace.design import Design
from interlace.errors import InterlaceError
from interlace.terms import ReTerm

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

# A column counts as dependent when less than this share of its norm is left after the columns
# before it are projected out (R's value for least squares).
RANK_TOLERANCE = 1e-7
# Below this squared share the Gram matrix has lost too many digits to judge; look at the rows.
GRAM_SUSPECT = 1e-5
_CHUNK = 1 << 16


@dataclass(frozen=True, eq=False)
class Basis:
    """Linear maps from the user's columns to the working columns.

    ``[X y] @ fixed`` (p + 1 columns) and ``Z_j @ random[j]`` (k_j columns) are the columns whose
    cross-products are stored.
    """

    fixed: Floats
    random: tuple[Floats, ...]

    @cached_property
    def log_det_fixed(self) -> float:
        """Log of the absolute determinant of the map of ``X``."""
        return float(np.linalg.slogdet(self.fixed[:-1, :-1])[1])

    @property
    def response_scale(self) -> float:
        """Working units of the response in one unit of ``y``."""
        return float(self.fixed[-1, -1])


@dataclass(frozen=True, eq=False)
class Cells:
    """Nonzero blocks of one ``Z_i' Z_j``: ``values[c]`` (k_i x k_j) at levels ``rows[c], cols[c]``.

    Sorted by row, then column; every pair of levels occurs at most once.
    """

    rows: Codes
    cols: Codes
    values: Floats

    def transpose(self) -> Cells:
        """The same blocks as ``Z_j' Z_i``."""
        order = np.lexsort((self.rows, self.cols))
        return Cells(self.cols[order], self.rows[order], self.values[order].transpose(0, 2, 1))


@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Sufficient statistics of a linear mixed model; add, subtract, or give a new response.

    Attributes
    ----------
    n, sum_log_w
        Rows, and the sum of the logs of their prior weights.
    names
        The ``p`` fixed-effects columns kept; ``dropped`` are those that depend on earlier ones.
    terms, basis
        The random-effects terms, and the working basis of all blocks below.
    vv
        ``V' V`` for ``V = [X y]``, ``(p + 1, p + 1)``.
    zv, zz
        Per term ``Z_j' V`` as ``(l, k, p + 1)`` and the diagonal blocks of ``Z_j' Z_j``, ``(l, k, k)``.
    cells
        ``Z_i' Z_j`` for every pair of terms ``i < j``.
    """

    n: int
    names: tuple[str, ...]
    dropped: tuple[str, ...]
    terms: tuple[ReTerm, ...]
    basis: Basis
    vv: Floats
    zv: tuple[Floats, ...]
    zz: tuple[Floats, ...]
    cells: Mapping[tuple[int, int], Cells]
    sum_log_w: float = 0.0

    @property
    def p(self) -> int:
        """Rank of the fixed-effects matrix."""
        return len(self.names)

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Cross-products of the rows of both."""
        return _combine(self, other, 1.0)

    def __sub__(self, other: CrossProducts) -> CrossProducts:
        """Cross-products of the rows of ``self`` without those of ``other``."""
        return _combine(self, other, -1.0)

    def rebase(self, basis: Basis) -> CrossProducts:
        """The same cross-products in another working basis."""
        F = np.linalg.solve(self.basis.fixed, basis.fixed)
        A = [np.linalg.solve(a, b) for a, b in zip(self.basis.random, basis.random, strict=True)]
        return replace(
            self,
            basis=basis,
            vv=F.T @ self.vv @ F,
            zv=tuple(a.T @ block @ F for a, block in zip(A, self.zv, strict=True)),
            zz=tuple(a.T @ block @ a for a, block in zip(A, self.zz, strict=True)),
            cells={
                (i, j): replace(c, values=A[i].T @ c.values @ A[j])
                for (i, j), c in self.cells.items()
            },
        )


def cross_products(design: Design) -> CrossProducts:
    """One pass over the rows of a design.

    Raises
    ------
    InterlaceError
        If no fixed-effects column is left, or the response is an exact linear function of the
        fixed effects, so that there is no residual variance to divide.
    """
    w = design.weights
    kept, V, fixed = _working_fixed(design)
    working = [_working_random(Z, term, w) for Z, term in zip(design.Z, design.terms, strict=True)]
    root = None if w is None else np.sqrt(w)
    Z = [_scaled(z, root) for z, _ in working]
    return CrossProducts(
        n=len(design.y),
        names=tuple(np.array(design.names, dtype=object)[kept]),
        dropped=tuple(np.array(design.names, dtype=object)[~kept]),
        terms=design.terms,
        basis=Basis(fixed, tuple(a for _, a in working)),
        vv=V.T @ V,
        zv=tuple(
            _sum_products(c, t.l, z, V)
            for c, t, z in zip(design.codes, design.terms, Z, strict=True)
        ),
        zz=tuple(
            _sum_squares(c, t.l, z) for c, t, z in zip(design.codes, design.terms, Z, strict=True)
        ),
        cells=dict(_all_cells(design, Z)),
        sum_log_w=0.0 if w is None else float(np.log(w).sum()),
    )


def with_response(A: CrossProducts, design: Design, y: Floats) -> CrossProducts:
    """Cross-products with the response ``y`` (n,) in place of the design's; ``Z`` and ``X`` kept."""
    root = None if design.weights is None else np.sqrt(design.weights)
    _, V, fixed = _working_fixed(replace(design, y=y))
    column = np.ascontiguousarray(V[:, -1:])
    zy = [
        _sum_products(c, t.l, _scaled(z @ a, root), column)
        for c, t, z, a in zip(design.codes, design.terms, design.Z, A.basis.random, strict=True)
    ]
    return replace(
        A,
        basis=Basis(fixed, A.basis.random),
        vv=V.T @ V,
        zv=tuple(np.concatenate((zv[..., :-1], b), axis=2) for zv, b in zip(A.zv, zy, strict=True)),
    )


def group_sums(codes: Codes, l: int, columns: Floats) -> Floats:  # noqa: E741
    """Sums of ``columns`` (n, m) within each of ``l`` groups, ``(l, m)``."""
    n, m = columns.shape
    if m == 1:
        return np.bincount(codes, weights=columns[:, 0], minlength=l)[:, None]
    return csc_matrix((np.ones(n), codes, np.arange(n + 1)), shape=(l, n)) @ columns


# ------------------------------------------------------------------ working basis


def _scaled(columns: Floats, root: Floats | None) -> Floats:
    """Columns (or a vector) with row ``i`` times ``root[i]``."""
    if root is None:
        return columns
    return columns * (root if columns.ndim == 1 else root[:, None])


def _centred(M: Floats, w: Floats | None) -> tuple[Floats, Floats]:
    """``M @ C`` and ``C``: the other columns less their means, where ``M`` has a constant column."""
    C = np.eye(M.shape[1])
    for j in np.flatnonzero(M[0]):
        if (M[:, j] == M[0, j]).all():
            means = np.average(M, axis=0, weights=w)
            means[j] = 0.0
            C[j] -= means / M[0, j]
            return M - means, C
    return M, C


def _orthonormal(M: Floats, w: Floats | None) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Columns of ``M`` that do not depend on earlier ones, made orthonormal.

    Returns the mask of kept columns, the working columns (rows weighted by ``sqrt(w)``, mean square
    1) and the map to them from the kept columns.
    """
    n = len(M)
    centred, C = _centred(M, w)
    rows = _scaled(centred, None if w is None else np.sqrt(w))
    norms = np.sqrt(np.einsum("ij,ij->j", rows, rows))
    noise = 1e-13 * np.abs(M).max(axis=0) * np.sqrt(n if w is None else w.sum())
    varies = norms > noise
    rows = rows[:, varies] / norms[varies]
    R, independent = _triangular(rows)
    kept = varies.copy()
    kept[varies] = independent
    to_working = np.linalg.inv(R) * np.sqrt(n)
    scaled = C[np.ix_(kept, kept)] / norms[kept]
    return kept, rows[:, independent] @ to_working, scaled @ to_working


def _triangular(rows: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Upper factor ``R`` of the independent columns (unit norm), and their mask.

    The Cholesky factor of the Gram matrix serves unless a pivot says that digits were lost there;
    then the rows themselves are orthogonalised.
    """
    try:
        R = np.linalg.cholesky(rows.T @ rows).T
    except np.linalg.LinAlgError:
        return _gram_schmidt(rows)
    if (np.diag(R) ** 2 < GRAM_SUSPECT).any():
        return _gram_schmidt(rows)
    return R, np.ones(rows.shape[1], dtype=bool)


def _gram_schmidt(rows: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """As :func:`_triangular`, by twice-repeated Gram-Schmidt, leaving out dependent columns."""
    Q = np.empty(rows.shape, order="F")
    R = np.zeros((rows.shape[1], rows.shape[1]))
    kept: list[int] = []
    for j, column in enumerate(rows.T):
        basis = Q[:, : len(kept)]
        first = basis.T @ column
        rest = column - basis @ first
        again = basis.T @ rest
        rest = rest - basis @ again
        norm = float(np.sqrt(rest @ rest))
        if norm > RANK_TOLERANCE:
            Q[:, len(kept)] = rest / norm
            R[: len(kept), j] = first + again
            R[len(kept), j] = norm
            kept.append(j)
    mask = np.zeros(rows.shape[1], dtype=bool)
    mask[kept] = True
    return R[: len(kept), kept], mask


def _working_fixed(design: Design) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Kept columns, working ``[Q r]`` (n, p + 1), rows weighted, and the map to it."""
    w = design.weights
    kept, Q, to_working = _orthonormal(design.X, w)
    y = design.y if design.offset is None else design.y - design.offset
    V, fixed = _with_residual(Q, to_working, _scaled(y, None if w is None else np.sqrt(w)), len(y))
    return kept, V, fixed


def _with_residual(Q: Floats, to_working: Floats, y: Floats, n: int) -> tuple[Floats, Floats]:
    """Append the least-squares residual of ``y``, mean square 1, to working columns ``Q``."""
    unit = float(np.abs(y).max())
    r, coefficients = y / unit, np.zeros(Q.shape[1])
    for _ in range(2):  # twice, so that r is orthogonal to Q to the last digit
        step = Q.T @ r / n
        r, coefficients = r - Q @ step, coefficients + step
    scale = float(np.sqrt(r @ r / n))
    if scale < 1e-13:
        raise InterlaceError(
            "the fixed effects reproduce the response exactly: there is no variance left for "
            "random effects and residuals; check the response and the fixed side of the formula"
        )
    p = Q.shape[1]
    fixed = np.zeros((p + 1, p + 1))
    fixed[:p, :p] = to_working
    fixed[:p, p] = -(to_working @ coefficients) / scale
    fixed[p, p] = 1.0 / (scale * unit)
    return np.column_stack((Q, r / scale)), fixed


def _working_random(Z: Floats, term: ReTerm, w: Floats | None) -> tuple[Floats, Floats]:
    """Working columns of a term (rows not yet weighted) and the map to them."""
    if term.correlated:
        kept, _, to_working = _orthonormal(Z, w)
        if kept.all():
            return Z @ to_working, to_working
    squares = np.average(Z**2, axis=0, weights=w) * (1.0 if w is None else float(w.mean()))
    scale = 1.0 / np.sqrt(np.where(squares > 0.0, squares, 1.0))
    if (scale == 1.0).all():
        return Z, np.eye(term.k)
    return Z * scale, np.diag(scale)


# ------------------------------------------------------------------ sums


def _chunks(n: int, l: int) -> Iterator[slice]:  # noqa: E741
    """Slices of rows small enough for the cache, yet longer than the table they add to."""
    step = max(_CHUNK, 4 * l)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _sum_products(codes: Codes, l: int, Z: Floats, V: Floats) -> Floats:  # noqa: E741
    """``Z' V`` by level, ``(l, k, m)``."""
    k, m = Z.shape[1], V.shape[1]
    total = np.zeros((l, k * m))
    for rows in _chunks(len(codes), l):
        v = V[rows]
        columns = v if _is_ones(Z) else (Z[rows, :, None] * v[:, None, :]).reshape(len(v), k * m)
        total += group_sums(codes[rows], l, columns)
    return total.reshape(l, k, m)


def _sum_squares(codes: Codes, l: int, Z: Floats) -> Floats:  # noqa: E741
    """Diagonal blocks of ``Z' Z``, ``(l, k, k)``."""
    if _is_ones(Z):
        return np.bincount(codes, minlength=l).astype(np.float64)[:, None, None]
    return _sum_products(codes, l, Z, Z)


def _is_ones(Z: Floats) -> bool:
    """Whether ``Z`` is the unweighted intercept column, stored without memory."""
    return Z.shape[1] == 1 and Z.strides[0] == 0 and bool(Z[0, 0] == 1.0)


def _all_cells(design: Design, Z: list[Floats]) -> Iterator[tuple[tuple[int, int], Cells]]:
    """Cross blocks of every pair of terms."""
    for i in range(len(Z)):
        for j in range(i + 1, len(Z)):
            yield (
                (i, j),
                _cells(
                    (design.codes[i], design.codes[j]),
                    (design.terms[i].l, design.terms[j].l),
                    (Z[i], Z[j]),
                ),
            )


def _cells(
    codes: tuple[Codes, Codes], sizes: tuple[int, int], Z: tuple[Floats, Floats]
) -> Cells:
    """Sums of ``z_i z_j'`` over the rows of each pair of levels that occurs."""
    key = codes[0].astype(np.int64) * sizes[1] + codes[1]
    space = sizes[0] * sizes[1]
    ones = _is_ones(Z[0]) and _is_ones(Z[1])
    if space <= max(4 * len(key), 1 << 20):
        counts = np.bincount(key, minlength=space)
        present = np.flatnonzero(counts)
        where = np.cumsum(counts > 0) - 1 if not ones else counts
        counts, index = counts[present], None if ones else where[key]
    elif ones:
        (present, counts), index = np.unique(key, return_counts=True), None
    else:
        present, index = np.unique(key, return_inverse=True)
    rows, cols = np.divmod(present, sizes[1])
    if index is None:
        values = counts.astype(np.float64)[:, None, None]
    else:
        values = _sum_products(index, len(present), Z[0], Z[1])
    return Cells(rows.astype(np.intp), cols.astype(np.intp), values)


# ------------------------------------------------------------------ the monoid


def _combine(left: CrossProducts, right: CrossProducts, sign: float) -> CrossProducts:
    """``left + sign * right`` in the basis of ``left``."""
    _check_alike(left, right)
    other = right.rebase(left.basis)
    return replace(
        left,
        n=left.n + int(sign) * right.n,
        sum_log_w=left.sum_log_w + sign * right.sum_log_w,
        vv=left.vv + sign * other.vv,
        zv=tuple(a + sign * b for a, b in zip(left.zv, other.zv, strict=True)),
        zz=tuple(a + sign * b for a, b in zip(left.zz, other.zz, strict=True)),
        cells={
            key: _merge(cells, other.cells[key], sign) for key, cells in left.cells.items()
        },
    )


def _check_alike(left: CrossProducts, right: CrossProducts) -> None:
    """Refuse to combine cross-products of different models."""
    if left.names != right.names:
        raise InterlaceError(
            f"cross-products of different fixed effects cannot be combined: "
            f"{', '.join(left.names)} and {', '.join(right.names)}"
        )
    for a, b in zip(left.terms, right.terms, strict=True):
        if a.group != b.group or a.columns != b.columns or not np.array_equal(a.levels, b.levels):
            raise InterlaceError(
                f"cross-products of different random effects cannot be combined: term "
                f"{a.group!r} has other columns or levels in the two"
            )


def _merge(left: Cells, right: Cells, sign: float) -> Cells:
    """Blocks of both, those at the same pair of levels added; blocks that cancel to 0 are kept."""
    width = 1 + int(max(left.cols.max(initial=0), right.cols.max(initial=0)))
    keys = np.concatenate((left.rows * width + left.cols, right.rows * width + right.cols))
    present, index = np.unique(keys, return_inverse=True)
    stacked = np.concatenate((left.values, sign * right.values))
    flat = group_sums(index, len(present), stacked.reshape(len(stacked), -1))
    rows, cols = np.divmod(present, width)
    return Cells(rows, cols, flat.reshape(len(present), *left.values.shape[1:]))
