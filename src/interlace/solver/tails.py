"""The part of an eliminated term's rows that couples it with the dense remainder.

``R`` holds, per level, a ``k x m`` block of cross-products with the ``m`` remaining columns
``[other terms, X, y]``.  Two representations with the same four products: :class:`DenseTail` for
well-filled rows, :class:`SparseTail` where each level meets few of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from interlace.solver.blocks import multiply
from interlace.terms import Floats


@dataclass(frozen=True, eq=False)
class DenseTail:
    """Rows held in full: ``R`` is ``(l, k, m)``."""

    R: Floats

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
        return self.adjoint(multiply(K, self.R))

    def quadratic(self, C: Floats) -> Floats:
        """``R[l] C R[l]'`` for symmetric ``C`` (m, m): ``(l, k, k)``."""
        RC = self.apply(C)
        if RC.shape[1] == 1:
            return np.einsum("lim,lim->l", RC, self.R)[:, None, None]
        return RC @ self.R.transpose(0, 2, 1)


@dataclass(frozen=True, eq=False)
class SparseTail:
    """Rows with few nonzeros among the other terms' columns.

    ``pairs`` maps the blocks ``K[l]``, flattened, to the flattened upper triangle of
    ``sum R' K R`` on those columns: the pairs of nonzeros of every row, listed once, so that each
    evaluation is one sparse matrix-vector product and its transpose the reverse pass.
    """

    R: csr_matrix
    fixed: Floats
    pairs: csr_matrix

    @property
    def m(self) -> int:
        """Number of remaining columns."""
        return int(self.R.shape[1]) + self.fixed.shape[2]

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
        """``sum over l of R[l]' K[l] R[l]``, ``(m, m)``."""
        l, k, width = self.fixed.shape
        q = self.R.shape[1]
        total = np.empty((self.m, self.m))
        upper = (self.pairs @ K.ravel()).reshape(q, q)
        np.add(upper, upper.T, out=total[:q, :q])
        diagonal = np.arange(q)
        total[diagonal, diagonal] *= 0.5
        total[:, q:] = self.adjoint(multiply(K, self.fixed))
        total[q:, :q] = total[:q, q:].T
        return total

    def quadratic(self, C: Floats) -> Floats:
        """``R[l] C R[l]'`` for symmetric ``C`` (m, m): ``(l, k, k)``."""
        l, k, width = self.fixed.shape
        q = self.R.shape[1]
        twice = C[:q, :q] * 2.0
        diagonal = np.arange(q)
        twice[diagonal, diagonal] *= 0.5
        among = (self.pairs.T @ twice.ravel()).reshape(l, k, k)
        among = 0.5 * (among + among.transpose(0, 2, 1))
        half = (self.R @ C[:q, q:]).reshape(l, k, width)
        half += 0.5 * (self.fixed.reshape(l * k, width) @ C[q:, q:]).reshape(l, k, width)
        cross = multiply(half, np.ascontiguousarray(self.fixed.transpose(0, 2, 1)))
        return among + cross + cross.transpose(0, 2, 1)


def count_pairs(lengths: np.ndarray, k: int) -> int:
    """Nonzeros of :attr:`SparseTail.pairs` for rows with ``lengths`` nonzero columns."""
    counts = lengths.astype(np.float64)
    return int((counts * (counts + 1) / 2).sum()) * k * k


def list_pairs(R: csr_matrix, k: int) -> csr_matrix:
    """Pairs of nonzero columns of each block row of ``R`` (l * k, q); see :class:`SparseTail`."""
    l, q = R.shape[0] // k, R.shape[1]
    columns, starts, values = _block_rows(R, k)
    lengths = np.diff(starts)
    position = np.arange(len(columns)) - np.repeat(starts[:-1], lengths)
    partners = np.repeat(lengths, lengths) - position
    first = np.repeat(np.arange(len(columns)), partners)
    second = first + np.arange(len(first)) - np.repeat(np.cumsum(partners) - partners, partners)
    level = np.repeat(np.repeat(np.arange(l), lengths), partners)
    products = values[first][:, :, None] * values[second][:, None, :]
    rows = np.repeat(columns[first].astype(np.int64) * q + columns[second], k * k)
    cols = (level[:, None] * (k * k) + np.arange(k * k)).ravel()
    return coo_matrix((products.ravel(), (rows, cols)), shape=(q * q, l * k * k)).tocsr()


def _block_rows(R: csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray, Floats]:
    """Columns met by each block of ``k`` rows, where each block starts, and their values (., k)."""
    if k == 1:
        return R.indices, R.indptr, R.data[:, None]
    l = R.shape[0] // k  # noqa: E741
    coo = R.tocoo()
    key = (coo.row // k).astype(np.int64) * R.shape[1] + coo.col
    present, index = np.unique(key, return_inverse=True)
    values = np.zeros((len(present), k))
    values[index, coo.row % k] = coo.data
    level, columns = np.divmod(present, R.shape[1])
    return columns, np.searchsorted(level, np.arange(l + 1)), values
