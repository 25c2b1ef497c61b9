"""Fitted models as tidy tables, and what they explain."""

from interlace.reporting.broom import augment, glance, tidy
from interlace.reporting.explained import ICC, R2, icc, r2
from interlace.reporting.models import compare
from interlace.reporting.singular import SingularReport, singular_report

__all__ = [
    "ICC",
    "R2",
    "SingularReport",
    "augment",
    "compare",
    "glance",
    "icc",
    "r2",
    "singular_report",
    "tidy",
]
