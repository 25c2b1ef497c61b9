"""Which columns of a table a formula reads: of all its parts, or of some of them."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, get_args

from formulaic.transforms import TRANSFORMS

from interlace.design.formula import MixedFormula
from interlace.design.frame import Table, hint
from interlace.design.sides import expression, names_in
from interlace.errors import InterlaceError

# Parts of a formula: left of the tilde, the fixed side, offset() terms, left and right of the bars.
Part: TypeAlias = Literal["response", "fixed", "offset", "slopes", "groups"]
PARTS: tuple[Part, ...] = get_args(Part)
# Functions of R's formulas that a formula has no use for, and the way here.
_OF_R = {"cbind": ": write the successes as the response, and name the column of trials by trials="}
# Names that a formula may use without any data.
_KNOWN = frozenset({*TRANSFORMS, *dir(builtins)})


def columns_of(
    formula: MixedFormula,
    table: Table,
    context: Mapping[str, object] | None = None,
    *,
    parts: Iterable[Part] = PARTS,
    beside: Iterable[object] = (),
) -> list[str]:
    """Columns of the table that a formula reads, each once.

    Parameters
    ----------
    formula
        The parsed formula.
    table
        Where the columns are.
    context
        Values and functions that the formula may use beside the columns.
    parts
        The parts of the formula that are asked for.
    beside
        What is given as ``weights=`` or ``offset=``: those that are text are columns too.

    Raises
    ------
    InterlaceError
        A name of an expression is neither a column, nor in the context, nor known to formulaic or
        Python.
    """
    wanted = columns_read(sides_of(formula, parts), table, context)
    if "groups" in parts:
        wanted += [name for term in formula.random for name in term.group]
    wanted += [name for name in beside if isinstance(name, str)]
    return list(dict.fromkeys(wanted))


def sides_of(formula: MixedFormula, parts: Iterable[Part] = PARTS) -> list[str]:
    """Texts of the sides of a formula, each once."""
    texts: dict[Part, list[str]] = {
        "response": [expression(formula.response)],
        "fixed": [formula.fixed],
        "offset": [expression(text) for text in formula.offset],
        "slopes": [term.expr for term in formula.random],
    }
    return list(dict.fromkeys(text for part in parts for text in texts.get(part, [])))


def columns_read(
    texts: Iterable[str], table: Table, context: Mapping[str, object] | None
) -> list[str]:
    """Columns of the table that some sides read; see :func:`columns_of`."""
    present = set(table.names)
    known = _KNOWN.union(context) if context else _KNOWN
    values: dict[str, None] = {}
    for text in texts:
        read, called = names_in(text)
        for name in sorted(called - known - present):
            raise InterlaceError(
                f"the formula calls '{name}', which is not a function it knows"
                f"{_OF_R.get(name) or hint(name, [*TRANSFORMS, *(context or {})])}"
            )
        for name in sorted(read - known - present):
            raise InterlaceError(f"{table.title} has no column '{name}'{hint(name, table.names)}")
        values.update(dict.fromkeys(sorted(read & present | (called & present) - known)))
    return list(values)
