"""Random columns of rows as one sparse matrix, and sums over the rows of products of columns.

Which levels a row belongs to does not change during a fit.  What every step asks of the rows is
therefore a product with a sparse matrix that is laid out once: ``Z b``, ``Z'v`` and ``Z'WZ``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from interlace.solver.pieces import some_rows
from interlace.sums.cells import Codes
from interlace.sums.terms import Floats, ReTerm

# Rows below which a transpose is not worth laying out, and those up to which it reads values in
# any order from the cache.
_FEW, _CACHED = 1 << 10, 1 << 17
# Products of two columns that are stored for a pair of terms, at most: of a row, and of all.
_STORED, _HELD = 16, 1 << 20
# Rows up to which columns of ones are laid out too.
_LAID_OUT = 1 << 20


@dataclass(frozen=True, eq=False)
class Incidence:
    """``Z`` of all terms side by side, ``(n, q)``, and ``Z'``; ``shapes`` (l, k) of every term."""

    Z: csr_matrix
    transposed: csr_matrix | csc_matrix
    shapes: tuple[tuple[int, int], ...]

    def some(self, start: int, stop: int) -> csr_matrix:
        """Some of the rows of ``Z``; values and columns are shared."""
        return some_rows(self.Z, start, stop)

    def image(self, b: Sequence[Floats]) -> Floats:
        """``Z b``, ``(n,)``."""
        return np.asarray(self.Z @ np.concatenate([part.ravel() for part in b]))

    def sums(self, v: Floats) -> list[Floats]:
        """``Z_j' v`` of every term: ``(l, k)`` for ``v`` (n,), ``(l, k, c)`` for ``v`` (n, c)."""
        flat = np.asarray(self.transposed @ v)
        ends = accumulate((l * k for l, k in self.shapes), initial=0)
        parts = zip(self.shapes, pairwise(ends), strict=True)
        return [flat[a:b].reshape(*shape, *v.shape[1:]) for shape, (a, b) in parts]


@dataclass(frozen=True, eq=False)
class Levels:
    """The same where every column is of ones: levels tell all, and no matrix is laid out."""

    codes: tuple[Codes, ...]
    shapes: tuple[tuple[int, int], ...]

    def some(self, start: int, stop: int) -> csr_matrix:
        """Some of the rows of ``Z``."""
        starts = accumulate((l for l, _ in self.shapes), initial=0)
        places = [own[start:stop] + first for own, first in zip(self.codes, starts, strict=False)]
        index = np.stack(places, axis=1)
        return _by_row(index, np.ones(index.shape), sum(l for l, _ in self.shapes))

    def image(self, b: Sequence[Floats]) -> Floats:
        """``Z b``, ``(n,)``."""
        total = np.zeros(len(self.codes[0]))
        for part, own in zip(b, self.codes, strict=True):
            total += part.ravel().take(own)
        return total

    def sums(self, v: Floats) -> list[Floats]:
        """``Z_j' v`` of every term: ``(l, k)`` for ``v`` (n,), ``(l, k, c)`` for ``v`` (n, c)."""
        columns = v.reshape(len(v), -1).T
        found: list[Floats] = []
        for own, (l, k) in zip(self.codes, self.shapes, strict=True):
            sums = [np.bincount(own, weights=column, minlength=l) for column in columns]
            stacked: Floats = np.stack(sums, axis=1).astype(np.float64, copy=False)
            found.append(stacked.reshape(l, k, *v.shape[1:]))
        return found


def incidence(
    terms: Sequence[ReTerm], codes: Sequence[Codes], Z: Sequence[Floats | None]
) -> Incidence | Levels:
    """The columns of all terms; ``None`` stands for a column of ones."""
    shapes = tuple((t.l, t.k) for t in terms)
    if len(codes[0]) > _LAID_OUT and all(z is None for z in Z):
        return Levels(tuple(codes), shapes)
    rows = row_matrix(terms, codes, Z)
    return Incidence(rows, _transposed(rows, codes[0]), shapes)


def row_matrix(
    terms: Sequence[ReTerm], codes: Sequence[Codes], Z: Sequence[Floats | None]
) -> csr_matrix:
    """``Z`` of all terms side by side, ``(n, q)``; ``None`` stands for a column of ones."""
    n = len(codes[0])
    starts = accumulate((t.q for t in terms), initial=0)
    places = [
        start + own[:, None] * t.k + np.arange(t.k)
        for t, own, start in zip(terms, codes, starts, strict=False)
    ]
    values = [np.ones((n, 1)) if z is None else z for z in Z]
    return _by_row(
        np.concatenate(places, axis=1), np.concatenate(values, axis=1), sum(t.q for t in terms)
    )


@dataclass(frozen=True, eq=False)
class Products:
    """Sums of ``W z_a z_b`` over the rows of every level or pair of levels, for any ``W`` (n,).

    ``sums`` are the products of the columns ``a`` of one term with ``b`` of another, ``expand``
    where those of every block (k_i, k_j) stand among them.
    """

    sums: csr_matrix | csc_matrix
    size: int
    expand: Codes

    def __call__(self, W: Floats) -> Floats:
        """The blocks, ``(size, k_i, k_j)``."""
        found = np.asarray(self.sums @ W).reshape(self.size, -1)
        if found.shape[1] == self.expand.size:
            return found.reshape(self.size, *self.expand.shape)
        return found[:, self.expand]


def products(
    index: Codes, size: int, left: Floats | None, right: Floats | None, *, same: bool
) -> Products | None:
    """Products of the columns of two terms, of which rows have the ``index`` below ``size``.

    With ``same`` they are one term, and the blocks symmetric.  ``None`` if there are so many that
    they are better multiplied each time.
    """
    a, b = (np.ones((len(index), 1)) if z is None else z for z in (left, right))
    k, m = a.shape[1], b.shape[1]
    if k * m > _STORED or len(index) * k * m > _HELD:
        return None
    first, second = np.triu_indices(k) if same else np.divmod(np.arange(k * m), m)
    expand = np.empty((k, m), dtype=np.intp)
    expand[first, second] = np.arange(len(first))
    if same:
        expand[second, first] = np.arange(len(first))
    width = len(first)
    values = a if left is None and right is None else a[:, first] * b[:, second]
    rows = _by_row(index[:, None] * width + np.arange(width), values, size * width)
    return Products(_transposed(rows, index), size, expand)


def _by_row(places: Codes, values: Floats, size: int) -> csr_matrix:
    """The matrix of which every row has ``values`` (n, m) at ``places`` (n, m) below ``size``."""
    n, m = places.shape
    kind = "int32" if max(n * m, size) < np.iinfo(np.int32).max else "int64"
    starts, flat = np.arange(0, n * m + 1, m), places.astype(kind, order="C").ravel()
    return csr_matrix((np.ascontiguousarray(values).ravel(), flat, starts), shape=(n, size))


def _transposed(rows: csr_matrix, codes: Codes) -> csr_matrix | csc_matrix:
    """The transpose, laid out by its rows where that pays."""
    n = len(codes)
    if n < _FEW or (n > _CACHED and (codes[1:] < codes[:-1]).any()):
        return rows.T
    return rows.T.tocsr()
