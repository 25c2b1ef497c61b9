"""The result of a fit: what can be asked of it, a verb a question, a chapter a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

from interlace.estimation.estimate import Estimate
from interlace.hints import missing_attribute
from interlace.results.means import Means
from interlace.results.planned import Planned
from interlace.results.reports import Reports
from interlace.results.responses import Responses
from interlace.results.saved import Saved
from interlace.results.selection import Selection
from interlace.results.variances import Variances


@dataclass(frozen=True, eq=False)
class CrossedLMEResult(Means[Estimate], Planned, Reports, Responses, Saved, Selection, Variances):
    """A fitted linear mixed model.

    Immutable and picklable (a pickled result leaves the data frame behind, not the rows used).
    Numbers follow lme4's definitions, names statsmodels' habits.

    Attributes
    ----------
    formula
        The parsed formula.
    design
        Rows used: ``y``, ``X``, codes and columns of the random terms; ``None`` after a fit that
        did not hold them.
    estimate
        Numbers of the fit in arrays.
    options
        Arguments of the fit.
    data
        The frame that was fitted, for :meth:`update`; ``None`` after unpickling.

    Examples
    --------
    >>> import interlace
    >>> result = interlace.fit("Yield ~ 1", interlace.datasets.load("dyestuff"), groups="Batch")
    >>> round(result.variance_components["Batch"], 2), round(result.scale, 2)
    (1764.05, 2451.25)
    """

    if not TYPE_CHECKING:  # for a type checker there are no others

        def __getattr__(self, name: str) -> Never:
            """Names that there are not, with what they may be called here."""
            raise missing_attribute(type(self).__name__, name, dir(type(self)))

    def __repr__(self) -> str:
        return (
            f"<CrossedLMEResult {self.formula} | {self.method}, {self.nobs} rows, "
            f"criterion {self.criterion:.4f}>"
        )
