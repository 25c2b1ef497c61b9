"""Subjects that share a covariance: rows on the grid -> groups, and one structure for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from interlace.covariance.grouped import Grouped
from interlace.covariance.stacks import Joined
from interlace.covariance.structures import STRUCTURES, Structure
from interlace.design.repeated import ResidualTerm
from interlace.design.variances import Scales
from interlace.design.visits import Grid, TooManyRowsError
from interlace.sums.crossprod import CrossProducts
from interlace.sums.patterns import Visits
from interlace.sums.rows import Rows
from interlace.sums.terms import Floats

# Stands where a visit was missed; no column holds it.
_MISSED = np.inf
# Numbers that sums by group may hold: groups, pairs of visits, pairs of columns.
_MOST = 60_000_000


def joined(
    rows: Rows,
    grid: Grid,
    term: ResidualTerm,
    scales: Scales,
    A: CrossProducts,
    members: Sequence[int],
) -> tuple[Grid, Joined]:
    """The grid with groups of subjects that share a covariance, and the covariances.

    ``members`` are the random terms whose levels are the subjects.

    Subjects share one if scales and columns of random effects are the same at every visit; at
    visits that one of them missed they may be anything.

    Raises
    ------
    InterlaceError
        There are too many different ones.
    """
    blocks = [rows.weighted(rows.Z[j] @ A.basis.random[j]) for j in members]
    times = np.zeros((len(rows.y), 0)) if grid.times is None else grid.times
    kinds = grid.at.groups[:, None].astype(np.float64)
    parts = [times, kinds, scales.rows, *blocks]
    groups, tables = shared(grid.at, np.concatenate(parts, axis=1))
    V, p = grid.at.n_visits, A.p
    if len(tables) * V * V * p * p > _MOST:
        raise TooManyRowsError(
            f"{term} has {len(tables):,} different covariances of {V} rows here: that many are "
            "not built yet; round what varies within subjects"
        )
    ends = np.cumsum([part.shape[1] for part in parts])
    T, kind, *rest = np.split(tables, ends[:-1], axis=2)
    B, *Z = (np.nan_to_num(part) for part in rest)
    structure = term.of(grid.labels) if grid.times is None else _timed(term, T)
    if term.by is not None:
        which = np.nanmax(kind[:, :, 0], axis=1).astype(np.intp)
        structure = Grouped(structure, which, grid.at.n_groups)
    at = replace(grid.at, groups=groups[grid.at.subjects], n_groups=len(tables))
    stack = Joined(
        structure=structure,
        scales=B,
        ratios=scales.ratios,
        units=scales.units,
        templates=tuple(rows.terms[j].template for j in members),
        Z=tuple(Z),
    )
    return replace(grid, at=at, kinds=grid.at.groups), stack


def _timed(term: ResidualTerm, points: Floats) -> Structure:
    """A structure for the points of every group; rows that no subject has follow at any points."""
    later = np.nanmax(points) + 1.0 + np.arange(points.shape[1])
    return STRUCTURES[term.structure](np.where(np.isnan(points), later[:, None], points))


def shared(at: Visits, columns: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Group of every subject, and the columns of every group by visit, ``(G, V, m)``.

    NaN at visits that nobody of a group had.
    """
    whole = np.full((at.n_subjects, at.n_visits, columns.shape[1]), _MISSED)
    whole[at.subjects, at.visits] = columns
    kinds, of_subject = np.unique(whole.reshape(at.n_subjects, -1), axis=0, return_inverse=True)
    merged, place = _merged(kinds)
    tables = np.where(merged == _MISSED, np.nan, merged).reshape(
        len(merged), at.n_visits, columns.shape[1]
    )
    return place[of_subject.ravel()], tables


def _merged(kinds: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Rows with gaps, those that agree wherever both are known as one; and where each went."""
    order = np.argsort((kinds == _MISSED).sum(axis=1), kind="stable")
    found = np.empty((0, kinds.shape[1]))
    place = np.empty(len(kinds), dtype=np.intp)
    for i in order:
        row = kinds[i]
        same = ((found == row) | (found == _MISSED) | (row == _MISSED)).all(axis=1)
        if same.any():
            at = int(np.argmax(same))
            found[at] = np.where(found[at] == _MISSED, row, found[at])
        else:
            at, found = len(found), np.vstack([found, row])
        place[i] = at
    return found, place
