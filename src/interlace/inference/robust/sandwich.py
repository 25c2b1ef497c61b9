"""Sandwich covariances of the fixed effects, with Bell and McCaffrey's degrees of freedom.

For clusters that the model takes as independent, with ``C = (X' Omega^-1 X)^-1`` and ``e = y - X
beta``,

``V = C [sum_i X_i' Omega_i^-1 A_i e_i e_i' A_i' Omega_i^-1 X_i] C``,

where ``A_i`` gives back what fitting takes from the residuals.  With ``C = B B'`` and ``K_i = A_i'
Omega_i^-1 X_i B`` every quantity needs of a cluster no more than

``r_i = K_i' e_i``,  ``N_i = B' X_i' K_i``  and  ``D_i = K_i' Omega_i K_i``,

``p`` numbers and two ``p x p`` matrices, whatever its size: ``V = B [sum_i r_i r_i'] B'``, and
under the model the covariance of ``w' r_i`` and ``w' r_j`` is ``(i = j) w' D_i w - w' N_i' N_j w``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, get_args

import numpy as np

from interlace.choices import RobustKind
from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.estimation.estimate import Estimate
from interlace.inference.robust.clusters import Clusters, product_sums
from interlace.inference.sensitivity import working_contrasts
from interlace.inference.wald import FTest, wald_f
from interlace.model.optimum import SummedEstimate
from interlace.solver.blocks import multiply
from interlace.solver.rows import fixed_on_random
from interlace.sums.terms import Floats

KINDS: tuple[RobustKind, ...] = get_args(RobustKind)

# A cluster alone says all that is known of a direction if this share of it is left at most.
ALONE = 1e-9


class Rooted(Protocol):
    """A fit, and a root ``B`` of the covariance of its working fixed effects."""

    @property
    def estimate(self) -> SummedEstimate: ...
    @property
    def root(self) -> Floats: ...


@dataclass(frozen=True, eq=False)
class Scores:
    """Rows as a sandwich takes them, in the working basis of the fixed effects.

    ``X`` (n, p), ``weighted = Omega^-1 X`` (n, p), and the residuals ``e`` (n,) of the fixed part,
    in units of the response.
    """

    design: Design
    estimate: Estimate
    X: Floats
    weighted: Floats
    e: Floats

    @cached_property
    def root(self) -> Floats:
        """``B`` with ``B B' = (X' Omega^-1 X)^-1``."""
        return np.asarray(
            np.linalg.cholesky(self.estimate.evaluation.factor.vcov), dtype=np.float64
        )


def scores_of(design: Design, estimate: Estimate) -> Scores:
    """The rows of a fit.

    Raises
    ------
    InterlaceError
        The fit is by the iterative solver.
    """
    factor = estimate.evaluation.dense("a cluster-robust covariance needs")
    rows = design.in_basis(estimate.A.basis, estimate.A.names)
    left = rows.X.copy()
    for codes, Z, b in zip(rows.codes, rows.Z, fixed_on_random(factor), strict=True):
        left -= multiply(Z[:, None, :], b[codes])[:, 0]
    weighted = left if design.weights is None else design.weights[:, None] * left
    e = design.response - design.fixed(estimate.A.names) @ estimate.beta
    return Scores(design, estimate, rows.X, weighted, e)


@dataclass(frozen=True, eq=False)
class Pieces:
    """What a sandwich needs of ``m`` clusters: ``r`` (m, p), ``N`` and ``D`` (m, p, p)."""

    r: Floats
    N: Floats
    D: Floats


def plain_pieces(scores: Scores, clusters: Clusters, *, power: float) -> Pieces:
    """Pieces for ``A_i = (I - H_ii)^-power`` in residuals that the model makes independent.

    With ``P_i = B' X_i' Omega_i^-1 X_i B`` and ``R_i = (I - P_i)^-power`` they are ``R_i B' X_i'
    Omega_i^-1 e_i``, ``P_i R_i`` and ``R_i P_i R_i``, because ``X' (I - X M X')^-k = (I - X'X M)^-k
    X'``.  Directions of which a cluster alone has all information are left out.
    """
    left, right = scores.X @ scores.root, scores.weighted @ scores.root
    sums = product_sums(clusters, right, np.column_stack((left, scores.e)))
    return pieces_of(sums[:, :, -1], sums[:, :, :-1], power=power)


def pieces_of(u: Floats, products: Floats, *, power: float) -> Pieces:
    """:func:`plain_pieces` from ``B' X_i' Omega_i^-1 e_i`` (m, p) and ``P_i`` (m, p, p)."""
    P = 0.5 * (products + products.transpose(0, 2, 1))
    if power == 0.0:
        return Pieces(u, P, P)
    values, vectors = np.linalg.eigh(P)
    rest = 1.0 - values
    raised = np.where(rest > ALONE, np.maximum(rest, ALONE) ** -power, 0.0)

    def spectral(numbers: Floats) -> Floats:
        return np.asarray((vectors * numbers[:, None, :]) @ vectors.transpose(0, 2, 1))

    r = multiply(spectral(raised), u[:, :, None])[:, :, 0]
    return Pieces(r, spectral(values * raised), spectral(values * raised**2))


@dataclass(frozen=True, eq=False)
class Robust:
    """Tests with a cluster-robust covariance, for independent clusters.

    Parameters
    ----------
    estimate
        The fit.
    pieces
        What is needed of the clusters.
    factor
        Of the covariance, for CR1 and CR1S.

    Notes
    -----
    Degrees of freedom are those of Bell and McCaffrey (2002, Survey Methodology 28, 169-181) under
    the model; joint tests are Pustejovsky and Tipton's HTZ (2018, Journal of Business & Economic
    Statistics 36, 672-683).
    """

    scores: Rooted
    pieces: Pieces
    factor: float = 1.0

    @property
    def estimate(self) -> SummedEstimate:
        """The fit."""
        return self.scores.estimate

    @cached_property
    def vcov(self) -> Floats:
        """The covariance of the fixed effects, ``(p, p)``."""
        F = self.estimate.A.basis.fixed[:-1, :-1] @ self.scores.root
        r = self.pieces.r
        return np.asarray(self.factor * (F @ (r.T @ r) @ F.T))

    def df(self, L: Floats) -> Floats:
        """Degrees of freedom of the rows of ``L`` (c, p), ``(c,)``.

        A variance is a sum of squares of ``m`` correlated normals; its expectation and variance
        under the model are matched.
        """
        w = self._working(L)
        d = np.einsum("ca,mab,cb->mc", w, self.pieces.D, w, optimize=True)
        F = w @ self.pieces.N.transpose(0, 2, 1)
        squares = np.einsum("mcp,mcp->mc", F, F)
        crossed = np.matmul(F.transpose(1, 2, 0), F.transpose(1, 0, 2))
        mean = (d - squares).sum(axis=0)
        variance = (d**2 - 2.0 * d * squares).sum(axis=0) + (crossed**2).sum(axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(mean**2 / variance, dtype=np.float64)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Joint test of ``L beta = value`` for ``L`` (q, p) of full row rank: HTZ.

        The covariance of the functions, standardised by its expectation under the model, is taken
        as a Wishart matrix of ``eta`` degrees of freedom, with the same total variance.
        """
        q, w = len(L), self._working(L)
        d, F = self._forms(w)
        mean = d.sum(axis=0) - np.einsum("mca,mda->cd", F, F)
        d, F = self._forms(_inverse_root(mean) @ w)
        eta = q * (q + 1) / _total_variance(d, F)
        plain = wald_f(self.estimate.beta, self.vcov, L, value)
        scaling = (eta - q + 1.0) / eta
        return FTest(scaling * plain, q, eta - q + 1.0, scaling)

    def _working(self, L: Floats) -> Floats:
        """``B' l`` of every row of ``L``, ``(c, p)``."""
        return working_contrasts(self.estimate, L) @ self.scores.root

    def _forms(self, w: Floats) -> tuple[Floats, Floats]:
        """``w' D_i w`` between all rows of ``w`` (m, c, c), and ``N_i w`` (m, c, p)."""
        return w @ self.pieces.D @ w.T, w @ self.pieces.N.transpose(0, 2, 1)


def _total_variance(d: Floats, F: Floats) -> float:
    """Sum of the variances of the entries of the standardised covariance of functions.

    Entry ``st`` is ``sum_i x_si x_ti`` for normal ``x`` with covariances ``(i = j) d_i,st - F_si
    F_tj``, and its variance ``sum_ij cov(x_si, x_sj) cov(x_ti, x_tj) + cov(x_si, x_tj) cov(x_ti,
    x_sj)``.
    """
    outer = np.einsum("mca,mda->mcd", F, F)
    crossed = np.einsum("mca,mdb->cdab", F, F, optimize=True)
    own, lost = np.einsum("mcc->mc", d), np.einsum("mcc->mc", outer)
    straight = own.T @ own - own.T @ lost - lost.T @ own
    straight += np.einsum("stab,stab->st", crossed, crossed)
    turned = np.einsum("mst,mst->st", d, d) - 2.0 * np.einsum("mst,mst->st", d, outer)
    turned += np.einsum("stab,stba->st", crossed, crossed)
    return float((straight + turned).sum())


def _inverse_root(S: Floats) -> Floats:
    """``S^-1/2``, symmetric."""
    values, vectors = np.linalg.eigh(S)
    if values[0] <= 1e-14 * values[-1]:
        raise InterlaceError(
            "the clusters do not tell the covariance of these functions: test fewer at once"
        )
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def correction(kind: str, m: int, shape: tuple[int, ...]) -> float:
    """Factor of the covariance for ``m`` clusters of ``n`` rows and ``p`` coefficients."""
    n, p = shape
    factor = 1.0 if kind not in ("CR1", "CR1S") else m / (m - 1.0)
    return factor * (n - 1.0) / (n - p) if kind == "CR1S" else factor
