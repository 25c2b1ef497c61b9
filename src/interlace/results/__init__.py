"""Results: what can be asked of a fit, a verb a line, a chapter a file."""

from importlib import import_module
from typing import TYPE_CHECKING

from interlace.results.result import CrossedLMEResult

if TYPE_CHECKING:
    from interlace.results import estimated as estimated
    from interlace.results import general as general
    from interlace.results.general import CrossedGLMMResult

__all__ = ["CrossedGLMMResult", "CrossedLMEResult"]

_CHAPTERS = ("estimated", "general")


def __getattr__(name: str) -> object:
    """A chapter, opened on first use: a fit of a linear model needs none of them."""
    if name == "CrossedGLMMResult":
        return import_module("interlace.results.general").CrossedGLMMResult
    if name in _CHAPTERS:
        return import_module(f"interlace.results.{name}")
    raise AttributeError(f"module 'interlace.results' has no attribute {name!r}")
