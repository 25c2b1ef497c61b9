"""Figures (plotnine) of what other modules have computed.

Every function returns a :class:`plotnine.ggplot`, to which more can be added, or a composition of
several.  Points stay points up to 5,000 rows; more are counted in rectangles, or thinned where the
figure shows sorted values.  Levels are named up to 60; more are thin lines without labels.
"""

from interlace.plots.checks import plot_checks, plot_predictive
from interlace.plots.coefficients import plot_coef
from interlace.plots.effects import plot_ranef, plot_shrinkage
from interlace.plots.general import (
    plot_calibration,
    plot_quantile_residuals,
    plot_rootogram,
)
from interlace.plots.influence import dotplot_diag, plot_influence
from interlace.plots.ordinal import plot_probabilities, plot_thresholds
from interlace.plots.overview import plot
from interlace.plots.predictions import plot_predictions
from interlace.plots.profile import plot_profile
from interlace.plots.quantiles import plot_qq
from interlace.plots.residuals import plot_resid, plot_scale_location
from interlace.plots.serial import plot_autocorrelation, plot_semivariogram

__all__ = [
    "dotplot_diag",
    "plot",
    "plot_autocorrelation",
    "plot_calibration",
    "plot_checks",
    "plot_coef",
    "plot_influence",
    "plot_predictions",
    "plot_predictive",
    "plot_probabilities",
    "plot_profile",
    "plot_qq",
    "plot_quantile_residuals",
    "plot_ranef",
    "plot_resid",
    "plot_rootogram",
    "plot_scale_location",
    "plot_semivariogram",
    "plot_shrinkage",
    "plot_thresholds",
]
