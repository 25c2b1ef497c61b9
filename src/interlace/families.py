"""Families of responses with settings, as values of ``fit(..., family=)``.

Examples
--------
>>> from interlace import families
>>> families.NegativeBinomial(kind=1).auxiliary
'dispersion'
"""

from interlace.glmm.families import (
    Beta,
    Binomial,
    Gamma,
    Gaussian,
    InverseGaussian,
    NegativeBinomial,
    Poisson,
)

__all__ = [
    "Beta",
    "Binomial",
    "Gamma",
    "Gaussian",
    "InverseGaussian",
    "NegativeBinomial",
    "Poisson",
]
