"""Cluster-robust covariances of generalised models, from the scores of independent clusters.

The log-likelihood is a sum over clusters that share no random effect.  With ``s_i`` the gradient of
a cluster's part in all parameters together (fixed effects, templates, auxiliary coefficients) and
``H`` the observed information of them,

``V = H^-1 [sum_i s_i s_i'] H^-1``,

of which the block of the fixed effects is kept (White 1982, Econometrica 50, 1-25; by clusters
Liang and Zeger 1986, Biometrika 73, 13-22).  It is what the R packages merDeriv and sandwich make
of a fit.  The approximation of the likelihood, Laplace's or quadrature, is that of the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError, choose
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.problem import Problem
from interlace.inference.robust.clusters import Cluster, Clusters, clusters_of, crossing
from interlace.inference.robust.reference import Large
from interlace.inference.robust.sandwich import correction
from interlace.inference.wald import FTest, Reference, wald_f
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.cells import Codes
from interlace.sums.terms import Floats

KINDS = ("CR0", "CR1", "CR1S")
# Kinds that correct residuals for what fitting takes from them.
_CORRECTED = ("CR2", "CR3")


@dataclass(frozen=True, eq=False)
class ScoreSandwich:
    """Tests with a covariance from the scores of clusters.

    Parameters
    ----------
    estimate
        The fit.
    scores
        ``(m, parameters)``: the gradient of every cluster's log-likelihood, packed.
    factor
        Of the covariance, for CR1 and CR1S.

    Notes
    -----
    Tests use t and F with one less than the number of clusters, as those of clusters in several
    ways do (Cameron and Miller 2015, Journal of Human Resources 50, 317-372).
    """

    estimate: GeneralEstimate
    scores: Floats
    factor: float = 1.0

    @cached_property
    def vcov(self) -> Floats:
        """The covariance of the fixed effects, ``(p, p)``."""
        t, p, _ = self.estimate.problem.sizes
        F = self.estimate.A.fixed @ self.estimate.covariance[t : t + p]
        R = self.scores @ F.T
        return np.asarray(self.factor * (R.T @ R))

    @property
    def _df(self) -> float:
        return len(self.scores) - 1.0

    def df(self, L: Floats) -> Floats:
        """One less than the number of clusters, for every row."""
        return np.full(len(L), self._df)

    def f_test(self, L: Floats, value: Floats | None = None) -> FTest:
        """Wald's F test of ``L beta = value``.

        Raises
        ------
        InterlaceError
            There are not more clusters than functions.
        """
        if len(self.scores) <= len(L):
            raise InterlaceError(
                f"{len(self.scores)} clusters do not tell the covariance of {len(L)} functions: "
                f"test fewer at once"
            )
        return FTest(wald_f(self.estimate.beta, self.vcov, L, value), len(L), self._df)


def score_reference(
    model: FittedGeneralModel, kind: str, cluster: Cluster, ddf: str | None
) -> Reference:
    """The reference of robust tests of a generalised model.

    Raises
    ------
    InterlaceError
        An unknown kind, or one that corrects residuals; several clusterings; clusters that random
        effects correlate; degrees of freedom that these tests do not have; a fit with a prior.
    """
    if (name := str(kind).upper()) in _CORRECTED:
        raise InterlaceError(
            f"robust={name!r} corrects the residuals of a linear model; a generalised one has "
            f"'CR0', 'CR1' and 'CR1S'. With few clusters look at deletions() too, the estimates "
            f"without each"
        )
    name = choose("robust", name, KINDS, one_of=True)
    if ddf not in (None, "normal"):
        raise InterlaceError(
            f"robust tests of a generalised model have t with one less than the number of "
            f"clusters, or ddf='normal', not {ddf!r}"
        )
    if model.method == "REML":
        raise InterlaceError(
            "a robust covariance of a generalised model is for maximum likelihood: refit with "
            'update(method="ML")'
        )
    if model.estimate.problem.precision is not None:
        raise InterlaceError(
            "a robust covariance is for maximum likelihood, and this fit has fixed_prior="
        )
    clusters = _one(clusters_of(model, cluster))
    _refuse_crossed(model, clusters)
    n, p = model.nobs, model.estimate.A.p
    found = ScoreSandwich(
        model.estimate,
        cluster_scores(model.estimate, clusters),
        correction(name, clusters.count, (n, p)),
    )
    return Large(model.estimate.beta, found) if ddf == "normal" else found


def _one(ways: Sequence[Clusters]) -> Clusters:
    """The clustering; several are refused."""
    if len(ways) > 1:
        raise InterlaceError(
            "clustering in several ways takes a log-likelihood apart that crossed random effects "
            "hold together: for a generalised model name one factor that contains all others"
        )
    return ways[0]


def _refuse_crossed(model: FittedGeneralModel, clusters: Clusters) -> None:
    found = crossing(model, require_rows(model.design, "a cluster-robust covariance"), clusters)
    if found:
        raise InterlaceError(
            f"clusters of '{clusters.name}' are not independent in this model: levels of "
            f"{', '.join(repr(name) for name in found)} occur in several, so that the "
            f"log-likelihood is no sum over them. Name a factor that contains all others, or use "
            f"bootstrap()"
        )


# ------------------------------------------------------------------ scores


def cluster_scores(estimate: GeneralEstimate, clusters: Clusters) -> Floats:
    """Gradient of the log-likelihood of every cluster in the packed parameters, ``(m, d)``.

    Each is that of the model on the cluster's rows alone, at the parameters and modes of the fit.
    """
    problem, at = estimate.problem, estimate.at
    order = np.argsort(clusters.codes, kind="stable")
    ends = np.cumsum(np.bincount(clusters.codes))[:-1]
    found = np.empty((clusters.count, sum(problem.sizes)))
    for i, rows in enumerate(np.split(order, ends)):
        part, levels = _part(problem, rows)
        u = [own[used] for own, used in zip(estimate.u, levels, strict=True)]
        point = estimate.approximation(part, at, u)
        if point is None:
            raise InterlaceError(
                f"the rows of cluster {i + 1} of '{clusters.name}' alone have no likelihood at the "
                f"estimates: use bootstrap()"
            )
        found[i] = -0.5 * point.gradient
    return found


def _part(problem: Problem, rows: Codes) -> tuple[Problem, list[Codes]]:
    """The problem on some rows with the levels that occur in them, and which these are."""
    some = problem.some(rows)
    terms, codes, levels = [], [], []
    for term, own in zip(some.rows.terms, some.rows.codes, strict=True):
        used, at = np.unique(own, return_inverse=True)
        terms.append(replace(term, levels=np.arange(len(used))))
        codes.append(at.astype(np.intp, copy=False))
        levels.append(used)
    part = replace(some.rows, terms=tuple(terms), codes=tuple(codes))
    return replace(some, rows=part), levels
