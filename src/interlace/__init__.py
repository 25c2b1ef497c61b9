"""Linear mixed-effects models with crossed and nested random effects."""

from importlib import import_module
from typing import TYPE_CHECKING

from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SeparationWarning,
    SingularFitWarning,
    UndeterminedWarning,
)

if TYPE_CHECKING:
    from interlace import datasets, families
    from interlace.diagnostics import (
        check_approximation,
        check_dispersion,
        check_residuals,
        check_separation,
        check_zeros,
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
    from interlace.diagnostics.collinearity import check_collinearity
    from interlace.diagnostics.influence import check_influence
    from interlace.diagnostics.linearity import check_linearity
    from interlace.diagnostics.normality import check_random_effects
    from interlace.diagnostics.predictive import check_predictions
    from interlace.diagnostics.serial import autocorrelation, semivariogram
    from interlace.diagnostics.simulated import check_heteroscedasticity
    from interlace.door import fit
    from interlace.inference.compare import anova_models as anova
    from interlace.inference.pooled import pool
    from interlace.many.fit_many import fit_many
    from interlace.many.fits import ManyFits
    from interlace.plots import (
        dotplot_diag,
        plot_autocorrelation,
        plot_checks,
        plot_coef,
        plot_influence,
        plot_predictions,
        plot_profile,
        plot_qq,
        plot_ranef,
        plot_resid,
        plot_scale_location,
        plot_semivariogram,
        plot_shrinkage,
    )
    from interlace.reporting import compare, table
    from interlace.reporting.singular import check_singularity
    from interlace.results import (
        CrossedGLMMResult,
        CrossedLMEResult,
        ScaledLMEResult,
        StructuredLMEResult,
    )
    from interlace.results.loading import load
    from interlace.results.planned import power
    from interlace.sources import cross_products
    from interlace.sums.crossprod import CrossProducts

__version__ = "0.1.0"

__all__ = [
    "ConvergenceWarning",
    "CrossProducts",
    "CrossedGLMMResult",
    "CrossedLMEResult",
    "InterlaceError",
    "ManyFits",
    "RankDeficiencyWarning",
    "ScaledLMEResult",
    "SeparationWarning",
    "SingularFitWarning",
    "StructuredLMEResult",
    "UndeterminedWarning",
    "anova",
    "autocorrelation",
    "check_approximation",
    "check_collinearity",
    "check_dispersion",
    "check_heteroscedasticity",
    "check_influence",
    "check_linearity",
    "check_predictions",
    "check_random_effects",
    "check_residuals",
    "check_separation",
    "check_singularity",
    "check_zeros",
    "compare",
    "cooks_distance",
    "covratio",
    "covtrace",
    "cross_products",
    "datasets",
    "dotplot_diag",
    "families",
    "fit",
    "fit_many",
    "hlm_augment",
    "hlm_influence",
    "hlm_resid",
    "leverage",
    "load",
    "mdffits",
    "n_influential",
    "plot_autocorrelation",
    "plot_checks",
    "plot_coef",
    "plot_influence",
    "plot_predictions",
    "plot_profile",
    "plot_qq",
    "plot_ranef",
    "plot_resid",
    "plot_scale_location",
    "plot_semivariogram",
    "plot_shrinkage",
    "pool",
    "power",
    "rvc",
    "semivariogram",
    "table",
]


# Where what is public is found, on first use: numpy, pandas and scipy are not opened before.
_FOUND_IN = {
    "door": ("fit",),
    "results": (
        "CrossedGLMMResult",
        "CrossedLMEResult",
        "ScaledLMEResult",
        "StructuredLMEResult",
    ),
    "results.loading": ("load",),
    "results.planned": ("power",),
    "sources": ("cross_products",),
    "sums.crossprod": ("CrossProducts",),
    "inference.pooled": ("pool",),
    "diagnostics.collinearity": ("check_collinearity",),
    "diagnostics.serial": ("autocorrelation", "semivariogram"),
    "diagnostics.influence": ("check_influence",),
    "diagnostics.linearity": ("check_linearity",),
    "diagnostics.normality": ("check_random_effects",),
    "diagnostics.predictive": ("check_predictions",),
    "diagnostics.simulated": ("check_heteroscedasticity",),
    "reporting.singular": ("check_singularity",),
    "many.fit_many": ("fit_many",),
    "many.fits": ("ManyFits",),
    "reporting": ("compare", "table"),
    "diagnostics": (
        "check_approximation",
        "check_dispersion",
        "check_residuals",
        "check_separation",
        "check_zeros",
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
    ),
    "plots": (
        "dotplot_diag",
        "plot_autocorrelation",
        "plot_checks",
        "plot_coef",
        "plot_influence",
        "plot_predictions",
        "plot_profile",
        "plot_qq",
        "plot_ranef",
        "plot_resid",
        "plot_scale_location",
        "plot_semivariogram",
        "plot_shrinkage",
    ),
}
_PLACES = {name: place for place, names in _FOUND_IN.items() for name in names}
_MODULES = ("datasets", "diagnostics", "families", "many", "sklearn")


def __getattr__(name: str) -> object:
    """What is public and not here yet."""
    if name == "anova":
        return import_module("interlace.inference.compare").anova_models
    if name in _PLACES:
        return getattr(import_module(f"interlace.{_PLACES[name]}"), name)
    if name in _MODULES:
        return import_module(f"interlace.{name}")
    said = f"module 'interlace' has no attribute {name!r}"
    here = import_module("interlace.hints").of_module(name)
    raise AttributeError(f"{said}: {here}" if here else said)


def __dir__() -> list[str]:
    return __all__
