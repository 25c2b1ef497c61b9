"""Effects of a random term: which columns belong to which summand left of the bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from formulaic.parser.types import Factor

from interlace._encode import Side
from interlace.design import Design
from interlace.formula import RandomTerm, model_terms
from interlace.terms import Floats


@dataclass(frozen=True)
class Effect:
    """One summand left of a bar, and the positions of its columns.

    ``factors`` is empty for the intercept; ``levels`` says that it is a single factor of categories
    whose dummies would sum to one in a term without an intercept.
    """

    label: str
    factors: frozenset[str]
    columns: tuple[int, ...]
    levels: bool

    @property
    def is_intercept(self) -> bool:
        """Whether this is the ``1``."""
        return not self.factors


def effects_of(side: Side) -> list[Effect]:
    """Effects of one side of a formula, in the order of its columns."""
    if side.spec is None:
        return [_effect(term, (i,), side) for i, term in enumerate(model_terms(side.text))]
    return [
        _effect(term, tuple(range(part.start, part.stop)), side)
        for term, part in side.spec.term_slices.items()
    ]


def _effect(term: object, columns: tuple[int, ...], side: Side) -> Effect:
    names = frozenset(f.expr for f in term.factors) - {"1"}  # type: ignore[attr-defined]
    states = {} if side.spec is None else side.spec.encoder_state
    kinds = [states.get(name, (None,))[0] for name in names]
    return Effect(str(term), names, columns, kinds == [Factor.Kind.CATEGORICAL])


def droppable(effects: Sequence[Effect]) -> list[Effect]:
    """Effects other than the intercept that are not part of an interaction with more factors."""
    return [
        one
        for one in effects
        if not one.is_intercept and not any(one.factors < other.factors for other in effects)
    ]


def random_term(design: Design, j: int) -> RandomTerm:
    """The term of the formula that gave term ``j`` of a design."""
    text, group = design.encoding.slopes[j].text, design.encoding.groups[j].columns
    return next(t for t in design.encoding.formula.random if (t.expr, t.group) == (text, group))


def constant_combination(Z: Floats) -> Floats | None:
    """Weights ``(k,)`` that make the columns of ``Z`` sum to 1 in every row, if there are any."""
    ones = np.ones(len(Z))
    weights = np.asarray(np.linalg.lstsq(Z, ones, rcond=None)[0], dtype=np.float64)
    return weights if np.abs(Z @ weights - ones).max() < 1e-9 else None
