"""Tests where residual variances follow a few numbers, and what is known of these.

The parameters are ``(theta, eta, sigma)``.  Second derivatives of the criterion are differences of
its exact gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.estimation.scaled import ScaledEvaluation
from interlace.estimation.scaled_estimate import ScaledEstimate
from interlace.inference.information import unit_inverse
from interlace.inference.satterthwaite import Satterthwaite, joint_df
from interlace.inference.scaled_kenward_roger import ScaledKenwardRoger, explained
from interlace.inference.sensitivity import working_contrasts
from interlace.inference.wald import FTest, Normal, Reference, wald_f
from interlace.machine.threads import threads_for
from interlace.model.scaled import FittedScaledModel, refuse_ddf
from interlace.solver.blocks import solved
from interlace.sums.terms import Floats, pull_theta, split_theta

# Distance of the differences, in units of the distance over which the gradient bends; diagonal
# entries of the information per squared bending distance that count as zero.
_STEP, _FLAT = 1e-4, 1e-8


def parameter_covariance(estimate: ScaledEstimate) -> Floats:
    """Asymptotic covariance of ``(theta, eta, sigma)``.

    Twice the inverse of the second derivatives, flat directions left out; see
    :func:`interlace.inference.information.vcov_theta`.
    """
    criterion, theta, eta = estimate.criterion, estimate.theta, estimate.eta
    base, sigma, t = criterion.base, estimate.sigma, len(estimate.theta)
    at, distances = np.append(theta, eta), np.append(_distances(estimate), np.ones(len(eta)))
    size = len(at)
    H = np.empty((size + 1, size + 1))
    with threads_for(base.rows_at_once):
        for i, h in enumerate(_STEP * distances):
            step = h * np.eye(size)[i]
            ends = [criterion.at_theta(v[:t], v[t:]) for v in (at + step, at - step)]
            H[i, :size] = (_gradient(ends[0]) - _gradient(ends[1])) / (2.0 * h)
        slope = _relative_slope(criterion.at_theta(theta, eta))
    profiled = 0.5 * (H[:size, :size] + H[:size, :size].T)
    H[size, size] = 4.0 * base.nu / sigma**2
    H[size, :size] = H[:size, size] = -2.0 / sigma * slope
    H[:size, :size] = profiled + np.outer(H[:size, size], H[:size, size]) / H[size, size]
    return 2.0 * unit_inverse(H, floor=_FLAT / np.append(distances, sigma) ** 2)


def _gradient(at: ScaledEvaluation) -> Floats:
    return np.append(at.point.theta_gradient, at.eta_gradient)


def _relative_slope(at: ScaledEvaluation) -> Floats:
    """``d r2 / sigma^2`` by theta and eta."""
    A, factor = at.factor.A, at.factor
    slopes = [
        solved(B.T, -2.0 * at.rate * (f.e.T @ f.u))
        for B, f in zip(A.basis.random, factor.effects, strict=True)
    ]
    users = [B @ T for B, T in zip(A.basis.random, factor.templates, strict=True)]
    squares = at.rate * at.W * at.residuals**2
    by_eta = -2.0 * (at.criterion.scales.T @ squares)
    return np.append(pull_theta(A.terms, users, slopes), by_eta)


def _distances(estimate: ScaledEstimate) -> Floats:
    """Over which the gradient bends in every entry of ``theta``."""
    A = estimate.A
    parts = zip(
        A.terms, split_theta(A.terms, estimate.theta), A.basis.root_mean_squares, strict=True
    )
    return np.concatenate([t.distances(T, t.l / A.n / size**2) for t, T, size in parts])


@dataclass(frozen=True, eq=False)
class ScaledSatterthwaite:
    """Satterthwaite's degrees of freedom: ``2 v^2`` over the variance of ``v = l' V l``."""

    estimate: ScaledEstimate

    @property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1``, ``(p, p)``."""
        return self.estimate.vcov

    @cached_property
    def parameters(self) -> Floats:
        """Covariance of ``(theta, eta, sigma)``."""
        return parameter_covariance(self.estimate)

    @cached_property
    def _images(self) -> Floats:
        """``W^(1/2) (X - Z b)`` with the random effects ``b`` of every column: ``(n, p)``.

        Its squares are what a relative change of the variance of a row takes from ``X' V^-1 X``.
        """
        at = self.estimate.evaluation
        return np.asarray(np.sqrt(at.W)[:, None] * explained(at))

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p), ``(c,)``."""
        estimate = self.estimate
        inner = Satterthwaite(estimate.weighted)
        variances, gradients = inner.slopes(L)
        rows = working_contrasts(estimate, L)
        u = self._images @ (estimate.evaluation.factor.vcov @ rows.T)
        by_eta = 2.0 * estimate.sigma**2 * (estimate.criterion.scales.T @ u**2).T
        g = np.concatenate((gradients[:, :-1], by_eta, gradients[:, -1:]), axis=1)
        spread = np.einsum("cr,rs,cs->c", g, self.parameters, g)
        with np.errstate(divide="ignore"):
            return np.asarray(2.0 * variances**2 / spread, dtype=np.float64)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Joint test of ``L beta = value``, after Fai and Cornelius."""
        V = self.vcov
        _, directions = np.linalg.eigh(L @ V @ L.T)
        ddf = joint_df(self.df(directions.T @ L))
        return FTest(wald_f(self.estimate.beta, V, L, value), len(L), ddf)


def reference(model: FittedScaledModel, ddf: str) -> Reference:
    """What the fixed effects are compared with.

    Raises
    ------
    InterlaceError
        An unknown name, or one that these models do not have; Kenward-Roger after ML.
    """
    refuse_ddf(model.variance, ddf)
    if ddf == "normal":
        return Normal(model.estimate)
    if ddf == "satterthwaite":
        return ScaledSatterthwaite(model.estimate)
    return ScaledKenwardRoger(model.estimate.weighted, model.estimate)
