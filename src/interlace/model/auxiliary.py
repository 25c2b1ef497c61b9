"""Auxiliary predictors of rows to predict: their columns, in the user's units."""

from __future__ import annotations

import numpy as np

from interlace.design.components import replayed_component
from interlace.glmm.families import Family
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.zeros import Hurdle, Inflated, Truncated
from interlace.model.generalised import FittedGeneralModel
from interlace.sums.terms import Floats


def is_plain(family: Family) -> bool:
    """Whether means are the inverse of the link, whatever the auxiliary predictors."""
    return not isinstance(family, Inflated | Hurdle | Truncated | Ordinal)


def auxiliary_columns(model: FittedGeneralModel, newdata: object, m: int) -> Floats:
    """Columns of the auxiliary predictors, ``(K, m, r)``; of the rows used without ``newdata``."""
    parts = model.estimate.problem.parts
    components = {} if model.design is None else model.design.components
    predictors = model.family.predictors
    found = np.zeros((len(predictors), m, len(parts.predictor)))
    start = 0
    for k, name in enumerate(predictors):
        one = components.get(name)
        if one is None:
            columns = np.ones((m, 1))
        elif newdata is None:
            columns = one.matrix
        else:
            columns = replayed_component(one, newdata, model.encoding.context)
        found[k, :, start : start + columns.shape[1]] = columns
        start += columns.shape[1]
    return found
