"""What the iterative solver needs of the cross-products before any template is known.

The *chain* (the largest terms nested in one another) is eliminated level by level; what is left,
the *rest*, is never formed: its cross-products stay sparse.  Eliminating a level of the chain
couples only levels that its rows met, so a term in which it is nested gets no new nonzeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from interlace.machine.threads import blas_threads
from interlace.solver.blocks import multiply
from interlace.solver.pieces import SlicedRows, rows_of
from interlace.solver.places import check_pairs
from interlace.solver.plan import Link, chain_with_most
from interlace.sums.crossprod import Cells, Codes, CrossProducts, group_sums
from interlace.sums.terms import Floats

Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Layout:
    """Order of elimination and sparse blocks.

    Attributes
    ----------
    A
        The cross-products.
    chain, rest
        Terms eliminated by level, in order, and all others.
    sizes
        Effects of every term of the rest.
    turned
        ``turned[i, j]`` of terms ``i > j`` that are needed so: the order of ``Z_j' Z_i``'s cells.
    links
        ``links[s, t]`` couples chain term ``s`` with the later chain term ``t``.
    cells
        ``cells[i, j]``: ``Z_i' Z_j`` of a term with a later one of the rest.
    rows
        The same as sparse rows, ready for products.
    places
        ``places[s, t, j]``: cell of ``(t, j)`` to which each cell of ``(s, j)`` adds.
    cross
        ``cross[i]``: rows of term ``i`` of the rest against the later ones.
    """

    A: CrossProducts
    chain: tuple[int, ...]
    rest: tuple[int, ...]
    sizes: Mapping[int, int]
    turned: Mapping[tuple[int, int], Codes]
    links: Mapping[tuple[int, int], Link]
    cells: Mapping[tuple[int, int], Cells]
    rows: dict[int, SlicedRows]
    places: Mapping[tuple[int, int, int], Index]
    cross: dict[int, SlicedRows]
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
    turned = {(i, j): A.cells[j, i].by_column for i, j in _needed(chain, rest) if i > j}
    links, cells = _blocks(A, chain, rest, turned)
    threads = blas_threads()
    return Layout(
        A=A,
        chain=chain,
        rest=rest,
        sizes={j: A.terms[j].q for j in rest},
        turned=turned,
        links=links,
        cells=cells,
        rows={s: sparse_rows(A, s, {j: cells[s, j] for j in rest}, threads) for s in chain},
        places={
            (s, t, j): _places(cells[s, j], cells[t, j], links[s, t].parents, A.terms[j].l)
            for i, s in enumerate(chain)
            for t in chain[i + 1 :]
            for j in rest
        },
        cross={
            i: sparse_rows(A, i, {j: cells[i, j] for j in rest[at + 1 :]}, threads)
            for at, i in enumerate(rest[:-1])
        },
        threads=threads,
    )


def relay(layout: Layout, A: CrossProducts) -> Layout:
    """The layout with the numbers of other cross-products at the same pairs of levels.

    Raises
    ------
    ValueError
        The pairs of levels that occur are others.
    """
    check_pairs(layout.A, A)
    chain, rest = layout.chain, layout.rest
    links, cells = _blocks(A, chain, rest, layout.turned)
    return replace(
        layout,
        A=A,
        links=links,
        cells=cells,
        rows={s: old.filled({j: cells[s, j] for j in rest}) for s, old in layout.rows.items()},
        cross={i: old.filled({j: cells[i, j] for j in old.q}) for i, old in layout.cross.items()},
    )


def respond(layout: Layout, A: CrossProducts) -> Layout:
    """The layout for cross-products that differ in the response alone."""
    return replace(layout, A=A)


def _needed(chain: tuple[int, ...], rest: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pairs of terms whose cross-products are needed: ``Z_i' Z_j`` in this order."""
    order = (*chain, *rest)
    return [(i, j) for at, i in enumerate(order) for j in order[at + 1 :]]


def _blocks(
    A: CrossProducts,
    chain: tuple[int, ...],
    rest: tuple[int, ...],
    turned: Mapping[tuple[int, int], Codes],
) -> tuple[dict[tuple[int, int], Link], dict[tuple[int, int], Cells]]:
    """Links of the chain, and cells of all other pairs, in the order in which they are needed."""
    links, cells = {}, {}
    for i, j in _needed(chain, rest):
        block = A.cells[i, j] if i < j else A.cells[j, i].reordered(turned[i, j])
        if j in chain:
            links[i, j] = Link(block.cols, block.values)
        else:
            cells[i, j] = block
    return links, cells


def sparse_rows(A: CrossProducts, s: int, cells: Mapping[int, Cells], threads: int) -> SlicedRows:
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
