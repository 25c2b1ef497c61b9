"""Satterthwaite's degrees of freedom.

A variance ``l' V l`` that is estimated with variance ``s`` is compared with a multiple of a
chi-squared variable of ``2 (l' V l)^2 / s`` degrees of freedom.  Tests of several functions at once
follow Fai and Cornelius [1]_.

.. [1] Fai and Cornelius (1996), Journal of Statistical Computation and Simulation 54, 363-378.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.estimation.estimate import Estimate
from interlace.inference.information import vcov_theta
from interlace.inference.sensitivity import level_products, working_contrasts
from interlace.inference.wald import FTest, wald_f
from interlace.solver.solve import fixed_images
from interlace.sums.terms import Floats, pull_theta

# Begins the message for fits of the iterative solver.
_DF = "ddf='satterthwaite' needs"


@dataclass(frozen=True, eq=False)
class Satterthwaite:
    """t and F tests with Satterthwaite's degrees of freedom.

    The covariance of the fixed effects is the model's, ``sigma^2 (X' Omega^-1 X)^-1``.

    Notes
    -----
    The covariance of the variance parameters ``(theta, sigma)`` is twice the inverse of the
    observed information (:func:`~interlace.inference.information.vcov_theta`); the derivatives of
    ``l' V l`` are analytic.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> result = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> Satterthwaite(result.estimate).df(np.eye(2)).round(3).tolist()
    [17.0, 17.0]
    """

    estimate: Estimate

    @property
    def vcov(self) -> Floats:
        """``sigma^2 (X' Omega^-1 X)^-1``, ``(p, p)``."""
        return self.estimate.vcov

    @cached_property
    def vcov_theta(self) -> Floats:
        """Covariance of ``(theta, sigma)``."""
        return vcov_theta(self.estimate)

    @cached_property
    def images(self) -> tuple[Floats, ...]:
        """``Z_j' Omega^-1 X`` in the working basis, ``(l, k, p)`` per term."""
        return fixed_images(self.estimate.evaluation.dense(_DF, ", or use ddf='normal'"))

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p): ``2 (l' V l)^2 / (g' A g)``, ``(c,)``.

        ``g`` is the gradient of ``l' V l`` by ``(theta, sigma)`` and ``A`` their covariance.
        """
        variances, gradients = self.slopes(L)
        spread = np.einsum("cr,rs,cs->c", gradients, self.vcov_theta, gradients)
        with np.errstate(divide="ignore"):
            return np.asarray(2.0 * variances**2 / spread, dtype=np.float64)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Joint test of ``L beta = value`` for ``L`` (q, p) of full row rank.

        ``L V L'`` is diagonalised, each direction has its own degrees of freedom, and the F
        distribution has those that give the sum of the squared t variables its expectation.
        """
        V = self.vcov
        _, directions = np.linalg.eigh(L @ V @ L.T)
        ddf = joint_df(self.df(directions.T @ L))
        return FTest(wald_f(self.estimate.beta, V, L, value), len(L), ddf)

    def slopes(self, L: Floats) -> tuple[Floats, Floats]:
        """``l' V l`` (c,) and its gradients by ``(theta, sigma)`` (c, n_theta + 1)."""
        estimate = self.estimate
        rows, C = working_contrasts(estimate, L), estimate.evaluation.factor.vcov
        sigma = estimate.sigma
        v = C @ rows.T
        variances = sigma**2 * np.einsum("cp,pc->c", rows, v)
        gradients = np.empty((len(L), len(estimate.theta) + 1))
        gradients[:, -1] = 2.0 * variances / sigma
        unmaps = [np.linalg.inv(B) for B in estimate.A.basis.random]
        products = level_products(self.images, v)
        for c in range(len(L)):
            slopes = [
                2.0 * sigma**2 * (U.T @ M[c] @ U @ T)
                for U, M, T in zip(unmaps, products, estimate.user_templates, strict=True)
            ]
            gradients[c, :-1] = pull_theta(estimate.A.terms, estimate.user_templates, slopes)
        return variances, gradients


def joint_df(nu: Floats) -> float:
    """Denominator degrees of freedom of an F test from those of its ``q`` directions (q,).

    ``2 E / (E - q)`` with ``E`` the sum of ``nu / (nu - 2)``, the expectations of the squared t
    variables; the common value where all are equal; 2 where any is at most 2, whose expectation is
    infinite.
    """
    if np.ptp(nu) <= 1e-8 * np.abs(nu).max():
        return float(nu.mean())
    if (nu <= 2.0).any():
        return 2.0
    excess = float((2.0 / (nu - 2.0)).sum())  # E - q, without cancellation
    return 2.0 * (excess + len(nu)) / excess
