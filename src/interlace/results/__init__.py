"""Results: what can be asked of a fit, a verb a line, a chapter a file."""

from interlace.results.general import CrossedGLMMResult
from interlace.results.result import CrossedLMEResult

__all__ = ["CrossedGLMMResult", "CrossedLMEResult"]
