"""REML of generalised models: Laplace's approximation over random and fixed effects together.

The likelihood is integrated over the fixed effects too, with a flat prior in the user's units, as
REML does exactly where the response is Gaussian.  At the joint mode of both, with ``X'PX`` the
observed information of the fixed effects, the criterion is that of maximum likelihood, plus
``log|X'PX| - p log(2 pi)``.  It is a function of the templates and auxiliary coefficients alone.

Notes
-----
Derivatives are those of ``laplace`` with ``X`` among the columns of the random effects: with ``D =
X - Z C~ Z'W X`` and ``V = (X'PX)^-1``, leverages gain ``diag(D V D')``, the image ``Z a`` gains
``D V D'c``, and ``Z'PZ`` loses ``S V S'`` for ``S = Z'W D`` of every level.  The fixed effects
answer to other parameters by ``-V X'P H``, ``H`` their directions in the linear predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from interlace.glmm.laplace import Evaluation, evaluation_at
from interlace.glmm.leverage import projected
from interlace.glmm.mode import STEPS, TOLERANCE, Mode, mode_at, safe_equations, shortened
from interlace.glmm.problem import Parameters, Problem
from interlace.glmm.working import applied
from interlace.sums.terms import Floats, places, pull


@dataclass(frozen=True)
class RestrictedLaplace:
    """REML by Laplace's approximation, as what an estimate was made by."""

    nodes: int = 1
    restricted: ClassVar[bool] = True

    def __call__(self, problem: Problem, at: Parameters, start: list[Floats]) -> Evaluation | None:
        """The criterion at templates and auxiliary coefficients, fixed effects sought from ``at``.

        ``None`` where it has none.
        """
        found = joint_mode(problem, at, start)
        return None if found is None else evaluation_at(problem, *found, RestrictedEvaluation)

    def beside(self, point: Evaluation, to: Parameters) -> Evaluation | None:
        """The criterion a tiny step away from a point."""
        return point.beside(to)


@dataclass(frozen=True, eq=False)
class RestrictedEvaluation(Evaluation):
    """The restricted criterion at one point, whose ``at`` has the fixed effects of the joint mode.

    What verbs ask of the modes (``predicted``, ``leverages``, ``derivatives``) is given the fixed
    effects, as it is for maximum likelihood.
    """

    @cached_property
    def directions(self) -> Floats:
        """``D``: how linear predictors move with fixed effects, ``(n, p)``."""
        return projected(self.equations, self.problem.rows, self.mode.curve.W)

    @cached_property
    def precision(self) -> Floats:
        """``X'PX``, ``(p, p)``."""
        found = self.problem.rows.X.T @ (self.mode.curve.W[:, None] * self.directions)
        return np.asarray(0.5 * (found + found.T))

    @cached_property
    def V(self) -> Floats:
        """Its inverse."""
        return np.asarray(np.linalg.inv(self.precision))

    @cached_property
    def value(self) -> float:
        """Minus twice the restricted log-likelihood, of fixed effects in the user's units."""
        rows = self.problem.rows
        sign, size = np.linalg.slogdet(self.precision)
        if rows.p and sign <= 0.0:
            return float(np.inf)
        unit = np.linalg.slogdet(rows.fixed)[1]
        around = self.mode.deviance + self.equations.logdet - 2.0 * self.problem.constant
        return float(around + size - 2.0 * unit - rows.p * np.log(2.0 * np.pi))

    @cached_property
    def joint_leverages(self) -> Floats:
        """Conditional variance of every row's ``x'beta + z'b`` given the other parameters."""
        D = self.directions
        return np.asarray(self.leverages + np.einsum("np,pq,nq->n", D, self.V, D))

    @cached_property
    def _answered(self) -> tuple[list[Floats], Floats, Floats]:
        """The same with fixed effects moving too, which are no parameters."""
        problem, rows, curve, D = self.problem, self.problem.rows, self.mode.curve, self.directions
        c = self.joint_leverages * curve.dW
        image = rows.image(applied(self.equations, rows.sums(c))) + D @ (self.V @ (D.T @ c))
        gamma = np.zeros(0)
        if problem.sizes[2]:
            gamma = problem.to_gamma(self.joint_leverages * self.slope.W + image * self.slope.g)
        return rows.sums(c - curve.W * image), np.zeros(rows.p), gamma

    @cached_property
    def _lost(self) -> list[Floats]:
        """``S V S'`` summed over levels, ``(k, k)`` a term."""
        S = self.problem.rows.sums(self.mode.curve.W[:, None] * self.directions)
        return [np.einsum("lap,pq,lbq->ab", s, self.V, s, optimize=True) for s in S]

    @cached_property
    def variance_gradients(self) -> list[Floats]:
        """Derivative ``Gamma`` with respect to ``T T'``, symmetric ``(k, k)`` each."""
        parts = zip(self.derivatives, self._lost, self._of_modes, strict=True)
        return [d.PZZ - lost + m for d, lost, m in parts]

    @cached_property
    def gradient(self) -> Floats:
        """Gradient with respect to all parameters, packed; fixed effects are no parameters."""
        problem, (_, none, gamma) = self.problem, self._answered
        parts = zip(self.derivatives, self._lost, self._of_modes, self.at.templates, strict=True)
        G = [2.0 * (d.W + (m - lost) @ T) for d, lost, m, T in parts]
        if problem.sizes[2]:
            gamma = gamma - 2.0 * problem.to_gamma(self.slope.l)
        own = pull(problem.rows.terms, self.at.templates, G)
        return np.concatenate([own, none, gamma])

    @cached_property
    def _answers(self) -> Floats:
        """Fixed effects at the joint mode: how they answer to minus all parameters, ``(p, .)``.

        The identity in place of the answer to themselves.
        """
        t, p, _ = self.problem.sizes
        return np.asarray(self.V @ self.information[t : t + p])

    @cached_property
    def newton_matrix(self) -> Floats:
        """Average information of templates and auxiliary coefficients, fixed effects projected out.

        Blocks of auxiliary coefficients are scaled as for maximum likelihood.
        """
        problem, terms = self.problem, self.problem.rows.terms
        t, p, r = problem.sizes
        scale = np.where(np.arange(t + p + r) < t, 1.0, np.sqrt(2.0))
        rest = self.information - self._answers.T @ self.precision @ self._answers
        rest[t : t + p, t : t + p] = self.precision
        N = scale[:, None] * rest * scale
        parts = zip(terms, self.at.templates, self.variance_gradients, places(terms), strict=True)
        for term, T, gamma, own in parts:
            N[own, own] += term.template.second_order(T, gamma)
        return np.asarray(N)

    @property
    def joined(self) -> Floats:
        """Second derivatives of the joint density along the fixed effects less their answers.

        With them the inverse of the second derivatives is the covariance of all parameters: that
        of the fixed effects is ``V``, and what they take over from the others.
        """
        return np.asarray(2.0 * self._answers.T @ self.precision @ self._answers)

    def ahead(self, to: Parameters) -> tuple[Parameters, list[Floats]]:
        """Other parameters with the fixed and the spherical effects predicted there."""
        s, r = self._disturbance(Parameters(to.templates, self.at.beta, to.gamma))
        step = -self.V @ (self.directions.T @ r)
        r = r + self.mode.curve.W * (self.problem.rows.X @ step)
        u = [a + d for a, d in zip(self.u, self._answer(s, r), strict=True)]
        return Parameters(to.templates, self.at.beta + step, to.gamma), u


def joint_mode(
    problem: Problem, at: Parameters, start: Sequence[Floats]
) -> tuple[Parameters, Mode] | None:
    """The mode of random and fixed effects together, by Newton's method from a start.

    ``None`` if the other parameters give no likelihood, or none of the steps lowers the deviance.
    """
    omega, fixed = problem.omega(at.gamma), problem.fixed_part(at.beta)
    mode = mode_at(problem, at, start, omega, fixed) or mode_at(
        problem, at, [0.0 * u for u in start], omega, fixed
    )
    for n in range(1, STEPS):
        if mode is None:
            return None
        found = _step(problem, at, mode)
        if found is None:
            return None
        step, dbeta, decrement = found
        taken = shortened(problem, mode, step, omega, n)
        if taken is not None:
            mode, share = taken
            at = Parameters(at.templates, at.beta + share * dbeta, at.gamma)
        if decrement < TOLERANCE:
            return at, mode
        if taken is None:
            return None
    return None


def _step(
    problem: Problem, at: Parameters, mode: Mode
) -> tuple[tuple[list[Floats], Floats], Floats, float] | None:
    """A full step ``(du, deta)``, that of the fixed effects, and its squared length."""
    rows = problem.rows
    equations, W = safe_equations(problem, mode.curve, at.templates)
    if equations is None:
        return None
    D = projected(equations, rows, W)
    Zb = mode.eta - problem.fixed_part(at.beta)
    zeta = mode.curve.g + W * Zb
    try:
        root = cho_factor(rows.X.T @ (W[:, None] * D))
    except np.linalg.LinAlgError:
        # Away from the mode curvatures may leave no minimum along X: take the expected ones.
        W = np.maximum(W, mode.curve.expected)
        equations = problem.equations(W, at.templates, probed=False)
        D, zeta = projected(equations, rows, W), mode.curve.g + W * Zb
        root = cho_factor(rows.X.T @ (W[:, None] * D))
    dbeta: Floats = np.asarray(cho_solve(root, D.T @ zeta), dtype=np.float64)
    along = rows.X @ dbeta
    b = applied(equations, rows.sums(zeta - W * along))
    deta = along + rows.image(b) - Zb
    back = rows.sums(mode.curve.g - W * deta)
    du = [r @ T - u for r, T, u in zip(back, at.templates, mode.u, strict=True)]
    decrement = float(deta @ (W * deta)) + sum(float((d**2).sum()) for d in du)
    return (du, deta), dbeta, decrement
