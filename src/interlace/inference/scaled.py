"""Tests where residual variances follow a few numbers, and what is known of these.

The parameters are ``(theta, eta, sigma)``.  Second derivatives of the criterion are differences of
its exact gradient, two evaluations a parameter.  Where there are very many of these the average
information stands in their place, which needs one: it is the mean of the observed and the expected
one, and differs from the first by what leverages are to the rows of a stratum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag

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
# Parameters, and these times rows, from which on the average information is taken.
MANY, LONG = 40, 4_000_000


def parameter_covariance(estimate: ScaledEstimate) -> Floats:
    """Asymptotic covariance of ``(theta, eta, sigma)``.

    Twice the inverse of the second derivatives, flat directions left out; see
    :func:`interlace.inference.information.vcov_theta`.
    """
    criterion, sigma = estimate.criterion, estimate.sigma
    distances = np.append(_distances(estimate), np.ones(len(estimate.eta)))
    size = len(distances)
    with threads_for(criterion.base.rows_at_once):
        at = criterion.at_theta(estimate.theta, estimate.eta)
        many = size > MANY and size * estimate.A.n > LONG
        profiled = averaged(at) if many else differenced(estimate, _STEP * distances)
        slope = _relative_slope(at)
    H = np.empty((size + 1, size + 1))
    H[size, size] = 4.0 * criterion.base.nu / sigma**2
    H[size, :size] = H[:size, size] = -2.0 / sigma * slope
    H[:size, :size] = profiled + np.outer(H[:size, size], H[:size, size]) / H[size, size]
    return 2.0 * unit_inverse(H, floor=_FLAT / np.append(distances, sigma) ** 2)


def differenced(estimate: ScaledEstimate, steps: Floats) -> Floats:
    """Second derivatives by ``theta`` and ``eta``: central differences of the gradient."""
    at, t = np.append(estimate.theta, estimate.eta), len(estimate.theta)
    H = np.empty((len(at),) * 2)
    for i, h in enumerate(steps):
        step = h * np.eye(len(at))[i]
        ends = [estimate.criterion.at_theta(v[:t], v[t:]) for v in (at + step, at - step)]
        H[i] = (_gradient(ends[0]) - _gradient(ends[1])) / (2.0 * h)
    return 0.5 * (H + H.T)


def averaged(at: ScaledEvaluation) -> Floats:
    """Average information of ``theta`` and ``eta``, at an optimum given by its ``theta``.

    The search has it by the free entries of working templates, which move with
    ``theta`` by ``J``.
    """
    J = block_diag(*_moves(at), np.eye(len(at.eta)))
    return np.asarray(J.T @ at.newton_matrix @ J)


def _moves(at: ScaledEvaluation) -> Iterator[Floats]:
    """Derivatives of the free entries of every working template by its ``theta``."""
    A, base = at.factor.A, at.criterion.base
    packed = base.pack(at.factor.templates)
    parts = zip(A.terms, A.basis.random, at.factor.templates, base.places, strict=True)
    for term, B, T, own in parts:
        moved = solved(B, term.slopes(B @ T))
        rates = term.template.jacobian(packed[own]).reshape(term.k**2, -1)
        found = np.linalg.lstsq(rates, moved.reshape(len(moved), -1).T, rcond=None)[0]
        yield np.asarray(found, dtype=np.float64)


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
