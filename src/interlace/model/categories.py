"""Ordered categories of a response: their labels and scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interlace.design.complete import CompleteRows
from interlace.design.design import Design
from interlace.design.formula import MixedFormula
from interlace.errors import InterlaceError
from interlace.glmm.ordinal import Ordinal
from interlace.sums.terms import Floats

# Categories at most.
_MOST_CATEGORIES = 20


def refuse_no_intercept(formula: MixedFormula, design: Design) -> None:
    """Refuse a fixed side without the intercept that the thresholds take the place of."""
    if "Intercept" not in design.names:
        raise InterlaceError(
            f"'{formula.fixed}' leaves out the intercept, for which the thresholds of ordered "
            f"categories stand: write the formula with it"
        )


def labels_of_response(name: str, rows: CompleteRows, design: Design) -> tuple[str, ...]:
    """Labels of the ordered categories of a response, from the lowest.

    Raises
    ------
    InterlaceError
        Text or categories without an order, or fewer than three categories.
    """
    column = rows.columns.get(name)
    if isinstance(column, pd.Categorical):
        if not column.ordered:
            levels = [str(v) for v in column.categories[:6]]
            raise InterlaceError(
                f"the categories of the response '{name}' ({', '.join(levels)}) have no order: "
                f"make it an ordered categorical by pd.Categorical(..., categories=[...], "
                f"ordered=True)"
            )
        found = tuple(str(v) for v in column.categories)
    else:
        if (design.y % 1.0 != 0.0).any():
            row = int(np.argmax(design.y % 1.0 != 0.0))
            raise InterlaceError(
                f"the response '{name}' holds {design.y[row]:g} in {rows.name(row, 'the data')}: "
                f"ordered categories are whole numbers, or an ordered categorical"
            )
        found = tuple(str(int(v)) for v in np.unique(design.y))
    if len(found) < 3 or len(found) > _MOST_CATEGORIES:
        raise InterlaceError(
            f"family='ordinal' needs 3 to {_MOST_CATEGORIES} ordered categories; '{name}' has "
            f"{len(found)}{': use binomial' if len(found) == 2 else ''}"
        )
    return found


def scored(y: Floats, column: object, family: Ordinal) -> Floats:
    """Scores of the rows, from numbers of categories or the scores themselves."""
    return family.scores[y.astype(np.int64)] if isinstance(column, pd.Categorical) else y
