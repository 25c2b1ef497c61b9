"""Random terms of a formula with fewer effects: what a term is called, and without what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from interlace.design.design import Encoding
from interlace.design.encode import Side, SideTerm
from interlace.design.formula import RandomTerm


def random_term(encoding: Encoding, j: int) -> RandomTerm:
    """The term of the formula that gave term ``j`` of a design."""
    text, group = encoding.slopes[j].text, encoding.groups[j].columns
    return next(t for t in encoding.formula.random if (t.expr, t.group) == (text, group))


def of_effects(term: RandomTerm, effects: Sequence[SideTerm]) -> RandomTerm:
    """The term with these effects; without ``||`` if they are one column."""
    slopes = [e.label for e in effects if e.factors]
    intercept = "1" if any(not e.factors for e in effects) else "0"
    single = sum(len(e.columns) for e in effects) == 1
    expr = " + ".join([intercept, *slopes])
    return replace(term, expr=expr, correlated=term.correlated or single)


def uncorrelated(term: RandomTerm) -> RandomTerm:
    """The term with independent effects; one standard deviation stays one."""
    if term.structure.endswith("-hom"):
        return replace(term, structure="diag-hom")
    return replace(term, correlated=False, structure="")


def is_levels(side: Side, term: SideTerm) -> bool:
    """Whether a summand is one factor of categories, whose dummies can stand for the intercept."""
    return len(term.factors) == 1 and term.factors[0] in side.categories
