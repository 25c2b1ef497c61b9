"""Which generalised models have likelihoods that can be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interlace.errors import InterlaceError
from interlace.glmm.families import Family
from interlace.glmm.zeros import Inflated
from interlace.model.generalised import FittedGeneralModel


def same_likelihood(results: Sequence[FittedGeneralModel]) -> None:
    """Refuse models whose log-likelihoods are not of the same response by the same rule.

    Raises
    ------
    InterlaceError
        The message says what differs.
    """
    first = results[0]
    for i, other in enumerate(results[1:], start=2):
        nodes = [r.estimate.approximation.nodes for r in (first, other)]
        if nodes[0] != nodes[1]:
            raise InterlaceError(
                f"model 1 and model {i} have log-likelihoods by quadrature={nodes[0]} and "
                f"quadrature={nodes[1]}, which differ by their errors: fit both with one number"
            )
        if not np.array_equal(first.estimate.problem.trials, other.estimate.problem.trials):
            raise InterlaceError(
                f"model 1 and model {i} have different trials: fit them to the same responses"
            )


def same_family(results: Sequence[FittedGeneralModel]) -> None:
    """Refuse models of different families or links; zeros may be in excess in some of them.

    Raises
    ------
    InterlaceError
        The message names the first two that differ.
    """
    first = results[0]
    for i, other in enumerate(results[1:], start=2):
        if _without_excess(first.family) != _without_excess(other.family):
            raise InterlaceError(
                f"model 1 is of {_family(first)} and model {i} of {_family(other)}: neither is "
                f"part of the other; interlace.compare() shows their AIC side by side"
            )


def _without_excess(family: Family) -> Family:
    """The law beside zeros in excess, whose share may be none at all."""
    return family.base if isinstance(family, Inflated) else family


def _family(result: FittedGeneralModel) -> str:
    """A family with its link, in words."""
    kind = getattr(result.family, "kind", "")
    kind = f" (kind={kind})" if kind else ""
    return f"family={result.family.name!r}{kind} with link={result.link.name!r}"


def bounds(results: Sequence[FittedGeneralModel], table: pd.DataFrame) -> list[str]:
    """That a test sets variances, or the share of zeros in excess, to zero."""
    notes = []
    for i in range(1, len(results)):
        if isinstance(results[i].family, Inflated) != isinstance(results[i - 1].family, Inflated):
            notes.append(
                f"{table.index[i - 1]} and {table.index[i]} differ in zeros in excess, whose share "
                f"is then at its bound of none: with zero_inflation='~ 1' the p is twice too large "
                f"(a half-half mixture), with a formula chi-squared is a guide alone."
            )
        one, other = ([t.k for t in r.estimate.A.terms] for r in (results[i - 1], results[i]))
        if sum(one) < sum(other):
            notes.append(
                f"{table.index[i - 1]} sets variances of {table.index[i]} to zero, where "
                f"chi-squared is conservative; ranova() has the mixture."
            )
    return notes
