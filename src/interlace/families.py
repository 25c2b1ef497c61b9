"""Families of responses with settings, as values of ``fit(..., family=)``.

Examples
--------
>>> from interlace import families
>>> families.NegativeBinomial(kind=1).auxiliary
'dispersion'
"""

from interlace.glmm.counted import BetaBinomial
from interlace.glmm.families import (
    Beta,
    Binomial,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
)
from interlace.glmm.heavy import StudentT
from interlace.glmm.ordinal import Ordinal
from interlace.glmm.tweedie import Tweedie
from interlace.glmm.zeros import Truncated

__all__ = [
    "Beta",
    "BetaBinomial",
    "Binomial",
    "Gamma",
    "Gaussian",
    "InverseGaussian",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "StudentT",
    "Truncated",
    "Tweedie",
]
