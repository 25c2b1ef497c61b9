"""Cluster-robust covariances of the fixed effects."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlace.inference.robust import reference as reference
    from interlace.inference.robust import scores as scores
    from interlace.inference.robust import subjects as subjects

_CHAPTERS = ("reference", "scores", "subjects")


def __getattr__(name: str) -> object:
    """A chapter, opened on first use: a fit needs none of them."""
    if name in _CHAPTERS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
