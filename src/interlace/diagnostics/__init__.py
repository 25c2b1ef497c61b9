"""Diagnostics of fitted models: residuals, leverage, and the influence of rows and groups."""

from importlib import import_module
from typing import TYPE_CHECKING

from interlace.diagnostics.leverage import leverage

if TYPE_CHECKING:
    from interlace.diagnostics.augment import hlm_augment
    from interlace.diagnostics.checks import (
        check_approximation,
        check_dispersion,
        check_residuals,
        check_separation,
        check_zeros,
    )
    from interlace.diagnostics.influence import (
        cooks_distance,
        covratio,
        covtrace,
        hlm_influence,
        mdffits,
        n_influential,
        rvc,
    )
    from interlace.diagnostics.residuals import hlm_resid

__all__ = [
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
]

_LATER = ("augment", "checks", "influence", "residuals")


def __getattr__(name: str) -> object:
    """What is public and not here yet: reports of a fit need the leverages alone."""
    for place in _LATER if name in __all__ else ():
        module = import_module(f"interlace.diagnostics.{place}")
        if name in vars(module):
            return getattr(module, name)
    raise AttributeError(f"module 'interlace.diagnostics' has no attribute {name!r}")
