"""How fixed effects and their covariance change without some rows, and measures of the change.

Everything is whitened: with ``C`` the covariance of the fixed effects of the full fit and
``C = L L'``, a change is ``g = L^-1 (beta - beta(a))`` (p,) and a growth
``G = L^-1 (C(a) - C) L^-T`` (p, p), so that the basis of ``X`` and the unit of ``y`` drop out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.design.design import Design
from interlace.diagnostics.deletion import Deletable
from interlace.diagnostics.polish import polished
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate
from interlace.solver.blocks import multiply
from interlace.solver.exact import Factor
from interlace.solver.rows import fixed_on_random, quadratic_forms, set_forms
from interlace.solver.solve import solve
from interlace.sums.crossprod import Codes
from interlace.sums.terms import Floats

MEASURES = ("cooksd", "mdffits", "covtrace", "covratio")

# Residual variance left to a row, or a direction of a group, given the others, relative to sigma^2:
# below this its deletion leaves the fixed effects undetermined.
_NOTHING = 1e-12
_INFLUENCE = (
    "influence measures (hlm_influence, cooks_distance, mdffits, covtrace, covratio, rvc) need"
)
# Numbers in the right-hand sides of one solve.
_PIECE = 1 << 23
# Groups with more rows, and more than half the remainder, are left out of the equations instead.
_LARGE = 256


@dataclass(frozen=True, eq=False)
class Influence:
    """The measures of ``B`` deletions, ``(B,)`` each; NaN where the deletion has no fit."""

    cooksd: Floats
    mdffits: Floats
    covtrace: Floats
    covratio: Floats


def measures(g: Floats, G: Floats) -> Influence:
    """Measures from changes ``g`` (B, p) and growths ``G`` (B, p, p).

    Notes
    -----
    ``cooksd = g'g / p`` [1]_, ``mdffits = g' (I + G)^-1 g / p`` [2]_, ``covtrace = |tr G|``,
    ``covratio = det(I + G)`` [3]_.  The first two are NaN without fixed effects.

    References
    ----------
    .. [1] Cook (1977), Technometrics 19, 15-18.
    .. [2] Belsley, Kuh and Welsch (1980), Regression Diagnostics.
    .. [3] Christensen, Pearson and Johnson (1992), Technometrics 34, 38-45.

    Examples
    --------
    >>> found = measures(np.array([[1.0, 2.0]]), np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    >>> [float(found.cooksd[0]), float(found.mdffits[0]), float(found.covtrace[0])]
    [2.5, 2.25, 1.0]
    """
    B, p = g.shape
    inside = np.isfinite(G).all(axis=(1, 2)) & np.isfinite(g).all(axis=1)
    cooksd, mdffits, covtrace, covratio = (np.full(B, np.nan) for _ in range(4))
    M = G[inside] + np.eye(p)
    covtrace[inside] = np.abs(np.trace(G[inside], axis1=1, axis2=2))
    covratio[inside] = np.linalg.det(M)
    if p:
        solved = np.linalg.solve(M, g[inside][:, :, None])[:, :, 0]
        cooksd[inside] = (g[inside] ** 2).sum(axis=1) / p
        mdffits[inside] = (g[inside] * solved).sum(axis=1) / p
    return Influence(cooksd, mdffits, covtrace, covratio)


def whitener(factor: Factor) -> Floats:
    """``L`` (p, p) with ``(X' Omega^-1 X)^-1 = L L'`` in the working basis."""
    return np.asarray(np.linalg.cholesky(factor.vcov), dtype=np.float64)


def changes(
    full: Factor, sigma: float, beta: Floats, C: Floats, ratio: Floats
) -> tuple[Floats, Floats]:
    """``g`` (B, p) and ``G`` (B, p, p) of other estimates.

    ``sigma`` is that of the full fit, ``beta`` (B, p), ``C`` (B, p, p) and ``ratio`` (B,) are the
    estimates, their covariance over ``sigma(a)^2``, and ``sigma(a)^2 / sigma^2``; all working.
    """
    inverse = np.linalg.inv(whitener(full))
    g = (full.beta - beta) @ inverse.T / sigma
    return g, ratio[:, None, None] * (inverse @ C @ inverse.T) - np.eye(len(inverse))


# ------------------------------------------------------------------ one step: theta, sigma kept


@dataclass(frozen=True, eq=False)
class OneStep:
    """Weighted rows against ``Omega^-1`` and ``P``, in the working basis.

    Work and memory are those of the leverages.
    """

    deletable: Deletable
    estimate: Estimate

    @property
    def factor(self) -> Factor:
        """The mixed-model equations of the full fit."""
        return self.estimate.evaluation.dense(_INFLUENCE)

    @cached_property
    def sigma(self) -> float:
        """Residual standard deviation of the working response."""
        return float(np.sqrt(self.estimate.evaluation.sigma2))

    @cached_property
    def C(self) -> Floats:
        """``C~`` on the dense remainder, ``(m, m)``."""
        return self.factor.remainder_covariance(fixed=True)

    @cached_property
    def h(self) -> Floats:
        """Hat values (n,): ``1 - h`` is the diagonal of ``P``."""
        return quadratic_forms(self.factor, self.deletable.rows)

    @cached_property
    def a(self) -> Floats:
        """``Omega^-1 X L``, ``(n, p)``."""
        rows = self.deletable.rows
        left = rows.X.copy()
        for codes, Z, b in zip(rows.codes, rows.Z, fixed_on_random(self.factor), strict=True):
            left -= multiply(Z[:, None, :], b[codes])[:, 0]
        return left @ whitener(self.factor)

    @cached_property
    def e(self) -> Floats:
        """``P y / sigma``, ``(n,)``."""
        rows = self.deletable.rows
        e = self.deletable.y - rows.X @ self.factor.beta
        for codes, Z, f in zip(rows.codes, rows.Z, self.factor.effects, strict=True):
            e -= (Z * f.b[codes]).sum(axis=1)
        return np.asarray(e / self.sigma)


def one_step(design: Design, estimate: Estimate, *, roughly: bool = False) -> OneStep:
    """The rows of a fit, at the last digits of its optimum; see :func:`polished`.

    Raises
    ------
    InterlaceError
        The fit is by the iterative solver.
    """
    estimate.evaluation.dense(_INFLUENCE)
    better = polished(estimate, roughly=roughly)
    return OneStep(Deletable.of(design, better), better)


def row_changes(step: OneStep) -> Influence:
    """Measures of deleting each row, ``P_ii = 1 - h_i``: closed forms, no loop.

    With ``s = a'a / P_ii`` the growth has the one eigenvalue ``s``, along the change
    ``a e / P_ii``.
    """
    left = 1.0 - step.h
    left = np.where(left > _NOTHING, left, np.nan)
    p = step.a.shape[1]
    s = (step.a**2).sum(axis=1) / left
    with np.errstate(invalid="ignore"):
        cooksd = s * step.e**2 / left / (p or np.nan)
    return Influence(cooksd, cooksd / (1.0 + s), s, 1.0 + s)


def set_changes(step: OneStep, sets: list[Codes]) -> tuple[Floats, Floats]:
    """``g`` (B, p) and ``G`` (B, p, p) of deleting sets of rows.

    ``g = a' P_aa^-1 e`` and ``G = a' P_aa^-1 a`` with the rows of the set.  Of a large set ``P_aa``
    is not formed: its cross-products are subtracted, and the equations solved again.
    """
    p = step.a.shape[1]
    g, G = np.full((len(sets), p), np.nan), np.full((len(sets), p, p), np.nan)
    columns = max(1, _PIECE // max(1, sum(t.q for t in step.factor.A.terms)))
    limit = min(columns, max(_LARGE, len(step.factor.S) // 2))
    small = [i for i, members in enumerate(sets) if len(members) <= limit]
    for i in set(range(len(sets))) - set(small):
        g[i], G[i] = _refactored(step, sets[i])
    for piece in _pieces(small, sets, columns):
        for i, P in zip(piece, _projections(step, [sets[i] for i in piece]), strict=True):
            g[i], G[i] = _from_projection(P, step.a[sets[i]], step.e[sets[i]])
    return g, G


def _pieces(which: list[int], sets: list[Codes], columns: int) -> list[list[int]]:
    """Sets taken together, so that their rows are not more than ``columns``."""
    pieces: list[list[int]] = []
    room = 0
    for i in which:
        if len(sets[i]) > room:
            pieces.append([])
            room = columns
        pieces[-1].append(i)
        room -= len(sets[i])
    return pieces


def _projections(step: OneStep, sets: list[Codes]) -> list[Floats]:
    """``P_aa`` of some sets of rows: from the remainder's inverse, or one solve for a chain."""
    if len(step.factor.plan.chain) == 1:
        rows = step.deletable.rows
        return [np.eye(len(one)) - set_forms(step.factor, rows.take(one), step.C) for one in sets]
    return _solved_projections(step, sets)


def _solved_projections(step: OneStep, sets: list[Codes]) -> list[Floats]:
    """``P_aa`` of some sets of rows, from one solve with their rows as right-hand sides."""
    rows, members = step.deletable.rows, np.concatenate(sets)
    c = len(members)
    random = []
    for codes, Z, term in zip(rows.codes, rows.Z, step.factor.A.terms, strict=True):
        block = np.zeros((term.l, term.k, c))
        block[codes[members], :, np.arange(c)] = Z[members]
        random.append(block)
    b, beta = solve(step.factor, random, rows.X[members].T)
    found, start = [], 0
    for one in sets:
        own = slice(start, start + len(one))
        start = own.stop
        P = np.eye(len(one)) - rows.X[one] @ beta[:, own]
        for codes, Z, block in zip(rows.codes, rows.Z, b, strict=True):
            P -= np.einsum("ik,ikc->ic", Z[one], block[codes[one], :, own])
        found.append(P)
    return found


def _from_projection(P: Floats, a: Floats, e: Floats) -> tuple[Floats, Floats]:
    """``g`` and ``G`` from ``P_aa``; NaN if it is singular."""
    try:
        L = np.linalg.cholesky(P)
    except np.linalg.LinAlgError:
        L = np.zeros_like(P)
    if not (np.diag(L) ** 2 > _NOTHING).all():
        return np.full(a.shape[1], np.nan), np.full((a.shape[1], a.shape[1]), np.nan)
    half = np.linalg.solve(L, np.column_stack((a, e)))
    return half[:, :-1].T @ half[:, -1], half[:, :-1].T @ half[:, :-1]


def _refactored(step: OneStep, members: Codes) -> tuple[Floats, Floats]:
    """``g`` and ``G`` from the equations without some rows; NaN if they have no solution."""
    p = step.a.shape[1]
    nothing = np.full(p, np.nan), np.full((p, p), np.nan)
    if step.deletable.undetermined(members):
        return nothing
    A = step.deletable.without(members)
    try:
        at = Criterion(A, step.estimate.criterion.reml).at(step.factor.templates)
        factor = at.dense(_INFLUENCE)
    except np.linalg.LinAlgError:
        return nothing
    beta, C = factor.beta[None], factor.vcov[None]
    g, G = changes(step.factor, step.sigma, beta, C, np.ones(1))
    return g[0], G[0]
