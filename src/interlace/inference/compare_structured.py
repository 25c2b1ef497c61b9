"""Models with a residual structure, compared with each other and with those without one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from interlace.design.variances import VarianceTerm
from interlace.errors import ConvergenceWarning, warn
from interlace.model.fitted import Labelled
from interlace.model.optimum import AnyEstimate
from interlace.model.scaled import FittedScaledModel
from interlace.model.scaled_rows import scaled_ml
from interlace.model.structured import FittedStructuredModel
from interlace.model.subjects import ml_estimate

# By structure, those that are special cases of it.
_INSIDE = {
    "us": ("toeph", "toep", "ar1h", "ar1", "csh", "cs", "adh", "ad", "diag", "id"),
    "toeph": ("toep", "ar1h", "ar1", "csh", "cs", "diag", "id"),
    "toep": ("ar1", "cs", "id"),
    "adh": ("ad", "ar1h", "ar1", "diag", "id"),
    "ad": ("ar1", "id"),
    "ar1h": ("ar1", "diag", "id"),
    "ar1": ("id",),
    "csh": ("cs", "diag", "id"),
    "cs": ("id",),
    "diag": ("id",),
    "car1": ("id",),
    "sp_exp": ("id",),
    "sp_gau": ("id",),
}


# Models with ``residual=``.
WITH_RESIDUAL = (FittedStructuredModel, FittedScaledModel)


def structured_ml(result: FittedStructuredModel | FittedScaledModel) -> AnyEstimate:
    """The maximum-likelihood estimate, with a warning if the search did not end."""
    if isinstance(result, FittedScaledModel):
        return scaled_ml(result)
    estimate = ml_estimate(result)
    if not estimate.convergence.converged:
        warn(
            f"the refit of {result.formula} with {result.residual} did not converge: "
            f"{estimate.convergence.message}",
            ConvergenceWarning,
        )
    return estimate


def residual_of(result: Labelled[Any]) -> str:
    """The residual structure in words."""
    return str(result.residual) if isinstance(result, WITH_RESIDUAL) else "independent"


def not_inside(results: Sequence[Labelled[Any]], table: pd.DataFrame) -> Iterator[str]:
    """That a residual structure is no special case of the one that it is tested against."""
    for i in range(1, len(results)):
        less, more = results[i - 1], results[i]
        if not is_inside(less, more):
            yield (
                f"{residual_of(less)} of {table.index[i - 1]} is no special case of "
                f"{residual_of(more)} of {table.index[i]}: compare their AIC, the test means "
                f"nothing."
            )


def is_inside(less: Labelled[Any], more: Labelled[Any]) -> bool:
    """Whether one residual structure is known to be a special case of another."""
    if not isinstance(less, WITH_RESIDUAL):
        plain = not less.estimate.A.terms or _same_subject(less, more)
        return plain or not isinstance(more, WITH_RESIDUAL)
    if not isinstance(more, WITH_RESIDUAL):
        return False
    one, other = less.residual, more.residual
    assert one is not None and other is not None
    structures = one.structure == other.structure or one.structure in _INSIDE[other.structure]
    by = one.by is None or one.by == other.by
    scaled = one.variance is None or _coarser(one.variance, other.variance)
    if one.structure == "id":
        return by and scaled
    place = one.visit in (None, other.visit) and set(one.subject) <= set(other.subject)
    return structures and by and scaled and place


def _same_subject(less: Labelled[Any], more: Labelled[Any]) -> bool:
    """Whether a model without ``residual=`` has no random terms that the other one lacks."""
    if not isinstance(more, WITH_RESIDUAL):
        return True
    kept = {(t.group, t.columns) for t in more.estimate.A.terms}
    return all((t.group, t.columns) in kept for t in less.estimate.A.terms) or _intercept(
        less, more
    )


def _coarser(one: VarianceTerm, other: VarianceTerm | None) -> bool:
    """Whether a variance function is another one, or strata are unions of its strata."""
    if other is None or one.kind != other.kind:
        return False
    strata = one.kind == "varident" and set(one.columns) <= set(other.columns)
    return strata or one == other


def _intercept(less: Labelled[Any], more: FittedStructuredModel | FittedScaledModel) -> bool:
    """A random intercept of the subjects is part of structures with one correlation for all."""
    terms, term = less.estimate.A.terms, more.residual
    assert term is not None
    alone = len(terms) == 1 and tuple(terms[0].columns) == ("Intercept",)
    subject = alone and terms[0].group == ":".join(term.subject)
    return subject and term.structure in ("us", "toeph", "toep", "csh", "cs")
