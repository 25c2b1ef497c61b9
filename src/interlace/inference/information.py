"""Observed information of the variance parameters, and what the delta method makes of it.

The parameters are ``(theta, sigma)``: the free entries of the templates in lme4's order and the
user's units, then the residual standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from interlace.estimation.criterion import Criterion, Evaluation
from interlace.estimation.estimate import Estimate
from interlace.machine.threads import threads_for
from interlace.solver.blocks import solved
from interlace.solver.equations import Exact
from interlace.solver.solve import projected_square
from interlace.solver.traces import fit_in_memory, projected_traces, without_fixed
from interlace.sums.terms import Floats, ReTerm, pull_theta, split_theta

# Distance of the differences, in units of the distance over which the gradient bends: the
# second-order error is then below 1e-7 and the rounding error smaller.
_STEP = 1e-4
# Up to so many parameters two evaluations for each take no longer than traces of products of two.
_FEW = 6
# Eigenvalues of the information, scaled to a unit diagonal, that count as zero; and diagonal
# entries per squared bending distance.
_FLAT = 1e-8


@dataclass(frozen=True, eq=False)
class VarianceErrors:
    """Standard errors of the variance components, by the delta method.

    ``nan`` where it does not apply: a standard deviation at 0, a correlation at -1 or 1.

    Attributes
    ----------
    covariances
        Per term, of every variance and covariance, ``(k, k)``, in squared units of ``y``.
    sds
        Per term, of the standard deviations, ``(k,)``.
    correlations
        Per term, of the correlations, ``(k, k)``; 0 on the diagonal.
    scale, sigma
        Of the residual variance and of its square root.
    """

    covariances: tuple[Floats, ...]
    sds: tuple[Floats, ...]
    correlations: tuple[Floats, ...]
    scale: float
    sigma: float


def observed_information(estimate: Estimate) -> Floats:
    """Second derivatives of the criterion at the estimate, ``(n_theta + 1, n_theta + 1)``.

    The criterion, -2 log-likelihood or the REML criterion as fitted, is taken as a function of
    ``theta`` and of ``sigma``, which is not profiled out.

    Notes
    -----
    Differences of the exact gradient give the second derivatives of the profiled criterion.  With
    ``r2`` the penalised residual sum of squares, the others are ``4 nu / sigma^2`` for sigma and
    ``-2 (d r2 / d theta) / sigma^3``; adding ``d_ts d_ts' / d_ss`` undoes the profiling.
    """
    criterion, theta, sigma = estimate.criterion, estimate.theta, estimate.sigma
    size = len(theta)
    H = np.empty((size + 1, size + 1))
    H[size, size] = 4.0 * criterion.nu / sigma**2
    H[:size, size] = H[size, :size] = -2.0 / sigma * _relative_slope(criterion.at_theta(theta))
    profiled = profiled_information(criterion, theta)
    H[:size, :size] = profiled + np.outer(H[:size, size], H[:size, size]) / H[size, size]
    return H


def profiled_information(criterion: Criterion, theta: Floats) -> Floats:
    """Second derivatives by theta of the criterion with sigma profiled out, ``(c, c)``."""
    with threads_for(criterion.rows_at_once):
        exact = isinstance(criterion.equations, Exact)
        if len(theta) > _FEW and exact and fit_in_memory(criterion.at_theta(theta).dense("")):
            return traced_information(criterion, theta)
        return _profiled_information(criterion, theta)


def theta_inverse(criterion: Criterion, theta: Floats, H: Floats) -> Floats:
    """Generalised inverse of second derivatives by theta, flat directions left out."""
    return unit_inverse(H, floor=_FLAT / _bending(criterion, theta) ** 2)


def vcov_theta(estimate: Estimate) -> Floats:
    """Asymptotic covariance of ``(theta, sigma)``, ``(n_theta + 1, n_theta + 1)``.

    Twice the inverse of :func:`observed_information`.  Directions in which the criterion is not
    convex, or flat, are left out (a generalised inverse), as in lmerTest.  At a singular fit the
    numbers describe the criterion around the boundary, and are no more than indicative.
    """
    H = observed_information(estimate)
    distances = np.append(_bending(estimate.criterion, estimate.theta), estimate.sigma)
    return 2.0 * unit_inverse(H, floor=_FLAT / distances**2)


def unit_inverse(H: Floats, *, floor: Floats, flat: float = _FLAT) -> Floats:
    """Generalised inverse of a symmetric matrix, as if its diagonal were scaled to 1.

    Rows whose diagonal entry is at most ``floor`` are left out, and so are directions whose
    eigenvalue, after scaling, is at most ``flat``.
    """
    diagonal = np.diag(H)
    steep = diagonal > floor
    unit = np.where(steep, 1.0 / np.sqrt(np.where(steep, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh(H * np.outer(unit, unit))
    kept = values > flat
    vectors = unit[:, None] * vectors[:, kept]
    return np.asarray((vectors / values[kept]) @ vectors.T, dtype=np.float64)


def variance_errors(estimate: Estimate) -> VarianceErrors:
    """Standard errors of variances, covariances, standard deviations and correlations.

    From :func:`vcov_theta` by the delta method, with ``Sigma = sigma^2 T T'``.

    Examples
    --------
    >>> import interlace
    >>> dyestuff = interlace.datasets.load("dyestuff")
    >>> errors = variance_errors(interlace.fit("Yield ~ 1 + (1 | Batch)", dyestuff).estimate)
    >>> round(float(errors.sds[0][0]), 2), round(errors.sigma, 2)
    (17.06, 7.15)
    """
    return errors_of(estimate, vcov_theta(estimate))


def errors_of(estimate: Estimate, V: Floats) -> VarianceErrors:
    """Standard errors from the covariance ``V`` of ``(theta, sigma)``."""
    sigma = estimate.sigma
    parts = [
        _term_errors(term, T, sigma, rows, V)
        for term, T, rows in zip(
            estimate.A.terms, estimate.user_templates, _positions(estimate.A.terms), strict=True
        )
    ]
    se = float(np.sqrt(V[-1, -1]))
    return VarianceErrors(
        covariances=tuple(p[0] for p in parts),
        sds=tuple(p[1] for p in parts),
        correlations=tuple(p[2] for p in parts),
        scale=2.0 * sigma * se,
        sigma=se,
    )


# ------------------------------------------------------------------ second derivatives


def _relative_slope(at: Evaluation) -> Floats:
    """``(d r2 / d theta) / sigma^2``."""
    criterion = at.criterion
    rate = criterion.nu / at.factor.r2
    bases, templates = criterion.A.basis.random, at.factor.templates
    slopes = [
        solved(B.T, -2.0 * rate * (f.e.T @ f.u))
        for B, f in zip(bases, at.factor.effects, strict=True)
    ]
    users = [B @ T for B, T in zip(bases, templates, strict=True)]
    return pull_theta(criterion.A.terms, users, slopes)


def _profiled_information(criterion: Criterion, theta: Floats) -> Floats:
    """Second derivatives of the profiled criterion: central differences of its gradient."""
    H = np.empty((len(theta), len(theta)))
    for i, h in enumerate(_STEP * _bending(criterion, theta)):
        H[i] = _difference(criterion, theta, i, h) / (2.0 * h)
    return 0.5 * (H + H.T)


def _difference(criterion: Criterion, theta: Floats, i: int, h: float) -> Floats:
    """Change of the gradient from ``theta_i - h`` to ``theta_i + h``."""
    d = np.zeros(len(theta))
    d[i] = h
    return (
        criterion.at_theta(theta + d).theta_gradient - criterion.at_theta(theta - d).theta_gradient
    )


def _bending(criterion: Criterion, theta: Floats) -> Floats:
    """Distance over which the gradient bends in every entry of ``theta``.

    The entry itself, or where that is small what one level of ``n / l`` rows can tell from zero.
    """
    A = criterion.A
    found = [
        term.distances(T, term.l / A.n / size**2)
        for term, T, size in zip(
            A.terms, split_theta(A.terms, theta), A.basis.root_mean_squares, strict=True
        )
    ]
    return np.concatenate(found)


def traced_information(criterion: Criterion, theta: Floats) -> Floats:
    """Second derivatives of the profiled criterion, from their formula.

    For REML, with ``V_r`` the derivative of ``Omega`` by ``theta_r`` they are ``tr(P V_rs) -
    tr(P V_r P V_s) + rate y'P (2 V_r P V_s - V_rs) P y - rate^2 / nu (y'P V_r P y) (y'P V_s P y)``,
    and the ``rate`` is ``nu / r2``.  For ML the traces have ``V^-1`` in place of ``P``.
    """
    at, terms = criterion.at_theta(theta), criterion.A.terms
    factor, rate = at.dense("second derivatives need"), criterion.nu / at.factor.r2
    bases, templates = criterion.A.basis.random, at.factor.templates
    parts = list(zip(terms, bases, templates, strict=True))
    moved = [solved(B, t.slopes(B @ T)) for t, B, T in parts]
    E = [D @ T.T + T @ D.swapaxes(1, 2) for D, T in zip(moved, at.factor.templates, strict=True)]
    e = [f.e for f in at.factor.effects]
    traced = factor if criterion.reml else without_fixed(factor)
    _, traces = projected_traces(traced, E)
    places = _positions(terms)
    shifts = [np.zeros((*one.shape, len(theta))) for one in e]
    for h, own, one, directions in zip(shifts, places, e, E, strict=True):
        h[..., own] = np.einsum("rab,lb->lar", directions, one)
    q = np.concatenate([np.einsum("la,rab,lb->r", x, d, x) for x, d in zip(e, E, strict=True)])
    H = (
        2.0 * rate * projected_square(factor, shifts)
        - traces
        - rate**2 / criterion.nu * q[:, None] * q
    )
    for own, D, gamma, (t, B, T) in zip(places, moved, at.variance_gradients, parts, strict=True):
        H[own, own] += 2.0 * np.einsum("rab,ac,scb->rs", D, gamma, D)
        H[own, own] += t.bends(B @ T, solved(B.T, 2.0 * gamma @ T))
    return np.asarray(0.5 * (H + H.T), dtype=np.float64)


# ------------------------------------------------------------------ the delta method


def _positions(terms: Sequence[ReTerm]) -> list[slice]:
    """Where each term's entries stand in ``theta``."""
    ends = np.cumsum([0, *(t.n_theta for t in terms)]).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]


def _term_errors(
    term: ReTerm, T: Floats, sigma: float, rows: slice, V: Floats
) -> tuple[Floats, Floats, Floats]:
    """Standard errors of covariances, standard deviations and correlations of one term."""
    Sigma = sigma**2 * (T @ T.T)
    slopes = _covariance_slopes(term, T, sigma)
    own = np.append(np.arange(rows.start, rows.stop), len(V) - 1)
    V = V[np.ix_(own, own)]
    variances = np.diag(Sigma)
    positive = variances > 0
    sd = np.where(positive, np.sqrt(variances), np.nan)
    relative = np.einsum("rii->ri", slopes) / (2.0 * sd**2)
    unit = np.outer(sd, sd)
    correlation = Sigma / unit
    changes = slopes / unit - correlation * (relative[:, :, None] + relative[:, None, :])
    errors = _spread(changes, V)
    edge = ~np.eye(term.k, dtype=bool) & (np.abs(correlation) > 1.0 - 1e-12)
    known = np.where(np.isnan(unit), np.nan, 1.0)
    return _spread(slopes, V) * known, _spread(relative * sd, V), np.where(edge, np.nan, errors)


def _covariance_slopes(term: ReTerm, T: Floats, sigma: float) -> Floats:
    """Derivatives of ``sigma^2 T T'`` by the term's theta and by sigma, ``(., k, k)``."""
    half = sigma**2 * term.slopes(T) @ T.T
    return np.concatenate((half + half.swapaxes(1, 2), 2.0 * sigma * (T @ T.T)[None]))


def _spread(slopes: Floats, V: Floats) -> Floats:
    """Standard errors of functions with the given derivatives, ``(., ...)``."""
    variances = np.einsum("r...,rs,s...->...", slopes, V, slopes)
    return np.asarray(np.sqrt(np.maximum(variances, 0.0)), dtype=np.float64)
