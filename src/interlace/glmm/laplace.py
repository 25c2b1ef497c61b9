"""Laplace approximation of minus twice the log-likelihood, its gradient and its Newton matrix.

At the mode of the random effects, with ``M = Lambda'Z'WZ Lambda + I`` and the observed curvature
``W = -l''``, the criterion is ``-2 sum l + u'u + log|M|``, all constants included.  It is a
function of the templates, the fixed effects and the auxiliary coefficients together.

Notes
-----
With ``C~ = Lambda M^-1 Lambda'``, ``P = W - W Z C~ Z'W``, ``e = Z'g``, leverages
``lev = diag(Z C~ Z')``, ``c = lev W'``, ``a = C~ Z'c``, ``c~ = c - W Z a`` and ``q = Z'c~``,

* in ``T T'``: ``Gamma = sum over levels of Z'PZ - e e' + (q e' + e q') / 2``,
* in ``beta``: ``X'(c~ - 2 g)``,
* in ``gamma``, for ``omega_k = G_k gamma``: ``G_k'(-2 l_o + lev W_o + (Z a) g_o)``, summed.

The first is the Gaussian formula and one term; it holds at singular templates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np

from interlace.glmm.equations import Equations, Iterated
from interlace.glmm.families import Curve, Slope
from interlace.glmm.further import Further, further
from interlace.glmm.mode import Mode, find_mode, mode_at
from interlace.glmm.problem import Parameters, Problem
from interlace.glmm.working import applied
from interlace.solver.reverse import TermDerivatives
from interlace.sums.terms import Floats, places, pull


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The criterion at one point; derivatives are computed when asked for.

    ``equations`` are those of the random effects at the observed curvature of the mode.
    """

    problem: Problem
    at: Parameters
    mode: Mode
    equations: Equations

    @cached_property
    def value(self) -> float:
        """Minus twice the log-likelihood, and the penalty of a prior if there is one."""
        around = self.mode.deviance + self.equations.logdet - 2.0 * self.problem.constant
        return float(around + self.problem.penalty(self.at.beta))

    @property
    def work(self) -> str:
        """What the search for the mode did, and the iterative solver, in words."""
        steps = f"{self.mode.n_steps} steps to the modes"
        m = self.equations.n_probes
        return f"{steps}, {self.equations.n_iterations} CG iterations, {m} probes" if m else steps

    @property
    def u(self) -> list[Floats]:
        """Spherical effects at the mode."""
        return self.mode.u

    @cached_property
    def e(self) -> list[Floats]:
        """``Z'g``, ``(l, k)`` a term."""
        return self.problem.rows.sums(self.mode.curve.g)

    @cached_property
    def slope(self) -> Slope:
        """Derivatives of every row in the auxiliary predictors."""
        known = self.mode.slope
        if known is not None:
            return known
        return self.problem.slope(self.mode.eta, self.problem.omega(self.at.gamma))

    @cached_property
    def derivatives(self) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives, per term."""
        return self.equations.derivatives

    @property
    def leverages(self) -> Floats:
        """``z'C~z`` of every row: the conditional variance of its ``z'b``."""
        return self.equations.leverages

    @cached_property
    def _answered(self) -> tuple[list[Floats], Floats, Floats]:
        """How the modes answer to the log determinant: ``q`` (l, k) a term, ``X'c~``, and
        ``G_k'(lev W_o + (Z a) g_o)`` summed.
        """
        problem, rows, curve, lev = self.problem, self.problem.rows, self.mode.curve, self.leverages
        c = lev * curve.dW
        Za = rows.image(applied(self.equations, rows.sums(c)))
        c -= curve.W * Za
        gamma = np.zeros(0)
        if problem.sizes[2]:
            gamma = problem.to_gamma(lev * self.slope.W + Za * self.slope.g)
        return rows.sums(c), rows.X.T @ c, gamma

    @cached_property
    def _of_modes(self) -> list[Floats]:
        """``(q e' + e q') / 2 - e e'`` summed over levels, ``(k, k)`` a term."""
        parts = []
        for e, q in zip(self.e, self._answered[0], strict=True):
            qe = q.T @ e
            parts.append(0.5 * (qe + qe.T) - e.T @ e)
        return parts

    @cached_property
    def variance_gradients(self) -> list[Floats]:
        """Derivative ``Gamma`` with respect to ``T T'``, symmetric ``(k, k)`` each."""
        return [d.PZZ + m for d, m in zip(self.derivatives, self._of_modes, strict=True)]

    @cached_property
    def gradient(self) -> Floats:
        """Gradient with respect to all parameters, packed."""
        problem, (_, beta, gamma) = self.problem, self._answered
        G = [
            2.0 * (d.W + m @ T)
            for d, m, T in zip(self.derivatives, self._of_modes, self.at.templates, strict=True)
        ]
        beta = beta - 2.0 * (problem.rows.X.T @ self.mode.curve.g)
        if problem.precision is not None:
            beta = beta + 2.0 * problem.precision @ self.at.beta
        if problem.sizes[2]:
            gamma = gamma - 2.0 * problem.to_gamma(self.slope.l)
        return np.concatenate([pull(problem.rows.terms, self.at.templates, G), beta, gamma])

    @cached_property
    def newton_matrix(self) -> Floats:
        """Average information of (templates, beta, gamma), and the parametrisation's second order.

        Blocks of ``beta`` and ``gamma`` are twice their information, those between them and the
        templates ``sqrt(2)`` times it: with these profiled out the rest is the Gaussian model's
        average information.
        """
        problem, terms = self.problem, self.problem.rows.terms
        t, p, r = problem.sizes
        scale = np.where(np.arange(t + p + r) < t, 1.0, np.sqrt(2.0))
        N = scale[:, None] * self.information * scale
        parts = zip(terms, self.at.templates, self.variance_gradients, places(terms), strict=True)
        for term, T, gamma, own in parts:
            N[own, own] += term.template.second_order(T, gamma)
        if problem.precision is not None:
            N[t : t + p, t : t + p] += 2.0 * problem.precision
        return N

    @cached_property
    def information(self) -> Floats:
        """``D'PD`` for the directions ``D`` of all parameters in ``eta``, random effects moving."""
        problem, rows = self.problem, self.problem.rows
        H = [
            term.template.directions(T, u, e)
            for term, T, u, e in zip(rows.terms, self.at.templates, self.u, self.e, strict=True)
        ]
        ends = np.cumsum([0, *(h.shape[2] for h in H)])
        parts = [slice(a, b) for a, b in pairwise(ends)]
        sides, among = self.fixed_sums
        own = self.equations.products(H)
        R = [np.concatenate((moved, side), axis=2) for moved, side in zip(own, sides, strict=True)]
        t = problem.sizes[0]
        total = np.zeros((t + len(among), t + len(among)))
        for h, right, part in zip(H, R, parts, strict=True):
            total[part] = np.tensordot(h, right, axes=((0, 1), (0, 1)))
        total[t:, :t] = total[:t, t:].T
        total[t:, t:] = among
        return total - self.equations.explained(R)

    @property
    def fixed_sums(self) -> tuple[list[Floats], Floats]:
        """``Z'[WX, -g_o G]`` of every term, and second derivatives of ``-l`` in (beta, gamma)."""
        columns, among = self.fixed_columns
        return self.problem.rows.sums(columns), among

    @property
    def fixed_columns(self) -> tuple[Floats, Floats]:
        """``[WX, -g_o G]`` (n, p + r), and second derivatives of ``-l`` in (beta, gamma)."""
        X, G, W = self.problem.rows.X, self.problem.G, self.mode.curve.W
        WX = W[:, None] * X
        if not self.problem.sizes[2]:
            return WX, X.T @ WX
        K = -np.einsum("kn,knr->nr", self.slope.g, G)
        second = -np.sum([G_k.T @ self._second(k) for k, G_k in enumerate(G)], axis=0)
        cross = X.T @ K
        return np.concatenate((WX, K), axis=1), np.block([[X.T @ WX, cross], [cross.T, second]])

    def _second(self, k: int) -> Floats:
        """``sum over j of l_o(k)o(j) G_j``, ``(n, r)``."""
        return np.asarray(np.einsum("jn,jnr->nr", self.slope.second[k], self.problem.G))

    def probe_sums(self) -> tuple[list[Floats], Floats]:
        """Of every random probe's share in leverages ``lev``: ``Z'(lev W')`` (l, k, m) a term.

        And ``X'(lev W')`` and ``sum of G_k'(lev W_k)``, ``(p + r, m)``.
        """
        equations, problem, rows = self.equations, self.problem, self.problem.rows
        assert isinstance(equations, Iterated)
        m, (_, p, r) = equations.n_probes, problem.sizes
        random, fixed = np.zeros((sum(t.q for t in rows.terms), m)), np.zeros((p + r, m))
        for part, lev in equations.leverage_shares():
            c = self.mode.curve.dW[part, None] * lev
            random += rows.incidence.some(part.start, part.stop).T @ c
            fixed[:p] += rows.X[part].T @ c
            if r:
                weighted = np.einsum("kn,knr->nr", self.slope.W[:, part], problem.G[:, part])
                fixed[p:] += weighted.T @ lev
        ends = np.cumsum([0, *(t.q for t in rows.terms)])
        shapes = [(t.l, t.k, m) for t in rows.terms]
        parts = zip(shapes, pairwise(ends), strict=True)
        return [random[a:b].reshape(shape) for shape, (a, b) in parts], fixed

    @property
    def joined(self) -> Floats | float:
        """What is added to the second derivatives of the criterion: nothing, unless fixed effects
        are integrated over too.
        """
        return 0.0

    def ahead(self, to: Parameters) -> tuple[Parameters, list[Floats]]:
        """Other parameters, and the spherical effects predicted there."""
        return to, self.predicted(to)

    def predicted(self, to: Parameters) -> list[Floats]:
        """First-order prediction of the spherical effects at other parameters."""
        s, r = self._disturbance(to)
        return [u + d for u, d in zip(self.u, self._answer(s, r), strict=True)]

    def _disturbance(self, to: Parameters) -> tuple[list[Floats], Floats]:
        """How the equations of the mode change: in the templates, and row by row less ``-dg``."""
        problem, rows, curve = self.problem, self.problem.rows, self.mode.curve
        dT = [new - old for new, old in zip(to.templates, self.at.templates, strict=True)]
        s = [e @ d for e, d in zip(self.e, dT, strict=True)]
        db = [
            u @ d.T + v @ T.T for u, d, v, T in zip(self.u, dT, s, self.at.templates, strict=True)
        ]
        r = curve.W * (rows.X @ (to.beta - self.at.beta) + rows.image(db))
        if problem.sizes[2]:
            r = r - (self.slope.g * problem.omega(to.gamma - self.at.gamma)).sum(axis=0)
        return s, r

    def _answer(self, s: Sequence[Floats], r: Floats) -> list[Floats]:
        """``s - Lambda'Z'(r - W Z C~ Z'r)``: how spherical effects answer to a change."""
        rows = self.problem.rows
        left = r - self.mode.curve.W * rows.image(applied(self.equations, rows.sums(r)))
        return [v - z @ T for v, z, T in zip(s, rows.sums(left), self.at.templates, strict=True)]

    def _slope_beside(self, to: Parameters, u: Sequence[Floats], fixed: Floats) -> Floats:
        """``g`` of every row at spherical effects a tiny step away, by its series."""
        problem, curve = self.problem, self.mode.curve
        eta = fixed + problem.rows.image([v @ T.T for v, T in zip(u, to.templates, strict=True)])
        if (to.gamma != self.at.gamma).any():
            return problem.curve(eta, problem.omega(to.gamma)).g
        delta = eta - self.mode.eta
        return curve.g - delta * (curve.W + 0.5 * curve.dW * delta)

    @cached_property
    def _further(self) -> Further:
        """The next derivatives of every row."""
        return further(self.problem, self.mode.eta, self.problem.omega(self.at.gamma))

    def beside(self, to: Parameters) -> Evaluation | None:
        """The criterion a tiny step away, whose gradient is right to first order in the step.

        What rows say follows from their derivatives; the equations are factored anew.
        """
        problem, curve, more = self.problem, self.mode.curve, self._further
        to, u = self.ahead(to)
        parts = zip(u, to.templates, self.u, self.at.templates, strict=True)
        db = [new @ to_T.T - old @ T.T for new, to_T, old, T in parts]
        d = problem.rows.X @ (to.beta - self.at.beta) + problem.rows.image(db)
        g, W, dW = curve.g - curve.W * d, curve.W + curve.dW * d, curve.dW + more.W2 * d
        slope = None
        if problem.sizes[2]:
            old, o = self.slope, problem.omega(to.gamma - self.at.gamma)
            changes = ((part * o).sum(axis=0) for part in (old.g, old.W, more.W1o))
            g, W, dW = (a + b for a, b in zip((g, W, dW), changes, strict=True))
            slope = Slope(
                old.l + old.g * d + np.einsum("kjn,kn->jn", old.second, o),
                old.g - old.W * d + np.einsum("kjn,kn->jn", more.goo, o),
                old.W + more.W1o * d + np.einsum("kjn,kn->jn", more.Woo, o),
                old.second,
            )
        moved = Curve(curve.l, g, W, dW, curve.expected)
        mode = Mode(u, self.mode.eta + d, moved, self.mode.deviance, 0, slope)
        return evaluation_at(problem, to, mode, type(self))

    def mode_beside(self, to: Parameters) -> Mode | None:
        """The mode at parameters a tiny step away: predicted, and corrected with this factor.

        ``None`` if it lies outside the link's domain.
        """
        problem, rows = self.problem, self.problem.rows
        omega, fixed = problem.omega(to.gamma), problem.fixed_part(to.beta)
        near = self.predicted(to)
        g = self._slope_beside(to, near, fixed)
        parts = zip(rows.sums(g), to.templates, near, strict=True)
        missing = [e @ T - u for e, T, u in parts]
        db = [r @ T.T for r, T in zip(missing, self.at.templates, strict=True)]
        du = self._answer(missing, self.mode.curve.W * rows.image(db))
        return mode_at(problem, to, [u + d for u, d in zip(near, du, strict=True)], omega, fixed)


@dataclass(frozen=True)
class Laplace:
    """The Laplace approximation, as what an estimate was made by."""

    nodes: int = 1
    restricted: ClassVar[bool] = False

    def __call__(self, problem: Problem, at: Parameters, start: list[Floats]) -> Evaluation | None:
        """See :func:`evaluate`."""
        return evaluate(problem, at, start)

    def beside(self, point: Evaluation, to: Parameters) -> Evaluation | None:
        """The criterion a tiny step away from a point."""
        return point.beside(to)


def evaluate(problem: Problem, at: Parameters, start: Sequence[Floats]) -> Evaluation | None:
    """The criterion at parameters, the mode sought from ``start``; ``None`` where it has none."""
    return evaluation_at(problem, at, find_mode(problem, at, start))


def evaluation_at(
    problem: Problem, at: Parameters, mode: Mode | None, kind: type[Evaluation] = Evaluation
) -> Evaluation | None:
    """The criterion at parameters and their mode; ``None`` where it has none."""
    if mode is None:
        return None
    try:
        equations = problem.equations(mode.curve.W, at.templates)
    except np.linalg.LinAlgError:
        return None
    found = kind(problem, at, mode, equations)
    return found if np.isfinite(found.value) else None


def zeros(problem: Problem) -> list[Floats]:
    """Random effects of nothing."""
    return [np.zeros((t.l, t.k)) for t in problem.rows.terms]
