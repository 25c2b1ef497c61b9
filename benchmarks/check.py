"""Whether the packages found the same fit: a time counts only for an answer that agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg

from benchmarks.outcome import Outcome
from benchmarks.problems import Floats, products
from benchmarks.storage import Stored

# Largest relative difference of standard deviations for a package with a stochastic criterion.
SD_TOLERANCE = 0.02
# Up to here the criterion is recomputed from its definition, with an n x n covariance matrix.
REFEREE_ROWS = 2_500
REFEREE_TOLERANCE = 1e-5


def judge(outcomes: Sequence[Outcome], stored: Stored, *, tolerance: float) -> list[Outcome]:
    """The timed outcomes, each with its excess and the status "disagrees" where it earned it.

    A criterion must lie within ``tolerance`` (absolute) of the lowest one of its method, and for
    small problems must equal its definition at the variances the package reports. A package whose
    criterion is stochastic must have the standard deviations of the best fit to 2 per cent.
    """
    checked = [refereed(outcome, stored) for outcome in outcomes]
    best = {method: lowest(checked, method) for method in ("REML", "ML")}
    return [
        compared(outcome, best[outcome.method], tolerance=tolerance)
        for outcome in checked
        if not outcome.untimed
    ]


def lowest(outcomes: Sequence[Outcome], method: str) -> Outcome | None:
    """The valid outcome of this method with the lowest criterion."""
    return min(
        (
            o
            for o in outcomes
            if o.method == method and o.status == "ok" and o.criterion is not None
        ),
        key=lambda o: o.criterion if o.criterion is not None else np.inf,
        default=None,
    )


def compared(outcome: Outcome, best: Outcome | None, *, tolerance: float) -> Outcome:
    if outcome.status != "ok":
        return outcome
    if best is None or best.criterion is None:
        return replace(outcome, status="disagrees", reason="nothing to compare with")
    if outcome.criterion is None:
        gap = sd_gap(outcome, best)
        if gap <= SD_TOLERANCE:
            return replace(outcome, reason=f"stochastic; standard deviations within {gap:.1%}")
        return replace(outcome, status="disagrees", reason=f"standard deviations off by {gap:.1%}")
    excess = outcome.criterion - best.criterion
    if excess <= tolerance:
        return replace(outcome, excess=excess)
    reason = f"criterion {excess:.3g} above {best.peer}'s"
    return replace(outcome, status="disagrees", excess=excess, reason=reason)


def sd_gap(outcome: Outcome, best: Outcome) -> float:
    """Largest relative difference of the standard deviations of two fits of one model."""
    pairs = zip(deviations(outcome), deviations(best), strict=True)
    return float(max(abs(a - b) / max(b, 1e-12) for a, b in pairs))


def deviations(outcome: Outcome) -> Floats:
    """Standard deviations: random effects by key, then the residual."""
    covariances = outcome.covariances or {}
    variances = [np.diag(np.asarray(covariances[key])) for key in sorted(covariances)]
    out: Floats = np.sqrt(np.concatenate([*variances, [outcome.scale or 0.0]]))
    return out


def refereed(outcome: Outcome, stored: Stored) -> Outcome:
    """``outcome``, or a disagreement if its criterion is not that of its own variances."""
    if (
        outcome.status != "ok"
        or outcome.criterion is None
        or stored.n > REFEREE_ROWS
        or stored.family
    ):
        return outcome
    gap = outcome.criterion - definition(outcome, stored)
    if abs(gap) <= REFEREE_TOLERANCE * max(1.0, abs(outcome.criterion)):
        return outcome
    reason = f"reports a criterion {gap:.3g} off that of its own variances"
    return replace(outcome, status="disagrees", reason=reason)


def definition(outcome: Outcome, stored: Stored) -> float:
    """-2 log-likelihood (REML or ML) at the outcome's variances, from the dense covariance."""
    y = stored.numbers(stored.response)
    X = columns(stored, stored.fixed)
    V = covariance(outcome, stored)
    n, p = X.shape
    L = np.linalg.cholesky(V)
    W = scipy.linalg.solve_triangular(L, np.column_stack([X, y]), lower=True)
    R = np.abs(np.diag(np.linalg.qr(W, mode="r")))  # the last one is the residual norm
    value = 2.0 * np.log(np.diag(L)).sum() + R[-1] ** 2
    if outcome.method == "REML":
        return float(value + 2.0 * np.log(R[:-1]).sum() + (n - p) * np.log(2.0 * np.pi))
    return float(value + n * np.log(2.0 * np.pi))


def covariance(outcome: Outcome, stored: Stored) -> Floats:
    """The marginal covariance (n, n) of y."""
    assert outcome.scale is not None and outcome.covariances is not None
    V = outcome.scale * np.eye(stored.n)
    for term in stored.terms:
        Z = columns(stored, term.expr)
        codes = np.stack([stored.factor(name).codes for name in term.groups])
        same = (codes[:, :, None] == codes[:, None, :]).all(axis=0)
        G = np.asarray(outcome.covariances[term.key])
        V += same * (Z @ G @ Z.T)
    return V


def columns(stored: Stored, expr: str) -> Floats:
    """Model matrix (n, k) of ``expr``."""
    one = np.ones(stored.n)
    chosen = products(expr)
    return np.column_stack([np.prod([one, *map(stored.numbers, c)], axis=0) for c in chosen])
