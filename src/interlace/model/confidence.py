"""Levels of confidence: checked, and as the names of the two limits."""

from __future__ import annotations

from interlace.errors import InterlaceError


def check_level(level: float, name: str = "level") -> float:
    """The level, if it is a probability strictly between 0 and 1.

    Raises
    ------
    InterlaceError
        It is not.
    """
    if not 0.0 < level < 1.0:
        raise InterlaceError(f"{name} must be strictly between 0 and 1, not {level!r}")
    return level


def tails(level: float) -> list[float]:
    """The two tail probabilities, which name the columns of intervals: 0.025 and 0.975."""
    tail = (1.0 - level) / 2.0
    return [round(tail, 12), round(1.0 - tail, 12)]
