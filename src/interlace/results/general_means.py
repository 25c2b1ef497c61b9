"""Means of a generalised model: of linear predictors, of responses, and of the population."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from interlace.errors import InterlaceError
from interlace.glmm.estimate import GeneralEstimate
from interlace.glmm.ordinal import Ordinal
from interlace.inference.general import TestedGeneralModel
from interlace.inference.means.response import population
from interlace.model.auxiliary import is_plain
from interlace.results.means import Means

if TYPE_CHECKING:
    from interlace.results.estimated import EstimatedMeans


@dataclass(frozen=True, eq=False)
class GeneralMeans(Means[GeneralEstimate], TestedGeneralModel):
    """Means of a generalised model; a chapter of a result."""

    def _refuse_means(self, type: str, trend: str | None) -> None:
        """Refuse means of a predictor without intercept, and of responses of several parts."""
        if isinstance(self.family, Ordinal) and trend is None:
            raise InterlaceError(
                "ordered categories have no means of a linear predictor without intercept: predict "
                "a grid with type='probability', or test differences with wald_test"
            )
        if type == "response" and not is_plain(self.family):
            raise InterlaceError(
                f"type='response' is not there for family={self.family.name!r}, whose means depend "
                f"on the zeros too: predict a grid, or take type='link'"
            )

    def _on_response(
        self, found: EstimatedMeans, weights: str, *, integrate: bool
    ) -> EstimatedMeans:
        exposed = () if self.options.exposure is None else ("The exposure is 1.",)
        if not integrate:
            notes = (
                *found.notes,
                *exposed,
                f"Mapped from the scale of the link ({self.link.name}).",
            )
            return replace(found, link=self.link, name="response", notes=notes)
        functions, reference = population(self, found.grid, found.functions, weights)
        notes = (*found.notes, *exposed, "Averaged over the random effects.")
        return replace(
            found,
            functions=functions,
            beta=reference.beta,
            reference=reference,
            limits=self.link,
            name="response",
            notes=notes,
        )
