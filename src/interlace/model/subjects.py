"""Rows of a structured fit by subject: what is drawn for them, and fits to other responses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from interlace.design.design import Design, refuse_constant
from interlace.design.recipe import require_rows
from interlace.estimation.residual import StructuredEstimate, estimate_structured
from interlace.model.predict import fitted
from interlace.model.responses import new_response
from interlace.model.simulate import Seed, blocks, check_nsim
from interlace.model.structured import FittedStructuredModel, warn_of
from interlace.model.structured_sums import sums_of
from interlace.sums.crossprod import with_response
from interlace.sums.terms import Floats


def simulate_structured(
    model: FittedStructuredModel, nsim: int = 1, seed: Seed = None, include_re: bool = False
) -> Floats:
    """New responses for the rows used, ``(n, nsim)``; see the method ``simulate``.

    A column depends on the seed and its number, not on ``nsim``.
    """
    design = require_rows(model.design, "simulate")
    check_nsim(nsim)
    draws = Draws.of(model, include_re=bool(include_re))
    out = np.empty((len(design.y), nsim))
    for block in blocks(seed, int(nsim)):
        rng = block.rng
        for column in range(block.columns.start, block.columns.stop):
            out[:, column] = draws.one(rng)
    return out


@dataclass(frozen=True, eq=False)
class Draws:
    """Makes new responses: ``mean`` (n,), and ``rows`` (n, V) of the subjects' Cholesky factors.

    ``shared`` are random terms whose effects subjects share, drawn anew.
    """

    model: FittedStructuredModel
    mean: Floats
    rows: Floats
    shared: tuple[int, ...]

    @classmethod
    def of(cls, model: FittedStructuredModel, *, include_re: bool = False) -> Draws:
        """Of the rows used: with new random effects, or with their modes."""
        design = require_rows(model.design, "simulate")
        criterion, P = model.estimate.criterion, model.estimate.criterion.patterns
        Sigma = criterion.stack.noise(model.estimate.x) if include_re else None
        covariances = model.estimate.evaluation.covariances if Sigma is None else Sigma
        missed = np.eye(P.V) * ~P.observed[:, None, :]
        L = np.linalg.cholesky(np.where(P.pairs, covariances[P.groups], missed))
        at = model.places
        unit = model.estimate.unit / design.root_weights
        rows = L[P.of_subject[at.subjects], at.visits] * unit[:, None]
        mean = fitted(design, model.estimate, [include_re] * len(design.terms))
        return cls(model, mean, rows, () if include_re else model.shared)

    def one(self, rng: np.random.Generator) -> Floats:
        """A response, ``(n,)``."""
        at = self.model.places
        z = np.zeros((at.n_subjects, at.n_visits))
        z[at.subjects, at.visits] = rng.standard_normal(len(self.mean))
        found = self.mean + np.einsum("nv,nv->n", self.rows, z[at.subjects])
        design = require_rows(self.model.design, "simulate")
        for j in self.shared:
            term, T = design.terms[j], self.model.estimate.user_templates[j]
            b = rng.standard_normal((term.l, term.k)) @ T.T
            found = found + np.einsum("nk,nk->n", design.Z[j], b[design.codes[j]])
        return np.asarray(found)


# ------------------------------------------------------------------ other responses


def refitted(model: FittedStructuredModel, y: ArrayLike) -> FittedStructuredModel:
    """Fit the model to another response for the same rows; see the method ``refit``."""
    held = require_rows(model.design, "refit")
    design = replace(held, y=new_response(y, held))
    refuse_constant(design.response, "the new response")
    found = replace(model, design=design, estimate=re_estimated(model, design), held=None)
    warn_of(found)
    return found


def re_estimated(model: FittedStructuredModel, design: Design) -> StructuredEstimate:
    """The estimate of the model on its rows with another response."""
    criterion = model.estimate.criterion
    A = with_response(criterion.A, design, design.y)
    sums = sums_of(design, model.places, A, keep=bool(model.shared))
    return estimate_structured(replace(criterion, A=A, patterns=sums))


def ml_estimate(model: FittedStructuredModel) -> StructuredEstimate:
    """Maximum-likelihood estimate of a model, from the sums that it holds."""
    criterion = model.estimate.criterion
    if not criterion.reml:
        return model.estimate
    return estimate_structured(replace(criterion, reml=False))
