"""Rows on a grid of visits -> sums by pattern of observed visits and pair of visits.

Subjects that were seen at the same visits, the *pattern*, share the inverse of their covariance.
Of a pattern with many subjects the cross-products ``[X y]_s' [X y]_t`` of every two visits are
kept, so that their number does not matter afterwards; of one with few, the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from interlace.sums.cells import Codes
from interlace.sums.terms import Floats

Mask = NDArray[np.bool_]
# Visits whose observed ones fit in the bits of one number.
_BITS = 56
# Numbers of the rows of subjects of one pattern that are gathered at a time.
_CHUNK = 400_000


@dataclass(frozen=True, eq=False)
class Visits:
    """Where rows stand on the grid: positions of subject, visit and group, ``(n,)`` each."""

    subjects: Codes
    visits: Codes
    groups: Codes
    n_subjects: int
    n_visits: int
    n_groups: int


@dataclass(frozen=True, eq=False)
class Summed:
    """A pattern by its cross-products, ``(k, k, m, m)`` for ``k`` visits and ``m`` columns."""

    pattern: int
    visits: Codes
    products: Floats


@dataclass(frozen=True, eq=False)
class Kept:
    """Subjects by their rows, ``(s, V, m)`` with zeros where a visit was missed.

    ``pattern`` (s,) is in ascending order; ``subjects`` (s,) says whose the rows are.
    """

    pattern: Codes
    rows: Floats
    subjects: Codes

    @cached_property
    def first(self) -> Codes:
        """Of every pattern that occurs, its first subject."""
        return np.flatnonzero(np.diff(self.pattern, prepend=-1))

    def by_pattern(self, values: Floats, total: Floats) -> None:
        """Add values ``(s, ...)`` to the totals ``(N, ...)`` of their patterns."""
        if len(values):
            total[self.pattern[self.first]] += np.add.reduceat(values, self.first, axis=0)


@dataclass(frozen=True, eq=False)
class Patterns:
    """Sums over rows on a grid of ``V`` visits, by pattern.

    Parameters
    ----------
    observed
        ``(N, V)``: visits of every pattern.
    counts, groups
        ``(N,)`` subjects, and the group that they are of.
    of_subject
        ``(n_subjects,)`` pattern of every subject.
    summed, kept
        Patterns with many subjects, and all others.
    n_groups
        How many there are.
    """

    observed: Mask
    counts: Floats
    groups: Codes
    of_subject: Codes
    summed: tuple[Summed, ...]
    kept: Kept
    n_groups: int

    @property
    def V(self) -> int:
        """Visits."""
        return int(self.observed.shape[1])

    @property
    def n_subjects(self) -> int:
        """Subjects."""
        return len(self.of_subject)

    @cached_property
    def pairs(self) -> Mask:
        """``(N, V, V)``: whether both visits were seen."""
        return self.observed[:, :, None] & self.observed[:, None, :]

    def moments(self, e: Floats) -> tuple[Floats, Floats]:
        """Sums of ``r r'`` of the combination ``e`` of the columns, and numbers, ``(G, V, V)``."""
        R = np.zeros(self.pairs.shape)
        r = self.kept.rows @ e
        self.kept.by_pattern(r[:, :, None] * r[:, None, :], R)
        for one in self.summed:
            R[one.pattern][np.ix_(one.visits, one.visits)] = (one.products @ e) @ e
        shape = (self.n_groups, self.V, self.V)
        total, number = np.zeros(shape), np.zeros(shape)
        np.add.at(total, self.groups, R)
        np.add.at(number, self.groups, self.counts[:, None, None] * self.pairs)
        return total, number


class Columns(Protocol):
    """Columns ``(n, m)`` of which some rows at a time are asked for, as of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: Codes | slice, /) -> Floats: ...


@dataclass(frozen=True, eq=False)
class Entered:
    """``[X y] F``, rows times ``root``, made when they are asked for."""

    X: Floats
    y: Floats
    F: Floats
    root: Floats | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.y), len(self.F)

    def __getitem__(self, rows: Codes | slice, /) -> Floats:
        found = self.X[rows] @ self.F[:-1]
        found += np.multiply.outer(self.y[rows], self.F[-1])
        if self.root is not None:
            found *= self.root[rows][:, None]
        return np.asarray(found)


def patterns(at: Visits, columns: Columns, *, keep: bool = False) -> Patterns:
    """Sums by pattern of rows ``columns`` (n, m), weighted, of which no two are at one place.

    With ``keep`` the rows of all subjects are kept, whatever their number.
    """
    order = _order(at)
    subjects, visits, groups = at.subjects, at.visits, at.groups
    if order is not None:
        subjects, visits, groups = subjects[order], visits[order], groups[order]
    first = np.flatnonzero(np.diff(subjects, prepend=-1))
    k = np.diff(np.append(first, len(subjects)))
    groups = groups[first]
    keys = _keys(visits, first, groups, at.n_visits)
    _, example, of_subject = np.unique(keys, return_index=True, return_inverse=True)
    number = np.bincount(of_subject)
    observed = np.zeros((len(number), at.n_visits), dtype=bool)
    for i, one in enumerate(example):
        observed[i, visits[first[one] : first[one] + k[one]]] = True
    many = (number > observed.sum(axis=1) * columns.shape[1]) & (not keep)
    by_pattern = np.argsort(of_subject, kind="stable")
    members = np.split(by_pattern, np.cumsum(number)[:-1])
    summed = tuple(
        _summed(int(i), observed[i], first[members[i]], order, columns)
        for i in np.flatnonzero(many)
    )
    few = by_pattern[~many[of_subject[by_pattern]]]
    kept = _kept(few, of_subject, first, k, order, visits, columns, at.n_visits)
    counts = number.astype(np.float64)
    return Patterns(observed, counts, groups[example], of_subject, summed, kept, at.n_groups)


def _order(at: Visits) -> Codes | None:
    """Rows by subject and visit; ``None`` where they are in that order."""
    step, within = np.diff(at.subjects), np.diff(at.visits)
    if ((step > 0) | ((step == 0) & (within > 0))).all():
        return None
    return np.lexsort((at.visits, at.subjects))


def _keys(visits: Codes, first: Codes, groups: Codes, V: int) -> NDArray[np.generic]:
    """One value for every subject, the same where group and visits are."""
    if V + int(groups.max(initial=0)).bit_length() <= _BITS:
        bits = np.bitwise_or.reduceat(np.int64(1) << visits.astype(np.int64), first)
        return np.asarray(bits | (groups.astype(np.int64) << V))
    seen = np.zeros((len(first), V + 1), dtype=np.int64)
    owner = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(visits))))
    seen[owner, visits], seen[:, V] = 1, groups
    return np.ascontiguousarray(seen).view(np.dtype((np.void, seen.strides[0]))).ravel()


def _summed(
    pattern: int, observed: Mask, first: Codes, order: Codes | None, columns: Columns
) -> Summed:
    """Cross-products of the subjects that begin at ``first``, a part of them at a time."""
    visits = np.flatnonzero(observed)
    k, m = len(visits), columns.shape[1]
    total = np.zeros((k * m, k * m))
    for part in _parts(first, max(_CHUNK // (k * m), 1)):
        rows = columns[_rows_of(part, k, order)].reshape(len(part), k * m)
        total += rows.T @ rows
    products = np.ascontiguousarray(total.reshape(k, m, k, m).transpose(0, 2, 1, 3))
    return Summed(pattern, visits, products)


def _rows_of(first: Codes, k: int, order: Codes | None) -> Codes | slice:
    """Rows of subjects with ``k`` rows each, that begin at ``first``."""
    if order is None and first[-1] - first[0] == k * (len(first) - 1):
        return slice(int(first[0]), int(first[-1]) + k)
    places = (first[:, None] + np.arange(k)).ravel()
    return places if order is None else order[places]


def _parts(first: Codes, step: int) -> Iterator[Codes]:
    for begin in range(0, len(first), step):
        yield first[begin : begin + step]


def _kept(
    few: Codes,
    of_subject: Codes,
    first: Codes,
    k: Codes,
    order: Codes | None,
    visits: Codes,
    columns: Columns,
    V: int,
) -> Kept:
    """Rows of the subjects ``few``, each at its visit."""
    sizes = k[few]
    owner = np.repeat(np.arange(len(few)), sizes)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = first[few][owner] + within
    rows = np.zeros((len(few), V, columns.shape[1]))
    rows[owner, visits[place]] = columns[place if order is None else order[place]]
    return Kept(of_subject[few], rows, few)
