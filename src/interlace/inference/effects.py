"""The terms of the fixed effects, and which of them contain which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interlace.design.design import Design
from interlace.sums.crossprod import Codes


@dataclass(frozen=True, eq=False)
class Effect:
    """A term of the fixed effects.

    Parameters
    ----------
    label
        As formulaic writes it.
    columns
        Positions of its columns in ``Design.X``.
    kept
        Positions of those that have a coefficient, among the coefficients.
    factors
        Expressions of the factors multiplied, in the order written.
    categorical
        Those encoded as categories.
    numeric
        Those that are one column of numbers each; the rest give several (``poly(x, 2)``).
    full
        Factors that need an indicator for each level here: the term without them is not in the
        model, main effects aside.
    """

    label: str
    columns: tuple[int, ...]
    kept: Codes
    factors: tuple[str, ...]
    categorical: frozenset[str]
    numeric: frozenset[str]
    full: frozenset[str]

    def within(self, other: Effect) -> bool:
        """Whether ``other`` contains this effect.

        It has the same single numeric columns, all factors of this effect and more, and codes them
        alike: in ``a + a:b`` the interaction stands for ``b`` too, and does not contain ``a``.
        """
        mine, others = set(self.factors), set(other.factors)
        return (
            mine < others
            and self.numeric == other.numeric
            and self.full == other.full & mine
            and bool(mine)
        )


def effects_of(design: Design, names: Sequence[str]) -> list[Effect]:
    """The fixed terms of a design whose coefficients are called ``names``, in their order."""
    side = design.encoding.fixed
    position = {name: i for i, name in enumerate(names)}
    categories = set(side.categories)
    wide = {t.factors[0] for t in side.terms if len(t.factors) == 1 and len(t.columns) > 1}
    wide |= {expr for expr, values in design.factors.items() if values.ndim > 1}
    present = {frozenset(), *(frozenset(term.factors) for term in side.terms)}

    def effect(label: str, columns: tuple[int, ...], factors: tuple[str, ...]) -> Effect:
        kept = [position[c] for j in columns if (c := design.names[j]) in position]
        members = frozenset(factors)
        return Effect(
            label=label,
            columns=columns,
            kept=np.array(kept, dtype=np.intp),
            factors=factors,
            categorical=members & categories,
            numeric=members - categories - wide,
            full=frozenset(f for f in members if members - {f} not in present),
        )

    return [effect(term.label, term.columns, term.factors) for term in side.terms]
