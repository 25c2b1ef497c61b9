"""The part of an eliminated term's rows that couples it with the dense remainder.

``R`` holds, per level, a ``k x m`` block of cross-products with the ``m`` remaining columns
``[other terms, X, y]``.  Two representations with the same four products: :class:`DenseTail` for
well-filled rows, :class:`SparseTail` where each level meets few of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from interlace.solver.blocks import by_row, multiply, strips, symmetric_product
from interlace.solver.places import Index, Sparse, positions_of, sparse_places
from interlace.sums.terms import Floats

Codes = NDArray[np.integer]
N = TypeVar("N", bound=np.generic)

# Pairs listed at a time.
_PIECE = 1 << 16


@dataclass(frozen=True, eq=False)
class DenseTail:
    """Rows held in full: ``R`` is ``(l, k, m)``."""

    R: Floats

    def with_last(self, column: Floats) -> DenseTail:
        """The same rows with another last column, ``(l, k)``."""
        return DenseTail(np.concatenate((self.R[..., :-1], column[..., None]), axis=2))

    def apply(self, V: Floats) -> Floats:
        """``R[l] @ V`` for ``V`` (m, c): ``(l, k, c)``."""
        l, k, m = self.R.shape
        return (self.R.reshape(l * k, m) @ V).reshape(l, k, V.shape[1])

    def adjoint(self, M: Floats) -> Floats:
        """``sum over l of R[l]' M[l]`` for ``M`` (l, k, c): ``(m, c)``."""
        l, k, m = self.R.shape
        return self.R.reshape(l * k, m).T @ M.reshape(l * k, M.shape[2])

    def gram(self, K: Floats) -> Floats:
        """``sum over l of R[l]' K[l] R[l]``, ``(m, m)``."""
        KR = multiply(K, self.R)
        return symmetric_product(by_row(self.R), by_row(KR))

    def quadratic(self, C: Floats) -> Floats:
        """``R[l] C R[l]'`` for symmetric ``C`` (m, m): ``(l, k, k)``."""
        half = self._upper_half(C)
        if half.shape[1] == 1:
            squares: Floats = np.einsum("lim,lim->l", half, self.R)
            return 2.0 * squares[:, None, None]
        one = half @ self.R.transpose(0, 2, 1)
        return one + one.transpose(0, 2, 1)

    def _upper_half(self, C: Floats) -> Floats:
        """``R[l] U``, where ``C = U + U'`` and ``U`` has strips that end at the diagonal."""
        flat = by_row(self.R)
        half = np.empty_like(flat)
        for own in strips(len(C)):
            strip = C[: own.stop, own].copy()
            strip[own.start :] *= 0.5
            half[:, own] = flat[:, : own.stop] @ strip
        return half.reshape(self.R.shape)

    def square(self, RC: Floats) -> Floats:
        """``RC[l] R[l]'`` for ``R C`` (l, k, m): ``(l, k, k)``."""
        if RC.shape[1] == 1:
            squares: Floats = np.einsum("lim,lim->l", RC, self.R)
            return squares[:, None, None]
        return RC @ self.R.transpose(0, 2, 1)


@dataclass(frozen=True, eq=False)
class SparseTail:
    """Rows with few nonzeros among the other terms' columns.

    ``pairs`` maps the blocks ``K[l]`` to the flattened upper triangle of ``sum R' K R``: the pairs
    of nonzeros of every row, listed once, so that an evaluation is one sparse matrix-vector product
    and its transpose the reverse pass.  Its columns are ordered ``(i, j, l)`` over the entries
    ``K[l, i, j]``, its rows are the entries of an ``(m, m)`` matrix; ``squares`` (l k^2, q) holds
    the pairs of a column with itself once more.  Only the upper triangle of ``C`` is read.
    """

    R: csr_matrix
    fixed: Floats
    pairs: csc_matrix
    squares: csr_matrix

    def with_last(self, column: Floats) -> SparseTail:
        """The same rows with another last column, ``(l, k)``."""
        return replace(
            self, fixed=np.concatenate((self.fixed[..., :-1], column[..., None]), axis=2)
        )

    @property
    def m(self) -> int:
        """Number of remaining columns."""
        return int(self.R.shape[1] + self.fixed.shape[2])

    def apply(self, V: Floats) -> Floats:
        """``R[l] @ V`` for ``V`` (m, c): ``(l, k, c)``."""
        l, k, width = self.fixed.shape
        q = self.R.shape[1]
        flat = self.R @ V[:q] + self.fixed.reshape(l * k, width) @ V[q:]
        return flat.reshape(l, k, V.shape[1])

    def adjoint(self, M: Floats) -> Floats:
        """``sum over l of R[l]' M[l]`` for ``M`` (l, k, c): ``(m, c)``."""
        l, k, width = self.fixed.shape
        flat = M.reshape(l * k, M.shape[2])
        return np.concatenate((self.R.T @ flat, self.fixed.reshape(l * k, width).T @ flat))

    def gram(self, K: Floats) -> Floats:
        """Upper triangle of ``sum over l of R[l]' K[l] R[l]``, ``(m, m)``."""
        q = self.R.shape[1]
        total = (self.pairs @ K.transpose(1, 2, 0).ravel()).reshape(self.m, self.m)
        total[:, q:] = self.adjoint(multiply(K, self.fixed))
        return total

    def quadratic(self, C: Floats) -> Floats:
        """``R[l] C R[l]'`` for symmetric ``C`` (m, m), upper triangle: ``(l, k, k)``."""
        l, k, width = self.fixed.shape
        q = self.R.shape[1]
        flat = self.pairs.T @ C.ravel()
        one: Floats = flat.reshape(k, k, l).transpose(2, 0, 1)
        among = one + one.transpose(0, 2, 1)
        among -= (self.squares @ np.diag(C)[:q]).reshape(k, k, l).transpose(2, 0, 1)
        corner = np.triu(C[q:, q:]) + np.triu(C[q:, q:], 1).T
        half = (self.R @ C[:q, q:]).reshape(l, k, width)
        half += 0.5 * (self.fixed.reshape(l * k, width) @ corner).reshape(l, k, width)
        cross = multiply(half, np.ascontiguousarray(self.fixed.transpose(0, 2, 1)))
        return among + cross + cross.transpose(0, 2, 1)


def count_pairs(lengths: Floats, k: int) -> float:
    """Nonzeros of :attr:`SparseTail.pairs` for rows with ``lengths`` nonzero columns."""
    return float((lengths * (lengths + 1) / 2).sum()) * k * k


@dataclass(frozen=True, eq=False)
class TailPattern:
    """Where the numbers of a :class:`SparseTail` go.

    Entries are those of a row of blocks: entry ``e`` is paired with itself and the
    ``partners[e] - 1`` that follow in its row; ``second`` lists the latter pair by pair.
    """

    R: Sparse
    k: int
    width: int
    entries: Index
    columns: Codes
    starts: Codes
    partners: Codes
    second: NDArray[np.int32]
    pairs: NDArray[np.int32]
    pair_starts: Codes

    def filled(self, numbers: Floats, fixed: Floats) -> SparseTail:
        """The tail of some numbers, and of ``fixed`` (l, k, p + 1) against ``[X y]``."""
        values, k, q = numbers[self.entries], self.k, self.R.shape[1]
        l, m = len(self.starts) - 1, q + self.width
        pairs = csc_matrix(
            (
                self._products(values).ravel(),
                _stacked([self.pairs] * (k * k)),
                _stacked_starts(self.pair_starts, k * k),
            ),
            shape=(m**2, l * k * k),
        )
        selves = [values[:, i] * values[:, j] for i in range(k) for j in range(k)]
        squares: csr_matrix = csr_matrix(
            (
                _stacked(selves),
                _stacked([self.columns] * (k * k)),
                _stacked_starts(self.starts, k * k),
            ),
            shape=(l * k * k, q),
        )
        return SparseTail(self.R.filled(numbers), fixed, pairs, squares)

    def _products(self, values: Floats) -> Floats:
        """Products of the values of all pairs, ``(k^2, .)``, in pieces that stay in the cache."""
        k = self.k
        left = [np.ascontiguousarray(values[:, i]) for i in range(k)]
        products = np.empty((k * k, len(self.second)))
        for part, out in pieces(self.partners):
            second = self.second[out]
            for i in range(k):
                first = np.repeat(left[i][part], self.partners[part])
                for j in range(k):
                    np.multiply(first, left[j][second], out=products[i * k + j, out])
        return products


def tail_pattern(R: csr_matrix, k: int, width: int) -> TailPattern:
    """Places of rows ``R`` (l k, q), which hold positions, beside ``width`` columns ``[X y]``."""
    q = R.shape[1]
    columns, starts, values = _block_rows(R, k)
    lengths = np.diff(starts)
    partners = np.repeat(starts[1:], lengths) - np.arange(len(columns))
    second, pairs = _list_pairs(columns, partners, q + width)
    return TailPattern(
        R=sparse_places(R),
        k=k,
        width=width,
        entries=positions_of(values),
        columns=columns,
        starts=starts,
        partners=partners,
        second=second,
        pairs=pairs,
        pair_starts=np.append(np.cumsum(partners) - partners, len(pairs))[starts],
    )


def sparse_tail(R: csr_matrix, fixed: Floats) -> SparseTail:
    """Rows ``R`` (l k, q) against the other terms and ``fixed`` (l, k, p + 1) against ``[X y]``."""
    positions = csr_matrix((np.arange(1.0, R.nnz + 1.0), R.indices, R.indptr), shape=R.shape)
    pattern = tail_pattern(positions, fixed.shape[1], fixed.shape[2])
    return pattern.filled(np.concatenate((np.zeros(1), R.data)), fixed)


def _list_pairs(
    columns: Codes, partners: Codes, m: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Second entry of every pair, and its flat position in an ``(m, m)`` matrix."""
    total = int(partners.sum())
    position = columns.astype(np.int32)
    second, pairs = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
    before = np.cumsum(partners) - partners
    for part, out in pieces(partners):
        count = partners[part]
        listed = np.arange(out.start, out.stop)
        listed -= np.repeat(before[part] - np.arange(part.start, part.stop), count)
        second[out] = listed
        pairs[out] = np.repeat(position[part] * np.int32(m), count) + position[listed]
    return second, pairs


def pieces(partners: Codes) -> Iterator[tuple[slice, slice]]:
    """Slices of entries, and of their pairs, small enough for the cache."""
    ends = np.cumsum(partners)
    total = int(ends[-1]) if len(ends) else 0
    before = ends - partners
    edges = np.append(np.searchsorted(before, np.arange(0, total, _PIECE)), len(partners))
    for a, b in pairwise(np.unique(edges).tolist()):
        yield slice(a, b), slice(int(before[a]), int(ends[b - 1]))


def _stacked(parts: list[NDArray[N]]) -> NDArray[N]:
    """Parts one after the other, without a copy of a single one."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _stacked_starts(starts: Codes, copies: int) -> Codes:
    """Row starts of ``copies`` matrices with the same pattern, one below the other."""
    size = int(starts[-1])
    return np.concatenate([starts[:-1] + c * size for c in range(copies)] + [[copies * size]])


def _block_rows(R: csr_matrix, k: int) -> tuple[Codes, Codes, Floats]:
    """Columns met by each block of ``k`` rows, where each block starts, and their values (., k)."""
    if k == 1:
        return R.indices, R.indptr, R.data[:, None]
    coo = R.tocoo()
    key = (coo.row // k).astype(np.int64) * R.shape[1] + coo.col
    present, index = np.unique(key, return_inverse=True)
    values = np.zeros((len(present), k))
    values[index, coo.row % k] = coo.data
    level, columns = np.divmod(present, R.shape[1])
    return columns, np.searchsorted(level, np.arange(R.shape[0] // k + 1)), values
