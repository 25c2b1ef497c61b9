"""Shares of variance of generalised models: Nakagawa, Johnson and Schielzeth (2017).

Variances are those of the linear predictor.  What is left there of a response, given its linear
predictor, has several definitions, each with a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np
from scipy.special import polygamma

from interlace.choices import ShareMethod
from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError, choose
from interlace.glmm.averages import averaged
from interlace.glmm.laws import Law
from interlace.glmm.mixed_laws import law_at
from interlace.model.auxiliary import auxiliary_columns, is_plain
from interlace.model.generalised import FittedGeneralModel
from interlace.model.predict import rows_used
from interlace.model.respond import Spot
from interlace.reporting.explained import ICC, R2, icc_of, r2_of

METHODS: tuple[ShareMethod, ...] = get_args(ShareMethod)
# Variances of the latent distributions that binary responses cut: logistic, normal, Gumbel.
_LATENT = {"logit": np.pi**2 / 3.0, "probit": 1.0, "cloglog": np.pi**2 / 6.0}


def r2_general(model: FittedGeneralModel, method: str | None = None) -> R2:
    """R squared; see the method ``r2``."""
    method = _named(model, method)
    return r2_of(model, observation_variance(model, method), method)


def icc_general(model: FittedGeneralModel, method: str | None = None) -> ICC:
    """Intraclass correlations; see the method ``icc``."""
    method = _named(model, method)
    return icc_of(model, observation_variance(model, method), method)


def _named(model: FittedGeneralModel, method: str | None) -> str:
    """The method asked for, or the usual one of the family and link."""
    if method is not None:
        return choose("method", method, METHODS, one_of=True)
    if model.family.name == "binomial" and model.link.name in _LATENT:
        return "latent"
    return "lognormal" if model.link.name == "log" and model.family.name != "binomial" else "delta"


def observation_variance(model: FittedGeneralModel, method: str) -> float:
    """Variance of a response of one trial on the scale of the linear predictor.

    Raises
    ------
    InterlaceError
        The method is not defined for the family and link.
    """
    name, link = model.family.name, model.link.name
    constant = all(model.estimate.problem.parts.scale)
    if not is_plain(model.family) or not constant:
        raise InterlaceError(
            f"r2 and icc are not defined for family={name!r} with thresholds, zero_inflation= or "
            f"dispersion=: an observation has no single variance on the scale of the predictor"
        )
    if method == "latent":
        if name != "binomial" or link not in _LATENT:
            raise InterlaceError(
                f"method='latent' is the variance of what a binary response cuts, known for a "
                f"logit, probit or cloglog link, not for family={name!r} with link={link!r}: use "
                f"method='delta'"
            )
        return float(_LATENT[link])
    law = _typical(model)
    if method == "delta":
        eta = model.link.to_eta(law.mean)
        return float((law.variance / np.asarray(model.link.mean(eta).d1) ** 2)[0])
    if link != "log" or name in ("binomial", "gaussian"):
        raise InterlaceError(
            f"method={method!r} takes the response as lognormal or as a gamma mixture, which "
            f"family={name!r} with link={link!r} is not near: use method='delta'"
            f"{' or latent' if link in _LATENT else ''}"
        )
    return _OF_LOG[method](float((law.variance / law.mean**2)[0]))


# Variance of the logarithm from the squared coefficient of variation.
_OF_LOG: Mapping[str, Callable[[float], float]] = {
    "lognormal": lambda squared: float(np.log1p(squared)),
    "trigamma": lambda squared: float(polygamma(1, 1.0 / squared)),
}


def _typical(model: FittedGeneralModel) -> Law:
    """The law of a response of one trial whose mean is that of the rows, random effects averaged
    over.
    """
    design = require_rows(model.design, "r2")
    none = [False] * len(design.terms)
    spot = Spot(
        model,
        rows_used(design, none),
        tuple(none),
        True,
        auxiliary_columns(model, None, model.nobs),
    )
    mean = averaged(model.link, spot.eta, spot.spread).value.mean()
    eta, omega = model.link.to_eta(np.array([mean])), spot.omega[:, :1]
    return law_at(model.family, eta, omega, 1.0)
