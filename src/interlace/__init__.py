"""Linear mixed-effects models with crossed and nested random effects."""

from typing import TYPE_CHECKING

from interlace import datasets
from interlace.diagnostics import (
    cooks_distance,
    covratio,
    covtrace,
    hlm_augment,
    hlm_influence,
    hlm_resid,
    leverage,
    mdffits,
    n_influential,
    rvc,
)
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SingularFitWarning,
)
from interlace.fit import fit
from interlace.inference.compare import anova_models as anova
from interlace.reporting.models import compare
from interlace.result import CrossedLMEResult

if TYPE_CHECKING:
    from interlace.plots import (
        dotplot_diag,
        plot_coef,
        plot_influence,
        plot_profile,
        plot_qq,
        plot_ranef,
        plot_resid,
        plot_scale_location,
        plot_shrinkage,
    )

__version__ = "0.1.0"

# Figures, loaded with plotnine when one is asked for.
_FIGURES = [
    "dotplot_diag",
    "plot_coef",
    "plot_influence",
    "plot_profile",
    "plot_qq",
    "plot_ranef",
    "plot_resid",
    "plot_scale_location",
    "plot_shrinkage",
]

__all__ = [
    "ConvergenceWarning",
    "CrossedLMEResult",
    "InterlaceError",
    "RankDeficiencyWarning",
    "SingularFitWarning",
    "anova",
    "compare",
    "cooks_distance",
    "covratio",
    "covtrace",
    "datasets",
    "dotplot_diag",
    "fit",
    "hlm_augment",
    "hlm_influence",
    "hlm_resid",
    "leverage",
    "mdffits",
    "n_influential",
    "plot_coef",
    "plot_influence",
    "plot_profile",
    "plot_qq",
    "plot_ranef",
    "plot_resid",
    "plot_scale_location",
    "plot_shrinkage",
    "rvc",
]


def __getattr__(name: str) -> object:
    """A figure function, on first use."""
    if name in _FIGURES:
        from interlace import plots

        return getattr(plots, name)
    raise AttributeError(f"module 'interlace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
