"""The one error and the warnings of the package, and how a warning finds the user's line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class InterlaceError(ValueError):
    """Wrong input: the message names the column, term or value at fault and the way out."""


class ConvergenceWarning(UserWarning):
    """The optimiser stopped before its certificate of convergence was complete."""


class SingularFitWarning(UserWarning):
    """The estimated covariance of some random effects is singular."""


class RankDeficiencyWarning(UserWarning):
    """Redundant columns of the fixed effects were dropped."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that called it, however deep the call went."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level + 1)
