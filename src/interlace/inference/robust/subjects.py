"""Sandwich covariances of models with a residual structure: subjects are the clusters.

CR2 is that of mmrm, ``A_i = (I - H_ii)^-1/2`` in residuals that the model makes independent, of
which products of ``p x p`` are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.errors import InterlaceError, choose
from interlace.estimation.residual import StructuredEstimate
from interlace.estimation.structured import StructuredCriterion
from interlace.inference.robust.reference import Large
from interlace.inference.robust.sandwich import KINDS, Robust, correction, pieces_of
from interlace.inference.wald import Reference
from interlace.sums.terms import Floats

# Powers of ``I - H_ii`` that residuals are divided by.
_POWERS = {"CR0": 0.0, "CR1": 0.0, "CR1S": 0.0, "CR2": 0.5, "CR3": 1.0}


@dataclass(frozen=True, eq=False)
class SubjectScores:
    """A fit, and the root of the covariance of its working fixed effects in the user's units."""

    estimate: StructuredEstimate

    @cached_property
    def root(self) -> Floats:
        """``B`` with ``B B'`` the covariance of the working fixed effects."""
        return np.asarray(self.estimate.unit * self.estimate.evaluation.B)


def subject_reference(
    estimate: StructuredEstimate,
    kind: str,
    ddf: str | None,
    with_rows: Callable[[], StructuredCriterion],
) -> Reference:
    """The reference of robust tests; see :meth:`interlace.StructuredLMEResult.cov_params`.

    ``with_rows`` gives the criterion with the rows of every subject.

    Raises
    ------
    InterlaceError
        An unknown kind, or other degrees of freedom than these tests have.
    """
    name = choose("robust", str(kind).upper(), KINDS, one_of=True)
    if ddf not in (None, "normal", "satterthwaite"):
        raise InterlaceError(
            f"a robust covariance has Satterthwaite's degrees of freedom, not {ddf!r}: leave ddf "
            "out"
        )
    at = with_rows()(estimate.x)
    rows, images, p = at.patterns.kept.rows, at.images, len(at.beta)
    B = at.B
    left = np.swapaxes(rows[:, :, :p] @ B, 1, 2)
    pieces = pieces_of(
        (left @ images[:, :, p:])[:, :, 0], left @ images[:, :, :p] @ B, power=_POWERS[name]
    )
    factor = correction(name, len(rows), (estimate.A.n, estimate.A.p))
    found = Robust(SubjectScores(estimate), pieces, factor)
    return Large(estimate.beta, found) if ddf == "normal" else found
