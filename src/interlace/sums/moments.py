"""Means over rows, each counted once: what shares of variance and sequential tests need of rows.

The cross-products weigh every row by its prior weight, and hold no sums of the columns where no
column is constant.  Sums that stand for rows which nobody holds carry these beside them, in the
same working basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interlace.sums.columns import Block, Pool
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums of products of ``[1 V]`` (p + 2 columns) and of ``[1 Z_j]`` (k_j + 1), unweighted."""

    fixed: Floats
    random: tuple[Floats, ...]

    def turned(self, F: Floats, B: Sequence[Floats]) -> Moments:
        """Those of the columns times maps."""
        pairs = zip(self.random, B, strict=True)
        return Moments(_turned(self.fixed, F), tuple(_turned(block, b) for block, b in pairs))

    def plus(self, other: Moments, sign: float) -> Moments:
        """Those of the rows of both, or of one without the other's."""
        pairs = zip(self.random, other.random, strict=True)
        return Moments(
            self.fixed + sign * other.fixed, tuple(one + sign * two for one, two in pairs)
        )

    def of_terms(self, order: Sequence[int]) -> Moments:
        """Those of some terms, in another order."""
        return Moments(self.fixed, tuple(self.random[j] for j in order))


def moments_of(pool: Pool, fixed: Block, random: Sequence[Block]) -> Moments:
    """Moments of the columns that blocks of a pool stand for."""
    return Moments(_squared(pool, fixed), tuple(_squared(pool, block) for block in random))


def _squared(pool: Pool, block: Block) -> Floats:
    """``[1 M]'[1 M]`` of the columns of a block, without the roots of weights."""
    columns = pool.rows(block.index)
    if pool.root is not None:
        columns = columns / pool.root[:, None]
    columns = columns @ block.finish
    sums = columns.sum(axis=0)
    return np.block(
        [[np.array([[float(pool.n)]]), sums[None]], [sums[:, None], columns.T @ columns]]
    )


def _turned(moments: Floats, map_: Floats) -> Floats:
    """``[1 M]'[1 M]`` to that of ``M map``."""
    m, k = map_.shape
    whole = np.zeros((m + 1, k + 1))
    whole[0, 0] = 1.0
    whole[1:, 1:] = map_
    return np.asarray(whole.T @ moments @ whole, dtype=np.float64)


def covariance(moments: Floats) -> Floats:
    """Sample covariance matrix of the columns behind moments (``n - 1`` in the denominator)."""
    n, sums = moments[0, 0], moments[0, 1:]
    return np.asarray((moments[1:, 1:] - np.outer(sums, sums) / n) / (n - 1.0), dtype=np.float64)
