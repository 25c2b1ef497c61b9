"""Levels of confidence: checked, as quantiles, and as the names of the two limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from interlace.errors import InterlaceError, warn

Floats = NDArray[np.float64]


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


def coverage_of(level: float | None, alpha: float | None) -> float:
    """The level of an interval from its coverage or from what it leaves out; 0.95 from neither.

    Raises
    ------
    InterlaceError
        Both are given, or one is not a probability.
    """
    if alpha is not None:
        if level is not None:
            raise InterlaceError(f"give level={level!r} or alpha={alpha!r}, not both")
        return 1.0 - check_level(alpha, "alpha")
    coverage = 0.95 if level is None else check_level(level)
    if coverage < 0.5:
        warn(
            f"level={coverage:g} is an interval of {coverage:.3g} coverage: for {1 - coverage:.3g} "
            f"write level={1 - coverage:.3g}, or alpha={coverage:g}",
            UserWarning,
        )
    return coverage


def tails(level: float) -> list[float]:
    """The two tail probabilities, which name the columns of intervals: 0.025 and 0.975."""
    tail = (1.0 - level) / 2.0
    return [round(tail, 12), round(1.0 - tail, 12)]


def normal_reach(level: float) -> float:
    """Standard errors to either side of an estimate that hold ``level`` of a normal: 1.96."""
    return -float(ndtri((1.0 - level) / 2.0))


def reach(level: float, df: Floats) -> Floats:
    """The same for t with ``df`` degrees of freedom, normal where these are infinite."""
    finite = np.where(np.isinf(df), 1.0, df)
    t = -stdtrit(finite, (1.0 - level) / 2.0)
    return np.where(np.isinf(df), normal_reach(level), t)
