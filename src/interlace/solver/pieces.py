"""Sparse matrices cut by rows into pieces that are worked on by several threads.

A piece is read once for ``K R v`` and ``R' w`` together while it is in the cache.  There are as
many threads as the linear algebra of numpy may use, so that whoever pins that (with
``OPENBLAS_NUM_THREADS``, or threadpoolctl) pins this too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from interlace.solver.blocks import multiply
from interlace.sums.crossprod import Cells
from interlace.sums.terms import Floats

Codes = NDArray[np.integer]
Task = TypeVar("Task")
Result = TypeVar("Result")

# Nonzeros of a piece, at least, and per row of the vectors that it adds to.
_NONZEROS, _PER_ROW = 500_000, 16


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="interlace")


def each(run: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> Iterable[Result]:
    """``run(task)`` for every task, in threads where there are several of both."""
    several = min(threads, len(tasks)) > 1
    return _pool(threads).map(run, tasks) if several else map(run, tasks)


@dataclass(frozen=True, eq=False)
class Piece:
    """Levels ``start`` to ``stop`` of an eliminated term: their rows against each other term."""

    start: int
    stop: int
    blocks: Mapping[int, csr_matrix]


@dataclass(frozen=True, eq=False)
class SlicedRows:
    """``Z_s' Z_j`` of one term ``s``, ``k`` columns a level, against terms ``j`` of sizes ``q``.

    ``orders`` are those of :func:`row_order`, with which other numbers are filled in.
    """

    l: int
    k: int
    q: Mapping[int, int]
    pieces: tuple[Piece, ...]
    orders: Mapping[int, Codes | None]
    threads: int

    def filled(self, cells: Mapping[int, Cells]) -> SlicedRows:
        """The same pieces with the numbers of other cells at the same pairs of levels."""
        flat = {j: _row_values(part, self.orders[j]) for j, part in cells.items()}
        start, pieces = dict.fromkeys(flat, 0), []
        for piece in self.pieces:
            blocks = {}
            for j, block in piece.blocks.items():
                part = flat[j][start[j] : start[j] + block.nnz]
                blocks[j] = csr_matrix((part, block.indices, block.indptr), shape=block.shape)
                start[j] += block.nnz
            pieces.append(replace(piece, blocks=blocks))
        return replace(self, pieces=tuple(pieces))

    def apply(self, v: Mapping[int, Floats]) -> Floats:
        """``sum over j of R_j v_j``, ``(l, k, c)``."""
        c = next(iter(v.values())).shape[1]
        total = np.empty((self.l, self.k, c))

        def one(piece: Piece) -> None:
            total[piece.start : piece.stop] = self._times(piece, v)

        for _ in each(one, self.pieces, self.threads):
            pass
        return total

    def adjoint(self, w: Floats) -> dict[int, Floats]:
        """``R_j' w`` for every ``j``; ``w`` (l, k, c)."""

        def one(piece: Piece) -> dict[int, Floats]:
            return self._back(piece, w[piece.start : piece.stop])

        return self._added(each(one, self.pieces, self.threads), w.shape[2])

    def sandwich(self, K: Floats, v: Mapping[int, Floats]) -> dict[int, Floats]:
        """``R_j' K R v`` for every ``j``; ``K`` (l, k, k)."""
        c = next(iter(v.values())).shape[1]

        def one(piece: Piece) -> dict[int, Floats]:
            return self._back(piece, multiply(K[piece.start : piece.stop], self._times(piece, v)))

        return self._added(each(one, self.pieces, self.threads), c)

    def _times(self, piece: Piece, v: Mapping[int, Floats]) -> Floats:
        parts = [block @ v[j] for j, block in piece.blocks.items()]
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total.reshape(piece.stop - piece.start, self.k, -1)

    def _back(self, piece: Piece, w: Floats) -> dict[int, Floats]:
        flat = w.reshape(-1, w.shape[2])
        return {j: block.T @ flat for j, block in piece.blocks.items()}

    def _added(self, parts: Iterable[dict[int, Floats]], c: int) -> dict[int, Floats]:
        """Sum of the pieces, in their order, so that threads do not change the rounding."""
        total = {j: np.zeros((q, c)) for j, q in self.q.items()}
        for part in parts:
            for j, block in part.items():
                total[j] += block
        return total


def rows_of(l: int, k: int, cells: Mapping[int, tuple[Cells, int]], threads: int) -> SlicedRows:
    """Rows of one term from its cells with each other term, and the number of levels of that."""
    orders = {j: row_order(part, l) for j, (part, _) in cells.items()}
    flat = {j: _flattened(part, orders[j], l, l_j) for j, (part, l_j) in cells.items()}
    sizes = {j: int(block.shape[1]) for j, block in flat.items()}
    pieces = [
        Piece(a, b, {j: some_rows(block, a * k, b * k) for j, block in flat.items()})
        for a, b in _cuts(l, k, flat)
    ]
    return SlicedRows(l, k, sizes, tuple(pieces), orders, threads)


def flatten(cells: Cells, l_i: int, l_j: int) -> csr_matrix:
    """``Z_i' Z_j`` as a sparse ``(l_i k_i, l_j k_j)`` matrix; shares memory where ``k = 1``."""
    return _flattened(cells, row_order(cells, l_i), l_i, l_j)


def row_order(cells: Cells, l: int) -> Codes | None:
    """Order of the rows of all blocks, column by column of the term, in which they are flattened.

    ``None`` if the term has one column, whose blocks are in order.
    """
    k = cells.values.shape[1]
    return None if k == 1 else _by_subrow(np.bincount(cells.rows, minlength=l), k)


def _row_values(cells: Cells, order: Codes | None) -> Floats:
    """Values of the flattened matrix, row by row."""
    c, k_i, k_j = cells.values.shape
    if order is None:
        return cells.values.reshape(-1)
    return cells.values.transpose(1, 0, 2).reshape(c * k_i, k_j)[order].reshape(-1)


def _flattened(cells: Cells, order: Codes | None, l_i: int, l_j: int) -> csr_matrix:
    """The flattened matrix, its rows in the order of :func:`row_order`."""
    c, k_i, k_j = cells.values.shape
    kind = _index_type(c * k_i * k_j)
    starts: Codes = np.searchsorted(cells.rows, np.arange(l_i + 1)).astype(kind)
    shape = (l_i * k_i, l_j * k_j)
    values = _row_values(cells, order)
    if k_i == k_j == 1:
        return _csr(values, cells.cols, starts, shape)
    columns = (cells.cols[:, None].astype(kind) * k_j + np.arange(k_j)).astype(kind)
    if order is not None:
        columns = np.broadcast_to(columns, (k_i, c, k_j)).reshape(c * k_i, k_j)[order]
    ends = np.cumsum(np.repeat(np.diff(starts) * k_j, k_i)).astype(kind)
    return _csr(values, columns.reshape(-1), np.append(starts[:1], ends), shape)


def _by_subrow(counts: Codes, k: int) -> Codes:
    """Order of ``k`` copies of the cells in which those of one level and copy are adjacent."""
    level = np.repeat(np.arange(len(counts)), counts)
    copies = [level * k + i for i in range(k)]
    return np.argsort(np.concatenate(copies), kind="stable")


def _csr(data: Floats, indices: Codes, starts: Codes, shape: tuple[int, int]) -> csr_matrix:
    """A matrix from its parts, without a copy where the types agree."""
    return csr_matrix((data, indices.astype(starts.dtype, copy=False), starts), shape=shape)


def _index_type(nonzeros: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if nonzeros < np.iinfo(np.int32).max else np.int64


def some_rows(block: csr_matrix, a: int, b: int) -> csr_matrix:
    """Rows ``a`` to ``b``; values and columns are shared."""
    low, high = int(block.indptr[a]), int(block.indptr[b])
    return csr_matrix(
        (block.data[low:high], block.indices[low:high], block.indptr[a : b + 1] - low),
        shape=(b - a, block.shape[1]),
    )


def _cuts(l: int, k: int, blocks: Mapping[int, csr_matrix]) -> Iterator[tuple[int, int]]:
    """Ranges of levels with about equally many nonzeros."""
    total = np.zeros(l + 1)
    for block in blocks.values():
        total += block.indptr[::k]
    width = sum(block.shape[1] for block in blocks.values())
    count = max(1, int(total[-1] // max(_NONZEROS, _PER_ROW * width)))
    if count == 1 and total[-1] > _NONZEROS / 4:
        count = 2
    marks = np.searchsorted(total, np.linspace(0.0, total[-1], count + 1)[1:-1])
    edges = np.unique(np.concatenate(([0], marks, [l])).astype(int)).tolist()
    yield from pairwise(edges)
