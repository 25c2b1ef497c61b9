"""Choices by name, as types: an editor completes them, and a type checker finds a typing error.

Where they are asked for they are understood in any letters and by the usual synonyms, see
:func:`interlace.errors.spelled`; what stands here is the spelling of the documentation.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Ddf: TypeAlias = Literal[
    "normal",
    "satterthwaite",
    "kenward-roger",
    "kenward-roger-linear",
    "between-within",
    "residual",
]
# Names of the family that linear models have.
LINEAR = ("gaussian", "normal")
FitMethod: TypeAlias = Literal["REML", "ML"]
FamilyName: TypeAlias = Literal[
    "gaussian",
    "binomial",
    "poisson",
    "negative-binomial",
    "gamma",
    "inverse-gaussian",
    "beta",
    "beta-binomial",
    "ordinal",
    "student-t",
    "tweedie",
    "truncated-poisson",
    "truncated-negative-binomial",
]
LinkName: TypeAlias = Literal[
    "identity", "log", "logit", "probit", "cloglog", "cauchit", "inverse", "sqrt"
]

# Predictions, and residuals
Interval: TypeAlias = Literal["confidence", "prediction"]
NewLevels: TypeAlias = Literal["zero", "raise"]
Scale: TypeAlias = Literal["response", "link"]
Component: TypeAlias = Literal["conditional", "zero", "mean"]
Mode: TypeAlias = Literal[
    "latent", "probability", "cumulative", "exceedance", "linear-predictor", "mean-class"
]
Predicted: TypeAlias = Literal["response", "link", "probability", "category", "zero-probability"]
GeneralResidual: TypeAlias = Literal[
    "response", "pearson", "deviance", "working", "quantile", "simulated"
]

# Tests and intervals
RobustKind: TypeAlias = Literal["CR0", "CR1", "CR1S", "CR2", "CR3"]
IntervalMethod: TypeAlias = Literal["wald", "profile", "bootstrap"]
BootstrapKind: TypeAlias = Literal["parametric", "residual", "cases", "wild"]
BootstrapLimits: TypeAlias = Literal["percentile", "basic", "normal"]
Resampled: TypeAlias = Literal["group", "observation"]
Summarised: TypeAlias = Literal["median", "mean", "std"]

# Means and contrasts
MeanWeights: TypeAlias = Literal["equal", "proportional", "outer", "cells"]
Contrasted: TypeAlias = Literal[
    "pairwise",
    "reversed",
    "control",
    "last",
    "polynomial",
    "consecutive",
    "change",
    "effect",
    "others",
    "identity",
]
Adjustment: TypeAlias = Literal[
    "none",
    "tukey",
    "dunnett",
    "holm",
    "hochberg",
    "hommel",
    "bonferroni",
    "sidak",
    "scheffe",
    "fdr",
    "by",
    "mvt",
]

# Tables
Effects: TypeAlias = Literal["fixed", "ran_pars", "ran_vals", "all"]
Shown: TypeAlias = Literal["se", "ci", "p", "statistic"]
ShareMethod: TypeAlias = Literal["latent", "lognormal", "delta", "trigamma"]


def is_linear(family: object, link: object) -> bool:
    """Whether a family, by name or as a value, with its link or another is that of linear models.

    Nothing of the families is opened for that, so that linear fits do without them.
    """
    name = family if isinstance(family, str) else getattr(family, "name", None)
    own = link or getattr(getattr(family, "link", None), "name", "identity")
    words = [w.strip().casefold() if isinstance(w, str) else w for w in (name, own)]
    return words[0] in LINEAR and words[1] == "identity"
