"""Residuals of generalised models, by six definitions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import numpy as np
from scipy.special import ndtri

from interlace.choices import GeneralResidual
from interlace.errors import InterlaceError, choose
from interlace.glmm.laws import Law
from interlace.model.drawn import draws, law_at
from interlace.model.generalised import FittedGeneralModel
from interlace.model.simulate import Seed, check_nsim, seed_sequence
from interlace.sums.terms import Floats

TYPES: tuple[GeneralResidual, ...] = get_args(GeneralResidual)
# Probabilities nearer to 0 than any that a normal quantile can be told for.
_TINY = 1e-300


def residuals(
    model: FittedGeneralModel,
    type: GeneralResidual = "response",
    *,
    include_re: bool | None = None,
    nsim: int = 250,
    seed: Seed = 0,
) -> Floats:
    """Residuals of the rows used, ``(n,)``; see the method ``residuals``."""
    type = choose("type", type, TYPES, one_of=True)
    if include_re is not None and type != "simulated":
        raise InterlaceError(
            f"include_re is for type='simulated': residuals of type={type!r} are given the modes"
        )
    if type == "simulated":
        return simulated_ranks(model, bool(include_re), nsim, seed)
    law, y = law_at(model, model.estimate.eta), model.estimate.problem.y
    if type == "quantile":
        return quantile_residuals(law, y, np.random.default_rng(seed_sequence(seed)))
    if type == "response":
        return np.array(model.resid)
    if type == "working":
        return np.asarray(model.resid / model.expected.d_eta)
    w = prior_weights(model)
    if type == "pearson":
        return np.asarray(model.resid * np.sqrt(w * law.trials / law.unit_variance))
    return np.asarray(np.sign(model.resid) * np.sqrt(w * law.deviance(y)))


def prior_weights(model: FittedGeneralModel) -> Floats:
    """Weights of the rows in the likelihood, trials not counted."""
    weights = model.estimate.problem.weights
    return np.ones(model.nobs) if weights is None else weights


def quantile_residuals(law: Law, y: Floats, rng: np.random.Generator) -> Floats:
    """Normal quantiles of the law's distribution function at the response.

    Where the response has a probability, at a random point of its step (Dunn and Smyth 1996,
    Journal of Computational and Graphical Statistics 5, 236-244).
    """
    low, high = law.cdf(y), law.sf(y)
    if law.support == "zero-positive":
        part = np.where(y == 0.0, rng.random(len(y)) * law.mass_at_zero(), 0.0)
        low, high = low - part, high + part
    if law.support == "counts":
        share = rng.random(len(y))
        below, above = law.cdf(y - 1.0), law.sf(y - 1.0)
        low, high = below + share * (low - below), high + (1.0 - share) * (above - high)
    tail = ndtri(np.maximum(np.minimum(low, high), _TINY))
    return np.where(low < high, tail, -tail)


def simulated_ranks(model: FittedGeneralModel, include_re: bool, nsim: int, seed: Seed) -> Floats:
    """Ranks of the response among simulated ones, ties at random, over ``nsim + 1``."""
    check_nsim(nsim)
    root = seed_sequence(seed)
    drawn = draws(model, nsim, root, include_re=include_re)
    return ranks_among(model.estimate.problem.y, drawn, root)


def ranks_among(y: Floats, drawn: Iterable[Floats], root: np.random.SeedSequence) -> Floats:
    """Ranks of responses among simulated ones ``(n,)`` each, ties at random, over one more."""
    below, ties, nsim = np.zeros(len(y)), np.zeros(len(y)), 0
    for one in drawn:
        below += one < y
        ties += one == y
        nsim += 1
    share = np.random.default_rng(root).random(len(y))
    return np.asarray((below + share * (ties + 1.0)) / (nsim + 1.0))
