"""How the columns of a side are made of its factors, whatever the rows: products of their columns.

A factor of categories gives a column of its coding matrix for each of its columns, a numeric one
its values.  With values for the factors, any row of the side can be written down without data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from formulaic import ModelSpec
from formulaic.materializers.types import ScopedTerm
from numpy.typing import NDArray

from interlace.design.frame import Codes

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A column of a factor: of its values, or of a coding (with fewer columns if ``reduced``)."""

    factor: str
    reduced: bool
    column: int


@dataclass(frozen=True, eq=False)
class Structure:
    """The columns of a side as products.

    Parameters
    ----------
    columns
        Per column of the side: a number, and the parts it is multiplied with.
    codings
        Per factor of categories, and whether it is reduced: ``(levels, c)``.
    widths
        Columns of every numeric factor.
    """

    columns: tuple[tuple[float, tuple[Part, ...]], ...]
    codings: Mapping[tuple[str, bool], Floats]
    widths: Mapping[str, int]

    def matrix(self, codes: Mapping[str, Codes], numbers: Mapping[str, Floats], n: int) -> Floats:
        """``(n, p)``: the side for positions in the levels of factors, and values (n, c)."""
        found = np.empty((n, len(self.columns)), order="F")
        for j, (scale, parts) in enumerate(self.columns):
            found[:, j] = scale
            for part in parts:
                coding = self.codings.get((part.factor, part.reduced))
                if coding is None:
                    found[:, j] *= numbers[part.factor][:, part.column]
                else:
                    found[:, j] *= coding[codes[part.factor], part.column]
        return found


def structure_of(
    spec: ModelSpec | None, products: Sequence[tuple[str, ...]], size: int
) -> Structure | None:
    """The structure of a side; ``None`` if its columns do not say which factor gave how many.

    Parameters
    ----------
    spec
        What formulaic keeps of the side; ``None`` for numeric columns and their products.
    products
        The factors of every term.
    size
        Number of columns.
    """
    if spec is None:
        columns = tuple((1.0, tuple(Part(name, False, 0) for name in names)) for names in products)
        return Structure(columns, {}, {name: 1 for names in products for name in names})
    codings = dict(_codings(spec))
    widths = _widths(spec, codings)
    if widths is None:
        return None
    columns = tuple(
        column
        for row in spec.structure or ()
        for term in row.scoped_terms
        for column in _columns(term, codings, widths)
    )
    return Structure(columns, codings, widths) if len(columns) == size else None


def _codings(spec: ModelSpec) -> Iterator[tuple[tuple[str, bool], Floats]]:
    """Coding matrices of the factors of categories, as the side uses them."""
    for term in _scoped(spec):
        for scoped in term.factors:
            expr = scoped.factor.expr
            state = spec.encoder_state[expr][1] if expr in spec.encoder_state else {}
            if "contrasts" in state:
                matrix = state["contrasts"].get_coding_matrix(reduced_rank=scoped.reduced)
                yield (expr, scoped.reduced), np.asarray(matrix, dtype=np.float64)


def _scoped(spec: ModelSpec) -> list[ScopedTerm]:
    return [term for row in spec.structure or () for term in row.scoped_terms]


def _widths(spec: ModelSpec, codings: Mapping[tuple[str, bool], Floats]) -> dict[str, int] | None:
    """Columns of every numeric factor, from terms in which no other one is unknown."""
    widths: dict[str, int] = {}
    rows = [row for row in spec.structure or () if len(row.scoped_terms) == 1]
    for row in sorted(rows, key=lambda row: len(row.scoped_terms[0].factors)):
        known, unknown = 1, []
        for scoped in row.scoped_terms[0].factors:
            expr = scoped.factor.expr
            if (expr, scoped.reduced) in codings:
                known *= codings[expr, scoped.reduced].shape[1]
            elif expr in widths:
                known *= widths[expr]
            else:
                unknown.append(expr)
        if len(unknown) == 1 and known and not len(row.columns) % known:
            widths[unknown[0]] = len(row.columns) // known
    numeric = {
        scoped.factor.expr
        for term in _scoped(spec)
        for scoped in term.factors
        if (scoped.factor.expr, scoped.reduced) not in codings
    }
    return widths if numeric <= widths.keys() else None


def _columns(
    term: ScopedTerm,
    codings: Mapping[tuple[str, bool], Floats],
    widths: Mapping[str, int],
) -> Iterator[tuple[float, tuple[Part, ...]]]:
    """Columns of a term in formulaic's order: those of its first factor run fastest."""
    choices: list[Sequence[Part]] = []
    for scoped in term.factors:
        expr, reduced = scoped.factor.expr, bool(scoped.reduced)
        coding = codings.get((expr, reduced))
        size = widths[expr] if coding is None else coding.shape[1]
        choices.append([Part(expr, reduced, c) for c in range(size)])
    for chosen in product(*reversed(choices)):
        yield float(term.scale), tuple(reversed(chosen))
