"""Laplace approximations of many responses on one design: values, gradients and Newton matrices.

The batched twin of :mod:`interlace.glmm.laplace`, which has the mathematics and is its oracle.
Replicates are the last axis of what is by row or by effect, and the first of what is by parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.batch.factor import Factor, traces
from interlace.batch.modes import Held, Modes, Parameters, Stack, Which, find_modes
from interlace.batch.optimize import Points
from interlace.glmm.families import Slope
from interlace.sums.terms import Floats


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The criteria at one point each; derivatives are computed when asked for.

    ``factor`` are the equations at the observed curvature of the modes.
    """

    held: Held
    mode: Modes
    factor: Factor

    @property
    def stack(self) -> Stack:
        """The responses."""
        return self.held.stack

    @cached_property
    def value(self) -> Floats:
        """Minus twice the log-likelihoods with the penalty of a prior; infinite without any."""
        value = self.mode.deviance + self.factor.logdet - 2.0 * self.stack.constant
        precision, beta = self.stack.problem.precision, self.held.at.beta
        if precision is not None:
            value = value + ((beta @ precision) * beta).sum(axis=1)
        return np.where(np.isfinite(value), value, np.inf)

    @cached_property
    def points(self) -> Points:
        """Values with derivatives, for the optimiser."""
        return Points(self.value, self.gradient, self.newton_matrix)

    def take(self, which: Which) -> Evaluation:
        """Those of some replicates."""
        return Evaluation(self.held.take(which), self.mode.take(which), self.factor.take(which))

    @cached_property
    def e(self) -> Floats:
        """``Z'g``, ``(q, B)``."""
        return self.stack.incidence.sums(self.mode.curve.g)

    @cached_property
    def slope(self) -> Slope:
        """Derivatives of every row in the auxiliary predictors."""
        return self.stack.slope(self.mode.eta, self.held.omega)

    @cached_property
    def leverages(self) -> Floats:
        """``z'C~z`` of every row, ``(n, B)``."""
        return self.stack.incidence.leverages(self.factor)

    @cached_property
    def moved(self) -> tuple[Floats, Floats]:
        """``c~`` and ``Z a``: how the modes answer to the log determinant, ``(n, B)`` each."""
        incidence, curve = self.stack.incidence, self.mode.curve
        c = self.leverages * curve.dW
        Za = incidence.image(incidence.solved(self.factor, incidence.sums(c)))
        return c - curve.W * Za, Za

    @cached_property
    def _traces(self) -> tuple[Mapping[int, Floats], Mapping[int, Floats]]:
        """``W`` and sums of ``Z'PZ`` per term, ``(B, k, k)``."""
        W, PZZ, _ = traces(self.factor)
        return W, PZZ

    @cached_property
    def _of_modes(self) -> dict[int, Floats]:
        """``(q e' + e q') / 2 - e e'`` summed over levels, ``(B, k, k)`` a term."""
        incidence, found = self.stack.incidence, {}
        q = incidence.sums(self.moved[0])
        for j in range(len(incidence.shape.terms)):
            e = incidence.by_level(j, self.e)
            qe = np.einsum("lab,lcb->bac", incidence.by_level(j, q), e)
            found[j] = 0.5 * (qe + qe.swapaxes(1, 2)) - np.einsum("lab,lcb->bac", e, e)
        return found

    @cached_property
    def gradient(self) -> Floats:
        """Gradients in all parameters, ``(B, P)``."""
        problem, (ct, Za), at = self.stack.problem, self.moved, self.held.at
        W, _ = self._traces
        G = {j: 2.0 * (W[j] + m @ at.templates[j]) for j, m in self._of_modes.items()}
        beta = (problem.rows.X.T @ (ct - 2.0 * self.mode.curve.g)).T
        if problem.precision is not None:
            beta = beta + 2.0 * at.beta @ problem.precision
        gamma = np.zeros((len(self.stack), 0))
        if problem.sizes[2]:
            s = self.slope
            rows = self.leverages * s.W + Za * s.g - 2.0 * s.l
            gamma = np.tensordot(rows, problem.G, axes=((0, 1), (0, 1)))
        return np.concatenate(
            (self.stack.incidence.shape.pulled(at.templates, G), beta, gamma), axis=1
        )

    @cached_property
    def newton_matrix(self) -> Floats:
        """Average information and the parametrisation's second order, ``(B, P, P)``."""
        problem, shape = self.stack.problem, self.stack.incidence.shape
        t, p, r = problem.sizes
        scale = np.where(np.arange(t + p + r) < t, 1.0, np.sqrt(2.0))
        N = scale[:, None] * self.information * scale
        for j, own in enumerate(shape.places):
            gamma = self._traces[1][j] + self._of_modes[j]
            N[:, own, own] += shape.terms[j].template.second_order(self.held.at.templates[j], gamma)
        if problem.precision is not None:
            N[:, t : t + p, t : t + p] += 2.0 * problem.precision
        return N

    @cached_property
    def information(self) -> Floats:
        """``D'PD`` for the directions ``D`` of all parameters in ``eta``, ``(B, P, P)``."""
        incidence, W = self.stack.incidence, self.mode.curve.W
        H = self._directions
        ZH = incidence.image(H)
        fixed, among = self._fixed_columns()
        columns = np.concatenate((W[:, None] * ZH, fixed), axis=1)
        R = incidence.sums(columns)
        front, t = R.transpose(2, 1, 0), H.shape[1]
        total = -(front @ incidence.solved(self.factor, R).transpose(2, 0, 1))
        own = H.transpose(2, 1, 0) @ front.swapaxes(1, 2)
        total[:, :t] += own
        total[:, t:, :t] += own[:, :, t:].swapaxes(1, 2)
        total[:, t:, t:] += among
        return total

    @property
    def _directions(self) -> Floats:
        """How spherical effects enter ``b`` at every entry of the templates, ``(q, t, B)``."""
        incidence, at = self.stack.incidence, self.held.at
        shape, B = incidence.shape, len(self.stack)
        H = np.zeros((len(self.e), self.stack.problem.sizes[0], B))
        for j, (term, own) in enumerate(zip(shape.terms, shape.places, strict=True)):
            u, e = (incidence.by_level(j, v).transpose(2, 0, 1) for v in (self.mode.u, self.e))
            h = term.template.directions(at.templates[j], u, e)
            incidence.by_level(j, H)[:, :, own] = h.transpose(1, 2, 3, 0)
        return H

    def _fixed_columns(self) -> tuple[Floats, Floats]:
        """``[WX, -g_o G]`` (n, p + r, B), and second derivatives of ``-l`` in (beta, gamma)."""
        problem, W = self.stack.problem, self.mode.curve.W
        X, G = problem.rows.X, problem.G
        _, p, r = problem.sizes
        B = len(self.stack)
        columns, among = np.empty((len(X), p + r, B)), np.zeros((B, p + r, p + r))
        columns[:, :p] = W[:, None] * X[:, :, None]
        if r:
            s = self.slope
            columns[:, p:] = -np.einsum("knb,knr->nrb", s.g, G)
            for k, own in enumerate(G):
                second = np.einsum("jnb,jnr->nrb", s.second[k], G)
                among[:, p:, p:] -= _crossed(own, second)
        crossed = _crossed(X, columns)
        among[:, :p] = crossed
        among[:, p:, :p] = crossed[:, :, p:].swapaxes(1, 2)
        return columns, among

    def predicted(self, to: Parameters) -> Floats:
        """First-order prediction of the spherical effects at other parameters, ``(q, B)``."""
        problem, incidence, at = self.stack.problem, self.stack.incidence, self.held.at
        dT = {j: to.templates[j] - T for j, T in at.templates.items()}
        s = incidence.scaled(dT, self.e, transpose=True)
        db = incidence.scaled(dT, self.mode.u) + incidence.scaled(at.templates, s)
        fixed = problem.rows.X @ (to.beta - at.beta).T
        W = self.mode.curve.W
        r = W * (fixed + incidence.image(db))
        if problem.sizes[2]:
            r = r - (self.slope.g * (problem.G @ (to.gamma - at.gamma).T)).sum(axis=0)
        left = r - W * incidence.image(incidence.solved(self.factor, incidence.sums(r)))
        back = incidence.scaled(at.templates, incidence.sums(left), transpose=True)
        return self.mode.u + s - back

    def beside(self, to: Parameters) -> Evaluation:
        """The criteria a tiny step away, whose gradients are right to first order in the step.

        What rounding left between modes and predictors is the same on both sides.
        """
        incidence, at, held = self.stack.incidence, self.held.at, Held(self.stack, to)
        u = self.predicted(to)
        db = incidence.scaled(to.templates, u) - incidence.scaled(at.templates, self.mode.u)
        fixed = self.stack.problem.rows.X @ (to.beta - at.beta).T
        return evaluation_at(held, held.state(u, self.mode.eta + fixed + incidence.image(db)))


def _crossed(X: Floats, columns: Floats) -> Floats:
    """``X'C`` of every replicate: ``(n, p)`` and ``(n, c, B)`` to ``(B, p, c)``."""
    return np.tensordot(X, columns, axes=((0,), (0,))).transpose(2, 0, 1)


def evaluate(held: Held, start: Floats) -> Evaluation:
    """The criteria, the modes sought from ``start`` (q, B)."""
    return evaluation_at(held, find_modes(held, start))


def evaluation_at(held: Held, mode: Modes) -> Evaluation:
    """The criteria at parameters and their modes."""
    return Evaluation(held, mode, held.factor(mode.curve.W))
