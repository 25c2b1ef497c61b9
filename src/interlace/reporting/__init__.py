"""Fitted models as tidy tables, and what they explain."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlace.reporting.brief import (
        ForMakeTables,
        maketables_coefficients,
        maketables_statistic,
        short,
    )
    from interlace.reporting.broom import augment, glance, tidy
    from interlace.reporting.explained import ICC, R2, icc, r2
    from interlace.reporting.general import summarize_general
    from interlace.reporting.general_explained import icc_general, r2_general
    from interlace.reporting.models import compare
    from interlace.reporting.paragraph import report
    from interlace.reporting.scaled import summarize_scaled, tidy_scaled
    from interlace.reporting.side_by_side import table
    from interlace.reporting.singular import SingularReport, singular_report
    from interlace.reporting.structured import (
        glance_structured,
        summarize_structured,
        tidy_structured,
    )
    from interlace.reporting.summary import summarize

__all__ = [
    "ICC",
    "R2",
    "ForMakeTables",
    "SingularReport",
    "augment",
    "compare",
    "glance",
    "glance_structured",
    "icc",
    "icc_general",
    "maketables_coefficients",
    "maketables_statistic",
    "r2",
    "r2_general",
    "report",
    "short",
    "singular_report",
    "summarize",
    "summarize_general",
    "summarize_scaled",
    "summarize_structured",
    "table",
    "tidy",
    "tidy_scaled",
    "tidy_structured",
]

_LATER = (
    "brief",
    "broom",
    "explained",
    "general",
    "general_explained",
    "models",
    "paragraph",
    "scaled",
    "side_by_side",
    "singular",
    "structured",
    "summary",
)


def __getattr__(name: str) -> object:
    """What is public and not here yet: a fit needs none of it."""
    for place in _LATER if name in __all__ else ():
        module = import_module(f"interlace.reporting.{place}")
        if name in vars(module):
            return getattr(module, name)
    raise AttributeError(f"module 'interlace.reporting' has no attribute {name!r}")
