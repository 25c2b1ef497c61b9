"""Grouping factors: levels of their columns, the combinations that occur, and where rows stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from interlace.design import keys
from interlace.design.frame import (
    Codes,
    Column,
    Levels,
    Table,
    coded,
    factorize,
    missing,
    recode,
)
from interlace.design.labels import labels_of, shown
from interlace.errors import InterlaceError, warn


@dataclass(frozen=True, eq=False)
class Grouping:
    """A grouping factor: its columns, their levels, and the combinations that occur.

    Parameters
    ----------
    columns
        Names of the ``c`` columns, several for an interaction.
    levels
        Per column, the distinct values.
    cells
        ``(l, c)`` combinations that occur, as positions in ``levels``; rows sorted.
    """

    columns: tuple[str, ...]
    levels: tuple[Levels, ...]
    cells: Codes

    @property
    def labels(self) -> Levels:
        """``(l,)`` labels of the levels: the values, or ``"a1:b2"`` for an interaction.

        Where values that hold a colon would make two labels the same, such values are quoted.
        """
        if len(self.levels) == 1:
            return self.levels[0]
        parts = [keys.texts(levels) for levels in self.levels]
        labels = self._joined(parts)
        colons = any(":" in text for texts in parts for text in texts)
        if colons and len(set(labels)) < len(labels):
            labels = self._joined([list(map(_quoted, texts)) for texts in parts])
        return np.array(labels, object)

    def _joined(self, texts: Sequence[Sequence[str]]) -> list[str]:
        columns = [np.array(own, object)[at] for own, at in zip(texts, self.cells.T, strict=True)]
        return [":".join(cell) for cell in zip(*columns, strict=True)]

    @cached_property
    def known(self) -> tuple[keys.Known, ...]:
        """Per column, its levels with indexes of them."""
        return tuple(map(keys.Known, self.levels))

    @cached_property
    def steps(self) -> tuple[Codes, ...]:
        """Per column after the first: sorted numbers of what occurs in the columns up to it.

        The number of ``(a, b, c)`` is that of ``(a, b)`` among those that occur, times the levels
        of the third column, plus the position of ``c``: small, however many columns there are.
        """
        steps: list[Codes] = []
        numbers = self.cells[:, 0]
        for part, levels in zip(self.cells.T[1:], self.levels[1:], strict=True):
            pairs = paired(numbers, part, len(levels))
            first = np.diff(pairs, prepend=-1) > 0
            steps.append(pairs[first])
            numbers = np.cumsum(first) - 1
        return tuple(steps)

    def at(self, parts: Sequence[Codes]) -> Codes:
        """``(m,)`` positions of combinations of positions in ``levels``, -1 for those of none."""
        numbers = parts[0]
        for step, part, levels in zip(self.steps, parts[1:], self.levels[1:], strict=True):
            pairs = paired(numbers, part, len(levels))
            place = np.searchsorted(step, pairs).clip(max=len(step) - 1)
            numbers = np.where(step[place] == pairs, place, -1)
        return numbers


def _quoted(text: str) -> str:
    return repr(text) if any(char in text for char in ":'\"") else text


def paired(numbers: Codes, part: Codes, size: int) -> Codes:
    """Number of each pair of numbers, the second below ``size``; -1 where one of them is."""
    pairs: Codes = np.where((numbers < 0) | (part < 0), -1, numbers * size + part)
    return pairs


def crossed(
    names: tuple[str, ...], levels: Sequence[Levels], parts: Sequence[Codes]
) -> tuple[Grouping, Codes]:
    """The grouping factor of rows with positions in the levels of each column, and its codes."""
    codes, cells = parts[0], np.arange(len(levels[0]))[:, None]
    for part, own in zip(parts[1:], levels[1:], strict=True):
        codes, pairs = factorize(paired(codes, part, len(own)))
        before, last = np.divmod(pairs.astype(np.intp), len(own))
        cells = np.column_stack((cells[before], last))
    return Grouping(names, tuple(levels), cells), codes


def group_rows(names: tuple[str, ...], columns: Mapping[str, Column]) -> tuple[Grouping, Codes]:
    """Grouping factor of plain columns, and ``(n,)`` positions in its levels."""
    found = [coded(columns[name]) for name in names]
    return crossed(names, [levels for _, levels in found], [codes for codes, _ in found])


def recode_rows(group: Grouping, columns: Mapping[str, Column], *, quiet: bool = False) -> Codes:
    """Levels of other rows: ``(m,)`` positions, -1 where a value is missing or not known.

    Warns of a column of which no value is known: it may be spelled otherwise than in the fit.
    ``quiet`` does not, where such rows are refused anyway.
    """
    parts = [recode(columns[n], known) for n, known in zip(group.columns, group.known, strict=True)]
    for name, levels, part in zip(group.columns, group.levels, parts, strict=True):
        if not quiet and part.max(initial=-1) < 0:
            _warn_of_strangers(name, columns[name], levels)
    return group.at(parts)


def _warn_of_strangers(name: str, column: Column, levels: Levels) -> None:
    present = column if (gaps := missing(column)) is None else column[~gaps]
    if len(present):
        warn(
            f"no value of the grouping column '{name}' in the new data is a level of the fit: "
            f"{shown(present, 0)} there, {shown(levels, 0)} in the fit; such rows are predicted "
            "without a random effect",
            UserWarning,
        )


def refuse_new(group: Grouping, columns: Mapping[str, Column], codes: Codes, table: Table) -> None:
    """Refuse rows whose level is new or missing.

    Raises
    ------
    InterlaceError
        There are such rows; the message names levels and rows.
    """
    if not len(rows := np.flatnonzero(codes < 0)):
        return
    names = labels_of(table.index, codes < 0).tolist()
    found: dict[str, list[object]] = {}
    for row, name in zip(rows[:1000].tolist(), names, strict=False):
        value = [columns[column][row : row + 1] for column in group.columns]
        gap = any(missing(one) is not None for one in value)
        text = "a missing value" if gap else ":".join(shown(one, 0) for one in value)
        found.setdefault(text, []).append(name)
    parts = [f"{text} in row {_listed(at)}" for text, at in list(found.items())[:5]]
    more = "" if len(parts) == len(found) and len(rows) <= 1000 else ", and others"
    raise InterlaceError(
        f"'{':'.join(group.columns)}' has levels in {table.title} that were not there when the "
        f"model was fitted: {'; '.join(parts)}{more} ({len(rows)} rows); new_levels='zero' "
        "predicts them without a random effect"
    )


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
