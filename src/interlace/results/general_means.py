"""Means of a generalised model: of linear predictors, of responses, and of the population."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from interlace.glmm.estimate import GeneralEstimate
from interlace.inference.general import TestedGeneralModel
from interlace.inference.means.response import population
from interlace.results.means import Means

if TYPE_CHECKING:
    from interlace.results.estimated import EstimatedMeans


@dataclass(frozen=True, eq=False)
class GeneralMeans(Means[GeneralEstimate], TestedGeneralModel):
    """Means of a generalised model; a chapter of a result."""

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
