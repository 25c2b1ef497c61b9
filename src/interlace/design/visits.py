"""Visits, subjects and groups of a residual structure, found in the rows of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interlace.covariance.structures import (
    OF_TIMES,
)
from interlace.design import frame, keys
from interlace.design.complete import CompleteRows
from interlace.design.encode import Floats
from interlace.design.frame import Codes, Levels
from interlace.design.groups import Grouping, group_rows
from interlace.design.repeated import ResidualTerm, quoted
from interlace.errors import InterlaceError
from interlace.sums.patterns import Visits

# Structures for which the order of the visits does not matter.
_ANY_ORDER = ("us", "cs", "csh", "diag", "id")
# Visits, or different times, at most.
_MOST = 200
# Different times up to which all pairs of them are held; more are taken by subject.
_SHARED = 60


class TooManyRowsError(InterlaceError):
    """Subjects have more rows, or more covariances, than sums by pattern are made for."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Rows on the grid of visits: their places, and the labels of these.

    Where subjects do not share times, visits are rows within subjects and ``times`` (n, d) says
    when, or where.
    ``subjects`` and ``strata`` (of a variance function) tell those of other rows.  Where subjects
    of one group have several covariances, ``at`` has a group for each, and ``kinds`` (n,) says of
    which of ``groups`` rows are.
    """

    at: Visits
    labels: Levels
    groups: Levels | None
    times: Floats | None = None
    subjects: Grouping | None = None
    strata: Grouping | None = None
    kinds: Codes | None = None


# ------------------------------------------------------------------ rows


def grid_of(term: ResidualTerm, rows: CompleteRows) -> Grid:
    """Places of the rows used.

    Raises
    ------
    InterlaceError
        Visits that have no order, times that are not numbers, two rows of a subject at one visit, a
        subject in two groups; the message names the rows.
    """
    if term.visit is None:
        return _grid_of_rows(term, rows)
    if term.structure in OF_TIMES and (found := _unshared(term, term.visit, rows)) is not None:
        return found
    codes, labels = _visits(term, term.visit, rows)
    subjects, of_row = group_rows(term.subject, rows.columns)
    _refuse_repeated(term, rows, of_row, codes, labels, subjects.labels)
    groups: Codes = np.zeros(rows.n, dtype=np.intp)
    names: Levels | None = None
    if term.by is not None:
        groups, names = frame.factorize(rows.columns[term.by])
        _refuse_split(term, rows, of_row, groups, names, subjects.labels)
    count = 1 if names is None else len(names)
    at = Visits(of_row, codes, groups, len(subjects.cells), len(labels), count)
    _refuse_empty(term, at, labels)
    return Grid(at, labels, names, subjects=subjects)


def _grid_of_rows(term: ResidualTerm, rows: CompleteRows) -> Grid:
    """Rows numbered within their subjects; without subjects, each is one."""
    subjects: Grouping | None = None
    of_row: Codes = np.arange(rows.n)
    if term.subject:
        subjects, of_row = group_rows(term.subject, rows.columns)
    order = np.argsort(of_row, kind="stable")
    size = np.bincount(of_row)
    codes = np.empty(rows.n, dtype=np.intp)
    codes[order] = np.arange(rows.n) - np.repeat(np.cumsum(size) - size, size)
    if size.max() > _MOST:
        raise TooManyRowsError(
            f"a level of '{':'.join(term.subject)}' has {size.max():,} rows: {term} beside random "
            f"effects is built for levels of at most {_MOST} rows so far"
        )
    labels = np.arange(int(size.max()))
    at = Visits(of_row, codes, np.zeros(rows.n, dtype=np.intp), len(size), len(labels), 1)
    return Grid(at, labels, None, subjects=subjects)


def _unshared(term: ResidualTerm, visit: str, rows: CompleteRows) -> Grid | None:
    """The grid of times that subjects do not share; ``None`` where they do."""
    points = points_of((visit, *term.beside), term.structure, rows)
    times = points[:, 0]
    subjects, of_row = group_rows(term.subject, rows.columns)
    size, different = int(np.bincount(of_row).max()), len(np.unique(points, axis=0))
    if different <= max(_SHARED, size) and not term.beside:
        return None
    if term.by is not None:
        raise InterlaceError(
            f"residual='{term}': a covariance for every group is not built yet for times that "
            f"subjects do not share ({different:,} different ones): leave by= out"
        )
    if size == 1:
        _refuse_alone(term)
    labels, codes = np.unique(points, axis=0, return_inverse=True)
    shown = labels[:, 0] if not term.beside else np.array([str(p) for p in labels.tolist()], object)
    _refuse_repeated(term, rows, of_row, codes.ravel(), shown, subjects.labels)
    order = np.lexsort((times, of_row))
    place = replace(term, structure="id", visit=None)
    sorted_rows = {name: column[order] for name, column in rows.columns.items()}
    found = _grid_of_rows(place, replace(rows, columns=sorted_rows))
    visits = np.empty(rows.n, dtype=np.intp)
    visits[order] = found.at.visits
    at = replace(found.at, subjects=of_row, visits=visits)
    return replace(found, at=at, times=points, subjects=subjects)


def points_of(names: Sequence[str], structure: str, rows: CompleteRows) -> Floats:
    """Times, or coordinates of points, ``(n, d)``.

    Raises
    ------
    InterlaceError
        They are not numbers.
    """
    columns = []
    for name in names:
        column = rows.columns[name]
        if not frame.is_numeric(column) or column.dtype.kind == "b":
            way_out = "convert them, or take 'ar1' over visits in order"
            if column.dtype.kind == "M":
                way_out = f"count days, (data['{name}'] - data['{name}'].min()).dt.days"
            if column.dtype.kind == "m":
                way_out = f"count days, data['{name}'].dt.days"
            raise InterlaceError(
                f"the times '{name}' of {structure} must be numbers, but hold "
                f"{frame.kind(column)} ({rows.name(0, 'the data')} has {column[0]}): {way_out}"
            )
        columns.append(frame.numeric(column, f"the times '{name}'"))
    return np.column_stack(columns)


def _visits(term: ResidualTerm, visit: str, rows: CompleteRows) -> tuple[Codes, Levels]:
    """Positions of the visits of the rows, and their labels in order."""
    column = rows.columns[visit]
    if term.structure not in OF_TIMES and not isinstance(column, pd.Categorical):
        _refuse_unordered(visit, rows)
    codes, labels = frame.factorize(column)
    if len(labels) < 2:
        raise InterlaceError(
            f"'{term.visit}' has one value ({labels.tolist()[0]!r}): residuals of a subject are "
            "correlated over two visits at least"
        )
    if len(labels) > _MOST:
        raise InterlaceError(
            f"'{term.visit}' has {len(labels):,} different values: structures are built for at "
            f"most {_MOST} visits or times that subjects share; round the times"
        )
    if isinstance(column, pd.Categorical) and not column.ordered:
        _refuse_order_of_text(term, labels)
    return codes, labels


def _refuse_unordered(visit: str, rows: CompleteRows) -> None:
    """Refuse visits that are neither categories nor whole numbers."""
    column = rows.columns[visit]
    way_out = (
        "make it a categorical in the order of the visits, or take 'car1', 'sp_exp' or 'sp_gau' "
        "for times"
    )
    if not frame.is_numeric(column):
        raise InterlaceError(
            f"the visits '{visit}' hold {frame.kind(column)} ({rows.name(0, 'the data')}): "
            f"{way_out}"
        )
    values = np.asarray(column, dtype=np.float64)
    uneven = values % 1.0 != 0.0
    if uneven.any():
        row = int(np.argmax(uneven))
        raise InterlaceError(
            f"the visits '{visit}' must be a factor or whole numbers, but "
            f"{rows.name(row, 'the data')} has {values[row]:g}: {way_out}"
        )


def _refuse_order_of_text(term: ResidualTerm, labels: Levels) -> None:
    """Refuse text whose order as text is not that of the numbers in it."""
    if term.structure in _ANY_ORDER or not keys.has_text(labels):
        return
    texts = [str(label) for label in labels.tolist()]
    meant = sorted(texts, key=_by_numbers)
    if texts == sorted(texts) and meant != texts:
        raise InterlaceError(
            f"the visits '{term.visit}' are text, in the order {', '.join(texts[:4])}, and "
            f"{term.structure} needs theirs: make the column an ordered categorical"
        )


def _by_numbers(text: str) -> list[tuple[int, object]]:
    parts = re.split(r"(\d+)", text)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def _refuse_repeated(
    term: ResidualTerm,
    rows: CompleteRows,
    subjects: Codes,
    visits: Codes,
    labels: Levels,
    names: Levels,
) -> None:
    """Refuse two rows of one subject at one visit."""
    place = subjects * len(labels) + visits
    order = np.argsort(place, kind="stable")
    twice = np.flatnonzero(np.diff(place[order]) == 0)
    if len(twice):
        one, other = int(order[twice[0]]), int(order[twice[0] + 1])
        raise InterlaceError(
            f"the subject {names.tolist()[subjects[one]]!r} has two rows at "
            f"{term.visit} = {labels.tolist()[visits[one]]!r}: {rows.name(one, 'the data')} and "
            f"{rows.name(other, 'the data')}"
            f"{'' if len(twice) == 1 else f', and there are {len(twice) - 1:,} more such pairs'}; "
            f"{_apart(term, rows, place)}"
        )


def _apart(term: ResidualTerm, rows: CompleteRows, place: Codes) -> str:
    """How to tell subjects apart that share a name: by another column, where one does."""
    subject = ":".join(map(quoted, term.subject))
    for name, column in rows.columns.items():
        if name in (*term.subject, term.visit, *term.beside) or name.endswith("="):
            continue
        codes, levels = frame.factorize(column)
        if len(levels) > _SHARED:
            continue
        if len(np.unique(place * len(levels) + codes)) == rows.n:
            own = f"{subject}:{quoted(name)}"
            return (
                f"subjects of one name are apart by '{name}': write '{own}' in place of {subject!r}"
            )
    other = "site" if "site" not in term.subject else "name"
    return f"keep one of them, or name the columns that tell subjects apart ({subject}:{other})"


def _refuse_split(
    term: ResidualTerm,
    rows: CompleteRows,
    subjects: Codes,
    groups: Codes,
    labels: Levels,
    names: Levels,
) -> None:
    """Refuse a subject in two groups."""
    first = first_rows(subjects)
    other = np.flatnonzero(groups != groups[first[subjects]])
    if len(other):
        row = int(other[0])
        start = int(first[subjects[row]])
        raise InterlaceError(
            f"the subject {names.tolist()[subjects[row]]!r} is in two groups of "
            f"by={term.by}: {labels.tolist()[groups[start]]!r} in "
            f"{rows.name(start, 'the data')} and {labels.tolist()[groups[row]]!r} in "
            f"{rows.name(row, 'the data')}"
        )


def _refuse_empty(term: ResidualTerm, at: Visits, labels: Levels) -> None:
    """Refuse subjects that all have one row: nothing tells their correlation."""
    if at.n_subjects == len(at.subjects) and term.structure not in ("diag", "id"):
        _refuse_alone(term)


def _refuse_alone(term: ResidualTerm) -> NoReturn:
    raise InterlaceError(
        f"every subject of '{':'.join(term.subject)}' has one row: nothing tells how the "
        "residuals of a subject are correlated"
    )


def first_rows(subjects: Codes) -> NDArray[np.intp]:
    """Row of every subject that comes first, ``(l,)``."""
    first = np.full(int(subjects.max()) + 1, len(subjects), dtype=np.intp)
    np.minimum.at(first, subjects, np.arange(len(subjects)))
    return first
