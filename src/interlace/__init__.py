"""Linear mixed-effects models with crossed and nested random effects."""

from importlib import import_module
from typing import TYPE_CHECKING

from interlace import datasets
from interlace.errors import (
    ConvergenceWarning,
    InterlaceError,
    RankDeficiencyWarning,
    SeparationWarning,
    SingularFitWarning,
    UndeterminedWarning,
)
from interlace.fit import fit
from interlace.results import CrossedLMEResult
from interlace.sources import cross_products
from interlace.sums.crossprod import CrossProducts

if TYPE_CHECKING:
    from interlace import families
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
    from interlace.inference.compare import anova_models as anova
    from interlace.many.fit_many import fit_many
    from interlace.many.fits import ManyFits
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
    from interlace.reporting import compare
    from interlace.results import CrossedGLMMResult
    from interlace.results.planned import power

__version__ = "0.1.0"

__all__ = [
    "ConvergenceWarning",
    "CrossProducts",
    "CrossedGLMMResult",
    "CrossedLMEResult",
    "InterlaceError",
    "ManyFits",
    "RankDeficiencyWarning",
    "SeparationWarning",
    "SingularFitWarning",
    "UndeterminedWarning",
    "anova",
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
    "power",
    "rvc",
]


# Where the rest of what is public is found, on first use: a fit needs none of it.
_LATER = (
    "results",
    "results.planned",
    "reporting",
    "diagnostics",
    "many.fit_many",
    "many.fits",
    "plots",
)


def __getattr__(name: str) -> object:
    """What is public and not here yet."""
    if name == "anova":
        return import_module("interlace.inference.compare").anova_models
    for place in _LATER if name in __all__ else ():
        found = vars(import_module(f"interlace.{place}"))
        if name in found or name in found.get("__all__", ()):
            return getattr(import_module(f"interlace.{place}"), name)
    if name in ("diagnostics", "families", "many"):
        return import_module(f"interlace.{name}")
    raise AttributeError(f"module 'interlace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
