"""Where the numbers of cross-products go in a solver's blocks: laid out once, filled again.

Which levels meet depends on codes alone.  Blocks are therefore laid out from cross-products whose
cells hold, in place of each number, its position in one long vector of all numbers
(:func:`located`); to fill a block is then to take these positions from the vector
(:func:`numbers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from interlace.sums.crossprod import Cells, CrossProducts
from interlace.sums.terms import Floats

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Sparse:
    """A sparse matrix whose entries are the numbers at ``positions``."""

    positions: Index
    indices: NDArray[np.integer]
    starts: NDArray[np.integer]
    shape: tuple[int, int]

    def filled(self, numbers: Floats) -> csr_matrix:
        """The matrix of some numbers."""
        return csr_matrix((numbers[self.positions], self.indices, self.starts), shape=self.shape)


@dataclass(frozen=True, eq=False)
class Dense:
    """A full matrix in which some blocks are the numbers at ``positions`` (c, k_i, k_j)."""

    positions: Index
    rows: NDArray[np.integer]
    cols: NDArray[np.integer]
    shape: tuple[int, int]

    def filled(self, numbers: Floats) -> Floats:
        """The matrix of some numbers."""
        _, k_i, k_j = self.positions.shape
        full = np.zeros(self.shape)
        blocks = full.reshape(self.shape[0] // k_i, k_i, self.shape[1] // k_j, k_j)
        blocks[self.rows, :, self.cols] = numbers[self.positions]
        return full


def same_pairs(laid_out: CrossProducts, A: CrossProducts) -> bool:
    """Whether both have the same terms and fixed effects, and the same pairs of levels occur."""
    shapes = [[(t.l, t.k) for t in sums.terms] for sums in (laid_out, A)]
    return (
        laid_out.p == A.p
        and shapes[0] == shapes[1]
        and all(
            _equal(old.rows, A.cells[pair].rows) and _equal(old.cols, A.cells[pair].cols)
            for pair, old in laid_out.cells.items()
        )
    )


def check_pairs(laid_out: CrossProducts, A: CrossProducts) -> None:
    """Refuse cross-products at other pairs of levels than those that were laid out."""
    if not same_pairs(laid_out, A):
        raise ValueError("the terms meet at other pairs of levels than those laid out")


def _equal(a: NDArray[np.integer], b: NDArray[np.integer]) -> bool:
    """Whether two lists of levels are the same, most often because they are one."""
    return a is b or np.array_equal(a, b)


def located(cells: Mapping[tuple[int, int], Cells]) -> dict[tuple[int, int], Cells]:
    """The same cells with positions among :func:`numbers` for values; position 0 is a zero."""
    found, start = {}, 1
    for pair, part in cells.items():
        end = start + part.values.size
        positions = np.arange(start, end, dtype=np.float64).reshape(part.values.shape)
        found[pair] = replace(part, values=positions)
        start = end
    return found


def numbers(A: CrossProducts) -> Floats:
    """All numbers in the cells after a zero, in the order of :func:`located`."""
    return np.concatenate([np.zeros(1), *(part.values.ravel() for part in A.cells.values())])


def positions_of(values: Floats) -> Index:
    """Positions that were carried along as values."""
    return values.astype(np.intp)


def sparse_places(matrix: csr_matrix) -> Sparse:
    """Places of a matrix of positions."""
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    return Sparse(positions_of(matrix.data), matrix.indices, matrix.indptr, shape)
