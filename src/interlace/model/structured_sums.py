"""Rows of a model with a residual structure -> the criterion of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from interlace.covariance.stacks import Beside, Joined, Separate, Stack
from interlace.design.repeated import ResidualTerm
from interlace.design.variances import Scales
from interlace.design.visits import Grid
from interlace.errors import InterlaceError
from interlace.estimation.crossed import CrossedCriterion, crossing_of
from interlace.estimation.structured import StructuredCriterion
from interlace.model.overlap import refuse_overlap
from interlace.model.shared import joined
from interlace.sums.crossprod import CrossProducts, cross_products
from interlace.sums.patterns import Entered, Patterns, Visits, patterns
from interlace.sums.rows import Rows
from interlace.sums.sizes import require_squares
from interlace.sums.terms import ReTerm

# Derivatives of a covariance matrix that are held: its entries times the parameters.
_MOST_SLOPES = 100_000_000
# Random effects that subjects share: their equations are one matrix.
_MOST_SHARED = 5_000


def criterion_of(
    rows: Rows, grid: Grid, term: ResidualTerm, scales: Scales, *, reml: bool
) -> tuple[Grid, StructuredCriterion]:
    """One pass over the rows: cross-products, and sums by pattern in the same basis.

    The grid comes back with the groups of subjects that share a covariance.
    """
    require_squares(rows)
    A, grid = cross_products(rows), replace(grid, strata=scales.strata)
    own, across = parted(term, rows.terms)
    within: Separate | Joined = Separate(term.of(grid.labels), grid.at.n_groups)
    if own or scales.ratios or grid.times is not None:
        grid, within = joined(rows, grid, term, scales, A, own)
    _refuse_many(term, within, grid.at.n_visits, A.n)
    sums, terms = sums_of(rows, grid.at, A, keep=bool(across)), [rows.terms[j] for j in own]
    if not across:
        refuse_overlap(term, within, sums, terms, None)
        return grid, StructuredCriterion(A, sums, within, reml)
    stack = Beside(within, tuple(rows.terms[j].template for j in across))
    criterion = crossed_criterion(rows, grid.at, A, sums, stack, across, reml=reml)
    refuse_overlap(term, within, sums, terms, criterion.crossing)
    return grid, criterion


def parted(term: ResidualTerm, terms: Sequence[ReTerm]) -> tuple[list[int], list[int]]:
    """Positions of the random terms whose levels are the subjects, and of all others."""
    subject = ":".join(sorted(term.subject))
    of_subject = [":".join(sorted(t.group.split(":"))) == subject for t in terms]
    own = [j for j, same in enumerate(of_subject) if same]
    return own, [j for j, same in enumerate(of_subject) if not same]


def crossed_criterion(
    rows: Rows,
    at: Visits,
    A: CrossProducts,
    sums: Patterns,
    stack: Beside,
    members: Sequence[int],
    *,
    reml: bool,
) -> CrossedCriterion:
    """The criterion with random terms ``members`` that subjects share; ``sums`` keep all rows."""
    terms = [rows.terms[j] for j in members]
    if (q := sum(t.q for t in terms)) > _MOST_SHARED:
        sizes = ", ".join(f"{t.group}: {t.l:,} levels x {t.k}" for t in terms)
        raise InterlaceError(
            f"random effects that subjects share ({sizes}) are {q:,}, and beside a structure over "
            f"visits at most {_MOST_SHARED:,} are held: leave out or coarsen a factor, or leave "
            "residual= out"
        )
    Z = [rows.weighted(rows.Z[j] @ A.basis.random[j]) for j in members]
    codes = [rows.codes[j] for j in members]
    crossing = crossing_of(terms, members, codes, Z, at, sums.kept)
    return CrossedCriterion(A, sums, stack, reml, crossing)


def _refuse_many(term: ResidualTerm, stack: Stack, visits: int, n: int) -> None:
    """Refuse more parameters than rows can tell, or memory hold."""
    if stack.size > n:
        raise InterlaceError(
            f"{term} has {stack.size:,} parameters over {visits} visits, for {n:,} rows: take a "
            "structure with fewer parameters, or check what the visits are"
        )
    if stack.size * visits**2 > _MOST_SLOPES:
        raise InterlaceError(
            f"{term} has {stack.size:,} parameters over {visits} visits, too many for a search: "
            "take a structure with fewer parameters, or merge visits"
        )


def scales_at(stack: Stack, at: Visits) -> Scales:
    """The scales of rows that a criterion was made with, from the covariances."""
    within = stack.within
    if not isinstance(within, Joined):
        return Scales(np.zeros((len(at.subjects), 0)), (), np.zeros(0))
    return Scales(within.scales[at.groups, at.visits], within.ratios, within.units)


def sums_of(rows: Rows, at: Visits, A: CrossProducts, *, keep: bool = False) -> Patterns:
    """Sums by pattern in the basis of cross-products; see :func:`interlace.sums.patterns`."""
    root = None if rows.weights is None else rows.root_weights
    X = rows.X if A.names == rows.names else rows.fixed(A.names)
    return patterns(at, Entered(X, rows.response, A.basis.fixed, root), keep=keep)
