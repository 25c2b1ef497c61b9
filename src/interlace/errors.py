"""The one error and the three warnings of the package."""

from __future__ import annotations


class InterlaceError(ValueError):
    """Wrong input: the message names the column, term or value at fault and the way out."""


class ConvergenceWarning(UserWarning):
    """The optimiser stopped before its certificate of convergence was complete."""


class SingularFitWarning(UserWarning):
    """The estimated covariance of some random effects is singular."""


class RankDeficiencyWarning(UserWarning):
    """Redundant columns of the fixed effects were dropped."""
