"""Blocks of a sparse ``Z_i' Z_j``: pairs of levels that occur in rows, and sums of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from interlace.sums.terms import Floats

Codes = NDArray[np.integer]
Pair = tuple[Codes, Codes]

# Largest table of all pairs of levels that is counted in full.
_TABLE = 1 << 26
# Blocks of cells merged at a time.
_MERGED = 1 << 22


@dataclass(frozen=True, eq=False)
class Cells:
    """Nonzero blocks of one ``Z_i' Z_j``: ``values[c]`` (k_i x k_j) at levels ``rows[c], cols[c]``.

    Sorted by row, then column; every pair of levels occurs at most once.  ``rows`` and ``cols`` may
    be ``int32``.
    """

    rows: Codes
    cols: Codes
    values: Floats

    def transpose(self) -> Cells:
        """The same blocks as ``Z_j' Z_i``."""
        return self.reordered(self.by_column)

    @property
    def by_column(self) -> Codes:
        """Order of the blocks by column, then by row: that of the transpose."""
        return np.argsort(self.cols, kind="stable")

    def reordered(self, order: Codes) -> Cells:
        """The transpose, for the ``order`` of :attr:`by_column`."""
        return Cells(self.cols[order], self.rows[order], self.values[order].transpose(0, 2, 1))

    def turned(self, left: Floats, right: Floats) -> Cells:
        """The blocks ``left' values right``."""
        if left.size == right.size == 1:
            factor = left[0, 0] * right[0, 0]
            return self if factor == 1.0 else replace(self, values=self.values * factor)
        return replace(self, values=left.T @ self.values @ right)


def add_cells(runs: Sequence[Cells]) -> Cells:
    """Blocks of all, those at the same pair of levels added.

    Blocks are merged a range of rows at a time, so that little more than the sum is needed in
    memory beside the summands.
    """
    if len(runs) == 1:
        return runs[0]
    width = 1 + max(int(run.cols.max(initial=0)) for run in runs)
    size = sum(len(run.rows) for run in runs)
    shape = runs[0].values.shape[1:]
    index = np.result_type(*(run.rows for run in runs), *(run.cols for run in runs))
    rows, cols = np.empty(size, index), np.empty(size, index)
    values = np.empty((size, *shape))
    done = 0
    for bounds in _row_ranges(runs, size):
        present, sums = _merged(runs, bounds, width)
        new = slice(done, done + len(present))
        np.floor_divide(present, width, out=rows[new], casting="unsafe")
        np.remainder(present, width, out=cols[new], casting="unsafe")
        values[new] = sums
        done = new.stop
    if 2 * done > size:
        for array, length in ((rows, (done,)), (cols, (done,)), (values, (done, *shape))):
            array.resize(length, refcheck=False)  # gives memory back without a copy
        return Cells(rows, cols, values)
    return Cells(rows[:done].copy(), cols[:done].copy(), values[:done].copy())


def _row_ranges(runs: Sequence[Cells], size: int) -> list[list[slice]]:
    """Per range of rows its slice of every run; ranges of about equally many blocks."""
    pieces = 1 + size // _MERGED
    longest = max(runs, key=lambda run: len(run.rows)).rows
    at = np.linspace(0, len(longest), pieces + 1).astype(np.intp)[1:-1]
    limits = np.unique(longest[at])
    ends = [np.searchsorted(run.rows, limits) for run in runs]
    edges = [np.concatenate(([0], e, [len(r.rows)])) for e, r in zip(ends, runs, strict=True)]
    return [[slice(int(e[i]), int(e[i + 1])) for e in edges] for i in range(len(limits) + 1)]


def _merged(
    runs: Sequence[Cells], bounds: Sequence[slice], width: int
) -> tuple[NDArray[np.int64], Floats]:
    """Sorted numbers of the pairs of levels in a slice of every run, and their sums."""
    parts = [(run, part) for run, part in zip(runs, bounds, strict=True) if part.stop > part.start]
    if not parts:
        return np.empty(0, np.int64), np.empty((0, *runs[0].values.shape[1:]))
    keys = np.concatenate(
        [run.rows[part].astype(np.int64) * width + run.cols[part] for run, part in parts]
    )
    values = np.concatenate([run.values[part] for run, part in parts])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[first], np.add.reduceat(values[order], first, axis=0)


# ------------------------------------------------------------------ pairs of levels in rows


def narrow(codes: Codes) -> Codes:
    """The same codes in half the memory, if they are small enough."""
    return codes.astype(_index_type(int(codes.max(initial=0)) + 1), copy=False)


def counted_pairs(codes: Pair, shape: tuple[int, int]) -> tuple[Codes, Codes, Codes]:
    """Pairs of codes that occur, sorted, and how often each does."""
    n = len(codes[0])
    if _tabulable(n, shape):
        table = np.bincount(_keys(codes, shape), minlength=shape[0] * shape[1])
        present = np.flatnonzero(table)
        return *_unravelled(present, shape), table[present]
    pairs = _sorted_pairs(np.ones(n, _index_type(n)), codes, shape)
    pairs.sum_duplicates()
    levels = np.arange(shape[0], dtype=_index_type(max(shape)))
    return np.repeat(levels, np.diff(pairs.indptr)), pairs.indices, pairs.data


def indexed_pairs(codes: Pair, shape: tuple[int, int]) -> tuple[Codes, Codes, Codes]:
    """Pairs of codes that occur, sorted, and the position among them of every row's pair."""
    n = len(codes[0])
    if _tabulable(n, shape):
        keys = _keys(codes, shape)
        occurs = np.zeros(shape[0] * shape[1], dtype=bool)
        occurs[keys] = True
        return *_unravelled(np.flatnonzero(occurs), shape), (np.cumsum(occurs) - 1)[keys]
    pairs = _sorted_pairs(np.arange(n, dtype=_index_type(n)), codes, shape)
    new = np.empty(n + 1, dtype=bool)
    np.not_equal(pairs.indices[1:], pairs.indices[:-1], out=new[1:n])
    new[pairs.indptr[:-1]] = True  # also where a level without rows would start
    new[n] = False
    index = np.empty(n, dtype=np.intp)
    numbers = np.cumsum(new)
    index[pairs.data] = numbers[:n] - 1
    levels = np.arange(shape[0], dtype=_index_type(max(shape)))
    counts = np.diff(numbers[pairs.indptr] - new[pairs.indptr])
    return np.repeat(levels, counts), pairs.indices[new[:n]], index


def _tabulable(n: int, shape: tuple[int, int]) -> bool:
    """Whether a table of all pairs is no larger than what sorting ``n`` rows would take."""
    return shape[0] * shape[1] <= max(min(4 * n, _TABLE), 1 << 20)


def _keys(codes: Pair, shape: tuple[int, int]) -> Codes:
    """Number of each pair of codes in the table of all pairs."""
    keys = codes[0].astype(np.int64)
    keys *= shape[1]
    keys += codes[1]
    return keys


def _unravelled(keys: Codes, shape: tuple[int, int]) -> tuple[Codes, Codes]:
    """Pairs of codes of these numbers."""
    rows, cols = np.divmod(keys, shape[1])
    narrow = _index_type(max(shape))
    return rows.astype(narrow), cols.astype(narrow)


def _index_type(size: int) -> type[np.int32 | np.int64]:
    """Integers that count up to ``size``, in as little memory as will do."""
    return np.int32 if size < 2**31 else np.int64


def _sorted_pairs(data: Codes, codes: Pair, shape: tuple[int, int]) -> csr_array:
    """Rows' ``data`` sorted by their pairs of codes, repeats kept, in two passes of counting.

    Twice transposing a sparse matrix is a stable radix sort: by the second code, then by the first.
    """
    narrow = _index_type(max(shape))
    first: Codes = codes[0].astype(narrow, copy=False)
    second: Codes = codes[1].astype(narrow, copy=False)
    pairs = coo_array((data, (second, first)), shape=shape[::-1])
    pairs.has_canonical_format = True  # keeps scipy from sorting and adding between the passes
    return csr_array(pairs.tocsr().T.tocsr())
