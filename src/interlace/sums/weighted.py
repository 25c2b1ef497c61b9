"""Rows in a fixed basis, and their cross-products at one set of row weights after another.

Which pairs of levels occur, and in which rows, depends on the codes alone: it is found once.  The
weights enter linearly, as ``Z'WZ``, so that they may be zero or negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interlace.errors import InterlaceError
from interlace.sums.cells import Cells, Codes, indexed_pairs
from interlace.sums.crossprod import Basis, CrossProducts, level_sums, pair_sums
from interlace.sums.rows import Rows
from interlace.sums.terms import Floats, ReTerm

# Rows whose weighted columns are multiplied at a time.
_CHUNK = 1 << 14


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of levels of two terms that occur, sorted, and the position of every row's pair."""

    rows: Codes
    cols: Codes
    index: Codes


@dataclass(frozen=True, eq=False)
class FixedRows:
    """Rows of ``[Z X y]`` in a working basis that no longer changes.

    Parameters
    ----------
    names, dropped, terms, basis
        Of the cross-products to come.
    codes
        Per term, ``(n,)`` positions in its levels.
    table
        ``(c, n)`` distinct columns; the first ``p`` are those of ``X``.
    response
        ``(n,)`` working response, or ``None`` for rows without one.
    ones
        Position of the column of ones in the table, if there is one.
    random
        Per term, positions of its columns in the table.
    pairs
        ``pairs[i, j]`` of the terms ``i < j``.
    """

    names: tuple[str, ...]
    dropped: tuple[str, ...]
    terms: tuple[ReTerm, ...]
    basis: Basis
    codes: tuple[Codes, ...]
    table: Floats
    response: Floats | None
    ones: int | None
    random: tuple[tuple[int, ...], ...]
    pairs: Mapping[tuple[int, int], Pairs]

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.table.shape[1])

    @property
    def p(self) -> int:
        """Number of fixed-effects columns."""
        return len(self.names)

    @property
    def X(self) -> Floats:
        """Working fixed-effects columns, ``(n, p)``."""
        return self.table[: self.p].T

    def Z(self, j: int) -> Floats:
        """Working columns of term ``j``, ``(n, k)``."""
        return self.table[list(self.random[j])].T

    def predictor(self, b: Sequence[Floats], beta: Floats | None = None) -> Floats:
        """``X beta + Z b``, ``(n,)``; ``b`` is ``(l, k)`` a term, in the working basis."""
        total = np.zeros(self.n) if beta is None else np.asarray(self.X @ beta, dtype=np.float64)
        for j, effects in enumerate(b):
            for c, column in enumerate(self.random[j]):
                values = effects[:, c][self.codes[j]]
                total += values if column == self.ones else values * self.table[column]
        return total

    def level_totals(self, j: int, g: Floats) -> Floats:
        """``Z_j' g`` for ``g`` (n,), ``(l, k)``."""
        term, codes = self.terms[j], self.codes[j]
        columns = [g if c == self.ones else g * self.table[c] for c in self.random[j]]
        sums = [np.bincount(codes, weights=column, minlength=term.l) for column in columns]
        return np.stack(sums, axis=1)

    def at(self, W: Floats, *, fixed: bool = True) -> CrossProducts:
        """Cross-products with row weights ``W`` (n,), of any sign.

        Without a response its column is a unit vector that is orthogonal to all others, so that a
        factor's ``r2`` is 1.  With ``fixed=False`` the fixed-effects columns, and the response, are
        left out.  ``sum_log_w`` is that of positive weights; 0 if any is not.
        """
        p = self.p if fixed else 0
        response = self.response if fixed else None
        columns = Weighted(self.table, response, self.ones, W)
        v = (*range(p), *(() if response is None else (len(self.table),)))
        sums = [
            level_sums(columns, codes, term.l, index, v)
            for codes, term, index in zip(self.codes, self.terms, self.random, strict=True)
        ]
        positive = response is not None and bool((W > 0.0).all())
        return CrossProducts(
            n=self.n,
            names=self.names if fixed else (),
            dropped=self.dropped,
            terms=self.terms,
            basis=self.basis if fixed else Basis(np.eye(1), self.basis.random),
            vv=_with_unit(columns.gram(p), response is None),
            zv=tuple(_with_none(zv) if response is None else zv for _, zv in sums),
            zz=tuple(zz for zz, _ in sums),
            cells={pair: self._cells(columns, pair) for pair in self.pairs},
            sum_log_w=float(np.log(W).sum()) if positive else 0.0,
        )

    def _cells(self, columns: Weighted, pair: tuple[int, int]) -> Cells:
        """Weighted sums over the rows of each pair of levels."""
        at, (left, right) = self.pairs[pair], (self.random[j] for j in pair)
        products = [(a, b) for a in left for b in right]
        sums = pair_sums(columns, at.index, len(at.rows), products)
        return Cells(at.rows, at.cols, sums.reshape(len(at.rows), len(left), len(right)))


@dataclass(frozen=True, eq=False)
class Weighted:
    """Columns of a table, and the response after them, whose products carry a weight per row."""

    table: Floats
    response: Floats | None
    ones: int | None
    W: Floats

    def counted(self, a: int, b: int) -> bool:
        """Products are never counted: their weights differ."""
        return False

    def product(self, rows: slice, a: int, b: int, out: Floats) -> None:
        """Weighted product of columns ``a`` and ``b`` on some rows."""
        weights = self.W[rows]
        for c in (a, b):
            if c != self.ones:
                weights = np.multiply(weights, self._column(c)[rows], out=out)
        if weights is not out:
            out[:] = weights

    def gram(self, p: int) -> Floats:
        """Cross-products of the first ``p`` columns and the response, if there is one."""
        total = np.zeros((p + 1, p + 1))
        for start in range(0, len(self.W), _CHUNK):
            rows = slice(start, start + _CHUNK)
            V = self.table[:p, rows]
            if self.response is not None:
                V = np.concatenate((V, self.response[None, rows]))
            total[: len(V), : len(V)] += (V * self.W[rows]) @ V.T
        return total

    def _column(self, c: int) -> Floats:
        """Column ``c``; the response follows the table."""
        if self.response is not None and c == len(self.table):
            return self.response
        column: Floats = self.table[c]
        return column


def fixed_rows(rows: Rows, A: CrossProducts, *, response: bool = True) -> FixedRows:
    """Rows in the basis of their cross-products ``A``; weights are left out.

    Raises
    ------
    InterlaceError
        ``A`` is of other rows or terms.
    """
    if A.n != len(rows.y) or len(A.terms) != len(rows.terms):
        raise InterlaceError("the cross-products are not those of these rows")
    kept = rows.fixed(A.names)
    F = A.basis.fixed
    columns = list((kept @ F[:-1, :-1]).T)
    random = []
    for Z, B in zip(rows.Z, A.basis.random, strict=True):
        made = (Z @ B).T if Z.shape[1] > 1 or B[0, 0] != 1.0 else Z.T
        random.append(tuple(_place(columns, column) for column in made))
    table = np.array(columns)
    return FixedRows(
        names=A.names,
        dropped=A.dropped,
        terms=A.terms,
        basis=A.basis,
        codes=rows.codes,
        table=table,
        response=kept @ F[:-1, -1] + rows.response * F[-1, -1] if response else None,
        ones=next((c for c, column in enumerate(table) if (column == 1.0).all()), None),
        random=tuple(random),
        pairs=found_pairs(rows.codes, A.terms),
    )


def found_pairs(codes: Sequence[Codes], terms: Sequence[ReTerm]) -> dict[tuple[int, int], Pairs]:
    """Pairs of levels that occur, for all pairs of terms."""
    return {
        (i, j): Pairs(*indexed_pairs((codes[i], codes[j]), (terms[i].l, terms[j].l)))
        for i in range(len(terms))
        for j in range(i + 1, len(terms))
    }


def _place(columns: list[Floats], column: Floats) -> int:
    """Position of a column in the table, added if it is new."""
    for i, known in enumerate(columns):
        if known[0] == column[0] and np.array_equal(known, column):
            return i
    columns.append(column)
    return len(columns) - 1


def _with_unit(gram: Floats, unit: bool) -> Floats:
    """The response's own sum of squares is 1 where there is none."""
    if unit:
        gram[-1, -1] = 1.0
    return gram


def _with_none(zv: Floats) -> Floats:
    """A response that is orthogonal to every level: a last column of zeros."""
    return np.concatenate((zv, np.zeros((*zv.shape[:2], 1))), axis=2)
