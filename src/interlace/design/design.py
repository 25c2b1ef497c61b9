"""MixedFormula + frame -> :class:`Design`: the rows of a model, and how they were encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace.design import frame
from interlace.design.categories import refuse_text
from interlace.design.complete import (
    MISSING,
    CompleteRows,
    complete_rows,
    missing_counts,
    refuse_nonfinite,
)
from interlace.design.encode import (
    Columns,
    Context,
    Encoded,
    Side,
    encode,
)
from interlace.design.formula import MixedFormula, RandomTerm
from interlace.design.frame import Codes, Column, Mask, Table
from interlace.design.groups import Grouping, group_rows
from interlace.design.labels import aligned, as_series, labels_of
from interlace.design.order import listed_by_lme4
from interlace.design.reads import columns_of, sides_of
from interlace.design.sides import expression
from interlace.errors import InterlaceError, choose
from interlace.sums.rows import Rows, is_ones
from interlace.sums.terms import ReTerm

Floats: TypeAlias = NDArray[np.float64]
# Makes numbers ``(n,)`` of the encoded response.
Respond: TypeAlias = Callable[[MixedFormula, Encoded], Floats]


@dataclass(frozen=True, eq=False)
class Encoding:
    """All that is needed to encode new rows as the fitted ones were.

    ``slopes`` and ``groups`` follow the order of ``Design.terms``.  ``offset_column`` and
    ``weights_column`` name the columns given as ``offset=`` and ``weights=``; ``offset_array`` says
    that values were given as offset instead.
    """

    formula: MixedFormula
    response: Side
    fixed: Side
    offset: tuple[Side, ...]
    slopes: tuple[Side, ...]
    groups: tuple[Grouping, ...]
    offset_column: str | None
    offset_array: bool
    weights_column: str | None
    context: Context | None


@dataclass(frozen=True, eq=False)
class Design(Rows):
    """Rows of a mixed model as arrays, which rows of the data they are, and how they were encoded.

    Parameters
    ----------
    kept
        ``(n_total,)`` mask of the rows of the data that are used.
    encoding
        How new rows are encoded alike; ``encoding.fixed.terms`` are the fixed terms.
    factors
        Values in the rows used of the factors of the fixed side that are categories, and of numeric
        ones, ``(n,)`` or ``(n, c)``, that are multiplied with these and no columns of ``X``.
    index
        Labels of all rows of the data, ``(n_total,)``, where it has such.
    components
        Auxiliary predictors with a formula of their own: their encoding, and their columns.
    """

    kept: Mask
    encoding: Encoding
    factors: Columns = field(default_factory=dict)
    index: pd.Index | None = None
    components: Mapping[str, Encoded] = field(default_factory=dict)

    @property
    def labels(self) -> pd.Index:
        """Labels of the rows used: those of the data, or their positions in it."""
        return labels_of(self.index, self.kept)

    @property
    def n_dropped(self) -> int:
        """Rows left out because a value is missing."""
        return len(self.kept) - len(self.y)


def assemble(
    formula: MixedFormula,
    data: object,
    *,
    weights: str | ArrayLike | None = None,
    offset: str | ArrayLike | None = None,
    missing: str = "drop",
    context: Context | None = None,
    whole: bool = True,
) -> Design:
    """Read the rows of a model from a data frame.

    Parameters
    ----------
    formula
        The parsed formula.
    data
        A pandas, Polars or PyArrow table, a dict of columns, or what narwhals takes.
    weights, offset
        A column of ``data``, or ``(n_total,)`` values.
    missing
        ``"drop"`` leaves out rows with a missing value in any column used, ``"raise"`` refuses.
    context
        Values and functions that the formula may use beside the columns.
    whole
        Whether these are all rows of the model: a part of them may be too few for its levels.

    Raises
    ------
    InterlaceError
        Data that cannot be used; the message names the column, term or value.

    Examples
    --------
    >>> from interlace.design.formula import parse
    >>> data = {"y": [1.0, 2.5, 4.0, 3.0, 2.0], "x": [0, 1, 0, 1, 1], "g": list("abbaa")}
    >>> design = assemble(parse("y ~ x + (1 | g)"), data)
    >>> design.names
    ('Intercept', 'x')
    >>> design.codes[0]
    array([0, 1, 1, 0, 0])
    """
    extra = {"weights": weights, "offset": offset}
    design, _ = read_design(formula, data, extra, missing, context)
    if whole:
        refuse_constant(design.response, f"the response '{formula.response}'")
        refuse_unidentifiable(design.terms, len(design.y))
        refuse_saturated(design.X)
    return design


def read_design(
    formula: MixedFormula,
    data: object,
    extra: Mapping[str, str | ArrayLike | None],
    missing: str,
    context: Context | None,
    respond: Respond | None = None,
) -> tuple[Design, CompleteRows]:
    """A design of rows that nothing is asked of yet, and its plain columns, those of ``extra`` too.

    ``extra`` holds at least ``weights`` and ``offset``; ``respond`` makes numbers of the response.
    """
    rows = read_rows(formula, data, extra, missing, context)
    refuse_text(formula, rows.columns, rows.n, answers=respond is not None)
    sides = sides_of(formula)
    encoded = dict(zip(sides, encode(sides, rows.columns, rows.n, context), strict=True))
    refuse_nonfinite(encoded.values(), rows)
    found = {g: group_rows(g, rows.columns) for g in {term.group: None for term in formula.random}}
    return build(formula, rows, encoded, found, extra, context, respond), rows


# Reading ------------------------------------------------------------------------------------------


def read_rows(
    formula: MixedFormula,
    data: object,
    extra: Mapping[str, str | ArrayLike | None],
    missing: str,
    context: Context | None,
) -> CompleteRows:
    table = frame.open_table(data)
    if table.n == 0:
        raise InterlaceError("the data has no rows")
    missing = choose("missing", missing, MISSING)
    stored = frame.pick(table, columns_of(formula, table, context, beside=extra.values()))
    for argument, values in extra.items():
        if values is not None and not isinstance(values, str):
            stored[f"{argument}="] = column_of(argument, values, table)
    rows = complete_rows(stored, table, refuse=missing == "raise")
    if not rows.n:
        raise InterlaceError(f"none of the {table.n} rows is complete: {missing_counts(stored)}")
    return rows


def column_of(name: str, values: ArrayLike | None, table: Table) -> Column:
    """Values given beside a table, in the order of its rows.

    Raises
    ------
    InterlaceError
        There is not one value for each row, or their index does not fit that of the rows.
    """
    if (series := as_series(values)) is not None:
        values = aligned(series, name, table.index, table.title)
    column = frame.as_column(values, name)
    if len(column) != table.n:
        raise InterlaceError(f"{name} has {len(column)} values, but {table.title} {table.n} rows")
    return column


# Parts of a design --------------------------------------------------------------------------------


def build(
    formula: MixedFormula,
    rows: CompleteRows,
    encoded: Mapping[str, Encoded],
    found: Mapping[tuple[str, ...], tuple[Grouping, Codes]],
    extra: Mapping[str, str | ArrayLike | None],
    context: Context | None,
    respond: Respond | None = None,
) -> Design:
    """A design from its sides, and its groups with the codes of the rows."""
    fixed = encoded[formula.fixed]
    offsets = [encoded[expression(text)] for text in formula.offset]
    for text, one in zip(formula.offset, offsets, strict=True):
        _refuse_several(text, one)
    levels = [len(found[term.group][0].cells) for term in formula.random]
    widths = [len(encoded[term.expr].side.names) for term in formula.random]
    order, backwards = listed_by_lme4(formula.random, levels, widths)
    random = [formula.random[i] for i in order]
    slopes = [encoded[term.expr] for term in random]
    groups = tuple(found[term.group][0] for term in random)
    terms = map(_term, random, slopes, groups, repeat(backwards))
    offset = offset_of(offsets, rows.columns, extra["offset"])
    return Design(
        y=(respond or _response)(formula, encoded[expression(formula.response)]),
        X=fixed.matrix,
        names=fixed.side.names,
        terms=tuple(terms),
        codes=tuple(found[term.group][1] for term in random),
        Z=tuple(slopes_for(one, fixed) for one in slopes),
        weights=weights_of(rows, extra["weights"]),
        offset=offset,
        kept=rows.kept,
        encoding=Encoding(
            formula=formula,
            response=encoded[expression(formula.response)].side,
            fixed=fixed.side,
            offset=tuple(one.side for one in offsets),
            slopes=tuple(one.side for one in slopes),
            groups=groups,
            offset_column=extra["offset"] if isinstance(extra["offset"], str) else None,
            offset_array=not isinstance(extra["offset"], str | None),
            weights_column=extra["weights"] if isinstance(extra["weights"], str) else None,
            context=context,
        ),
        factors=fixed.factors,
        index=rows.index,
    )


def _response(formula: MixedFormula, encoded: Encoded) -> Floats:
    name = formula.response
    if encoded.side.categorical:
        raise InterlaceError(f"the response '{name}' must be numeric, but holds text or categories")
    if encoded.matrix.shape[1] != 1:
        raise InterlaceError(
            f"the response '{name}' has {encoded.matrix.shape[1]} columns, but must have one"
        )
    return encoded.matrix[:, 0]


def _refuse_several(text: str, encoded: Encoded) -> None:
    """Refuse an offset that is not one numeric column."""
    if encoded.side.categorical or encoded.matrix.shape[1] != 1:
        what = "categories" if encoded.side.categorical else f"{encoded.matrix.shape[1]} columns"
        raise InterlaceError(
            f"offset({text}) gives {what}, but an offset is one numeric column or expression"
        )


def refuse_constant(response: Floats, what: str) -> None:
    """Refuse a response (less its offset) that is the same in every row."""
    if response.min() == response.max():
        raise InterlaceError(f"{what} is constant ({response[0]:g}): nothing varies")


def slopes_for(encoded: Encoded, fixed: Encoded) -> Floats:
    """Columns left of a bar: ones without memory of their own, or those of the fixed side."""
    if encoded.side.names == ("Intercept",):
        ones = is_ones(encoded.matrix)
        return encoded.matrix if ones else np.broadcast_to(1.0, encoded.matrix.shape)
    return fixed.matrix if encoded.side.names == fixed.side.names else encoded.matrix


def _term(term: RandomTerm, encoded: Encoded, group: Grouping, backwards: bool) -> ReTerm:
    columns = encoded.side.names
    if not columns:
        raise InterlaceError(f"'{term.expr}' of the random term {term.label} gives no column")
    template = term.template(len(columns))
    return ReTerm(term.key, columns, group.labels, template, backwards)


def offset_of(
    terms: Sequence[Encoded], columns: Columns, argument: str | ArrayLike | None
) -> Floats | None:
    """The offset of rows: that of the formula and that given as argument."""
    parts = [one.matrix[:, 0] for one in terms]
    if argument is not None:
        label = argument if isinstance(argument, str) else "offset="
        parts.append(frame.numeric(columns[label], "the offset"))
    return np.sum(parts, axis=0) if parts else None


def weights_of(
    rows: CompleteRows, argument: str | ArrayLike | None, title: str = "the data"
) -> Floats | None:
    """Prior weights of rows, checked."""
    if argument is None:
        return None
    column = rows.columns[argument if isinstance(argument, str) else "weights="]
    return positive(column, rows, title)


def positive(column: Column, rows: CompleteRows, title: str) -> Floats:
    """A column as weights.

    Raises
    ------
    InterlaceError
        One of them is not a positive number.
    """
    weights = frame.numeric(column, "the weights")
    if weights.min(initial=np.inf) <= 0:
        row = int(np.argmax(weights <= 0))
        raise InterlaceError(
            f"weights must be positive, but {rows.name(row, title)} has {weights[row]:g}: "
            "leave such rows out"
        )
    return weights


def refuse_unidentifiable(terms: Iterable[ReTerm], n: int) -> None:
    """Refuse random terms of which ``n`` rows cannot tell the variance."""
    for term in terms:
        what = f"the grouping factor '{term.group}'"
        if term.l < 2:
            raise InterlaceError(
                f"{what} has one level ({term.levels.tolist()[0]!r}): "
                "a variance between levels needs two"
            )
        if term.l >= n:
            raise InterlaceError(
                f"{what} has as many levels ({term.l}) as there are rows ({n}): its variance and "
                "the residual variance cannot be told apart"
            )
        if term.l * term.template.joint >= n:
            raise InterlaceError(
                f"the random term of '{term.group}' has {term.q} effects ({term.l} levels x "
                f"{term.k} columns) for {n} rows: leave out columns ({', '.join(term.columns)})"
            )


def refuse_saturated(X: Floats) -> None:
    n, p = X.shape
    if p >= n and np.linalg.matrix_rank(X) >= n:
        raise saturated(p, n)


def saturated(p: int, n: int) -> InterlaceError:
    """The error for as many coefficients as rows."""
    return InterlaceError(
        f"the fixed effects have {p} coefficients for {n} rows: leave out predictors"
    )
