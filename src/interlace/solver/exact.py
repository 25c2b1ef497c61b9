"""Exact solver: eliminate the chain by level, factor the dense remainder, and go back.

Notation as in the rest of the core.  ``V^-1`` below is relative to ``sigma^2``; ``P`` is ``V^-1``
with the fixed effects projected out (for ML, ``V^-1`` itself in traces).  For an eliminated level
with ``N = Z'Z`` (after earlier eliminations), template ``T`` and rows ``R`` against what is left,
``D = T'NT + I`` and ``K = T D^-1 T'`` is its share of the inverse; elimination is ``S - R'KR``.

The reverse pass needs ``C~ = Lambda M^-1 Lambda'`` only where the cross-products are nonzero: in
the remainder, and per eliminated level through ``Y = R C~ R'``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.blas import dsymm
from scipy.linalg.lapack import dpotrf, dpotri, dtrtrs

from interlace.solver.blocks import (
    by_column,
    by_row,
    congruence,
    from_upper,
    identity,
    inner,
    multiply,
    rows_times,
    spd_inverse,
    squares,
)
from interlace.solver.halves import Half, half_inverse
from interlace.solver.left import check_left
from interlace.solver.plan import Link, Plan
from interlace.solver.probes import WithoutChance
from interlace.solver.reverse import Reverse, TermDerivatives, divided
from interlace.solver.scaled import diagonal_blocks, mirror_blocks, scale_columns, scale_rows
from interlace.solver.tails import DenseTail, SparseTail
from interlace.sums.crossprod import CrossProducts, group_sums
from interlace.sums.terms import Floats

# Templates with singular values above this may be divided by; others take the longer way.
_WELL_CONDITIONED = 1e-3

# See :meth:`Factor.inverse`.
Inverse = tuple[Floats, dict[int, Floats]]


@dataclass(frozen=True, eq=False)
class Eliminated:
    """One chain term after elimination: ``N, K`` (l, k, k), ``TD = T D^-1``, links and tail."""

    N: Floats
    K: Floats
    TD: Floats
    links: dict[int, Link]
    tail: DenseTail | SparseTail

    def derivatives(self, Y: Floats) -> TermDerivatives:
        """Trace parts of the derivatives from ``Y = R C~ R'`` (l, k, k)."""
        E = identity(self.N.shape[1]) - multiply(self.N, self.K)
        rest = by_column(self.N - multiply(E, Y))  # E N = N E'
        W = rest @ by_row(self.TD)
        PZZ = rest @ by_row(_transposed(E))
        return TermDerivatives(W, PZZ, self.K + multiply(multiply(self.K, Y), self.K))


@dataclass(frozen=True, eq=False)
class TermEffects:
    """Per level ``(l, k)``: effects ``b``, ``e = Z'(y - X beta - Z b)`` and ``u = T' e``."""

    b: Floats
    e: Floats
    u: Floats


@dataclass(frozen=True, eq=False)
class Factor(WithoutChance):
    """The mixed-model equations factored at given templates (working basis).

    ``S`` is the remainder ``[Z, X, y]`` after elimination and ``L`` its scaled Cholesky factor;
    only the upper triangle of ``S`` counts where tails are sparse.  ``logdet_u, logdet_x, r2`` are
    the parts of the criterion.
    """

    A: CrossProducts
    plan: Plan
    templates: tuple[Floats, ...]
    steps: dict[int, Eliminated]
    S: Floats
    L: Floats
    logdet_u: float
    logdet_x: float
    r2: float

    @cached_property
    def solution(self) -> Floats:
        """``[-b, -beta, 1]`` on the dense remainder, ``(m,)``."""
        rhs = np.zeros(len(self.L))
        rhs[-1] = self.L[-1, -1]
        z, _ = dtrtrs(self.L, rhs, lower=1, trans=1)
        solution = np.array(z)[:, None]
        scale_rows(self.A, self.plan, self.templates, solution)
        return solution[:, 0]

    @property
    def beta(self) -> Floats:
        """Fixed effects in the working basis, ``(p,)``."""
        return -self.solution[self.plan.q_dense : -1]

    @cached_property
    def effects(self) -> tuple[TermEffects, ...]:
        """Random effects and residual cross-products of every term."""
        return tuple(
            TermEffects(b[:, :, 0], e[:, :, 0], e[:, :, 0] @ T)
            for (b, e), T in zip(self.images(self.solution[:, None]), self.templates, strict=True)
        )

    def images(self, v: Floats) -> tuple[tuple[Floats, Floats], ...]:
        """``b`` and ``e = Z' ([X y] c - Z b)`` of every term, ``(l, k, c)`` each.

        ``v`` (m, c) holds ``[-b, c]`` on the remainder ``[dense terms, X, y]``; the eliminated
        terms follow from it.
        """
        found: dict[int, tuple[Floats, Floats]] = {}
        Sv = dsymm(1.0, self.S.T, v, lower=1) if self.plan.dense else v
        for j in self.plan.dense:
            term, a = self.A.terms[j], self.plan.offsets[j]
            shape = (term.l, term.k, v.shape[1])
            found[j] = -v[a : a + term.q].reshape(shape), Sv[a : a + term.q].reshape(shape)
        for s in reversed(self.plan.chain):
            step = self.steps[s]
            g = step.tail.apply(v)
            for t, link in step.links.items():
                g = g - multiply(link.R, found[t][0][link.parents])
            b = multiply(step.K, g)
            found[s] = b, g - multiply(step.N, b)
        return tuple(found[j] for j in range(len(self.A.terms)))

    @cached_property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1`` in the working basis, ``(p, p)``."""
        q = self.plan.q_dense
        inverse = solve_triangular(
            self.L[q:-1, q:-1], np.eye(self.A.p), lower=True, check_finite=False
        )
        return inverse.T @ inverse

    # -------------------------------------------------------------- reverse pass

    def derivatives(self, *, reml: bool) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives with respect to every template."""
        first = self.steps[self.plan.chain[0]]
        if len(self.steps) > 1 or isinstance(first.tail, SparseTail):
            return self.reverse(self.inverse(fixed=reml)).terms
        size = len(self.S) - 1 if reml else self.plan.q_dense
        half = Half(self.A, self.plan, self.templates, half_inverse(self.L), size)
        found = {
            j: half.dense(j, self.S, divide=j not in self.ill_conditioned) for j in self.plan.dense
        }
        found[self.plan.chain[0]] = first.derivatives(squares(half.images(first.tail.R)))
        return tuple(found[j] for j in range(len(found)))

    def reverse(self, inverse: Inverse) -> Reverse:
        """The same from :meth:`inverse`, and what was found on the way."""
        C, unscaled = inverse
        found = {j: self._dense_derivatives(j, C, unscaled[j]) for j in self.plan.dense}
        blocks: dict[tuple[int, int], Floats] = {}
        met: dict[int, Floats] = {}
        rows: dict[int, Floats] = {}
        for s in reversed(self.plan.chain):
            found[s] = self._chain_derivatives(s, C, blocks, rows, met)
        return Reverse(tuple(found[j] for j in range(len(self.A.terms))), blocks, met)

    def inverse(self, *, fixed: bool) -> Inverse:
        """``C~ = Lambda C Lambda'`` on the remainder, and ``C`` itself on each dense term.

        ``C`` is the inverse of the u-and-X block, or of the u-block alone, and zero elsewhere.  Of
        a term with a well-conditioned template the second part holds the diagonal blocks (l, k, k),
        of others the rows of ``C Lambda'`` (l, k, m).  ``C~`` is complete if anything asks for
        more than its upper triangle.
        """
        plan, m = self.plan, len(self.S)
        size = m - 1 if fixed else plan.q_dense
        L = self.L.copy(order="F")
        L[size:] = 0.0
        for i in range(size, m):
            L[i, i] = 1.0
        lower, info = dpotri(L, lower=1, overwrite_c=1)
        if info:
            raise np.linalg.LinAlgError(f"pivot {info} of {m} is zero")
        C: Floats = lower.T
        for i in range(size, m):
            C[i, i] = 0.0
        ill = self.ill_conditioned
        if not plan.pattern.tails or ill:
            C = from_upper(C)
        else:
            mirror_blocks(self.A, plan, C)
        well = {j: diagonal_blocks(self.A, plan, j, C) for j in plan.dense if j not in ill}
        transposed = [T.T for T in self.templates]
        scale_columns(self.A, plan, transposed, C, out=C)
        rows = {
            j: C[a : a + term.q].reshape(term.l, term.k, m).copy()
            for j in ill
            for term, a in [(self.A.terms[j], plan.offsets[j])]
        }
        scale_rows(self.A, plan, self.templates, C)
        return C, well | rows

    def conditional_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~`` given the fixed effects, ``(l, k, k)`` per term."""
        return tuple(part.C for part in self.derivatives(reml=False))

    def remainder_covariance(self, *, fixed: bool) -> Floats:
        """``C~`` on the remainder ``[dense terms, X, y]``, both triangles, ``(m, m)``.

        With ``fixed=False`` that of the random effects given ``beta``: zero in ``X``.  Always zero
        in ``y``.
        """
        C, _ = self.inverse(fixed=fixed)
        return from_upper(C)

    def _dense_derivatives(self, j: int, C: Floats, unscaled: Floats) -> TermDerivatives:
        """Derivatives for a term of the remainder; ``unscaled`` from :meth:`inverse`."""
        term, T = self.A.terms[j], self.templates[j]
        if j not in self.ill_conditioned:
            W, PZZ = divided(T, term.l, unscaled.sum(axis=0))
        else:
            a = self.plan.offsets[j]
            S_rows = self.complete[a : a + term.q]
            blocks = S_rows.reshape(term.l, term.k, -1)
            W = np.tensordot(blocks, unscaled, axes=((0, 2), (0, 2)))
            SC = (S_rows @ C).reshape(term.l, term.k, -1)
            own = diagonal_blocks(self.A, self.plan, j, self.complete).sum(axis=0)
            PZZ = own - np.tensordot(SC, blocks, ((0, 2), (0, 2)))
        own = diagonal_blocks(self.A, self.plan, j, C)
        return TermDerivatives(W, 0.5 * (PZZ + PZZ.T), own)

    @cached_property
    def ill_conditioned(self) -> frozenset[int]:
        """Dense terms whose template must not be divided by."""
        return frozenset(j for j in self.plan.dense if not _divisible(self.templates[j]))

    @cached_property
    def complete(self) -> Floats:
        """``S`` with both triangles."""
        return from_upper(self.S)

    def _chain_derivatives(
        self,
        s: int,
        C: Floats,
        blocks: dict[tuple[int, int], Floats],
        rows: dict[int, Floats],
        met: dict[int, Floats],
    ) -> TermDerivatives:
        """Derivatives for an eliminated term; adds its blocks of ``C~`` for those nested in it.

        ``rows[s]`` is ``C~`` between ``s`` and the remainder; for the others see :class:`Reverse`.
        """
        step = self.steps[s]
        Y, around = self._sandwich(step, C, blocks, rows)
        found = step.derivatives(Y)
        blocks[s, s] = found.C
        if -1 in around:
            met[s] = around.pop(-1)
        if len(self.plan.chain) > 1:
            rows[s] = -multiply(step.K, met[s])
            for t, Q in around.items():
                blocks[s, t] = -multiply(step.K, Q)
        return found

    def _sandwich(
        self,
        step: Eliminated,
        C: Floats,
        blocks: dict[tuple[int, int], Floats],
        rows: dict[int, Floats],
    ) -> tuple[Floats, dict[int, Floats]]:
        """``Y = R C~ R'`` over the remainder and the later chain terms, and ``R C~`` by part.

        Key ``-1`` is the remainder; the latter is not known of sparse tails.
        """
        tail = step.tail
        if isinstance(tail, SparseTail):
            return tail.quadratic(C), {}
        around = {-1: tail.apply(C)}
        for t, link in step.links.items():
            around[-1] = around[-1] + multiply(link.R, rows[t][link.parents])
        for t, link in step.links.items():
            Q = multiply(tail.R, _transposed(rows[t][link.parents]))
            for other, via in step.links.items():
                Q = Q + multiply(via.R, _between_parents(blocks, other, t, step.links))
            around[t] = Q
        Y = tail.square(around[-1])
        for t, link in step.links.items():
            Y = Y + multiply(around[t], _transposed(link.R))
        return Y, around

    # -------------------------------------------------------------- what both solvers tell

    def exact(self, what: str, instead: str = "") -> Factor:
        """Itself, for things that read entries of the inverse; the iterative solver refuses."""
        return self

    def solve(
        self, random: Sequence[Floats], fixed: Floats | None = None
    ) -> tuple[tuple[Floats, ...], Floats]:
        """``[b; beta] = C~ [random; fixed]``, see :func:`interlace.solver.solve.solve`."""
        plan, terms = self.plan, self.A.terms
        c, q = random[0].shape[2], plan.q_dense
        fixed_part = np.zeros((self.A.p, c)) if fixed is None else fixed
        reduced, _, half = self.forward(random, fixed_part)
        half[q if fixed is None else -1 :] = 0.0
        values = np.array(dtrtrs(self.L, half, lower=1, trans=1)[0])
        scale_rows(self.A, plan, self.templates, values)
        found = {
            j: values[plan.offsets[j] : plan.offsets[j] + terms[j].q].reshape(terms[j].l, -1, c)
            for j in plan.dense
        }
        for s in reversed(plan.chain):
            step = self.steps[s]
            g = reduced[s] - step.tail.apply(values)
            for t, link in step.links.items():
                g = g - multiply(link.R, found[t][link.parents])
            found[s] = multiply(step.K, g)
        return tuple(found[j] for j in range(len(terms))), values[q:-1]

    # -------------------------------------------------------------- quadratic forms

    def projected(self, H: Sequence[Floats]) -> Floats:
        """``H' Z' P Z H`` for columns of random-effects coefficients, ``(c, c)``.

        ``H[j]`` is ``(l, k, c_j)``: columns that are zero outside term ``j``; they are stacked
        side by side.  Fixed effects are projected out.
        """
        sizes = list(accumulate((h.shape[2] for h in H), initial=0))
        columns = [slice(a, b) for a, b in pairwise(sizes)]
        rhs = [self.gathered(i, H, columns) for i in range(len(H))]
        B = np.empty((sizes[-1], sizes[-1]))
        for h, r, part in zip(H, rhs, columns, strict=True):
            B[part] = inner(h, r)
        XZH = [inner(zv, h)[:-1] for zv, h in zip(self.A.zv, H, strict=True)]
        return B - self.explained(rhs, np.concatenate(XZH, axis=1))

    def gathered(self, i: int, H: Sequence[Floats], columns: Sequence[slice]) -> Floats:
        """``Z_i' Z H``, ``(l_i, k_i, c)``."""
        if len(H) == 1:
            return multiply(self.A.zz[i], H[0])
        term = self.A.terms[i]
        total = np.empty((term.l, term.k, columns[-1].stop))
        for j, (h, part) in enumerate(zip(H, columns, strict=True)):
            if i == j:
                total[:, :, part] = multiply(self.A.zz[i], h)
            else:
                flat = self.plan.cross[i, j] @ h.reshape(-1, h.shape[2])
                total[:, :, part] = flat.reshape(term.l, term.k, -1)
        return total

    def explained(self, random: Sequence[Floats], fixed: Floats) -> Floats:
        """``c' C~ c`` for right-hand sides ``c``: ``random`` (l, k, c) a term, ``fixed`` (p, c)."""
        reduced, solved_for, half = self.forward(random, fixed)
        total: Floats = half[:-1].T @ half[:-1]
        for s, Kr in solved_for.items():
            total += inner(reduced[s], Kr)
        return total

    def forward(
        self, random: Sequence[Floats], fixed: Floats
    ) -> tuple[list[Floats], dict[int, Floats], Floats]:
        """Right-hand sides ``r`` after elimination, ``K r``, and ``L^-1`` times the remainder's.

        Arguments as for :meth:`explained`; the first part is of use for the chain alone, of which
        the second is.
        """
        plan, c = self.plan, fixed.shape[1]
        dense = [random[j].reshape(-1, c) for j in plan.dense]
        rest = np.concatenate([*dense, fixed, np.zeros((1, c))])
        reduced, found = list(random), dict[int, Floats]()
        for s in plan.chain:
            step = self.steps[s]
            found[s] = Kr = multiply(step.K, reduced[s])
            rest = rest - step.tail.adjoint(Kr)
            for t, link in step.links.items():
                share = multiply(_transposed(link.R), Kr)
                reduced[t] = reduced[t] - _scatter(link, share, self.A, t)
        scale_rows(self.A, plan, [T.T for T in self.templates], rest)
        return reduced, found, np.asarray(dtrtrs(self.L, rest, lower=1)[0], dtype=np.float64)


def factorize(A: CrossProducts, plan: Plan, templates: Sequence[Floats]) -> Factor:
    """Eliminate and factor at the given working templates.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the equations are not positive definite: the model leaves no residual variance.
    """
    N = {s: A.zz[s] for s in plan.chain}
    links = {
        s: {t: plan.links[s, t] for t in plan.chain[i + 1 :]} for i, s in enumerate(plan.chain)
    }
    tails = dict(plan.tails)
    S = plan.S
    steps: dict[int, Eliminated] = {}
    logdet = 0.0
    for s in plan.chain:
        T = templates[s]
        k = len(T)
        inverse, logs = spd_inverse(congruence(N[s], T) + identity(k))
        logdet += logs
        T_transposed = np.ascontiguousarray(T.T)
        TD = _transposed(rows_times(inverse, T_transposed))
        K = rows_times(TD, T_transposed)
        steps[s] = Eliminated(N[s], K, TD, links[s], tails[s])
        G = tails[s].gram(K)
        S = np.subtract(S, G, out=G)
        for t, link in links[s].items():
            RK = multiply(_transposed(link.R), K)
            N[t] = N[t] - _scatter(link, multiply(RK, link.R), A, t)
            tail, later = tails[s], tails[t]
            assert isinstance(tail, DenseTail) and isinstance(later, DenseTail)
            tails[t] = DenseTail(later.R - _scatter(link, multiply(RK, tail.R), A, t))
            for u in links[t]:
                via = links[s][u]
                shift = _scatter(link, multiply(RK, via.R), A, t)
                links[t] = {**links[t], u: Link(links[t][u].parents, links[t][u].R - shift)}
    return _factor_remainder(A, plan, tuple(templates), steps, S, logdet)


def _factor_remainder(
    A: CrossProducts,
    plan: Plan,
    templates: tuple[Floats, ...],
    steps: dict[int, Eliminated],
    S: Floats,
    logdet: float,
) -> Factor:
    """Cholesky factor of the scaled remainder ``[u, X, y]``."""
    q = plan.q_dense
    mirror_blocks(A, plan, S)
    M = np.empty_like(S)
    scale_columns(A, plan, templates, S, out=M)
    scale_rows(A, plan, [T.T for T in templates], M)
    np.einsum("ii->i", M)[:q] += 1.0
    L, info = dpotrf(M.T, lower=1, overwrite_a=1)
    if info:
        raise np.linalg.LinAlgError(f"pivot {info} of {len(M)} is not positive")
    pivots = L.diagonal()
    logs = np.log(pivots[:-1])
    return Factor(
        A,
        plan,
        templates,
        steps,
        S,
        L,
        logdet + 2.0 * float(logs[:q].sum()),
        2.0 * float(logs[q:].sum()),
        check_left(float(pivots[-1] ** 2), float(A.vv[-1, -1])),
    )


def _divisible(T: Floats) -> bool:
    """Whether a template is well enough conditioned to divide by."""
    if len(T) == 1:
        return bool(abs(T[0, 0]) > _WELL_CONDITIONED)
    return bool(np.linalg.svd(T, compute_uv=False)[-1] > _WELL_CONDITIONED)


def _scatter(link: Link, blocks: Floats, A: CrossProducts, t: int) -> Floats:
    """Sum the blocks of all levels that share a parent in term ``t``."""
    l, k, m = A.terms[t].l, blocks.shape[1], blocks.shape[2]
    return group_sums(link.parents, l, blocks.reshape(len(blocks), k * m)).reshape(l, k, m)


def _between_parents(
    blocks: dict[tuple[int, int], Floats], i: int, j: int, links: dict[int, Link]
) -> Floats:
    """``C~`` between the parents in terms ``i`` and ``j`` of every level."""
    if (i, j) in blocks:
        return blocks[i, j][links[i].parents]
    return _transposed(blocks[j, i][links[j].parents])


def _transposed(blocks: Floats) -> Floats:
    """Every block transposed."""
    return np.ascontiguousarray(blocks.transpose(0, 2, 1))
