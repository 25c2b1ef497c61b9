"""What a diagnostic is computed for: the rows of a result, or the levels of a grouping factor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interlace.design.design import Design
from interlace.errors import InterlaceError
from interlace.model.fitted import Labelled
from interlace.model.kinds import require_linear
from interlace.sums.crossprod import Codes
from interlace.sums.terms import ReTerm


def design_of(result: Labelled[Any]) -> Design:
    """The rows of a result.

    Raises
    ------
    InterlaceError
        The result holds none, as it was fitted from cross-products, or is no linear model.
    """
    require_linear(result, "a diagnostic of rows and groups")
    design: Design | None = result.design
    if design is None:
        raise InterlaceError(
            "diagnostics look at single rows, and this result holds none (it was fitted from "
            "cross-products): fit the same formula to the rows, or a part of them, in memory"
        )
    return design


def grouping(design: Design, level: int | str) -> tuple[ReTerm, Codes]:
    """The first term of a grouping factor, and the levels of the rows.

    Raises
    ------
    InterlaceError
        ``level`` is not a grouping factor of the model.
    """
    keys = [term.group for term in design.terms]
    if level not in keys:
        raise InterlaceError(
            f"level must be 1 or a grouping factor of the model ({', '.join(dict.fromkeys(keys))}),"
            f" not {level!r}"
        )
    j = keys.index(str(level))
    return design.terms[j], design.codes[j]


def is_rows(level: int | str) -> bool:
    """Whether ``level`` asks for rows."""
    return level == 1 and level is not True


def unit_index(design: Design, level: int | str) -> pd.Index:
    """Labels of the units: those of the rows, or the levels of a factor."""
    if is_rows(level):
        return design.labels
    term, _ = grouping(design, level)
    labels: pd.Index = pd.Index(term.levels, name=term.group)
    return labels


def unit_rows(design: Design, level: int | str) -> list[Codes]:
    """Rows of every unit."""
    if is_rows(level):
        return list(np.arange(len(design.y))[:, None])
    term, codes = grouping(design, level)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=term.l))[:-1])
