"""The terms of the fixed effects, which contain which, and what their tests need of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from interlace.design.design import Design, Encoding
from interlace.design.encode import Columns, Side
from interlace.design.frame import Codes
from interlace.design.structure import Structure
from interlace.errors import InterlaceError
from interlace.sums.crossprod import CrossProducts
from interlace.sums.rows import columns_kept
from interlace.sums.terms import Floats

Numbers: TypeAlias = NDArray[np.integer] | NDArray[np.float64]

# Share of its size below which a singular value of rows that nobody has is rounding.
_NONE = 1e-9


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


@dataclass(frozen=True, eq=False)
class FixedPart:
    """What tests of the fixed terms need of the rows of a model.

    Parameters
    ----------
    side
        The fixed side.
    names
        Names of all its columns.
    X
        ``(r, P)``: the rows, or others with which the data's rows have all relations in common but
        those in ``absent``.
    factors
        Values of factors in these rows, as ``Design.factors``; of categories, or their codes.
    absent
        ``(P, d)`` combinations of the columns that are zero in every row of the data, where ``X``
        does not show them.
    root
        Upper triangle ``R`` with ``R'R = X'X`` of the data and the columns kept, if ``X`` is not
        the data's.
    """

    side: Side
    names: tuple[str, ...]
    X: Floats
    factors: Columns
    absent: Floats | None = None
    root: Floats | None = None


def part_of_rows(design: Design) -> FixedPart:
    """The fixed part of rows that are held."""
    return FixedPart(design.encoding.fixed, design.names, design.X, design.factors)


def part_of_sums(encoding: Encoding, A: CrossProducts) -> FixedPart:
    """The fixed part of rows of which there are sums alone.

    Which hypotheses can be tested depends on the relations between columns that hold in every row.
    Those of the formula hold for any levels and numbers, and are read off rows that are made up;
    those of the data are in the columns that were dropped.

    Raises
    ------
    InterlaceError
        The sums hold no means over the rows.
    """
    side = encoding.fixed
    absent = np.zeros((len(side.names), len(A.dropped)))
    if A.dependence is not None:
        kept = columns_kept(side.names, A.names)
        absent[kept], absent[~kept] = A.dependence, -np.eye(len(A.dropped))
    structure = side.structure
    factors: Columns = {}
    X = np.empty((0, len(side.names)))
    if structure is not None:
        X, factors = _made_up(side, structure)
    return FixedPart(side, side.names, X, factors, absent, _root(A))


def _root(A: CrossProducts) -> Floats:
    """``R`` with ``R'R = X'X``, without weights, of the columns kept."""
    if A.moments is None:
        raise InterlaceError(
            "these cross-products hold no means over the rows, which this needs: make them again "
            "with interlace.cross_products()"
        )
    gram = A.moments.fixed[1:-1, 1:-1]
    working = np.linalg.cholesky(gram).T if A.p else gram
    return np.asarray(working @ np.linalg.inv(A.basis.fixed[:-1, :-1]), dtype=np.float64)


def _made_up(side: Side, structure: Structure) -> tuple[Floats, dict[str, Numbers]]:
    """Rows with every combination of levels that a term tells apart, and numbers at random.

    There are as many of them as it takes until more have no more relations to lose.
    """
    rng = np.random.default_rng(0)
    sizes = {expr: len(coding) for (expr, _), coding in structure.codings.items()}
    parts: list[dict[str, Numbers]] = []
    X, rank = np.empty((0, len(side.names))), -1
    while True:
        parts += [_term_rows(term.factors, sizes, structure.widths, rng) for term in side.terms]
        values = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        n = len(next(iter(values.values()), ()))
        X = structure.matrix(values, values, n)
        if (found := int(np.linalg.matrix_rank(X, tol=_NONE * np.sqrt(n)))) <= rank:
            return X, values
        rank = found


def _term_rows(
    factors: Sequence[str],
    sizes: Mapping[str, int],
    widths: Mapping[str, int],
    rng: np.random.Generator,
) -> dict[str, Numbers]:
    """A row for every combination of the levels of a term, the rest of it at random."""
    own = [expr for expr in factors if expr in sizes]
    shape = [sizes[expr] for expr in own]
    n = int(np.prod(shape, dtype=np.intp))
    values: dict[str, Numbers] = {expr: rng.integers(0, l, n) for expr, l in sizes.items()}
    if own:
        values.update(zip(own, np.unravel_index(np.arange(n), shape), strict=True))
    return values | {expr: rng.normal(size=(n, c)) for expr, c in widths.items()}


def effects_of(part: FixedPart, names: Sequence[str]) -> list[Effect]:
    """The fixed terms whose coefficients are called ``names``, in their order."""
    side = part.side
    position = {name: i for i, name in enumerate(names)}
    categories = set(side.categories)
    wide = {t.factors[0] for t in side.terms if len(t.factors) == 1 and len(t.columns) > 1}
    wide |= {expr for expr, values in part.factors.items() if np.asarray(values)[:1].size > 1}
    present = {frozenset(), *(frozenset(term.factors) for term in side.terms)}

    def effect(label: str, columns: tuple[int, ...], factors: tuple[str, ...]) -> Effect:
        kept = [position[c] for j in columns if (c := part.names[j]) in position]
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
