"""The mixed-model equations after elimination of the chain, as an operator on the rest.

Notation of :mod:`interlace.solver.exact`.  With ``S`` the cross-products of the rest after
elimination, the equations are ``M u = Lambda' s`` with ``M = I + Lambda' S Lambda``.  They are
scaled to unit diagonal blocks: with ``D = L L'`` a block of ``M`` and ``G = T L^-T``,

``M~ = L^-1 M L^-T = L^-1 L^-T + G' S G``, and ``C~ = Lambda M^-1 Lambda' = G M~^-1 G'``.

``S`` is applied as ``Z'Z - R' K R``, never formed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from interlace.solver.blocks import congruence, multiply, spd_inverse
from interlace.solver.layout import Layout, sparse_rows
from interlace.solver.pieces import SlicedRows
from interlace.solver.plan import Link
from interlace.sums.crossprod import Cells, Codes, CrossProducts, group_sums
from interlace.sums.terms import Floats

# Cells worked on at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class Step:
    """One chain term after elimination: ``N, K`` (l, k, k), and its rows against what is left.

    ``fixed`` (l, k, p + 1) are those against ``[X y]``, ``cells`` and ``rows`` those against the
    rest, ``links`` those against the later chain terms.
    """

    N: Floats
    K: Floats
    fixed: Floats
    cells: Mapping[int, Cells]
    rows: SlicedRows
    links: Mapping[int, Link]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Per level of one term of the rest: ``L^-T``, ``G = T L^-T`` and the block of ``S``."""

    inverse: Floats
    G: Floats
    S: Floats


@dataclass(frozen=True, eq=False)
class Sides:
    """Right-hand sides after elimination.

    Those of the ``rest`` (q, c) and of ``X`` (p, c), their product in the inverse of the chain
    (c, c), and those of every ``chain`` term (l, k, c) when it was eliminated.
    """

    rest: Floats
    fixed: Floats
    within: Floats
    chain: Mapping[int, Floats]


@dataclass(frozen=True, eq=False)
class Reduced:
    """The equations of the rest at given templates.

    ``V`` (q, p + 1) and ``VV`` (p + 1, p + 1) are the cross-products of the rest with ``[X y]``,
    and of these, after elimination; ``logdet`` is that of the chain and of the scaling.
    """

    A: CrossProducts
    layout: Layout
    templates: tuple[Floats, ...]
    steps: Mapping[int, Step]
    scaling: Mapping[int, Scaling]
    V: Floats
    VV: Floats
    logdet: float

    def schur(self, v: Floats) -> Floats:
        """``S v`` for ``v`` (q, c)."""
        parts = self.layout.split(v)
        c = v.shape[1]
        if not v.size:
            return v
        found = {
            j: multiply(self.A.zz[j], self.blocks(j, part)).reshape(-1, c)
            for j, part in parts.items()
        }
        for i, rows in self.layout.cross.items():
            later = {j: parts[j] for j in rows.q}
            found[i] = found[i] + rows.apply(later).reshape(-1, c)
            for j, back in rows.adjoint(self.blocks(i, parts[i])).items():
                found[j] = found[j] + back
        for step in self.steps.values():
            for j, share in step.rows.sandwich(step.K, parts).items():
                found[j] -= share
        return self.layout.join(found, c)

    def scaled(self, v: Floats) -> Floats:
        """``M~ v``."""
        total = self.to_scaled(self.schur(self.to_effects(v)))
        for j, part in self.layout.split(v).items():
            half = self.scaling[j].inverse
            inner = multiply(half, self.blocks(j, part))
            total[self.slice(j)] += multiply(transposed(half), inner).reshape(part.shape)
        return total

    def to_effects(self, v: Floats) -> Floats:
        """``G v``: from the scaled equations to effects ``b``."""
        return self._each({j: s.G for j, s in self.scaling.items()}, v)

    def to_scaled(self, v: Floats) -> Floats:
        """``G' v``: from right-hand sides for ``b`` to those of the scaled equations."""
        return self._each({j: transposed(s.G) for j, s in self.scaling.items()}, v)

    def to_spherical(self, v: Floats) -> Floats:
        """``L^-T v``: from the scaled equations to spherical effects ``u``."""
        return self._each({j: s.inverse for j, s in self.scaling.items()}, v)

    def _each(self, blocks: Mapping[int, Floats], v: Floats) -> Floats:
        """Every level's block times its rows of ``v``."""
        total = np.empty_like(v)
        for j, part in self.layout.split(v).items():
            total[self.slice(j)] = multiply(blocks[j], self.blocks(j, part)).reshape(part.shape)
        return total

    def blocks(self, j: int, part: Floats) -> Floats:
        """Rows of one term as ``(l, k, c)``."""
        term = self.A.terms[j]
        return part.reshape(term.l, term.k, part.shape[1])

    def slice(self, j: int) -> slice:
        """Rows of term ``j`` in arrays over the rest."""
        before = sum(self.layout.sizes[i] for i in self.layout.rest[: self.layout.rest.index(j)])
        return slice(before, before + self.layout.sizes[j])

    def chain_images(
        self, v: Floats, fixed: Floats, given: Mapping[int, Floats] | None = None
    ) -> dict[int, tuple[Floats, Floats]]:
        """``b`` and ``e = Z'(fixed columns - Z b)`` of the chain terms, ``(l, k, c)`` each.

        ``v`` (q, c) holds ``-b`` of the rest, ``fixed`` (p + 1, c) the coefficients of ``[X y]``;
        ``given`` is added to the right-hand sides of the chain, after elimination.
        """
        found: dict[int, tuple[Floats, Floats]] = {}
        parts = self.layout.split(v)
        for s in reversed(self.layout.chain):
            step = self.steps[s]
            g = np.tensordot(step.fixed, fixed, axes=(2, 0))
            if given is not None:
                g += given[s]
            if parts:
                g += step.rows.apply(parts)
            for t, link in step.links.items():
                g -= multiply(link.R, found[t][0][link.parents])
            b = multiply(step.K, g)
            found[s] = b, g - multiply(step.N, b)
        return found

    def reduced_sides(self, random: Sequence[Floats], fixed: Floats) -> Sides:
        """Right-hand sides after elimination; ``random`` is ``(l, k, c)`` a term."""
        c = fixed.shape[1]
        within = np.zeros((c, c))
        now = dict(enumerate(random))
        for s in self.layout.chain:
            step = self.steps[s]
            Kr = multiply(step.K, now[s])
            within += np.tensordot(now[s], Kr, axes=((0, 1), (0, 1)))
            fixed = fixed - np.tensordot(step.fixed[:, :, :-1], Kr, axes=((0, 1), (0, 1)))
            if self.layout.rest:
                for j, share in step.rows.adjoint(Kr).items():
                    now[j] = now[j] - self.blocks(j, share)
            for t, link in step.links.items():
                share = multiply(transposed(link.R), Kr)
                now[t] = now[t] - scatter(link, share, self.A.terms[t].l)
        flat = {j: now[j].reshape(-1, c) for j in self.layout.rest}
        chain = {s: now[s] for s in self.layout.chain}
        return Sides(self.layout.join(flat, c), fixed, within, chain)


def reduce_equations(A: CrossProducts, layout: Layout, templates: Sequence[Floats]) -> Reduced:
    """Eliminate the chain at working templates, and scale what is left."""
    steps, V, VV, S, logdet = _eliminate(A, layout, templates)
    scaling: dict[int, Scaling] = {}
    for j in layout.rest:
        scaling[j], logs = _scaling(S[j], templates[j])
        logdet += logs
    return Reduced(A, layout, tuple(templates), steps, scaling, V, VV, logdet)


def _eliminate(
    A: CrossProducts, layout: Layout, templates: Sequence[Floats]
) -> tuple[dict[int, Step], Floats, Floats, dict[int, Floats], float]:
    """Steps of the chain, ``V``, ``VV``, diagonal blocks of ``S``, and the log determinant."""
    now = {
        s: Step(
            A.zz[s],
            A.zz[s],
            A.zv[s],
            {j: layout.cells[s, j] for j in layout.rest},
            layout.rows[s],
            {t: layout.links[s, t] for t in layout.chain[i + 1 :]},
        )
        for i, s in enumerate(layout.chain)
    }
    V = {j: A.zv[j].reshape(A.terms[j].q, -1) for j in layout.rest}
    VV = A.vv
    S = {j: A.zz[j] for j in layout.rest}
    logdet = 0.0
    for s in layout.chain:
        T = templates[s]
        inverse, logs = spd_inverse(congruence(now[s].N, T) + np.eye(len(T)))
        logdet += logs
        step = now[s] = replace(now[s], K=congruence(inverse, T.T))
        Kf = multiply(step.K, step.fixed)
        VV = VV - np.tensordot(step.fixed, Kf, axes=((0, 1), (0, 1)))
        if layout.rest:
            V = {j: V[j] - share for j, share in step.rows.adjoint(Kf).items()}
            S = {j: S[j] - sums_by_column(step.cells[j], step.K, A.terms[j].l) for j in S}
        for t, link in step.links.items():
            now[t] = _updated(A, layout, (s, t), step, now[t], link)
    return now, layout.join(V, A.p + 1), VV, S, logdet


def _updated(
    A: CrossProducts, layout: Layout, pair: tuple[int, int], step: Step, later: Step, link: Link
) -> Step:
    """A later chain term after elimination of one nested in it."""
    s, t = pair
    l = A.terms[t].l
    RK = multiply(transposed(link.R), step.K)
    cells = {
        j: replace(
            old,
            values=old.values
            - summed(layout.places[s, t, j], multiply(RK[new.rows], new.values), len(old.rows)),
        )
        for j, old in later.cells.items()
        for new in [step.cells[j]]
    }
    links = {
        u: Link(old.parents, old.R - scatter(link, multiply(RK, step.links[u].R), l))
        for u, old in later.links.items()
    }
    return replace(
        later,
        N=later.N - scatter(link, multiply(RK, link.R), l),
        fixed=later.fixed - scatter(link, multiply(RK, step.fixed), l),
        cells=cells,
        rows=sparse_rows(A, t, cells, layout.threads) if cells else later.rows,
        links=links,
    )


def _scaling(S: Floats, T: Floats) -> tuple[Scaling, float]:
    """Scaling of one term from the blocks of ``S`` (l, k, k), and the log determinant of ``D``."""
    D = congruence(S, T) + np.eye(len(T))
    if len(T) == 1:
        inverse = 1.0 / np.sqrt(D)
        return Scaling(inverse, inverse * float(T[0, 0]), S), float(np.log(D).sum())
    L = np.linalg.cholesky(0.5 * (D + transposed(D)))
    inverse = transposed(np.linalg.inv(L))
    logs = 2.0 * float(np.log(np.diagonal(L, axis1=1, axis2=2)).sum())
    return Scaling(inverse, np.matmul(T, inverse), S), logs


def sums_by_column(cells: Cells, K: Floats, l: int) -> Floats:
    """``sum over rows of R' K R`` for every level of the other term, ``(l, k_j, k_j)``."""
    k = cells.values.shape[2]
    total = np.zeros((l, k, k))
    for part in chunks(len(cells.rows)):
        values = cells.values[part]
        product = multiply(transposed(values), multiply(K[cells.rows[part]], values))
        total += summed(cells.cols[part], product, l)
    return total


def sums_by_row(cells: Cells, C: Floats, l: int) -> Floats:
    """``sum over columns of R C R'`` for every level of the eliminated term, ``(l, k_s, k_s)``."""
    k = cells.values.shape[1]
    total = np.zeros((l, k, k))
    for part in chunks(len(cells.rows)):
        values = cells.values[part]
        product = multiply(values, multiply(C[cells.cols[part]], transposed(values)))
        total += summed(cells.rows[part], product, l)
    return total


def chunks(n: int) -> list[slice]:
    """Slices of as many cells as are worked on at a time."""
    return [slice(a, a + _CHUNK) for a in range(0, n, _CHUNK)]


def summed(codes: Codes, blocks: Floats, l: int) -> Floats:
    """Blocks ``(c, a, b)`` summed within each of ``l`` groups."""
    return group_sums(codes, l, blocks.reshape(len(blocks), -1)).reshape(l, *blocks.shape[1:])


def scatter(link: Link, blocks: Floats, l: int) -> Floats:
    """Sum the blocks of all levels that share a parent."""
    return summed(link.parents, blocks, l)


def transposed(blocks: Floats) -> Floats:
    """Every block transposed."""
    if blocks.shape[1] == blocks.shape[2] == 1:
        return blocks
    return np.ascontiguousarray(blocks.transpose(0, 2, 1))
