"""The criterion with a residual structure beside random effects that subjects share.

With ``V_0`` block diagonal by subject, ``O`` its inverse, and ``Z`` the columns of effects that
cross the subjects, or in whose levels these are nested, ``V = V_0 + Z G Z'`` and

    V^-1 = O - O Z M Z' O,   M = (G^-1 + A)^-1,   A = Z' O Z.

A subject meets few of the effects, so that ``A`` is a sum of small blocks; with the templates ``L``
of all levels ``M = L (I + L' A L)^-1 L'`` has no inverse of a variance in it.  Columns less what
the effects explain of them, ``X - Z M Z' O X``, take the place of ``X``: what is summed by visits
then is as it is without such effects, less the blocks of ``O Z M Z' O``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_matrix

from interlace.estimation.structured import StructuredCriterion, StructuredEvaluation
from interlace.sums.cells import Codes
from interlace.sums.patterns import Kept, Visits
from interlace.sums.terms import Floats, ReTerm


@dataclass(frozen=True, eq=False)
class Crossing:
    """Random effects that subjects share, and which of them each subject meets.

    Parameters
    ----------
    terms, members
        Of these effects, ``q`` in all, and their positions among all random terms.
    index
        ``(s, L)``: the effects that a subject meets; any where there are fewer.
    Z
        ``(s, V, L)``: their working columns by visit, weighted; 0 where there are fewer.
    """

    terms: tuple[ReTerm, ...]
    members: tuple[int, ...]
    index: Codes
    Z: Floats

    @property
    def q(self) -> int:
        """Effects."""
        return sum(t.q for t in self.terms)

    @cached_property
    def parts(self) -> list[slice]:
        """Effects of every term."""
        ends = accumulate((t.q for t in self.terms), initial=0)
        return [slice(a, b) for a, b in pairwise(ends)]

    @cached_property
    def _select(self) -> csr_matrix:
        """``(q, s L)``: adds up what is known of the effects by subject."""
        flat = self.index.ravel()
        ones, places = np.ones(len(flat)), np.arange(len(flat))
        return csr_matrix((ones, (flat, places)), shape=(self.q, len(flat)))

    @cached_property
    def _pairs(self) -> Codes:
        return np.asarray(self.index[:, :, None] * self.q + self.index[:, None, :]).ravel()

    def met(self, values: Floats) -> Floats:
        """Values (q, m) of the effects that subjects meet, ``(s, L, m)``."""
        return values[self.index]

    def added(self, values: Floats) -> Floats:
        """Values (s, L, m) by subject added up, ``(q, m)``."""
        s, L, m = values.shape
        return np.asarray(self._select @ values.reshape(s * L, m))

    def squared(self, blocks: Floats) -> Floats:
        """Blocks (s, L, L) by subject added up, ``(q, q)``."""
        size = self.q**2
        total = np.bincount(self._pairs, weights=blocks.ravel(), minlength=size)
        return np.asarray(total.reshape(self.q, self.q), dtype=np.float64)

    def times(self, templates: Sequence[Floats], values: Floats) -> Floats:
        """Every effect's template times values ``(q, m)``."""
        found = np.empty_like(values)
        for t, own, T in zip(self.terms, self.parts, templates, strict=True):
            found[own] = (T @ values[own].reshape(t.l, t.k, -1)).reshape(t.q, -1)
        return found

    def own(self, j: int, values: Floats) -> Floats:
        """Values (q, m) of a term, ``(l, k, m)``."""
        t = self.terms[j]
        return values[self.parts[j]].reshape(t.l, t.k, -1)

    def diagonal(self, j: int, values: Floats) -> Floats:
        """Blocks ``(l, k, k)`` of a term on the diagonal of values ``(q, q)``."""
        t, own = self.terms[j], self.parts[j]
        blocks = values[own, own].reshape(t.l, t.k, t.l, t.k)
        return np.asarray(np.einsum("lalb->lab", blocks))


def crossing_of(
    terms: Sequence[ReTerm],
    members: Sequence[int],
    codes: Sequence[Codes],
    Z: Sequence[Floats],
    at: Visits,
    kept: Kept,
) -> Crossing:
    """Rows of ``terms``, with levels ``codes`` (n,) and weighted columns ``Z`` (n, k), by subject.

    ``at`` says where rows stand, ``kept`` in which order subjects are.
    """
    starts = accumulate((t.q for t in terms), initial=0)
    firsts = zip(starts, codes, terms, strict=False)  # the last start is the end
    effects = np.concatenate([a + c[:, None] * t.k + np.arange(t.k) for a, c, t in firsts], axis=1)
    values = np.concatenate(Z, axis=1)
    place = np.empty(at.n_subjects, dtype=np.intp)
    place[kept.subjects] = np.arange(at.n_subjects)
    subject = np.broadcast_to(place[at.subjects][:, None], effects.shape)
    q = sum(t.q for t in terms)
    met, own = np.unique(subject * q + effects, return_inverse=True)
    whose, which = np.divmod(met, q)
    number = np.arange(len(met)) - np.searchsorted(whose, whose)
    width = int(number.max()) + 1
    index = np.zeros((at.n_subjects, width), dtype=np.intp)
    index[whose, number] = which
    blocks = np.zeros((at.n_subjects, at.n_visits, width))
    visits = np.broadcast_to(at.visits[:, None], effects.shape)
    blocks[subject, visits, number[own.reshape(effects.shape)]] = values
    return Crossing(tuple(terms), tuple(members), index, blocks)


@dataclass(frozen=True, eq=False)
class CrossedCriterion(StructuredCriterion):
    """The function to be minimised, with random effects that subjects share.

    All rows of ``patterns`` are kept, and ``stack`` is one that has the templates.
    """

    crossing: Crossing

    @property
    def order(self) -> tuple[int, ...]:
        """Positions among the random terms of the stack's templates."""
        members = self.crossing.members
        others = (j for j in range(len(self.A.terms)) if j not in members)
        return (*others, *members)

    def __call__(self, x: Floats) -> CrossedEvaluation:
        """Evaluate at the free numbers of the covariances within subjects, then the templates'."""
        return CrossedEvaluation(self, x)


@dataclass(frozen=True, eq=False)
class CrossedEvaluation(StructuredEvaluation):
    """The criterion at one point; derivatives are computed when asked for."""

    criterion: CrossedCriterion

    @property
    def crossing(self) -> Crossing:
        """The effects."""
        return self.criterion.crossing

    @cached_property
    def templates(self) -> list[Floats]:
        """Of the effects, working."""
        return self.criterion.stack.templates_at(self.x)[-len(self.crossing.terms) :]

    @cached_property
    def places(self) -> list[slice]:
        """Of the templates' numbers."""
        sizes = [t.template.size for t in self.crossing.terms]
        ends = accumulate(sizes, initial=len(self.x) - sum(sizes))
        return [slice(a, b) for a, b in pairwise(ends)]

    # -------------------------------------------------------------- the value

    @cached_property
    def OZ(self) -> Floats:
        """``O Z`` by subject, ``(s, V, L)``."""
        return np.asarray(self.inverses[self.patterns.kept.pattern] @ self.crossing.Z)

    def pulled(self, rows: Floats) -> Floats:
        """``Z' O rows`` for rows ``(s, V, m)``, ``(q, m)``."""
        return self.crossing.added(np.swapaxes(self.OZ, 1, 2) @ rows)

    @cached_property
    def A(self) -> Floats:
        """``Z' O Z``, ``(q, q)``."""
        return self.crossing.squared(np.swapaxes(self.crossing.Z, 1, 2) @ self.OZ)

    @cached_property
    def triangle(self) -> Floats:
        """Lower Cholesky factor of ``I + L' A L``, ``(q, q)``."""
        turned = [T.T for T in self.templates]
        H = self.crossing.times(turned, self.A)
        H = self.crossing.times(turned, H.T)
        H[np.diag_indices(len(H))] += 1.0
        return np.asarray(np.linalg.cholesky(H), dtype=np.float64)

    @cached_property
    def M(self) -> Floats:
        """Covariance of the effects given all parameters, ``(q, q)``."""
        turned = self.crossing.times([T.T for T in self.templates], np.eye(self.crossing.q))
        half = solve_triangular(self.triangle, turned, lower=True, check_finite=False)
        return np.asarray(half.T @ half)

    @cached_property
    def Zv(self) -> Floats:
        """``Z' O [X y]``, ``(q, p + 1)``."""
        return self.pulled(self.patterns.kept.rows)

    @cached_property
    def explained(self) -> Floats:
        """Effects that each column of ``[X y]`` would get, ``(q, p + 1)``."""
        return np.asarray(self.M @ self.Zv)

    @cached_property
    def products(self) -> Floats:
        found = self.within() - self.Zv.T @ self.explained
        return np.asarray(0.5 * (found + found.T))

    @property
    def log_determinant(self) -> float:
        own = 2.0 * float(np.log(np.diagonal(self.triangle)).sum())
        return super().log_determinant + own

    # -------------------------------------------------------------- sums for derivatives

    @cached_property
    def rows(self) -> Floats:
        rows = self.patterns.kept.rows
        return np.asarray(rows - self.crossing.Z @ self.crossing.met(self.explained))

    @cached_property
    def pairs(self) -> Floats:
        """Blocks of ``O Z M Z' O`` by subject, ``(s, V, V)``."""
        index = self.crossing.index
        among = self.M[index[:, :, None], index[:, None, :]]
        return np.asarray(self.OZ @ among @ np.swapaxes(self.OZ, 1, 2))

    @cached_property
    def blocks(self) -> Floats:
        shared = np.zeros(self.inverses.shape)
        self.patterns.kept.by_pattern(self.pairs, shared)
        found = self.each - shared
        return found - self.Q if self.criterion.reml else found

    @cached_property
    def left(self) -> Floats:
        """``Z' V^-1 X`` and ``Z' V^-1 r``, side by side: ``(q, p + 1)``."""
        columns = self.Zv - self.A @ self.explained
        columns[:, -1] = columns @ self.e
        return columns

    @property
    def _X(self) -> Floats:
        """``Z' V^-1 X``, ``(q, p)``."""
        return self.left[:, :-1]

    @cached_property
    def whole(self) -> Floats:
        """``Z' V^-1 Z``, ``(q, q)``."""
        return np.asarray(self.A - self.A @ self.M @ self.A)

    @cached_property
    def projected(self) -> Floats:
        """``Z' P Z``, or :attr:`whole` for ML."""
        return self.whole - self._X @ self.C @ self._X.T if self.criterion.reml else self.whole

    def inner_blocks(self, Z: Floats) -> Floats:
        kept = self.patterns.kept
        found = super().inner_blocks(Z)
        own = Z[self.patterns.groups[kept.pattern]]
        found[kept.subjects] -= np.swapaxes(own, 1, 2) @ self.pairs @ own
        return found

    @cached_property
    def variance_gradients(self) -> list[Floats]:
        """Derivative by ``T T'`` of every term, ``(k, k)``."""
        found = []
        for j in range(len(self.crossing.terms)):
            e = self.crossing.own(j, self.left)[:, :, -1]
            found.append(self.crossing.diagonal(j, self.projected).sum(axis=0) - e.T @ e)
        return found

    @property
    def _by_term(self) -> Iterator[tuple[ReTerm, slice, Floats, Floats]]:
        """Terms, the places of their numbers, templates, and derivatives by ``T T'``."""
        terms, gammas = self.crossing.terms, self.variance_gradients
        return zip(terms, self.places, self.templates, gammas, strict=True)

    @cached_property
    def gradient(self) -> Floats:
        found = self.within_gradient()
        for t, own, T, gamma in self._by_term:
            found[own] = t.template.pull(T, 2.0 * gamma @ T)
        return found

    @cached_property
    def bends(self) -> Floats:
        found = self.criterion.stack.second(self.x, self.slopes)
        for t, own, T, gamma in self._by_term:
            found[own, own] += t.template.second_order(T, gamma)
        return found

    # -------------------------------------------------------------- two derivatives

    @cached_property
    def turns(self) -> list[Floats]:
        """Derivatives of ``T T'`` of every term by its free numbers, ``(k, k, c)``."""
        found = []
        for t, own, T in zip(self.crossing.terms, self.places, self.templates, strict=True):
            half = np.einsum("abc,db->adc", t.template.jacobian(self.x[own]), T)
            found.append(half + np.swapaxes(half, 0, 1))
        return found

    def shifted(self, values: Floats) -> Floats:
        """``dG`` by every number of the templates, times values (q, m): ``(c, q, m)``."""
        sizes = [len(range(*own.indices(len(self.x)))) for own in self.places]
        found = np.zeros((sum(sizes), self.crossing.q, values.shape[1]))
        start = 0
        for j, (own, D) in enumerate(zip(self.crossing.parts, self.turns, strict=True)):
            some = slice(start, start := start + sizes[j])
            block = np.einsum("abc,lbm->clam", D, self.crossing.own(j, values))
            found[some, own] = block.reshape(sizes[j], -1, values.shape[1])
        return found

    def along_subjects(self, D: Sequence[Floats], left: Floats, right: Floats) -> Floats:
        """``left' D_a right`` by subject, ``(s, c, l, r)``, of the numbers within subjects."""
        kept, P = self.patterns.kept, self.patterns
        found = np.zeros(
            (len(left), self.criterion.stack.within.size, left.shape[2], right.shape[2])
        )
        for group, (own, d) in enumerate(zip(self.own, D, strict=True)):
            mine = np.flatnonzero(P.groups[kept.pattern] == group)
            turned = np.einsum("svl,vtc->sclt", left[mine], d, optimize=True)
            found[np.ix_(mine, own)] = turned @ right[mine][:, None]
        return found

    def moved(self, D: Sequence[Floats], right: Floats) -> Floats:
        """``Z' O V_a right`` of the numbers within subjects, for ``(s, V, m)``: ``(c, q, m)``."""
        parts = self.along_subjects(D, self.OZ, right)
        return np.stack([self.crossing.added(parts[:, a]) for a in range(parts.shape[1])])

    def average(self, D: Sequence[Floats]) -> Floats:
        p, m = len(self.beta), self.criterion.stack.within.size
        inside = np.zeros((len(self.x), p))
        for own, d, M in zip(self.own, D, self.mixed, strict=True):
            inside[own] += np.einsum("stc,stp->cp", d, M, optimize=True)
        w = self.moved(D, self.images[:, :, p:])[:, :, 0]
        h = self.shifted(self.left[:, p:])[:, :, 0]
        inside[m:] = h @ self._X
        found = self.along(D, self.K)
        found[:m, :m] -= w @ self.M @ w.T
        found[m:, m:] = h @ self.whole @ h.T
        found[m:, :m] = h @ (w - w @ self.M @ self.A).T
        found[:m, m:] = found[m:, :m].T
        return np.asarray(found - inside @ self.C @ inside.T)

    def projections(self, D: Sequence[Floats]) -> Floats:
        found, m = super().projections(D), self.criterion.stack.within.size
        found[m:] = self._X.T @ self.shifted(self._X)
        return found

    def doubled(self, D: Sequence[Floats], W: Floats) -> Floats:
        p, m = len(self.beta), self.criterion.stack.within.size
        R, H = self.moved(D, self.images[:, :, :p]), self.shifted(self._X)
        total = super().doubled(D, W)
        total -= np.einsum("apr,ab,bpq->rq", self.M @ R, W[:m, :m], R, optimize=True)
        through = R - self.A @ (self.M @ R)
        mixed = np.einsum("kqr,ka,aqs->rs", H, W[m:, :m], through, optimize=True)
        total += mixed + mixed.T
        return np.asarray(
            total + np.einsum("kqr,kl,lqs->rs", H, W[m:, m:], self.whole @ H, optimize=True)
        )

    def expected(self, D: Sequence[Floats]) -> Floats:
        p, m = len(self.beta), self.criterion.stack.within.size
        found = super().expected(D)
        S = self._squares(D)
        turned = self.M @ S
        found[:m, :m] += np.einsum("apq,bqp->ab", turned, turned, optimize=True)
        J = np.eye(self.crossing.q) - self.M @ self.A
        N = np.swapaxes(J, 0, 1) @ S @ J
        if self.criterion.reml:
            X, R = self._X, self.moved(D, self.images[:, :, :p])
            found[:m, :m] += 2.0 * np.einsum("aqr,rs,bqs->ab", self.M @ R, self.C, R, optimize=True)
            XC = X @ self.C
            one = XC @ np.swapaxes(R, 1, 2) @ J
            N = N - one - np.swapaxes(one, 1, 2) + XC @ self.projections(D)[:m] @ XC.T
        for j, (own, turn) in enumerate(zip(self.places, self.turns, strict=True)):
            blocks = np.stack([self.crossing.diagonal(j, n).sum(axis=0) for n in N])
            found[own, :m] = np.einsum("abc,nba->cn", turn, blocks)
            found[:m, own] = found[own, :m].T
            for i, (other, turned) in enumerate(zip(self.places, self.turns, strict=True)):
                found[own, other] = self._between(j, i, turn, turned)
        return found

    def _squares(self, D: Sequence[Floats]) -> Floats:
        """``Z' O V_a O Z`` of the numbers within subjects, ``(c, q, q)``."""
        parts = self.along_subjects(D, self.OZ, self.OZ)
        return np.stack([self.crossing.squared(parts[:, a]) for a in range(parts.shape[1])])

    def _between(self, i: int, j: int, D: Floats, E: Floats) -> Floats:
        """``tr(P V_a P V_b)`` of the numbers of two terms."""
        one, other = self.crossing.terms[i], self.crossing.terms[j]
        block = self.projected[self.crossing.parts[i], self.crossing.parts[j]]
        shape = (one.l, one.k, other.l, other.k)
        flat = block.reshape(shape).transpose(1, 3, 0, 2).reshape(one.k * other.k, -1)
        squares = (flat @ flat.T).reshape(one.k, other.k, one.k, other.k)
        return np.asarray(np.einsum("abc,adbe,def->cf", D, squares, E, optimize=True))
