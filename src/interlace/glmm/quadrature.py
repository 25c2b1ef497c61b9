"""Adaptive Gauss-Hermite quadrature for one grouping factor, with its exact gradient.

The likelihood is a product of integrals over the ``k`` effects of each level.  Nodes are laid out
around the mode ``m`` by the curvature there (Liu and Pierce, 1994, Biometrika 81, 624-629):
``u = m + sqrt(2) R x`` with ``R R' = D^-1`` and ``D = T'Z'WZ T + I`` of the level.  With one node
it is Laplace's approximation.

Notes
-----
With means over the nodes, each by its share of the level's sum, and ``s = T'Z'g(u) - u``, the
derivative of the log integral is the mean of that of the integrand's logarithm, plus ``a'dm +
<A, dR> + tr(R^-1 dR)`` for ``a = mean s``, ``A = sqrt(2) mean s x'``.  The last two are brought
back to ``dD``, this to ``dT`` and the rows' ``dW = W' d eta``, and ``dm`` by that of the mode,
``D dm = dT'Z'g + T'Z'(g_o d omega - W d eta)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, product
from typing import ClassVar

import numpy as np
from scipy.linalg import block_diag
from scipy.special import logsumexp, softmax

from interlace.errors import InterlaceError
from interlace.glmm.laplace import Evaluation, evaluate, evaluation_at
from interlace.glmm.problem import Parameters, Problem
from interlace.sums.cells import Codes
from interlace.sums.terms import Floats, pull

# Effects of one level, and nodes a dimension, at most.
MOST_COLUMNS, MOST_NODES = 3, 100
_ROOT_TWO = float(np.sqrt(2.0))


@dataclass(frozen=True)
class Quadrature:
    """Quadrature with so many nodes a dimension, as what an estimate was made by."""

    nodes: int
    restricted: ClassVar[bool] = False

    def __call__(self, problem: Problem, at: Parameters, start: list[Floats]) -> Evaluation | None:
        """The criterion at parameters; ``None`` where there is no likelihood."""
        return self._over(evaluate(problem, at, start))

    def beside(self, point: Evaluation, to: Parameters) -> Evaluation | None:
        """The criterion a tiny step away from a point."""
        return self._over(evaluation_at(point.problem, to, point.mode_beside(to)))

    def _over(self, found: Evaluation | None) -> Evaluation | None:
        """Quadrature around a mode."""
        if found is None:
            return None
        exact = QuadratureEvaluation(
            found.problem, found.at, found.mode, found.equations, self.nodes
        )
        return exact if np.isfinite(exact.value) else None


def refuse_quadrature(problem: Problem, nodes: int) -> None:
    """Refuse what quadrature cannot do.

    Raises
    ------
    InterlaceError
        Several grouping factors, or more than three effects a level.
    """
    groups = list(dict.fromkeys(t.group for t in problem.rows.terms))
    if len(groups) > 1:
        words = {2: "two", 3: "three"}.get(len(groups), str(len(groups)))
        raise InterlaceError(
            f"quadrature={nodes} needs one grouping factor; this model has {words} "
            f"({', '.join(map(repr, groups))}): leave quadrature out for Laplace's approximation"
        )
    k = sum(t.k for t in problem.rows.terms)
    if k > MOST_COLUMNS:
        raise InterlaceError(
            f"quadrature={nodes} needs at most {MOST_COLUMNS} random effects a level; "
            f"{groups[0]!r} has {k}: leave quadrature out for Laplace's approximation"
        )


@dataclass(frozen=True, eq=False)
class QuadratureEvaluation(Evaluation):
    """The criterion by quadrature at one point; the Newton matrix is that of Laplace."""

    nodes: int

    @property
    def _codes(self) -> Codes:
        return self.problem.rows.codes[0]

    @cached_property
    def _Z(self) -> Floats:
        """Columns of all terms, ``(n, k)``."""
        rows = self.problem.rows
        return np.column_stack([np.ones(rows.n) if Z is None else Z for Z in rows.Z])

    @cached_property
    def _T(self) -> Floats:
        """Templates of all terms, on the diagonal of one ``(k, k)``."""
        return np.asarray(block_diag(*self.at.templates))

    @cached_property
    def _m(self) -> Floats:
        """Spherical effects of all terms at the mode, ``(l, k)``."""
        return np.concatenate(self.mode.u, axis=1)

    def _sums(self, v: Floats) -> Floats:
        """``Z'v`` by level, ``(l, k)``."""
        return np.concatenate(self.problem.rows.sums(v), axis=1)

    def _forms(self, by_level: Floats) -> Floats:
        """``z_i' v`` or ``z_i' M z_i`` of every row, for ``v`` (l, k) or ``M`` (l, k, k)."""
        own = by_level[self._codes]
        index = "ni,nij,nj->n" if own.ndim == 3 else "ni,ni->n"
        return np.asarray(np.einsum(index, *((self._Z, own, self._Z)[: own.ndim])))

    @cached_property
    def _squares(self) -> Floats:
        """``Z'WZ`` by level, ``(l, k, k)``."""
        W, Z = self.mode.curve.W, self._Z
        return np.stack([self._sums(W * column) for column in Z.T], axis=2)

    @cached_property
    def _root(self) -> Floats:
        """``R`` with ``R R' = D^-1``: the inverse of the transposed Cholesky factor, (l, k, k)."""
        eye = np.eye(len(self._T))
        L = np.linalg.cholesky(self._T.T @ self._squares @ self._T + eye)
        return np.asarray(np.linalg.inv(L).transpose(0, 2, 1))

    def _at(self, x: Floats) -> tuple[Floats, Floats]:
        """Effects (l, k) and linear predictors (n,) at one node."""
        u = self._m + _ROOT_TWO * (self._root @ x)
        part = self._forms((u - self._m) @ self._T.T)
        return u, self.mode.eta + part

    @cached_property
    def _logs(self) -> Floats:
        """Logarithm of what every node adds to the integral of every level, ``(nodes^k, l)``."""
        omega, l = self.problem.omega(self.at.gamma), len(self._m)
        found = []
        for x, log_weight in zip(*grid(self.nodes, len(self._T)), strict=True):
            u, eta = self._at(x)
            outside = ~self.problem.family.link.inside(eta)
            curve = self.problem.curve(np.where(outside, self.mode.eta, eta), omega)
            log = np.where(outside, -np.inf, curve.l)
            sums = np.bincount(self._codes, weights=log, minlength=l)
            found.append(sums - 0.5 * (u**2).sum(axis=1) + log_weight)
        return np.stack(found)

    @cached_property
    def value(self) -> float:
        """Minus twice the log-likelihood, and the penalty of a prior if there is one."""
        log_roots = np.log(np.diagonal(self._root, axis1=1, axis2=2)).sum()
        constant = -0.5 * np.log(np.pi) * self._m.size + self.problem.constant
        total = logsumexp(self._logs, axis=0).sum() + log_roots + constant
        return float(-2.0 * total + self.problem.penalty(self.at.beta))

    @cached_property
    def gradient(self) -> Floats:
        """Gradient with respect to all parameters, packed."""
        means, W = self._means, self.mode.curve.W
        root = self._root
        D_bar = -root @ _halved(means.sx.transpose(0, 2, 1) @ root + np.eye(len(self._T)))
        D_bar = D_bar @ root.transpose(0, 2, 1)
        through = self._forms(self._T @ D_bar @ self._T.T)
        c = through * self.mode.curve.dW
        towards = means.s + self._sums(c) @ self._T
        answer = np.einsum("lij,lkj,lk->li", root, root, towards)
        moved = self._forms(answer @ self._T.T)
        r = c - W * moved
        T = means.eu + 2.0 * (self._squares @ self._T @ D_bar).sum(axis=0)
        T = T + self._sums(r).T @ self._m + self._sums(self.mode.curve.g).T @ answer
        beta = -2.0 * self.problem.rows.X.T @ (means.g + r)
        if self.problem.precision is not None:
            beta = beta + 2.0 * self.problem.precision @ self.at.beta
        gamma = np.zeros(0)
        if self.problem.sizes[2]:
            rows = means.o + through * self.slope.W + moved * self.slope.g
            gamma = -2.0 * self.problem.to_gamma(rows)
        blocks, terms = self._blocks(-2.0 * T), self.problem.rows.terms
        return np.concatenate([pull(terms, self.at.templates, blocks), beta, gamma])

    def _blocks(self, T: Floats) -> list[Floats]:
        """The diagonal blocks of the terms."""
        ends = np.cumsum([0, *(t.k for t in self.problem.rows.terms)])
        return [T[a:b, a:b] for a, b in pairwise(ends)]

    @cached_property
    def _means(self) -> _Means:
        """Means over the nodes, a second pass over them."""
        omega = self.problem.omega(self.at.gamma)
        shares = softmax(self._logs, axis=0)
        k, (l, n) = len(self._T), (len(self._m), self.problem.rows.n)
        s, sx, eu = np.zeros((l, k)), np.zeros((l, k, k)), np.zeros((k, k))
        g, o = np.zeros(n), np.zeros((len(self.problem.G), n))
        for x, share in zip(grid(self.nodes, k)[0], shares, strict=True):
            u, eta = self._at(x)
            eta = np.where(self.problem.family.link.inside(eta), eta, self.mode.eta)
            own = share[self._codes]
            wg = own * self.problem.curve(eta, omega).g
            we = self._sums(wg)
            slope = we @ self._T - share[:, None] * u
            s += slope
            sx += _ROOT_TWO * slope[:, :, None] * x
            eu += we.T @ u
            g += wg
            if len(o):
                o += own * self.problem.slope(eta, omega).l
        return _Means(s, sx, eu, g, o)


@dataclass(frozen=True, eq=False)
class _Means:
    """Means over the nodes of a level: ``s`` (l, k), ``sqrt(2) s x'`` (l, k, k), and, summed over
    levels, ``Z'g u'`` (k, k); ``g`` (n,) and ``l_o`` (K, n) of every row.
    """

    s: Floats
    sx: Floats
    eu: Floats
    g: Floats
    o: Floats


@lru_cache(maxsize=32)
def grid(nodes: int, k: int) -> tuple[Floats, Floats]:
    """Nodes ``(nodes^k, k)`` and logarithms of their weights times ``exp(x'x)``."""
    x, w = np.polynomial.hermite.hermgauss(nodes)
    points = np.array(list(product(x, repeat=k)))
    logs = np.array([sum(part) for part in product(np.log(w) + x**2, repeat=k)])
    return points, logs


def _halved(B: Floats) -> Floats:
    """Symmetric with half the lower triangle of ``B``: the adjoint of a Cholesky factor's."""
    lower = 0.5 * np.tril(B)
    return lower + np.tril(lower, -1).transpose(0, 2, 1)
