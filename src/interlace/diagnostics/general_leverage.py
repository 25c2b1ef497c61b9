"""Leverages in generalised models: those of the linear model of the working response."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interlace.design.recipe import require_rows
from interlace.diagnostics.units import is_rows, unit_index
from interlace.glmm.leverage import Leverage
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.crossprod import group_sums
from interlace.sums.terms import Floats


def general_leverage(model: FittedGeneralModel, level: int | str = 1) -> pd.DataFrame:
    """Leverages of the working model; see :func:`interlace.leverage`."""
    design = require_rows(model.design, "leverage")
    index = unit_index(design, level)
    lever, W = Leverage(model.estimate.evaluation), model.estimate.evaluation.mode.curve.W
    X = model.estimate.problem.rows.X
    fixef = W * np.einsum("np,pq,nq->n", X, lever.vcov, lever.directions)
    prior = np.zeros(model.nobs)
    for Z, T in zip(design.Z, model.estimate.user_templates, strict=True):
        prior = prior + ((Z @ T) ** 2).sum(axis=1)
    columns = {
        "overall": lever.overall,
        "fixef": fixef,
        "ranef": lever.overall - fixef,
        "ranef.uc": W * prior,
    }
    return pd.DataFrame(
        {name: by_unit(values, model, level) for name, values in columns.items()}, index=index
    )


def by_unit(values: Floats, model: FittedGeneralModel, level: int | str) -> Floats:
    """Values of the rows, or their means by level."""
    if is_rows(level):
        return values
    rows = model.estimate.problem.rows
    j = [t.group for t in rows.terms].index(str(level))
    codes, l = rows.codes[j], rows.terms[j].l
    return np.asarray(group_sums(codes, l, values[:, None])[:, 0] / np.bincount(codes, minlength=l))
