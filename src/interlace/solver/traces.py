"""Traces of products of ``Z' P Z``, eliminating the largest term and holding the others in full.

``P`` is ``Omega^-1`` with the fixed effects projected out.  Call the largest term 1, and the others
(``m`` columns together) the rest.  After elimination of term 1, with ``M_l = I - N_l K_l`` for
every level, ``A_l = M_l R_l`` its rows and ``S`` the remainder, both against ``[rest, X]``:

* ``F_11 = D - A C A'`` with ``D_l = M_l N_l`` block diagonal,
* ``F_1r = A J``, the columns of the rest in ``J = I - C S``,
* ``F_rr``, the rest's block of ``S J``,

where ``F_st = Z_s' P Z_t`` and ``C`` is ``C~`` on ``[rest, X]``.  Where term 1 is large no array
has two long sides: of ``A`` only ``A' (I x E) A``, ``(m + p, m + p)``, and the diagonal blocks of
``A C A'`` are formed.  Where it is small and has several columns, ``A`` and ``F_11`` are less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import solve_triangular

from interlace.errors import InterlaceError
from interlace.solver.blocks import multiply
from interlace.solver.exact import Factor, factorize
from interlace.solver.plan import single_plan
from interlace.solver.scaled import scale_columns, scale_rows
from interlace.solver.tails import DenseTail
from interlace.sums.crossprod import Basis, CrossProducts
from interlace.sums.terms import Floats

_MAX_BYTES = 8e9
# Numbers among the columns of term 1 that are held in full at most.
_HELD = 1 << 24


def projected_traces(factor: Factor, directions: Sequence[Floats]) -> tuple[Floats, Floats]:
    """``tr(P G_r)`` (c,) and ``tr(P G_r P G_s)`` (c, c) for ``G_r = Z_j (I x E_r) Z_j'``.

    Parameters
    ----------
    factor
        The model at its templates, under any plan.
    directions
        Per term the symmetric ``E_r``, ``(c_j, k, k)``; ``c`` counts them all, in order.

    Raises
    ------
    InterlaceError
        If the arrays among the columns of all terms but the largest would not fit in memory.
    """
    chain = factor.plan.chain
    _check_memory(factor.A, chain[0], len(directions[chain[0]]))
    if len(chain) > 1:
        factor = factorize(factor.A, single_plan(factor.A), factor.templates)
    images = Images(factor)
    blocks = images.second(directions)
    order = range(len(directions))
    second = [[blocks[i, j] if (i, j) in blocks else blocks[j, i].T for j in order] for i in order]
    traces = [np.einsum("rab,ab->r", E, images.diagonal(j)) for j, E in enumerate(directions)]
    return np.concatenate(traces), np.block(second)


def without_fixed(factor: Factor) -> Factor:
    """The factor of the model without fixed effects: ``P`` is ``Omega^-1`` there."""
    A = factor.A
    none = replace(
        A,
        names=(),
        basis=Basis(A.basis.fixed[-1:, -1:], A.basis.random),
        vv=A.vv[-1:, -1:],
        zv=tuple(zv[..., -1:] for zv in A.zv),
    )
    return factorize(none, single_plan(none), factor.templates)


@dataclass(frozen=True, eq=False)
class Images:
    """``Z' P Z`` in the three parts above, from a factor that eliminated term 1 alone."""

    factor: Factor

    @property
    def first(self) -> int:
        """Index of term 1."""
        return self.factor.plan.chain[0]

    @cached_property
    def covariances(self) -> list[Floats]:
        """``T T'`` per term."""
        return [T @ T.T for T in self.factor.templates]

    @cached_property
    def M(self) -> Floats:
        """``I - N_l K_l = (I + N_l T T')^-1``, the second form without cancellation."""
        N = self.factor.steps[self.first].N
        return np.asarray(np.linalg.inv(np.eye(N.shape[1]) + N @ self.covariances[self.first]))

    @cached_property
    def remainder(self) -> tuple[Floats, Floats, Floats]:
        """``S`` of the rest with ``X`` projected out, ``S_XX^-1`` and ``S_XX^-1 S_X,rest``."""
        S, q = self.factor.complete[:-1, :-1], self.factor.plan.q_dense
        root = np.linalg.cholesky(S[q:, q:])
        half = solve_triangular(root, S[q:, :q], lower=True)
        unit = solve_triangular(root, np.eye(len(root)), lower=True)
        return S[:q, :q] - half.T @ half, unit.T @ unit, unit.T @ half

    @cached_property
    def shrunk(self) -> Floats:
        """The rest's block of ``J``: ``(I + Gamma S)^-1`` with ``X`` projected out of ``S``."""
        system = self.remainder[0].copy()
        scale_rows(self.factor.A, self.factor.plan, self.covariances, system)
        system[np.diag_indices(len(system))] += 1.0
        return np.asarray(np.linalg.inv(system))

    @cached_property
    def J(self) -> Floats:
        """Columns of the rest in ``I - C S``, ``(m + p, m)``."""
        return np.concatenate((self.shrunk, -self.remainder[2] @ self.shrunk))

    @cached_property
    def C(self) -> Floats:
        """``C~`` on ``[rest, X]``, ``(m + p, m + p)``."""
        _, unit, share = self.remainder
        rest = np.empty_like(self.shrunk)
        scale_columns(self.factor.A, self.factor.plan, self.covariances, self.shrunk, out=rest)
        rest = 0.5 * (rest + rest.T)
        crossed = -share @ rest
        return np.block([[rest, crossed.T], [crossed, unit - crossed @ share.T]])

    @cached_property
    def F(self) -> Floats:
        """``Z' P Z`` among the rest, ``(m, m)``."""
        return self.remainder[0] @ self.shrunk

    @cached_property
    def low_rank(self) -> Floats:
        """Diagonal blocks of ``A C A'``, ``(l, k, k)``."""
        padded = np.pad(self.C, (0, 1))  # y
        Y = self.factor.steps[self.first].tail.quadratic(padded)
        return multiply(multiply(self.M, Y), np.ascontiguousarray(self.M.transpose(0, 2, 1)))

    @cached_property
    def own(self) -> Floats:
        """Diagonal blocks of ``Z' P Z`` for term 1, ``(l, k, k)``."""
        return multiply(self.M, self.factor.steps[self.first].N) - self.low_rank

    @cached_property
    def rows(self) -> Floats:
        """``A`` in full, ``(l k, m + p)``."""
        tail = self.factor.steps[self.first].tail
        assert isinstance(tail, DenseTail)
        found = multiply(self.M, np.ascontiguousarray(tail.R[..., :-1]))
        return found.reshape(-1, found.shape[2])

    def is_held(self, c: int) -> bool:
        """Whether all of ``Z' P Z`` is less work than products for ``c`` directions of term 1."""
        term, m = self.factor.A.terms[self.first], len(self.C)
        if not isinstance(self.factor.steps[self.first].tail, DenseTail) or term.q**2 > _HELD:
            return False
        held = 2.0 * term.q * m * (2.0 * m + term.q) + 2.0 * (term.q * term.k) ** 2
        return held < c * (2.0 * term.q * m**2 + 4.0 * m**3)

    def weighted(self, E: Floats) -> Floats:
        """``A' (I x E) A``, ``(m + p, m + p)``."""
        blocks = np.ascontiguousarray(self.M.transpose(0, 2, 1)) @ E @ self.M
        G = self.factor.steps[self.first].tail.gram(blocks)[:-1, :-1]
        return np.triu(G) + np.triu(G, 1).T

    def block(self, i: int, j: int) -> Floats:
        """``Z_i' P Z_j`` for two terms, ``(l_i, k_i, l_j, k_j)``; of term 1 only as ``i``."""
        a, b = self.factor.A.terms[i], self.factor.A.terms[j]
        to = self._place(j)
        if i != self.first:
            found = self.F[self._place(i), to]
        elif j != self.first:
            found = self.rows @ self.J[:, to]
        else:
            found = -(self.rows @ self.C) @ self.rows.T
            blocks = found.reshape(a.l, a.k, a.l, a.k)
            each = np.arange(a.l)
            blocks[each, :, each] += multiply(self.M, self.factor.steps[i].N)
        return found.reshape(a.l, a.k, b.l, b.k)

    def _place(self, j: int) -> slice:
        """Columns of a term of the rest; term 1 has none."""
        at = self.factor.plan.offsets.get(j, 0)
        return slice(at, at + self.factor.A.terms[j].q)

    def diagonal(self, j: int) -> Floats:
        """Sum over levels of ``Z_j' P Z_j``, ``(k, k)``."""
        if j == self.first:
            return np.asarray(self.own.sum(axis=0))
        return np.asarray(np.einsum("lalb->ab", self.block(j, j)))

    def second(self, directions: Sequence[Floats]) -> dict[tuple[int, int], Floats]:
        """``tr(P G_r P G_s)`` by pair of terms, each pair in one order."""
        first, rest = self.first, self.factor.plan.dense
        E = directions[first]
        held = self.is_held(len(E))
        listed = [first, *rest] if held else list(rest)
        found = {
            (i, j): _contract(directions[i], _outer_sums(self.block(i, j)), directions[j])
            for n, i in enumerate(listed)
            for j in listed[n:]
        }
        if held:
            return found
        G = [self.weighted(e) for e in E]
        for j in rest:
            found[first, j] = np.empty((len(E), len(directions[j])))
        for r, g in enumerate(G):
            gJ = g @ self.J
            for j in rest:
                found[first, j][r] = np.einsum(
                    "sab,ab->s", directions[j], self._column_products(j, gJ)
                )
        CG = [self.C @ g for g in G]
        found[first, first] = (
            _contract(E, _level_sums(self.own), E)
            - _contract(E, _level_sums(self.low_rank), E)
            + np.array([[np.vdot(x, y.T) for y in CG] for x in CG])
        )
        return found

    def _column_products(self, j: int, gJ: Floats) -> Floats:
        """Sum over levels of a term of the rest of the diagonal blocks of ``J' G J``."""
        term, a = self.factor.A.terms[j], self.factor.plan.offsets[j]
        k = term.k
        found = np.empty((k, k))
        for c, d in np.ndindex(k, k):
            found[c, d] = np.vdot(self.J[:, a + c : a + term.q : k], gJ[:, a + d : a + term.q : k])
        return found


def _outer_sums(F: Floats) -> Floats:
    """``M[a, b, c, d]``, the sum over pairs of levels of ``F[a, c] F[b, d]``."""
    _, ki, _, kj = F.shape
    flat = np.ascontiguousarray(F.transpose(1, 3, 0, 2)).reshape(ki * kj, -1)
    pairs = (flat @ flat.T).reshape(ki, kj, ki, kj)
    return np.ascontiguousarray(pairs.transpose(0, 2, 1, 3))


def _level_sums(B: Floats) -> Floats:
    """As :func:`_outer_sums` for diagonal blocks ``B`` (l, k, k)."""
    return np.asarray(np.einsum("lac,lbd->abcd", B, B, optimize=True))


def _contract(E: Floats, M: Floats, other: Floats) -> Floats:
    """``sum E[r, a, b] M[a, b, c, d] other[s, c, d]``, ``(r, s)``."""
    return np.asarray(np.einsum("rab,abcd,scd->rs", E, M, other, optimize=True))


def needed(A: CrossProducts, first: int, entries: int) -> float:
    """Bytes of the arrays among all terms but the largest, which has ``entries`` directions."""
    m = sum(t.q for t in A.terms) - A.terms[first].q + A.p
    return 8.0 * m**2 * (10 + 2 * entries)


def fit_in_memory(factor: Factor) -> bool:
    """Whether :func:`projected_traces` of all entries of the templates would be tried."""
    A, first = factor.A, factor.plan.chain[0]
    return needed(A, first, A.terms[first].n_theta) <= _MAX_BYTES


def _check_memory(A: CrossProducts, first: int, entries: int) -> None:
    """Refuse arrays that would not fit, before any is allocated."""
    size, m = needed(A, first, entries), A.p + sum(t.q for t in A.terms) - A.terms[first].q
    if size > _MAX_BYTES:
        sizes = ", ".join(f"{t.group}: {t.l} levels x {t.k}" for t in A.terms)
        raise InterlaceError(
            f"Kenward-Roger tests would need {size / 1e9:.0f} GB for these terms ({sizes}): all "
            f"but the largest enter arrays of {m} x {m}. Use Satterthwaite's degrees of freedom "
            f"instead, or normal tests"
        )
