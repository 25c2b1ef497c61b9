"""Resampling of cases: rows of a bootstrap sample, and the design that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from interlace.design.design import Design
from interlace.design.formula import MixedFormula
from interlace.errors import InterlaceError, unknown
from interlace.inference.bootstrap.samplers import is_nested, pick
from interlace.sums.crossprod import Codes, CrossProducts, cross_products
from interlace.sums.rows import is_ones
from interlace.sums.terms import Floats

OBSERVATION, ALL = "observation", "all"


@dataclass(frozen=True, eq=False)
class Factor:
    """A grouping factor: codes of the rows, levels, and rows listed by level."""

    codes: Codes
    l: int
    order: Codes
    starts: Codes
    sizes: Codes


def factor(codes: Codes) -> Factor:
    """A factor from the codes of its rows."""
    sizes = np.bincount(codes)
    order = np.argsort(codes, kind="stable")
    return Factor(codes, len(sizes), order, np.cumsum(sizes) - sizes, sizes)


@dataclass(frozen=True, eq=False)
class Cases:
    """Draws levels of some factors (rows, if there are none) and rebuilds the design.

    ``drawn`` are names of factors, ``inside`` says for every factor in which drawn ones its levels
    are nested (itself included).
    """

    design: Design
    names: tuple[str, ...]
    factors: Mapping[str, Factor]
    drawn: tuple[str, ...]
    inside: Mapping[str, tuple[str, ...]]

    @property
    def n_draws(self) -> int:
        """Uniform numbers for a replicate."""
        if not self.drawn:
            return len(self.design.y)
        return sum(self.factors[name].l for name in self.drawn)

    def sample(self, uniform: Floats) -> tuple[Design, CrossProducts]:
        """Design and cross-products of one sample from ``uniform`` (n_draws,).

        Raises
        ------
        InterlaceError
            The sample is empty, a factor has fewer than 2 levels in it, or columns of the fixed
            effects became redundant.
        """
        design, _ = self.redrawn(uniform)
        A = cross_products(design)
        self.refuse_others(A.names)
        return design, A

    def redrawn(self, uniform: Floats) -> tuple[Design, Codes]:
        """Design of one sample, and which rows it holds.

        Raises
        ------
        InterlaceError
            The sample is empty, or a factor has fewer than 2 levels in it.
        """
        rows, copies = self._rows(uniform)
        if len(rows) < 2:
            raise InterlaceError(f"the sample has {len(rows)} rows")
        return self._design(rows, copies), rows

    def refuse_others(self, names: tuple[str, ...]) -> None:
        """Refuse a sample of which some columns of the fixed effects became redundant."""
        if names != self.names:
            lost = ", ".join(name for name in self.names if name not in names)
            raise InterlaceError(f"the fixed effects of the sample are rank deficient: {lost}")

    def _rows(self, uniform: Floats) -> tuple[Codes, dict[str, Codes]]:
        """Rows of a sample, and for every drawn factor the copy that a row belongs to."""
        rows: Codes = np.arange(len(self.design.y))
        if not self.drawn:
            return pick(uniform), {}
        copies: dict[str, Codes] = {}
        start = 0
        for name in self.drawn:
            one = self.factors[name]
            levels = pick(uniform[start : start + one.l])
            start += one.l
            repeats, copy = _repeat(one, levels, rows, first=not copies)
            copies = {other: values[repeats] for other, values in copies.items()}
            copies[name] = copy
            rows = rows[repeats]
        return rows, copies

    def _design(self, rows: Codes, copies: Mapping[str, Codes]) -> Design:
        """The design of some rows, levels renumbered."""
        old = self.design
        codes: dict[str, Codes] = {}
        for name, one in self.factors.items():
            keys = [one.codes[rows], *(copies[outer] for outer in self.inside[name])]
            codes[name] = _numbered(keys)
            if (found := int(codes[name].max()) + 1) < 2:
                raise InterlaceError(f"the sample has {found} level of {name!r}")
        terms = tuple(replace(t, levels=np.arange(codes[t.group].max() + 1)) for t in old.terms)
        return replace(
            old,
            y=old.y[rows],
            X=old.X[rows],
            terms=terms,
            codes=tuple(codes[t.group] for t in old.terms),
            Z=tuple(np.broadcast_to(1.0, (len(rows), 1)) if is_ones(Z) else Z[rows] for Z in old.Z),
            weights=None if old.weights is None else old.weights[rows],
            offset=None if old.offset is None else old.offset[rows],
            kept=np.ones(len(rows), dtype=bool),
            index=None,
            components={
                name: replace(one, matrix=one.matrix[rows]) for name, one in old.components.items()
            },
        )


def groups_of(formula: MixedFormula, design: Design) -> dict[str, Codes]:
    """Codes of the rows by grouping factor, in the order of the formula."""
    codes = {t.group: c for t, c in zip(design.terms, design.codes, strict=True)}
    return {term.key: codes[term.key] for term in formula.random}


def members(one: Factor, levels: Codes) -> Codes:
    """All rows of every level drawn, one draw after the other."""
    sizes = one.sizes[levels]
    ends = np.cumsum(sizes)
    offset = np.repeat(one.starts[levels] - (ends - sizes), sizes)
    rows: Codes = one.order[offset + np.arange(ends[-1])]
    return rows


def _repeat(one: Factor, levels: Codes, rows: Codes, *, first: bool) -> tuple[Codes, Codes]:
    """Positions in ``rows`` that the drawn levels select, and the number of the draw of each."""
    if first:
        return members(one, levels), np.repeat(np.arange(len(levels)), one.sizes[levels])
    draws = np.argsort(levels, kind="stable")
    times = np.bincount(levels, minlength=one.l)
    starts = np.cumsum(times) - times
    here = one.codes[rows]
    repeats = np.repeat(np.arange(len(rows)), times[here])
    ends = np.cumsum(times[here])
    within = np.arange(len(repeats)) - np.repeat(ends - times[here], times[here])
    return repeats, draws[starts[here[repeats]] + within]


def _numbered(keys: Sequence[Codes]) -> Codes:
    """Consecutive codes of the distinct combinations of several codes."""
    combined = keys[0].astype(np.int64)
    for key in keys[1:]:
        combined = combined * (int(key.max(initial=0)) + 1) + key
        combined = np.unique(combined, return_inverse=True)[1]
    return np.asarray(np.unique(combined, return_inverse=True)[1], dtype=np.intp)


def cases(
    design: Design, names: tuple[str, ...], groups: Mapping[str, Codes], group: str | None
) -> Cases:
    """What to draw: the levels of a factor (the first by default), of ``"all"``, or rows.

    Raises
    ------
    InterlaceError
        ``group`` is no grouping factor.
    """
    chosen = next(iter(groups)) if group is None else group
    if chosen in groups:
        drawn: tuple[str, ...] = (chosen,)
    elif chosen == OBSERVATION:
        drawn = ()
    elif chosen == ALL:
        drawn = tuple(groups)
    else:
        more = f", '{OBSERVATION}' for rows, or '{ALL}' for every factor independently"
        raise unknown("grouping factor", chosen, groups, more)
    inside = {
        name: tuple(outer for outer in drawn if is_nested(codes, groups[outer]))
        for name, codes in groups.items()
    }
    factors = {name: factor(codes) for name, codes in groups.items()}
    return Cases(design, names, factors, drawn, inside)
