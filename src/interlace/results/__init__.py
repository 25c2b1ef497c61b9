"""Results: what can be asked of a fit, a verb a line, a chapter a file."""

from importlib import import_module
from typing import TYPE_CHECKING

from interlace.results.result import CrossedLMEResult

if TYPE_CHECKING:
    from interlace.results import estimated as estimated
    from interlace.results import general as general
    from interlace.results import structured as structured
    from interlace.results.general import CrossedGLMMResult
    from interlace.results.scaled import ScaledLMEResult
    from interlace.results.structured import StructuredLMEResult

__all__ = ["CrossedGLMMResult", "CrossedLMEResult", "ScaledLMEResult", "StructuredLMEResult"]

_CHAPTERS = ("estimated", "general", "structured")
# Results by the chapter that has them.
_RESULTS = {
    "CrossedGLMMResult": "general",
    "ScaledLMEResult": "scaled",
    "StructuredLMEResult": "structured",
}


def __getattr__(name: str) -> object:
    """A chapter, opened on first use: a fit of a linear model needs none of them."""
    if name in _RESULTS:
        return getattr(import_module(f"interlace.results.{_RESULTS[name]}"), name)
    if name in _CHAPTERS:
        return import_module(f"interlace.results.{name}")
    raise AttributeError(f"module 'interlace.results' has no attribute {name!r}")
