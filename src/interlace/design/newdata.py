"""New rows, encoded as those of a fit were: what predictions need of them, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from interlace.design import frame
from interlace.design.complete import complete_rows, spread
from interlace.design.design import Encoding, column_of, positive
from interlace.design.encode import Context, Side, replay_side
from interlace.design.frame import Codes, Table
from interlace.design.groups import recode_rows, refuse_new
from interlace.design.labels import row_name
from interlace.design.reads import columns_read
from interlace.errors import InterlaceError

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NewRows:
    """``m`` rows in the user's units.

    Parameters
    ----------
    X
        ``(m, p)`` columns of the fixed side, redundant ones too; NaN in rows with a missing value.
    offset
        ``(m,)``, zeros for a model without offset, NaN likewise; ``None`` for rows of a fit
        without one.
    codes
        Per random term, in the order of ``Design.terms``, ``(m,)`` positions of levels: -1 for one
        that is missing or was not there in fitting, and in all rows of terms not asked for.
    Z
        Per random term, its columns ``(m, k)``, with NaN in rows with a missing value; zeros for
        terms not asked for.
    weights
        ``(m,)`` prior weights, NaN where one is missing; ``None`` if not asked for.
    index
        Labels of the rows.
    """

    X: Floats
    offset: Floats | None
    codes: Sequence[Codes]
    Z: Sequence[Floats]
    weights: Floats | None
    index: pd.Index

    def with_levels(self, wanted: Sequence[bool]) -> NewRows:
        """The rows with the levels of some terms alone; the other terms are as not asked for."""
        pairs = list(zip(self.codes, self.Z, wanted, strict=True))
        return replace(
            self,
            codes=[own if want else np.full(len(own), -1) for own, _, want in pairs],
            Z=[own if want else np.zeros(own.shape) for _, own, want in pairs],
        )


def replay(
    encoding: Encoding,
    newdata: object,
    *,
    offset: ArrayLike | None = None,
    levels: Sequence[bool] | None = None,
    slopes: Sequence[bool] | None = None,
    refuse: bool = False,
    weighted: bool = False,
) -> NewRows:
    """New rows with the stored encoding.

    Parameters
    ----------
    encoding
        ``Design.encoding`` of the fitted model.
    newdata
        A frame of ``m`` rows with the columns of the fixed side, and the grouping columns and the
        columns left of the bars of the terms asked for; no response needed.
    offset
        ``(m,)`` values in place of the ``offset=`` of the fit; ``offset()`` terms come on top.
    levels
        Random terms whose levels are read; ``None`` for all.
    slopes
        Random terms whose columns are read; ``None`` for those of ``levels``.
    refuse
        Whether a level that is new or missing is an error.
    weighted
        Whether prior weights are read: those of the column given in fitting if it is there,
        otherwise 1.

    Raises
    ------
    InterlaceError
        A column is missing, holds an infinite value or an unknown category, a weight is not
        positive, or the model was fitted with an array as offset and none is given.
    """
    table = frame.open_table(newdata, title="the new data")
    levels = [True] * len(encoding.groups) if levels is None else levels
    X, shift = _fixed(encoding, table, offset)
    return NewRows(
        X=X,
        offset=shift,
        codes=_codes(encoding, table, levels, refuse),
        Z=_slopes(encoding, table, levels if slopes is None else slopes),
        weights=_weights(encoding, table) if weighted else None,
        index=pd.RangeIndex(table.n) if table.index is None else table.index,
    )


def refuse_values(table: Table, wrong: NDArray[np.bool_], names: Sequence[str], why: str) -> None:
    """Refuse new rows whose values say nothing, by the first of them."""
    if not wrong.any():
        return
    row, stored = int(np.argmax(wrong)), frame.pick(table, names)
    values = [np.asarray(stored[name][row : row + 1], object).tolist()[0] for name in names]
    said = " and ".join(f"{v!r} in {name}" for v, name in zip(values, names, strict=True))
    raise InterlaceError(f"{row_name(table.index, row, table.title)} has {said}, {why}")


def _fixed(encoding: Encoding, table: Table, offset: ArrayLike | None) -> tuple[Floats, Floats]:
    """Columns of the fixed side, and the offset."""
    sides = [encoding.fixed, *encoding.offset]
    wanted = columns_read([side.text for side in sides], table, encoding.context)
    stored = frame.pick(table, wanted)
    if offset is not None:
        stored["offset="] = column_of("offset", offset, table)
    elif encoding.offset_column is not None:
        stored |= frame.pick(table, [encoding.offset_column])
    elif encoding.offset_array:
        raise InterlaceError(
            "the model was fitted with an array as offset, which new data does not carry: pass "
            "offset= with one value a row, or fit with a column of the data as offset"
        )
    rows = complete_rows(stored, table)
    X, *offsets = (
        spread(replay_side(s, rows.columns, rows.n, encoding.context), rows) for s in sides
    )
    total = np.zeros(table.n) + sum(part[:, 0] for part in offsets)
    label = "offset=" if offset is not None else encoding.offset_column
    if label is not None:
        total += spread(frame.numeric(rows.columns[label], "the offset")[:, None], rows)[:, 0]
    return X, total


def _codes(
    encoding: Encoding, table: Table, wanted: Sequence[bool], refuse: bool
) -> tuple[Codes, ...]:
    """Positions of levels; a grouping factor of several terms is read once."""
    used = {g.columns: g for g, want in zip(encoding.groups, wanted, strict=True) if want}
    stored = {key: frame.pick(table, key) for key in used}
    codes = {key: recode_rows(group, stored[key]) for key, group in used.items()}
    if refuse:
        for key, group in used.items():
            refuse_new(group, stored[key], codes[key], table)
    return tuple(
        codes[group.columns] if want else np.full(table.n, -1, dtype=np.intp)
        for group, want in zip(encoding.groups, wanted, strict=True)
    )


def _slopes(encoding: Encoding, table: Table, wanted: Sequence[bool]) -> tuple[Floats, ...]:
    return tuple(
        _slope(side, table, encoding.context) if want else np.zeros((table.n, len(side.names)))
        for side, want in zip(encoding.slopes, wanted, strict=True)
    )


def _slope(side: Side, table: Table, context: Context | None) -> Floats:
    """Columns left of a bar; rows that miss a value of another side keep theirs."""
    rows = complete_rows(frame.pick(table, columns_read([side.text], table, context)), table)
    return spread(replay_side(side, rows.columns, rows.n, context), rows)


def _weights(encoding: Encoding, table: Table) -> Floats:
    name = encoding.weights_column
    if name is None or name not in table.names:
        return np.ones(table.n)
    rows = complete_rows(frame.pick(table, [name]), table)
    return spread(positive(rows.columns[name], rows, table.title)[:, None], rows)[:, 0]
