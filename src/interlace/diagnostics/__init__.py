"""Diagnostics of fitted models: residuals, leverage, and the influence of rows and groups."""

from interlace.diagnostics.augment import hlm_augment
from interlace.diagnostics.influence import (
    cooks_distance,
    covratio,
    covtrace,
    hlm_influence,
    mdffits,
    n_influential,
    rvc,
)
from interlace.diagnostics.leverage import leverage
from interlace.diagnostics.residuals import hlm_resid

__all__ = [
    "cooks_distance",
    "covratio",
    "covtrace",
    "hlm_augment",
    "hlm_influence",
    "hlm_resid",
    "leverage",
    "mdffits",
    "n_influential",
    "rvc",
]
