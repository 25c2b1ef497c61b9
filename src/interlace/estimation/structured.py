"""ML and REML criterion of a linear model whose residuals are correlated within subjects.

With ``V`` block diagonal, a block ``Sigma(xi)`` at the observed visits for every subject, minus
twice the (restricted) log-likelihood is

    nu log(2 pi) + sum log|Sigma_i| + log|X' V^-1 X| + r' V^-1 r

(the third term for REML).  Derivatives are taken by the entries of ``Sigma`` first, from sums by
pattern (:mod:`interlace.sums.patterns`), and brought to ``xi`` by the derivatives of the structure;
an evaluation costs patterns times visits, not subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.covariance.stacks import Stack
from interlace.covariance.structures import regular
from interlace.covariance.templates import Places
from interlace.estimation.likelihood import degrees, gaussian_at
from interlace.sums.crossprod import CrossProducts
from interlace.sums.patterns import Patterns, Summed
from interlace.sums.terms import Floats

# Visits up to which products of all pairs of pairs of them are held.
_MOST_PAIRS = 40


@dataclass(frozen=True, eq=False)
class StructuredCriterion:
    """The function to be minimised: sums by pattern, the covariances, and ML or REML.

    ``A`` are the cross-products of the same rows without regard to subjects: labels, the working
    basis, and least squares to start from.
    """

    A: CrossProducts
    patterns: Patterns
    stack: Stack
    reml: bool

    @property
    def nu(self) -> int:
        """``n - p`` for REML, ``n`` for ML."""
        return degrees(self.A, reml=self.reml)

    @property
    def order(self) -> tuple[int, ...]:
        """Positions among the random terms of the stack's templates."""
        return tuple(range(len(self.A.terms)))

    def start(self) -> Floats:
        """Free numbers near the moments of the residuals of least squares."""
        e = np.append(-least_squares(self.A), 1.0)
        total, number = self.patterns.moments(e)
        whole = pooled(total.sum(axis=0), number.sum(axis=0))
        each = [pooled(t, n, whole) for t, n in zip(total, number, strict=True)]
        return self.stack.start(np.stack(each))

    def __call__(self, x: Floats) -> StructuredEvaluation:
        """Evaluate at the free numbers of all groups, one after the other."""
        return StructuredEvaluation(self, x)


def least_squares(A: CrossProducts) -> Floats:
    """Coefficients in the working basis, ``(p,)``."""
    return np.asarray(np.linalg.solve(A.vv[:-1, :-1], A.vv[:-1, -1]), dtype=np.float64)


def pooled(total: Floats, number: Floats, instead: Floats | None = None) -> Floats:
    """A covariance from sums of products, and from another one where there are few of them."""
    known = number > 2
    if instead is None:
        variance = np.trace(total) / max(np.trace(number), 1.0)
        instead = variance * np.eye(len(total))
    return regular(np.where(known, total / np.where(known, number, 1.0), instead))


@dataclass(frozen=True, eq=False)
class StructuredEvaluation:
    """The criterion at one point; derivatives are computed when asked for."""

    criterion: StructuredCriterion
    x: Floats
    work = ""

    # -------------------------------------------------------------- the value

    @property
    def patterns(self) -> Patterns:
        """The sums."""
        return self.criterion.patterns

    @cached_property
    def covariances(self) -> Floats:
        """``Sigma`` of every group, ``(G, V, V)``."""
        return self.criterion.stack(self.x)

    @cached_property
    def roots(self) -> Floats | None:
        """Inverses ``L^-1`` of the Cholesky factors of all patterns; ``None`` if one is singular.

        ``(N, V, V)``, with the identity at visits that were missed.
        """
        P = self.patterns
        missed = np.eye(P.V) * ~P.observed[:, None, :]
        Sigma = np.where(P.pairs, self.covariances[P.groups], missed)
        if not np.isfinite(Sigma).all():
            return None
        try:
            L = np.linalg.cholesky(Sigma)
        except np.linalg.LinAlgError:
            return None
        return np.asarray(np.linalg.solve(L, np.broadcast_to(np.eye(P.V), L.shape)), np.float64)

    @cached_property
    def inverses(self) -> Floats:
        """``O``: the inverse of every pattern's covariance, 0 at visits that were missed."""
        return np.asarray((np.swapaxes(self._roots, 1, 2) @ self._roots) * self.patterns.pairs)

    @property
    def _roots(self) -> Floats:
        assert self.roots is not None
        return self.roots

    @cached_property
    def products(self) -> Floats:
        """``[X y]' V^-1 [X y]``, ``(p + 1, p + 1)``."""
        return self.within()

    def within(self) -> Floats:
        """:attr:`products` of what a subject shares with no other."""
        kept, O = self.patterns.kept, self.inverses
        m = kept.rows.shape[2]
        whitened = (self._roots[kept.pattern] @ kept.rows).reshape(-1, m)
        total = whitened.T @ whitened
        for one in self.patterns.summed:
            total += np.einsum("st,stab->ab", _own(O, one), one.products)
        return np.asarray(total)

    @cached_property
    def root(self) -> Floats | None:
        """``B`` (p, p) with ``B B' = (X' V^-1 X)^-1``; ``None`` if that is singular."""
        H = self.products[:-1, :-1]
        if not np.isfinite(H).all():
            return None
        try:
            L = np.linalg.cholesky(H)
        except np.linalg.LinAlgError:
            return None
        return np.asarray(np.linalg.solve(L, np.eye(len(L))).T, dtype=np.float64)

    @property
    def B(self) -> Floats:
        """:attr:`root` where the criterion is finite."""
        assert self.root is not None
        return self.root

    @cached_property
    def C(self) -> Floats:
        """``(X' V^-1 X)^-1``, ``(p, p)``."""
        return np.asarray(self.B @ self.B.T)

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects in the working basis."""
        return np.asarray(self.C @ self.products[:-1, -1])

    @property
    def e(self) -> Floats:
        """Weights of ``[X y]`` that give the residuals."""
        return np.append(-self.beta, 1.0)

    @cached_property
    def value(self) -> float:
        """Minus twice the (restricted) log-likelihood, in the user's units."""
        if self.roots is None or self.root is None:
            return np.inf
        A, H = self.criterion.A, self.products
        r2 = float(H[-1, -1] - H[-1, :-1] @ self.beta)
        if not r2 > 0.0:
            return np.inf
        unit = -2.0 * float(np.log(A.basis.response_scale))
        value = gaussian_at(self.criterion.nu, unit, r2) + self.log_determinant - A.sum_log_w
        if self.criterion.reml:
            logdet_x = -2.0 * float(np.log(np.diagonal(self.B)).sum())
            value += logdet_x - 2.0 * A.basis.log_det_fixed
        return value

    @property
    def log_determinant(self) -> float:
        """``log|V|``, in working units."""
        logs = -2.0 * np.log(np.diagonal(self._roots, axis1=1, axis2=2)).sum(axis=1)
        return float(self.patterns.counts @ logs)

    # -------------------------------------------------------------- sums for derivatives

    @property
    def rows(self) -> Floats:
        """``[X y]`` of the subjects that are kept, ``(s, V, p + 1)``."""
        return self.patterns.kept.rows

    @cached_property
    def images(self) -> Floats:
        """``O X`` and ``O r`` of the subjects that are kept, side by side: ``(s, V, p + 1)``."""
        rows = self.rows.copy()
        rows[:, :, -1] = self.rows @ self.e
        return np.asarray(self.inverses[self.patterns.kept.pattern] @ rows)

    @cached_property
    def K(self) -> Floats:
        """``O (sum r r') O`` by pattern, ``(N, V, V)``."""
        found, g, e = np.zeros(self.inverses.shape), self.images[:, :, -1], self.e
        self.patterns.kept.by_pattern(g[:, :, None] * g[:, None, :], found)
        for one in self.patterns.summed:
            O = _own(self.inverses, one)
            _put(found, one, O @ ((one.products @ e) @ e) @ O)
        return found

    @cached_property
    def Q(self) -> Floats:
        """``O (sum X C X') O`` by pattern, ``(N, V, V)``."""
        found, p = np.zeros(self.inverses.shape), len(self.beta)
        F = self.images[:, :, :p] @ self.B
        self.patterns.kept.by_pattern(F @ np.swapaxes(F, 1, 2), found)
        for one in self.patterns.summed:
            O = _own(self.inverses, one)
            _put(found, one, O @ np.einsum("stab,ab->st", one.products[..., :p, :p], self.C) @ O)
        return found

    def _of(self, group: int) -> tuple[Places, Places]:
        """Which patterns, and which kept subjects, are of a group."""
        mine = self.patterns.groups == group
        return np.flatnonzero(mine), np.flatnonzero(mine[self.patterns.kept.pattern])

    @cached_property
    def mixed(self) -> Floats:
        """``sum (O X)_s (O r)_t`` by group and pair of visits, ``(G, V, V, p)``."""
        p, V = len(self.beta), self.patterns.V
        found = np.zeros((self.patterns.n_groups, V, V, p))
        for group, total in enumerate(found):
            own = self.images[self._of(group)[1]]
            X = own[:, :, :p].reshape(len(own), V * p)
            total += (X.T @ own[:, :, p]).reshape(V, p, V).transpose(0, 2, 1)
        for one in self.patterns.summed:
            O, at = _own(self.inverses, one), np.ix_(one.visits, one.visits)
            crossed = (one.products @ self.e)[..., :p]
            found[self.patterns.groups[one.pattern]][at] += np.einsum(
                "su,uvp,vt->stp", O, crossed, O, optimize=True
            )
        return found

    @cached_property
    def squares(self) -> Floats:
        """``sum (O X)_s' (O X)_t`` by group and pair of visits, ``(G, V, V, p, p)``."""
        p, V = len(self.beta), self.patterns.V
        found = np.zeros((self.patterns.n_groups, V, V, p, p))
        for group, total in enumerate(found):
            X = self.images[self._of(group)[1]][:, :, :p]
            X = X.reshape(len(X), V * p)
            total += (X.T @ X).reshape(V, p, V, p).transpose(0, 2, 1, 3)
        for one in self.patterns.summed:
            O, at = _own(self.inverses, one), np.ix_(one.visits, one.visits)
            inner = one.products[..., :p, :p]
            found[self.patterns.groups[one.pattern]][at] += np.einsum(
                "su,uvpq,vt->stpq", O, inner, O, optimize=True
            )
        return found

    def inner_blocks(self, Z: Floats) -> Floats:
        """``Z' V^-1 Z`` of every subject, for columns of the groups ``(G, V, k)``."""
        P = self.patterns
        own = Z[P.groups]
        return np.asarray(np.swapaxes(own, 1, 2) @ self.inverses @ own)[P.of_subject]

    # -------------------------------------------------------------- derivatives by Sigma, and by xi

    @cached_property
    def each(self) -> Floats:
        """``O`` times the subjects of every pattern, ``(N, V, V)``."""
        return np.asarray(self.patterns.counts[:, None, None] * self.inverses)

    @cached_property
    def blocks(self) -> Floats:
        """Blocks of ``V^-1``, less their share of the fixed effects for REML, by pattern."""
        return self.each - self.Q if self.criterion.reml else self.each

    @cached_property
    def slopes(self) -> Floats:
        """Derivative by the entries of every group's ``Sigma``, ``(G, V, V)``."""
        P = self.patterns
        found = np.zeros((P.n_groups, P.V, P.V))
        np.add.at(found, P.groups, self.blocks - self.K)
        return found

    @cached_property
    def jacobians(self) -> list[Floats]:
        """Derivatives of every group's ``Sigma`` by its own free numbers, ``(V, V, c)``."""
        return self.criterion.stack.jacobians(self.x)

    @cached_property
    def gradient(self) -> Floats:
        """By the free numbers."""
        return self.within_gradient()

    def within_gradient(self) -> Floats:
        """By the free numbers of the covariances within subjects, 0 for others."""
        found = np.zeros(len(self.x))
        for own, slope, J in zip(self.own, self.slopes, self.jacobians, strict=True):
            found[own] += np.einsum("st,stc->c", slope, J)
        return found

    @property
    def own(self) -> Sequence[Places]:
        """Which of the free numbers every group depends on."""
        return self.criterion.stack.own

    @cached_property
    def bends(self) -> Floats:
        """What the second derivatives of ``Sigma`` add to those of the criterion."""
        return self.criterion.stack.second(self.x, self.slopes)

    @cached_property
    def newton_matrix(self) -> Floats:
        """Average information [1]_, and what the second derivatives of ``Sigma`` add.

        ``y'P V_a P V_b P y``: traces of products of two derivatives cancel in the average of
        observed and expected information.

        .. [1] Gilmour, Thompson and Cullis (1995), Biometrics 51, 1440-1450.
        """
        return self.average(self.jacobians) + self.bends

    def average(self, D: Sequence[Floats]) -> Floats:
        """``y'P V_a P V_b P y`` along directions ``D`` (V, V, c) of every group's ``Sigma``."""
        crossed = np.zeros((len(self.x), len(self.beta)))
        for own, d, M in zip(self.own, D, self.mixed, strict=True):
            crossed[own] += np.einsum("stc,stp->cp", d, M, optimize=True)
        return np.asarray(self.along(D, self.K) - crossed @ self.C @ crossed.T)

    def expected(self, D: Sequence[Floats]) -> Floats:
        """``tr(P V_a P V_b)`` along directions ``D``; without projection for ML."""
        found = self.along(D, 2.0 * self.blocks - self.each)
        if not self.criterion.reml:
            return found
        Pi = self.projections(D) @ self.C
        return np.asarray(found + np.einsum("apq,bqp->ab", Pi, Pi, optimize=True))

    def projections(self, D: Sequence[Floats]) -> Floats:
        """``X' V^-1 V_a V^-1 X`` along directions ``D``, ``(c, p, p)``."""
        p = len(self.beta)
        found = np.zeros((len(self.x), p, p))
        for own, d, M in zip(self.own, D, self.squares, strict=True):
            found[own] += np.einsum("stc,stpq->cpq", d, M, optimize=True)
        return found

    def doubled(self, D: Sequence[Floats], W: Floats) -> Floats:
        """``sum W_ab X' V^-1 V_a V^-1 V_b V^-1 X`` along directions ``D``, ``(p, p)``."""
        inner = np.zeros(self.inverses.shape)
        for group, (d, own) in enumerate(zip(D, self.own, strict=True)):
            mine = self.patterns.groups == group
            inner[mine] = _weighted(d, W[np.ix_(own, own)], self.inverses[mine])
        p = len(self.beta)
        X = self.images[:, :, :p]
        total = np.tensordot(X, inner[self.patterns.kept.pattern] @ X, axes=([0, 1], [0, 1]))
        for one in self.patterns.summed:
            O = _own(self.inverses, one)
            block = O @ _own(inner, one) @ O
            total = total + np.einsum("st,stpq->pq", block, one.products[..., :p, :p])
        return np.asarray(total)

    def along(self, D: Sequence[Floats], K: Floats) -> Floats:
        """``sum tr(D_a O D_b K)`` over patterns, for ``K`` (N, V, V)."""
        found = np.zeros((len(self.x), len(self.x)))
        for group, (own, d) in enumerate(zip(self.own, D, strict=True)):
            mine = self._of(group)[0]
            found[np.ix_(own, own)] += paired(d, self.inverses[mine], K[mine])
        return found


def paired(D: Floats, O: Floats, K: Floats) -> Floats:
    """``sum_n tr(D_a O_n D_b K_n)`` for ``D`` (V, V, c), symmetric ``O, K`` (N, V, V)."""
    V, c = D.shape[1:]
    if V <= _MOST_PAIRS:
        M = kronecker(O, K)
        flat = D.reshape(V * V, c)
        return np.asarray(flat.T @ (M @ flat))
    found = np.zeros((c, c))
    for one, other in zip(O, K, strict=True):
        left = np.einsum("ijc,jk->cik", D, one, optimize=True).reshape(c, -1)
        right = np.einsum("kic,ij->cjk", D, other, optimize=True).reshape(c, -1)
        found += left @ right.T
    return found


def _weighted(D: Floats, W: Floats, O: Floats) -> Floats:
    """``sum W_ab D_a O_n D_b`` for every ``O_n`` (N, V, V), with ``D`` (V, V, c)."""
    found = np.zeros(O.shape)
    for a, turned in enumerate(np.moveaxis(D @ W, 2, 0)):
        found += D[:, :, a] @ O @ turned
    return found


def kronecker(O: Floats, K: Floats) -> Floats:
    """``M`` (V^2, V^2) with ``vec(D)' M vec(E) = sum_n tr(D O_n E K_n)``."""
    V = O.shape[1]
    sums = O.reshape(len(O), V * V).T @ K.reshape(len(K), V * V)  # (j, k), (l, i)
    turned = np.ascontiguousarray(sums.reshape(V, V, V, V).transpose(3, 0, 1, 2))
    return turned.reshape(V * V, V * V)


def _own(O: Floats, one: Summed) -> Floats:
    """The entries of a pattern at its visits."""
    return np.asarray(O[one.pattern][np.ix_(one.visits, one.visits)])


def _put(found: Floats, one: Summed, block: Floats) -> None:
    """Write a block at a pattern's visits."""
    found[one.pattern][np.ix_(one.visits, one.visits)] = block
