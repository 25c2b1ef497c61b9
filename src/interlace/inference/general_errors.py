"""Standard errors of the variance components of a generalised model, by the delta method."""

from __future__ import annotations

import numpy as np

from interlace.estimation.estimate import SINGULAR_TOLERANCE
from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.information import VarianceErrors
from interlace.sums.terms import Floats


def general_errors(estimate: GeneralEstimate) -> VarianceErrors:
    """Standard errors of covariances, standard deviations and correlations; ``scale`` and ``sigma``
    are those of the dispersion, if there is one that multiplies the variance.

    From the covariance of all parameters; see :class:`~interlace.inference.information
    .VarianceErrors`.
    """
    problem, at = estimate.problem, estimate.at
    moved = [problem.along(estimate.x, unit).templates for unit in np.eye(len(estimate.x))]
    parts = [
        _term(B @ T, [B @ (new[j] - T) for new in moved], estimate.covariance)
        for j, (B, T) in enumerate(zip(problem.rows.random, at.templates, strict=True))
    ]
    covariances, sds, correlations = zip(*parts, strict=True)
    scale, sigma = np.nan, np.nan
    if estimate.auxiliary is not None:
        scale = estimate.auxiliary * float(np.sqrt(estimate.family_covariance[0, 0]))
        sigma = 0.5 * scale / float(np.sqrt(estimate.auxiliary))
    return VarianceErrors(covariances, sds, correlations, scale, sigma)


def _term(T: Floats, steps: list[Floats], V: Floats) -> tuple[Floats, Floats, Floats]:
    """Errors for a template ``T`` (k, k) whose derivatives are ``steps``."""
    S = T @ T.T
    sd = np.sqrt(np.diag(S))
    sd = np.where(sd > SINGULAR_TOLERANCE * sd.max(initial=0.0), sd, np.nan)
    dS = np.array([d @ T.T + T @ d.T for d in steps])
    own = np.diagonal(dS, axis1=1, axis2=2) / (2.0 * sd)
    C = S / np.outer(sd, sd)
    share = own / sd
    dC = dS / np.outer(sd, sd) - C * (share[:, :, None] + share[:, None, :])
    inside = np.abs(C) < 1.0 - SINGULAR_TOLERANCE
    correlations = np.where(inside, _errors(dC, V), np.nan)
    np.fill_diagonal(correlations, 0.0)
    return _errors(dS, V), _errors(own, V), correlations


def _errors(J: Floats, V: Floats) -> Floats:
    """Standard errors of functions whose derivatives ``J`` (r, ...) are in the parameters."""
    return np.asarray(np.sqrt(np.maximum(np.einsum("r...,rs,s...->...", J, V, J), 0.0)))
