"""What the iterative solver needs of the cross-products before any template is known.

The *chain* (the largest terms nested in one another) is eliminated level by level; what is left,
the *rest*, is never formed: its cross-products stay sparse.  Eliminating a level of the chain
couples only levels that its rows met, so a term in which it is nested gets no new nonzeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlace.machine.threads import blas_threads
from interlace.solver.blocks import multiply
from interlace.solver.pieces import Rows, rows_of
from interlace.solver.plan import Link, between, chain_with_most
from interlace.sums.crossprod import Cells, CrossProducts, group_sums
from interlace.sums.terms import Floats

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Layout:
    """Order of elimination and sparse blocks.

    Attributes
    ----------
    chain, rest
        Terms eliminated by level, in order, and all others.
    sizes
        Effects of every term of the rest.
    links
        ``links[s, t]`` couples chain term ``s`` with the later chain term ``t``.
    cells
        ``cells[s, j]``: ``Z_s' Z_j`` of chain term ``s`` with term ``j`` of the rest.
    rows
        The same as sparse rows, ready for products.
    places
        ``places[s, t, j]``: cell of ``(t, j)`` to which each cell of ``(s, j)`` adds.
    cross
        ``cross[i]``: rows of term ``i`` of the rest against the later ones.
    """

    chain: tuple[int, ...]
    rest: tuple[int, ...]
    sizes: Mapping[int, int]
    links: Mapping[tuple[int, int], Link]
    cells: Mapping[tuple[int, int], Cells]
    rows: dict[int, Rows]
    places: Mapping[tuple[int, int, int], Index]
    cross: dict[int, Rows]
    threads: int

    @property
    def q(self) -> int:
        """Effects of the rest."""
        return sum(self.sizes.values())

    def split(self, v: Floats) -> dict[int, Floats]:
        """Rows of ``v`` (q, c) by term of the rest."""
        found, start = {}, 0
        for j, size in self.sizes.items():
            found[j] = v[start : start + size]
            start += size
        return found

    def join(self, parts: Mapping[int, Floats], c: int) -> Floats:
        """One array ``(q, c)`` from rows by term of the rest."""
        blocks = [parts[j] for j in self.rest]
        return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros((0, c)), *blocks])

    def gram(self, A: CrossProducts, H: Sequence[Floats]) -> list[Floats]:
        """``Z'Z H`` of every term, for ``H`` (l, k, c) a term."""
        c = H[0].shape[2]
        total = [multiply(zz, h) for zz, h in zip(A.zz, H, strict=True)]
        flat = {j: h.reshape(-1, c) for j, h in enumerate(H)}
        for s, rows in (self.rows | self.cross).items():
            if not rows.q:
                continue
            total[s] = total[s] + rows.apply({j: flat[j] for j in rows.q})
            for j, back in rows.adjoint(H[s]).items():
                total[j] = total[j] + back.reshape(total[j].shape)
        for (s, t), link in self.links.items():
            total[s] = total[s] + multiply(link.R, H[t][link.parents])
            share = multiply(np.ascontiguousarray(link.R.transpose(0, 2, 1)), H[s])
            summed = group_sums(link.parents, len(H[t]), share.reshape(len(share), -1))
            total[t] = total[t] + summed.reshape(total[t].shape)
        return total


def make_layout(A: CrossProducts) -> Layout:
    """Lay out the sparse blocks of a model."""
    chain = chain_with_most(A)
    rest = tuple(j for j in range(len(A.terms)) if j not in chain)
    threads = blas_threads()
    cells = {(s, j): between(A, s, j) for s in chain for j in rest}
    return Layout(
        chain=chain,
        rest=rest,
        sizes={j: A.terms[j].q for j in rest},
        links={
            (s, t): Link(parents.cols, parents.values)
            for i, s in enumerate(chain)
            for t in chain[i + 1 :]
            for parents in [between(A, s, t)]
        },
        cells=cells,
        rows={s: sparse_rows(A, s, {j: cells[s, j] for j in rest}, threads) for s in chain},
        places={
            (s, t, j): _places(cells[s, j], cells[t, j], between(A, s, t).cols, A.terms[j].l)
            for i, s in enumerate(chain)
            for t in chain[i + 1 :]
            for j in rest
        },
        cross={
            i: sparse_rows(A, i, {j: between(A, i, j) for j in rest[at + 1 :]}, threads)
            for at, i in enumerate(rest[:-1])
        },
        threads=threads,
    )


def sparse_rows(A: CrossProducts, s: int, cells: Mapping[int, Cells], threads: int) -> Rows:
    """Rows of term ``s`` against other terms."""
    sized = {j: (part, A.terms[j].l) for j, part in cells.items()}
    return rows_of(A.terms[s].l, A.terms[s].k, sized, threads)


def _places(
    child: Cells, parent: Cells, parents: Sequence[int] | NDArray[np.integer], l: int
) -> Index:
    """Cell of the parent's level that meets the same level as each cell of the child's."""
    at = np.asarray(parents, dtype=np.int64)[child.rows] * l + child.cols
    keys = parent.rows.astype(np.int64) * l + parent.cols
    return np.searchsorted(keys, at)
