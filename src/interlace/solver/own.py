"""Rows that the equations were made of, against their inverse: laid out once, for many weights.

With the fixed effects given, the form ``z'C~z`` of a row needs ``C~`` among the levels that the row
meets.  With one eliminated term, of blocks ``K`` and rows ``R`` against the remainder, it is

``z'C_ss z - 2 z'K (R C) w + w'C w``,

where ``C_ss`` are the diagonal blocks of ``C~`` of the eliminated term, ``C`` that of the remainder
and ``w`` the row's entries there.  ``R C`` is needed where ``R`` has entries, which are pairs of
entries of one level: those that a sparse tail has listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from interlace.solver.blocks import multiply
from interlace.solver.exact import Factor
from interlace.solver.places import numbers
from interlace.solver.plan import Plan
from interlace.solver.rows import dense_entries, quadratic_forms
from interlace.solver.tails import DenseTail, TailPattern, pieces
from interlace.sums.crossprod import Codes
from interlace.sums.rows import WorkingRows
from interlace.sums.terms import Floats

# Rows at a time that are gathered from levels.
_ROWS = 1 << 15


@dataclass(frozen=True, eq=False)
class OwnRows:
    """Rows of a model, and where they meet in its equations.

    ``plan`` is that of the equations at any weights.
    """

    rows: WorkingRows
    plan: Plan

    @cached_property
    def index(self) -> Codes:
        """Places in the remainder of every row's entries of the dense terms, ``(n, s)``."""
        return dense_entries(self.plan, self.rows, np.arange(len(self.rows.X)))[0]

    @cached_property
    def entries(self) -> Codes:
        """Position among the entries of the sparse tail of :attr:`index`, ``(n, s)``."""
        (s,) = self.plan.chain
        tail = self.plan.pattern.tails[s]
        q = self.plan.q_dense
        keys = np.repeat(np.arange(len(tail.starts) - 1), np.diff(tail.starts)) * q + tail.columns
        return np.searchsorted(keys, self.rows.codes[s][:, None] * q + self.index)

    def forms(self, factor: Factor, C: Floats, blocks: Floats) -> Floats:
        """``z'C~z`` of every row, the fixed effects given, ``(n,)``.

        Parameters
        ----------
        factor
            The equations, of this plan.
        C
            ``C~`` on the remainder, fixed effects given; its upper triangle counts.
        blocks
            Diagonal blocks of ``C~`` of the first eliminated term.
        """
        plan, rows = self.plan, self.rows
        if len(plan.chain) > 1:
            return quadratic_forms(factor, rows, fixed=False)
        (s,) = plan.chain
        met = _met(factor, s, C) if plan.dense else None
        total = np.empty(len(rows.X))
        for part in _row_pieces(len(total)):
            z, codes = rows.Z[s][part], rows.codes[s][part]
            total[part] = _squared(z, blocks, codes)
            if met is None:
                continue
            index = self.index[part]
            w = np.concatenate([rows.Z[j][part] for j in plan.dense], axis=1)
            own = met[self.entries[part]] if s in plan.pattern.tails else met[codes[:, None], index]
            total[part] -= 2.0 * np.einsum("rk,rsk,rs->r", z, own, w)
            for a in range(w.shape[1]):
                for b in range(a, w.shape[1]):
                    twice = 1.0 if a == b else 2.0
                    total[part] += twice * w[:, a] * w[:, b] * C[index[:, a], index[:, b]]
        return np.maximum(total, 0.0)  # rounding can leave a zero slightly negative


def _met(factor: Factor, s: int, C: Floats) -> Floats:
    """``K R C`` of the eliminated term: at the entries of a sparse tail (e, k), else (l, m, k)."""
    K, tail = factor.steps[s].K, factor.steps[s].tail
    if isinstance(tail, DenseTail):
        return np.ascontiguousarray(multiply(K, tail.apply(C)).transpose(0, 2, 1))
    pattern = factor.plan.pattern.tails[s]
    RC = _on_entries(pattern, numbers(factor.A)[pattern.entries], C)
    levels = np.repeat(np.arange(len(K)), np.diff(pattern.starts))
    if RC.shape[1] == 1:
        return np.asarray(RC * K[levels, 0])
    return np.asarray(np.einsum("eij,ej->ei", K[levels], RC))


def _on_entries(pattern: TailPattern, values: Floats, C: Floats) -> Floats:
    """``R C`` at the entries of ``R``, whose values are ``(e, k)``: ``(e, k)``.

    An entry meets itself and those of its level before and after it; each pair is listed once.
    """
    total = np.zeros_like(values)
    flat, partners = C.ravel(), pattern.partners
    for part, out in pieces(partners):
        count, second = partners[part], pattern.second[out]
        among = flat[pattern.pairs[out]]
        last = int(second.max()) + 1
        first = np.repeat(np.arange(part.start, part.stop), count)
        starts = np.cumsum(count) - count
        for i in range(values.shape[1]):
            column = values[:, i]
            total[part, i] += np.add.reduceat(among * column[second], starts)
            among_first = among * column[first]
            among_first[starts] = 0.0
            total[part.start : last, i] += np.bincount(
                second - part.start, weights=among_first, minlength=last - part.start
            )
    return total


def _squared(z: Floats, blocks: Floats, codes: Codes) -> Floats:
    """``z'Bz`` of every row, for the block ``B`` of its level."""
    if z.shape[1] == 1:
        return np.asarray(blocks[:, 0, 0][codes] * z[:, 0] ** 2)
    return np.asarray(np.einsum("rk,rkl,rl->r", z, blocks[codes], z))


def _row_pieces(n: int) -> Iterator[slice]:
    """Slices of rows that stay in the cache."""
    for a, b in pairwise([*range(0, n, _ROWS), n]):
        yield slice(a, b)
