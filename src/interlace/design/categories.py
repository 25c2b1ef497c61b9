"""Text that stands where numbers are meant: refused before a column is made for each of its values.

Levels are counted first: thousands of dummy columns would fill the memory, and no message about
them would say that a column of numbers was read as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from formulaic.parser.types import Factor

from interlace.design.encode import Columns
from interlace.design.formula import MixedFormula
from interlace.design.numbers import MOST_LEVELS
from interlace.design.sides import expression, model_terms, names_in
from interlace.errors import InterlaceError

# A factor of the fixed side, or left of a bar, has at most so many levels; text that reads as
# numbers fewer, and up to the last number it may have one in every row.
_MOST_NUMBERS, _FEW = 500, 20
_LOOKED_AT = 1_000
_NUMBER = re.compile(r"\W*\d[\d.,\s_'%eE+-]*\W*")


def refuse_text(formula: MixedFormula, columns: Columns, n: int, *, answers: bool = False) -> None:
    """Refuse text where a number must stand, and with more levels than a factor can have.

    With ``answers`` the response may be of a few categories.

    Raises
    ------
    InterlaceError
        The message names the column and the number of its values.
    """
    for what, side in (
        ("the response", formula.response),
        *(("offset()", o) for o in formula.offset),
    ):
        for name in _names(expression(side)):
            if isinstance(column := columns.get(name), pd.Categorical):
                few = answers and len(column.categories) <= _FEW
                if few and what == "the response":
                    continue
                raise InterlaceError(
                    f"{what} '{name}' must be numeric, but holds text or categories"
                    f"{_question(column) if _reads_as_numbers(column) else ''}"
                )
    sides = [formula.fixed, *(term.expr for term in formula.random)]
    for name, explicit in _factors(sides):
        if isinstance(column := columns.get(name), pd.Categorical):
            _refuse_many(name, column, n, explicit=explicit)


def _names(side: str) -> list[str]:
    """The column that a side of one expression is, if it is one."""
    factors = [factor for term in model_terms(side) for factor in term.factors]
    return [f.expr for f in factors if f.eval_method is Factor.EvalMethod.LOOKUP]


def _factors(sides: Iterable[str]) -> Iterable[tuple[str, bool]]:
    """Columns that are factors of the sides, and whether it is said of them: ``C(x)``."""
    for factor in (f for side in sides for term in model_terms(side) for f in term.factors):
        if factor.eval_method is Factor.EvalMethod.LOOKUP:
            yield factor.expr, False
        elif factor.expr.startswith("C("):
            yield from ((name, True) for name in names_in(f"{{{factor.expr}}} - 1")[0])


def _refuse_many(name: str, column: pd.Categorical, n: int, *, explicit: bool) -> None:
    k = len(column.categories)
    if k <= _FEW:
        return
    numbers = not explicit and _reads_as_numbers(column)
    if k > MOST_LEVELS or (not explicit and 2 * k > n) or (numbers and k > _MOST_NUMBERS):
        way_out = (
            f"numbers read as text? Convert it, for instance with pd.to_numeric(data['{name}']), "
            if numbers or not explicit
            else "too many for a column each: "
        )
        raise InterlaceError(
            f"'{name}' is text with {k:,} different values: {way_out}"
            f"{'or ' if numbers or not explicit else ''}let it group a random effect, (1 | {name})"
        )


def _reads_as_numbers(column: pd.Categorical) -> bool:
    """Whether nearly all categories are text that says a number."""
    few = np.linspace(0, len(column.categories) - 1, min(_LOOKED_AT, len(column.categories)))
    held = [column.categories[int(i)] for i in few]
    said = [isinstance(value, str) and _NUMBER.fullmatch(value) is not None for value in held]
    return len(said) > 0 and float(np.mean(said)) >= 0.9


def _question(column: pd.Categorical) -> str:
    return f" ({len(column.categories):,} different values: numbers read as text?)"
