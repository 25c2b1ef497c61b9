"""Coefficients of the auxiliary predictors: thresholds, shares of zeros, dispersion models."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.tables import two_sided
from interlace.model.confidence import normal_reach


def component_table(estimate: GeneralEstimate, level: float = 0.95) -> pd.DataFrame:
    """Coefficients that are reported as they are, by component and term; see the method of it."""
    parts = estimate.problem.parts
    some = [i for i, scale in enumerate(parts.scale) if not scale]
    value = estimate.family_coefficients[some]
    se = np.sqrt(np.diag(estimate.family_covariance)[some])
    half = normal_reach(level) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        z = value / se
    pairs = [_labels(parts.predictor[i], parts.term[i]) for i in some]
    names = ["component", "term"]
    table = {
        "estimate": value,
        "se": se,
        "statistic": z,
        "p": two_sided(z, np.full_like(z, np.inf)),
        "lower": value - half,
        "upper": value + half,
    }
    return pd.DataFrame(table, index=pd.MultiIndex.from_tuples(pairs, names=names))


def _labels(predictor: str, term: str) -> tuple[str, str]:
    """The component and the term of a coefficient; thresholds are named by their categories."""
    component, _, label = predictor.partition(":")
    return component, label or term
