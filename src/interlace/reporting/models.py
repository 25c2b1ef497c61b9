"""Several models of the same rows side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interlace.design.recipe import require_rows
from interlace.errors import InterlaceError
from interlace.estimation.likelihood import n_parameters
from interlace.inference import conditional
from interlace.inference.compare import (
    ModelComparison,
    comparable,
    comparable_structured,
    given,
    model_names,
    same_fixed_part,
    same_rows,
)
from interlace.inference.compare_general import same_likelihood
from interlace.inference.compare_structured import WITH_RESIDUAL, residual_of
from interlace.inference.tested import TestedModel
from interlace.model.fitted import Labelled
from interlace.model.generalised import FittedGeneralModel
from interlace.model.predict import fitted
from interlace.model.structured import FittedStructuredModel
from interlace.reporting.explained import icc, r2
from interlace.reporting.general_explained import icc_general, r2_general

_METHODS = {True: "REML", False: "ML"}


def compare(
    *models: Labelled[Any] | Sequence[Labelled[Any]] | Mapping[str, Labelled[Any]],
    names: Sequence[str] | None = None,
    caic: bool = False,
) -> ModelComparison:
    """Information criteria, explained variance and size of errors of several models.

    Parameters
    ----------
    models
        Two or more models of the same rows and response, nested or not; or one list or dict.
    names
        Their names in the table; by default ``"model 1"``, ``"model 2"`` in the order given.
    caic
        Add ``cAIC``, the conditional AIC of each model as it was fitted.

    Returns
    -------
    ModelComparison
        ``table`` has one row a model in the order given, and the columns ``formula, nparams,
        method, AIC, AICc, BIC, logLik, delta_AIC, weight, R2_marginal, R2_conditional, ICC, RMSE,
        sigma, singular``.  ``method`` says which likelihood the criteria are from: REML fits with
        different fixed effects (or beside ML fits) are refitted by ML for them, and a note
        says so; R2, ICC, RMSE and sigma are always those of the model as given.  With models that
        have ``residual=``, ``residual`` and ``BIC_subjects`` stand for R2, ICC and sigma.

    Raises
    ------
    InterlaceError
        Fewer than two models, one given twice, something that is not a fitted model, or different
        rows or responses.

    Notes
    -----
    ``AICc = AIC + 2 k (k + 1) / (n - k - 1)`` with ``k`` parameters (Hurvich and Tsai 1989,
    Biometrika 76, 297-307); it is infinite for ``n <= k + 1``.  ``weight`` is ``exp(-delta_AIC /
    2)``, scaled to sum to 1 (Burnham and Anderson 2002).  RMSE is that of the conditional
    residuals.

    Examples
    --------
    >>> import interlace
    >>> sleep = interlace.datasets.load("sleepstudy")
    >>> slopes = interlace.fit("Reaction ~ Days + (Days | Subject)", sleep)
    >>> plain = interlace.fit("Reaction ~ Days + (1 | Subject)", sleep)
    >>> compare(slopes, plain)["delta_AIC"].round(2).to_dict()
    {'model 1': 0.0, 'model 2': 38.84}
    """
    held, names = given(models, names)
    labels = model_names(held, names, general=True)
    same_rows(held)
    if general := [m for m in held if isinstance(m, FittedGeneralModel)]:
        return _general(general, labels)
    if any(isinstance(m, WITH_RESIDUAL) for m in held):
        return _structured(held, labels, caic)
    results = [m for m in held if isinstance(m, TestedModel)]
    alike = len({r.method for r in results}) == 1 and same_fixed_part(results)
    estimates, notes = comparable(results, refit=not alike)
    if not alike and notes:
        notes += ("R2, ICC, RMSE and sigma are those of the models as they were fitted.",)
    table = pd.DataFrame(
        {
            "formula": [str(r.formula) for r in results],
            "nparams": [n_parameters(e.A) for e in estimates],
            "method": [_METHODS[e.criterion.reml] for e in estimates],
        },
        index=pd.Index(labels, name="model"),
    )
    deviance = np.array([e.value for e in estimates])
    error = max(e.convergence.criterion_error or 0.0 for e in estimates)
    if error > 0.0:
        notes += (f"AIC, AICc and BIC have Monte-Carlo standard errors up to {error:.2g}.",)
    criteria = _criteria(deviance, table["nparams"].to_numpy(), results[0].nobs)
    table = table.assign(**criteria).assign(**_qualities(results))
    if caic:
        table = table.assign(cAIC=[conditional.caic(r).caic for r in results])
        notes += ("cAIC is conditional on the groups; see caic() for its degrees of freedom.",)
    return ModelComparison("Comparison of models", table, notes)


def _structured(
    results: Sequence[Labelled[Any]], labels: Sequence[str], caic: bool
) -> ModelComparison:
    """Models of which some have a residual structure."""
    if caic:
        raise InterlaceError(
            "caic=True is not there for models with residual=: leave it out, AIC and BIC are of "
            "the marginal likelihood"
        )
    estimates, notes = comparable_structured(results, refit=None)
    rows = [require_rows(r.design, "a comparison of models") for r in results]
    table = pd.DataFrame(
        {
            "formula": [str(r.formula) for r in results],
            "residual": [residual_of(r) for r in results],
            "nparams": [r.nparams for r in results],
            "method": _METHODS[estimates[0].criterion.reml],
        },
        index=pd.Index(labels, name="model"),
    )
    deviance = np.array([e.value for e in estimates])
    sizes = [
        float(np.sqrt(np.mean((d.y - fitted(d, r.estimate, [True] * len(d.terms))) ** 2)))
        for d, r in zip(rows, results, strict=True)
    ]
    table = table.assign(**_criteria(deviance, table["nparams"].to_numpy(), results[0].nobs))
    table["BIC_subjects"] = [_by_subjects(r, d) for r, d in zip(results, deviance, strict=True)]
    table["RMSE"], table["singular"] = sizes, [r.is_singular for r in results]
    notes += ("RMSE is that of the models as they were fitted.",)
    return ModelComparison("Comparison of models", table, notes)


def _by_subjects(result: Labelled[Any], deviance: float) -> float:
    """BIC by subjects; NaN for a model without these."""
    if not isinstance(result, FittedStructuredModel):
        return np.nan
    return deviance + result.nparams * float(np.log(result.places.n_subjects))


def _general(results: Sequence[FittedGeneralModel], labels: Sequence[str]) -> ModelComparison:
    """Generalised models, of one family or several: log-likelihoods are absolute."""
    same_likelihood(results)
    alike = len({r.method for r in results}) == 1 and same_fixed_part(results)
    estimates, said = comparable(results, refit=not alike)
    table = pd.DataFrame(
        {
            "formula": [str(r.formula) for r in results],
            "family": [r.family.name for r in results],
            "link": [r.link.name for r in results],
            "nparams": [r.nparams for r in results],
            "method": [_METHODS[e.approximation.restricted] for e in estimates],
        },
        index=pd.Index(labels, name="model"),
    )
    deviance = np.array([e.value for e in estimates])
    explained, reasons = zip(*(_explained(r) for r in results), strict=True)
    methods = {e[3] for e in explained if e[3]}
    how = f"R2 and ICC on the scale of the linear predictor, by method {_listed(methods)}."
    notes = [*said, *([how] if methods else [])]
    notes += [f"No R2 of {n}: {why}." for n, why in zip(labels, reasons, strict=True) if why]
    if len({r.family.name for r in results}) > 1:
        notes.append("Log-likelihoods have all constants, so that criteria of families compare.")
    qualities: dict[str, Sequence[float]] = {
        "R2_marginal": [e[0] for e in explained],
        "R2_conditional": [e[1] for e in explained],
        "ICC": [e[2] for e in explained],
        "RMSE": [float(np.sqrt(np.mean(r.resid**2))) for r in results],
        "dispersion": [r.dispersion for r in results],
        "singular": [r.is_singular for r in results],
    }
    criteria = _criteria(deviance, table["nparams"].to_numpy(), results[0].nobs)
    return ModelComparison(
        "Comparison of models", table.assign(**criteria).assign(**qualities), tuple(notes)
    )


def _explained(result: FittedGeneralModel) -> tuple[tuple[float, float, float, str], str]:
    """Marginal and conditional R squared, ICC and their method; or why they are not defined."""
    try:
        found = r2_general(result)
    except InterlaceError as error:
        return (np.nan, np.nan, np.nan, ""), str(error)
    share = icc_general(result).adjusted
    return (found.marginal, found.conditional, share, found.method), ""


def _listed(methods: set[str]) -> str:
    return " and ".join(sorted(methods))


def _criteria(deviance: np.ndarray, k: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Information criteria of models with ``k`` parameters for ``n`` rows."""
    aic = deviance + 2.0 * k
    room = n - k - 1.0
    correction = np.divide(2.0 * k * (k + 1.0), room, out=np.full(len(k), np.inf), where=room > 0)
    delta = aic - aic.min()
    weight = np.exp(-0.5 * delta)
    return {
        "AIC": aic,
        "AICc": aic + correction,
        "BIC": deviance + k * np.log(n),
        "logLik": -0.5 * deviance,
        "delta_AIC": delta,
        "weight": weight / weight.sum(),
    }


def _qualities(results: Sequence[TestedModel]) -> dict[str, list[float] | list[bool]]:
    """What the models explain, and how far their predictions are off."""
    explained = [r2(r) for r in results]
    return {
        "R2_marginal": [e.marginal for e in explained],
        "R2_conditional": [e.conditional for e in explained],
        "ICC": [icc(r).adjusted for r in results],
        "RMSE": [float(np.sqrt(np.mean(r.resid**2))) for r in results],
        "sigma": [r.estimate.sigma for r in results],
        "singular": [r.is_singular for r in results],
    }
