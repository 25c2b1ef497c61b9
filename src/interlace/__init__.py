"""Linear mixed-effects models with crossed and nested random effects."""

from interlace import datasets
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

__version__ = "0.1.0"

__all__ = [
    "ConvergenceWarning",
    "CrossedLMEResult",
    "InterlaceError",
    "RankDeficiencyWarning",
    "SingularFitWarning",
    "anova",
    "compare",
    "datasets",
    "fit",
]
