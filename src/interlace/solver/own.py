"""Rows that the equations were made of, against their inverse: laid out once, for many weights.

With the fixed effects given, the form ``z'C~z`` of a row needs ``C~`` among the levels that the row
meets.  With eliminated terms, of blocks ``K`` and rows ``R`` against what is left, it is

``sum of z_s'C_st z_t - 2 sum of z_s'K_s (R_s C~) w + w'C w``,

where ``C_st`` are the blocks of ``C~`` between eliminated levels and their parents, ``C`` that of
the remainder and ``w`` the row's entries there.  The reverse pass knows all of them, but ``R C`` of
sparse rows ``R``: it is needed where ``R`` has entries, which are pairs of entries of one level,
those that a sparse tail has listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from interlace.solver.exact import Factor
from interlace.solver.places import numbers
from interlace.solver.plan import Plan
from interlace.solver.reverse import Reverse
from interlace.solver.rows import dense_entries
from interlace.solver.tails import TailPattern, pieces
from interlace.sums.crossprod import Codes
from interlace.sums.rows import WorkingRows
from interlace.sums.terms import Floats

# Rows at a time that are gathered from levels.
_ROWS = 1 << 15


@dataclass(frozen=True, eq=False)
class OwnRows:
    """Rows of a model, and where they meet in its equations.

    ``plan`` is that of the equations at any weights; ``keys`` are found if they are not given.
    """

    rows: WorkingRows
    plan: Plan
    keys: dict[int, Codes] | None = None

    def on(self, rows: WorkingRows) -> OwnRows:
        """Other rows of the same model."""
        return OwnRows(rows, self.plan, self._keys)

    @cached_property
    def _keys(self) -> dict[int, Codes]:
        """Level and place in the remainder of every entry of a sparse tail, as one number."""
        if self.keys is not None:
            return self.keys
        q = self.plan.q_dense
        found: dict[int, Codes] = {}
        for s, tail in self.plan.pattern.tails.items():
            levels = np.arange(len(tail.starts) - 1)
            found[s] = np.repeat(levels, np.diff(tail.starts)) * q + tail.columns
        return found

    @cached_property
    def index(self) -> Codes:
        """Places in the remainder of every row's entries of the dense terms, ``(n, s)``."""
        return dense_entries(self.plan, self.rows, np.arange(len(self.rows.X)))[0]

    @cached_property
    def entries(self) -> Codes:
        """Position among the entries of the sparse tail of :attr:`index`, ``(n, s)``."""
        (s,) = self.plan.chain
        places = self.rows.codes[s][:, None] * self.plan.q_dense + self.index
        return np.searchsorted(self._keys[s], places)

    def on_tails(self, factor: Factor, C: Floats) -> dict[int, Floats]:
        """``R C`` at the entries of sparse tails: the part of :meth:`forms` that is not of rows."""
        tails = self.plan.pattern.tails if self.plan.dense else ()
        return {s: _on_tail(factor, s, C) for s in tails}

    def forms(
        self,
        factor: Factor,
        C: Floats,
        reverse: Reverse,
        tails: dict[int, Floats] | None = None,
    ) -> Floats:
        """``z'C~z`` of every row, the fixed effects given, ``(n,)``.

        Parameters
        ----------
        factor
            The equations, of this plan.
        C
            ``C~`` on the remainder, fixed effects given; its upper triangle counts.
        reverse
            What the reverse pass found with it.
        tails
            What :meth:`on_tails` gives, where it is known already.
        """
        total = np.empty(len(self.rows.X))
        sparse = self.on_tails(factor, C) if tails is None else tails
        for part in row_pieces(len(total)):
            total[part] = self._eliminated(part, reverse)
            if self.plan.dense:
                index = self.index[part]
                w = np.concatenate([self.rows.Z[j][part] for j in self.plan.dense], axis=1)
                for s in self.plan.chain:
                    if s in sparse:
                        own = sparse[s][self.entries[part]]
                    else:
                        own = self._at(s, reverse.met[s], part)
                    zK = rows_times(self.rows.Z[s][part], factor.steps[s].K, self._codes(s, part))
                    total[part] -= 2.0 * _contracted(zK, own, w)
                for a in range(w.shape[1]):
                    for b in range(a, w.shape[1]):
                        twice = 1.0 if a == b else 2.0
                        total[part] += twice * w[:, a] * w[:, b] * C[index[:, a], index[:, b]]
        return np.maximum(total, 0.0)  # rounding can leave a zero slightly negative

    def _codes(self, s: int, part: slice) -> Codes:
        """Levels of a term."""
        return self.rows.codes[s][part]

    def _eliminated(self, part: slice, reverse: Reverse) -> Floats:
        """The share of the eliminated terms: every row meets a level and its parents."""
        total = np.zeros(part.stop - part.start)
        for i, s in enumerate(self.plan.chain):
            codes, z = self._codes(s, part), self.rows.Z[s][part]
            total += dot(rows_times(z, reverse.blocks[s, s], codes), z)
            for t in self.plan.chain[i + 1 :]:
                zC = rows_times(z, reverse.blocks[s, t], codes)
                total += 2.0 * dot(zC, self.rows.Z[t][part])
        return total

    def _at(self, s: int, met: Floats, part: slice) -> Floats:
        """``R C~`` at the entries of every row, ``(r, s, k)``."""
        _, k, m = met.shape
        first = self._codes(s, part)[:, None] * (k * m) + self.index[part]
        flat = met.reshape(-1)
        return np.stack([flat.take(first + a * m) for a in range(k)], axis=2)


def rows_times(z: Floats, blocks: Floats, codes: Codes) -> Floats:
    """``z'B`` of every row, for the block ``B`` of its level: ``(r, j)``."""
    _, k, j = blocks.shape
    own = blocks.reshape(len(blocks), k * j).take(codes, axis=0)
    if k == 1:
        return np.asarray(own * z)
    columns = [sum(own[:, i * j + c] * z[:, i] for i in range(k)) for c in range(j)]
    return np.stack(columns, axis=1)


def dot(a: Floats, b: Floats) -> Floats:
    """``a'b`` of every row."""
    if a.shape[1] == 1:
        return np.asarray(a[:, 0] * b[:, 0])
    return np.asarray(np.einsum("rk,rk->r", a, b))


def _contracted(zK: Floats, own: Floats, w: Floats) -> Floats:
    """``zK' own' w`` of every row, for ``zK`` (r, k), ``own`` (r, s, k), ``w`` (r, s)."""
    total = np.zeros(len(w))
    for a in range(zK.shape[1]):
        total += zK[:, a] * dot(own[:, :, a], w)
    return total


def _on_tail(factor: Factor, s: int, C: Floats) -> Floats:
    """``R C`` of an eliminated term at the entries of its sparse tail, ``(e, k)``."""
    pattern = factor.plan.pattern.tails[s]
    return _on_entries(pattern, numbers(factor.A)[pattern.entries], C)


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


def row_pieces(n: int) -> Iterator[slice]:
    """Slices of rows that stay in the cache."""
    for a, b in pairwise([*range(0, n, _ROWS), n]):
        yield slice(a, b)
