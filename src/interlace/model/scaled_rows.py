"""Rows of a model with a variance function: predicted, drawn, and fits to other responses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from interlace.design import frame
from interlace.design.design import Design, refuse_constant
from interlace.design.recipe import require_rows
from interlace.design.variances import new_logs
from interlace.errors import ConvergenceWarning, warn
from interlace.estimation.scaled_estimate import ScaledEstimate, estimate_scaled
from interlace.model.predict import predict
from interlace.model.reference import Reference
from interlace.model.responses import new_response
from interlace.model.scaled import FittedScaledModel, scaled_criterion, warn_of_scaled
from interlace.sums.terms import Floats


def predict_scaled(
    model: FittedScaledModel,
    newdata: object = None,
    include_re: bool | str | Iterable[str] = True,
    *,
    offset: ArrayLike | None = None,
    new_levels: str = "zero",
    se: bool = False,
    interval: str | None = None,
    level: float = 0.95,
    reference: Reference,
) -> Floats | pd.DataFrame:
    """Expected response, and how well it is known; see the method ``predict``."""
    return predict(
        model.weighted.design,
        model.weighted.estimate,
        newdata,
        include_re,
        offset=offset,
        new_levels=new_levels,
        se=se,
        interval=interval,
        level=level,
        reference=reference,
        precisions=lambda new: new_precisions(model, new),
    )


def new_precisions(model: FittedScaledModel, newdata: object) -> Floats:
    """Residual variance where the function is 1, over those of new rows at weight 1: ``(m,)``.

    Raises
    ------
    InterlaceError
        The function knows no standard deviation of a row.
    """
    table = frame.open_table(newdata, title="the new data")
    units, eta = np.array(model.units), model.estimate.eta
    return np.exp(-2.0 * new_logs(model.variance, table, model.strata, units, eta))


# ------------------------------------------------------------------ other responses


def refitted_scaled(model: FittedScaledModel, y: ArrayLike) -> FittedScaledModel:
    """Fit the model to another response for the same rows; see the method ``refit``."""
    held = require_rows(model.design, "refit")
    design = replace(held, y=new_response(y, held))
    refuse_constant(design.response, "the new response")
    estimate = re_estimated_scaled(model, design)
    assert model.residual is not None
    warn_of_scaled(estimate, model.residual)
    return replace(model, design=design, estimate=estimate, held=None)


def re_estimated_scaled(model: FittedScaledModel, design: Design) -> ScaledEstimate:
    """The estimate of the model on its rows with another response, searched from this one."""
    old = model.estimate.criterion
    solver = old.base.equations
    criterion = scaled_criterion(design, old.scales, reml=old.reml, solver=lambda A: solver)
    return estimate_scaled(criterion, near=model.estimate, mc_tolerance=model.options.mc_tolerance)


def scaled_ml(model: FittedScaledModel) -> ScaledEstimate:
    """The maximum-likelihood estimate, with a warning if the search did not end."""
    if not model.estimate.criterion.reml:
        return model.estimate
    criterion = model.estimate.criterion
    base = criterion.base.on(criterion.A, reml=False)
    estimate = estimate_scaled(
        replace(criterion, base=base),
        near=model.estimate,
        mc_tolerance=model.options.mc_tolerance,
    )
    if not estimate.convergence.converged:
        warn(
            f"the refit of {model.formula} with {model.residual} did not converge: "
            f"{estimate.convergence.message}",
            ConvergenceWarning,
        )
    return estimate
