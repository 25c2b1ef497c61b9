"""Coefficients in standard deviations of the response and of the numeric columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.inference.tables import coefficient_table
from interlace.inference.wald import Reference
from interlace.model.fitted import Labelled
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats


def standardized_table(
    model: Labelled[Any],
    design: Design,
    reference: Reference,
    *,
    level: float,
    unit: float | None = None,
) -> pd.DataFrame:
    """Coefficient table in standard units, see the method ``standardized``.

    ``unit`` is that of the response, by default its standard deviation.
    """
    table = coefficient_table(model.estimate, reference, level=level)
    names = list(model.estimate.A.names)
    unit = float(np.std(design.y, ddof=1)) if unit is None else unit
    scale = _scales(design)[columns_kept(design.names, names)] / unit
    for column in ("estimate", "se", "lower", "upper"):
        table[column] = table[column] * scale
    return table.drop(index=[name for name in names if name == "Intercept"])


def _scales(design: Design) -> Floats:
    """Standard deviations of the numbers that the columns of ``X`` are made of; 1 for factors."""
    side = design.encoding.fixed
    alone = {t.factors[0]: t.columns for t in side.terms if len(t.factors) == 1}
    spread = np.std(design.X, axis=0, ddof=1)
    scales = np.ones(design.X.shape[1])
    for term in side.terms:
        numeric = [f for f in term.factors if f not in side.categories]
        if numeric and all(f in alone and len(alone[f]) == 1 for f in numeric):
            scales[list(term.columns)] = np.prod([spread[alone[f][0]] for f in numeric])
        elif numeric:
            scales[list(term.columns)] = spread[list(term.columns)]
    return scales
