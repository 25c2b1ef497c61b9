"""Columns of a model made fit for squaring: shifted, deduplicated, and a basis chosen for them.

Cross-products square condition numbers.  A :class:`Pool` therefore holds every distinct column of
``[X y Z]`` once, less its mean wherever the model has a constant to take it up, and a
:class:`Block` says how the user's columns map to pool columns (``shift``) and these to orthonormal
ones (``finish``).  ``finish`` is applied to the cross-products, not to the rows, unless the Gram
matrix says that digits would be lost; then the rows themselves are orthogonalised.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlace.errors import InterlaceError
from interlace.sums.terms import Floats, ReTerm, inverse

# A column counts as dependent when less than this share of its norm is left after the columns
# before it are projected out (R's value for least squares).
RANK_TOLERANCE = 1e-7
# Below this squared share the Gram matrix has lost too many digits; orthogonalise the rows.
GRAM_SUSPECT = 1e-4
# Rows that are entered and squared at a time where columns are not held.
_PIECE = 16_384


@dataclass(frozen=True, eq=False)
class Block:
    """Columns of the pool that stand for ``k`` of the user's.

    With ``M`` the user's columns, the pool's are ``M @ shift`` and the working ones
    ``M @ shift @ finish``.
    """

    index: tuple[int, ...]
    shift: Floats
    finish: Floats


# A block of columns, the mask of those kept, and the place of the constant one.
Independent: TypeAlias = tuple[Block, NDArray[np.bool_], int | None]


@dataclass(eq=False)
class Pool:
    """Distinct columns, rows weighted by ``sqrt(w)``; filled while the blocks are chosen."""

    n: int
    w: Floats | None
    capacity: int
    ones: int | None = None
    _raw: list[tuple[Floats, float]] = field(default_factory=list)
    bases: list[tuple[Floats, Independent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = np.empty((self.capacity, self.n))
        self.root = None if self.w is None else np.sqrt(self.w)

    def add(self, column: Floats, shift: float = 0.0) -> int:
        """Place of ``column - shift`` in the pool, new or known."""
        for i, (known, known_shift) in enumerate(self._raw):
            if shift == known_shift and _same(known, column):
                return i
        i = len(self._raw)
        self._grow(i + 1)
        np.subtract(column, shift, out=self.table[i])
        if self.root is not None:
            self.table[i] *= self.root
        elif shift == 0.0 and _all_equal(column) and column[0] == 1.0:
            self.ones = i
        self._raw.append((column, shift))
        return i

    def add_response(self, y: Floats, shift: float) -> int:
        """Place of ``y - shift``, new; ``y`` is not kept for later columns to be compared with."""
        i = self.add(y, shift)
        self._raw[i] = (self.table[i], np.nan)
        return i

    def add_weighted(self, columns: Floats) -> tuple[int, ...]:
        """Places of new columns (n, c) whose rows are weighted already."""
        first = len(self._raw)
        last = first + columns.shape[1]
        self._grow(last)
        self.table[first:last] = columns.T
        self._raw.extend((column, np.nan) for column in self.table[first:last])
        return tuple(range(first, last))

    def _grow(self, size: int) -> None:
        """Make room for ``size`` columns."""
        if size > len(self.table):
            more = np.empty((size - len(self.table), self.n))
            self.table = np.concatenate((self.table, more))

    def rows(self, index: tuple[int, ...]) -> Floats:
        """The columns at ``index``, ``(n, len(index))``."""
        return self.table[list(index)].T

    def gram(self, index: tuple[int, ...]) -> Floats:
        """Cross-products of the columns at ``index``."""
        low, high = min(index, default=0), max(index, default=-1) + 1
        part = self.table[low:high]
        gram: Floats = part @ part.T
        if index == tuple(range(low, high)):
            return gram
        where = np.array(index, dtype=np.intp) - low
        return gram[where[:, None], where]

    def counted(self, a: int, b: int) -> bool:
        """Whether the product of columns ``a`` and ``b`` is 1 in every row."""
        return self.ones == a == b

    def product(self, rows: slice, a: int, b: int, out: Floats) -> None:
        """Product of columns ``a`` and ``b`` on some rows."""
        if a == self.ones or b == self.ones:
            out[:] = self.table[b if a == self.ones else a, rows]
        else:
            np.multiply(self.table[a, rows], self.table[b, rows], out=out)


@dataclass(eq=False)
class Streamed(Pool):
    """A pool whose columns are entered and squared a piece of the rows at a time.

    They are held only if more than their cross-products is asked for.
    """

    _entered: list[tuple[Floats, float]] = field(default_factory=list)
    _grams: dict[int, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = np.empty((0, self.n))
        self.root = None if self.w is None else np.sqrt(self.w)

    def add(self, column: Floats, shift: float = 0.0) -> int:
        """Place of ``column - shift`` in the pool, new or known."""
        if len(self.table):
            return super().add(column, shift)
        for i, (known, known_shift) in enumerate(self._raw):
            if shift == known_shift and _same(known, column):
                return i
        if self.root is None and shift == 0.0 and _all_equal(column) and column[0] == 1.0:
            self.ones = len(self._raw)
        self._raw.append((column, shift))
        self._entered.append((column, shift))
        return len(self._raw) - 1

    def add_response(self, y: Floats, shift: float) -> int:
        """Place of ``y - shift``, new."""
        i = self.add(y, shift)
        self._raw[i] = (y, np.nan)
        return i

    def add_weighted(self, columns: Floats) -> tuple[int, ...]:
        """Places of new columns (n, c) whose rows are weighted already."""
        self._hold()
        return super().add_weighted(columns)

    def rows(self, index: tuple[int, ...]) -> Floats:
        """The columns at ``index``, ``(n, len(index))``."""
        self._hold()
        return super().rows(index)

    def product(self, rows: slice, a: int, b: int, out: Floats) -> None:
        """Product of columns ``a`` and ``b`` on some rows."""
        self._hold()
        super().product(rows, a, b, out)

    def gram(self, index: tuple[int, ...]) -> Floats:
        """Cross-products of the columns at ``index``."""
        if len(self.table):
            return super().gram(index)
        count = len(self._entered)
        if count not in self._grams:
            total = np.zeros((count, count))
            for start in range(0, self.n, _PIECE):
                part = self._piece(slice(start, min(start + _PIECE, self.n)))
                total += part @ part.T
            self._grams[count] = total
        where = np.array(index, dtype=np.intp)
        return np.asarray(self._grams[count][where[:, None], where])

    def _piece(self, rows: slice) -> Floats:
        """All columns on some rows, entered."""
        part = np.empty((len(self._entered), rows.stop - rows.start))
        for out, (column, shift) in zip(part, self._entered, strict=True):
            np.subtract(column[rows], shift, out=out)
        if self.root is not None:
            part *= self.root[rows]
        return part

    def _hold(self) -> None:
        """Hold the columns, as any other pool."""
        if not len(self.table):
            self.table = np.empty((max(self.capacity, len(self._entered)), self.n))
            self.table[: len(self._entered)] = self._piece(slice(0, self.n))


def _all_equal(column: Floats) -> bool:
    """Whether all values of a column are the same."""
    return column.strides[0] == 0 or bool((column == column[0]).all())


def _same(known: Floats, column: Floats) -> bool:
    """Whether two columns are equal, told from three rows where they are not."""
    probe = [0, len(column) // 2, len(column) - 1]
    return bool((known[probe] == column[probe]).all()) and np.array_equal(known, column)


def working_fixed(
    pool: Pool, X: Floats, y: Floats, *, whole: bool = True
) -> tuple[NDArray[np.bool_], Block]:
    """Mask of the columns of ``X`` kept, and the block of ``[X y]``.

    Working columns are orthonormal (mean square 1), the last the least-squares residual of ``y``;
    in a part of the rows, which are not the ``whole``, nothing may be left of it.

    Raises
    ------
    InterlaceError
        If nothing is left of the response.
    """
    block, kept, constant = _independent(pool, X)
    unit = 2.0 ** int(np.frexp(max(y.max(), -y.min()))[1])  # exact
    scaled = y / unit
    mean = 0.0 if constant is None else float(_means(scaled[:, None], pool.w)[0])
    p = len(block.index)
    shift = np.zeros((p + 1, p + 1))
    shift[:p, :p] = block.shift
    shift[p, p] = 1.0 / unit
    if constant is not None:
        shift[int(kept[:constant].sum()), p] = -mean / X[0, constant]
    response = pool.add_response(scaled, mean)
    del scaled
    return kept, _with_residual(pool, block, response, shift, whole)


def working_columns(pool: Pool, X: Floats) -> tuple[NDArray[np.bool_], Block]:
    """Mask of the columns of ``X`` kept, and their block, orthonormal; without a response."""
    block, kept, _ = _independent(pool, X)
    return kept, block


def working_random(pool: Pool, Z: Floats, term: ReTerm) -> Block:
    """Block of one term: orthonormal columns where they may be mixed, else of mean square 1."""
    if term.correlated:
        block, kept, _ = _independent(pool, Z)
        if kept.all():
            return block
    index = tuple(pool.add(column) for column in Z.T)
    squares = pool.gram(index).diagonal() / pool.n
    sizes = term.template.even(np.sqrt(np.where(squares > 0, squares, 1.0)))
    return Block(index, np.eye(term.k), np.diag(1.0 / sizes))


def _independent(pool: Pool, M: Floats) -> Independent:
    """The basis of :func:`_orthonormal`, found once for a matrix on both sides of a formula."""
    for known, found in pool.bases:
        if known is M:
            return found
    found = _orthonormal(pool, M)
    pool.bases.append((M, found))
    return found


def _orthonormal(pool: Pool, M: Floats) -> Independent:
    """Orthonormal basis of the columns of ``M`` that do not depend on earlier ones.

    Returns the block of the kept columns, their mask, and the constant column if there is one: the
    others enter the pool less their means.
    """
    C, means = np.eye(M.shape[1]), np.zeros(M.shape[1])
    constant = _constant_column(M)
    if constant is not None:
        means = _means(M, pool.w)
        means[constant] = 0.0
        C[constant] -= means / M[0, constant]
    index = tuple(pool.add(column, m) for column, m in zip(M.T, means, strict=True))
    gram = pool.gram(index)
    norms = np.sqrt(gram.diagonal())
    total = float(pool.n) if pool.w is None else float(pool.w.sum())
    largest = np.array([max(c.max(), -c.min()) for c in M.T])
    varies = norms > 1e-13 * np.sqrt(total) * largest
    R = _triangular(gram / (norms[:, None] * norms)) if varies.all() else None
    if R is not None:
        finish = inverse(R) * (np.sqrt(pool.n) / norms[:, None])
        return Block(index, C, finish), varies, constant
    rows = pool.rows(index)[:, varies] / norms[varies]
    Q, R, independent = gram_schmidt(rows)
    kept = varies.copy()
    kept[varies] = independent
    to_rows = np.linalg.inv(R) * (np.sqrt(pool.n) / norms[kept][:, None])
    places = pool.add_weighted(Q * np.sqrt(pool.n))
    return Block(places, C[np.ix_(kept, kept)] @ to_rows, np.eye(len(places))), kept, constant


def _constant_column(M: Floats) -> int | None:
    """First column with one value other than 0 in every row."""
    for j in np.flatnonzero(M[0]):
        if _all_equal(M[:, j]):
            return int(j)
    return None


def _means(M: Floats, w: Floats | None) -> Floats:
    """Column means, weighted."""
    return np.array([c.mean() if w is None else w @ c / w.sum() for c in M.T])


def _triangular(gram: Floats) -> Floats | None:
    """Upper Cholesky factor of a Gram matrix of unit columns, or None if digits were lost in it."""
    if len(gram) == 1:
        return np.sqrt(gram)
    try:
        R = np.asarray(np.linalg.cholesky(gram).T, dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    return None if (R.diagonal() ** 2 < GRAM_SUSPECT).any() else R


def gram_schmidt(rows: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Orthonormal ``Q`` and upper ``R`` of the independent columns (unit norm), and their mask.

    Every column is projected out twice, which makes ``Q`` orthogonal to the last digit.
    """
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
    return Q[:, : len(kept)], R[: len(kept), kept], mask


def _with_residual(pool: Pool, X: Block, response: int, shift: Floats, whole: bool) -> Block:
    """Add the least-squares residual of the response, mean square 1, to the block of ``X``."""
    p = len(X.index)
    index = (*X.index, response)
    finish = np.eye(p + 1)
    finish[:p, :p] = X.finish
    gram = finish.T @ pool.gram(index) @ finish / pool.n
    total = gram[p, p]
    finish[:, p] -= finish[:, :p] @ gram[:p, p]
    left = float(gram[p, p] - gram[:p, p] @ gram[:p, p])
    if left > GRAM_SUSPECT * total:
        finish[:, p] /= np.sqrt(left)
        return Block(index, shift, finish)
    r = pool.rows(index) @ finish[:, p]
    Q = pool.rows(X.index) @ X.finish
    again = Q.T @ r / pool.n
    r = r - Q @ again
    scale = float(np.sqrt(r @ r / pool.n))
    nothing = scale < 1e-13 * np.sqrt(max(total, 1e-300)) or total == 0.0
    if nothing and not whole:
        scale = float(np.sqrt(total)) or 1.0
    elif nothing:
        raise reproduced()
    finish[:p, p] -= X.finish @ again
    column = shift @ finish[:, p] / scale
    shift = np.column_stack((shift[:, :p], column))
    finish = np.eye(p + 1)
    finish[:p, :p] = X.finish
    return Block((*X.index, *pool.add_weighted((r / scale)[:, None])), shift, finish)


def reproduced() -> InterlaceError:
    """The error for a response of which the fixed effects leave nothing."""
    return InterlaceError(
        "the fixed effects reproduce the response exactly: there is no variance left for "
        "random effects and residuals; check the response and the fixed side of the formula"
    )


def dependence(back: Floats, gram: Floats, products: Floats) -> Floats:
    """Columns left out as combinations of those kept, ``(kept, left out)``, by least squares.

    Working columns with cross-products ``gram`` times ``back`` are combinations of those kept;
    ``products`` are theirs with the columns left out.
    """
    return np.asarray(back @ np.linalg.solve(gram, products), dtype=np.float64)
