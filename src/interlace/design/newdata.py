"""New rows encoded as those of a fit were: columns, levels, offset and weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from interlace.design import frame
from interlace.design.complete import complete_rows, spread
from interlace.design.design import Encoding, Floats, column_of, positive
from interlace.design.encode import Context, Side, columns_read, replay
from interlace.design.frame import Codes, Table
from interlace.design.groups import recode_rows, refuse_new
from interlace.errors import InterlaceError


def replay_fixed(
    encoding: Encoding, newdata: object, *, offset: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Fixed-effects columns and offset of new rows, with the stored encoding.

    Parameters
    ----------
    encoding
        ``Design.encoding`` of the fitted model.
    newdata
        A frame of ``m`` rows with the columns of the fixed side; no response, no groups needed.
    offset
        ``(m,)`` values in place of the ``offset=`` of the fit; ``offset()`` terms come on top.

    Returns
    -------
    X
        ``(m, p)``, with NaN in rows that have a missing value.
    offset
        ``(m,)``, zeros for a model without offset, NaN likewise.

    Raises
    ------
    InterlaceError
        A column is missing, holds an infinite value or an unknown category, or the model was
        fitted with an array as offset and none is given.
    """
    table = frame.open_table(newdata, title="the new data")
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
    X, *offsets = (spread(replay(s, rows.columns, rows.n, encoding.context), rows) for s in sides)
    total = np.zeros(table.n) + sum(part[:, 0] for part in offsets)
    label = "offset=" if offset is not None else encoding.offset_column
    if label is not None:
        total += spread(frame.numeric(rows.columns[label], "the offset")[:, None], rows)[:, 0]
    return X, total


def replay_random(encoding: Encoding, newdata: object) -> list[tuple[Codes, Floats]]:
    """Levels and columns of each random term for new rows, with the stored encoding.

    Parameters
    ----------
    encoding
        ``Design.encoding`` of the fitted model.
    newdata
        A frame of ``m`` rows with the grouping columns and the columns left of the bars.

    Returns
    -------
    list of (codes, Z)
        In the order of ``Design.terms``.  ``codes`` ``(m,)`` is -1 for a level that is missing or
        was not there in fitting; ``Z`` ``(m, k)`` has NaN in rows with a missing value.

    Raises
    ------
    InterlaceError
        A grouping column or a column left of a bar is not in the new data.
    """
    wanted = [True] * len(encoding.groups)
    levels = replay_levels(encoding, newdata, wanted)
    return list(zip(levels, replay_slopes(encoding, newdata, wanted), strict=True))


def replay_levels(
    encoding: Encoding, newdata: object, wanted: Sequence[bool], *, refuse: bool = False
) -> list[Codes]:
    """The codes of :func:`replay_random`; -1, and no columns read, for terms not ``wanted``.

    With ``refuse``, a level that is new or missing is an ``InterlaceError``.
    """
    table = frame.open_table(newdata, title="the new data")
    used = {g.columns: g for g, want in zip(encoding.groups, wanted, strict=True) if want}
    stored = {key: frame.pick(table, key) for key in used}
    codes = {key: recode_rows(group, stored[key]) for key, group in used.items()}
    if refuse:
        for key, group in used.items():
            refuse_new(group, stored[key], codes[key], table)
    return [
        codes[group.columns] if want else np.full(table.n, -1, dtype=np.intp)
        for group, want in zip(encoding.groups, wanted, strict=True)
    ]


def replay_slopes(encoding: Encoding, newdata: object, wanted: Sequence[bool]) -> list[Floats]:
    """The columns of :func:`replay_random`; zeros, and none read, for terms not ``wanted``."""
    table = frame.open_table(newdata, title="the new data")
    return [
        _replay_slopes(s, table, encoding.context) if want else np.zeros((table.n, len(s.names)))
        for s, want in zip(encoding.slopes, wanted, strict=True)
    ]


def replay_weights(encoding: Encoding, newdata: object) -> Floats:
    """Prior weights ``(m,)`` of new rows: those of the column given in fitting if it is there.

    Otherwise 1; NaN where the column is missing a value.

    Raises
    ------
    InterlaceError
        A weight is not a positive number.
    """
    table = frame.open_table(newdata, title="the new data")
    name = encoding.weights_column
    if name is None or name not in table.names:
        return np.ones(table.n)
    rows = complete_rows(frame.pick(table, [name]), table)
    return spread(positive(rows.columns[name], rows, table.title)[:, None], rows)[:, 0]


def _replay_slopes(side: Side, table: Table, context: Context | None) -> Floats:
    stored = frame.pick(table, columns_read([side.text], table, context))
    rows = complete_rows(stored, table)
    return spread(replay(side, rows.columns, rows.n, context), rows)
