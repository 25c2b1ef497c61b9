"""Random columns of one design against numbers of many replicates, and the equations of these.

Vectors of random effects are flat, ``(q, ..., B)``: the eliminated term first, column by column,
then the terms of the remainder, level by level.  What a level, or a pair of levels, sums over its
rows is a product with a sparse matrix that is laid out once; the same matrix transposed takes the
inverse of the equations to the leverages of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from interlace.batch.factor import Factor, inverse_blocks, solved
from interlace.batch.stack import Batch, OwnRows, Shape, order_of, shape_of
from interlace.sums.cells import Codes
from interlace.sums.terms import Floats, ReTerm

Places = NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class Incidence:
    """``Z`` (n, q) of all terms, and the entries of ``Z'WZ`` that rows reach.

    Attributes
    ----------
    shape
        Order of the terms.
    Z, transposed
        The columns, and their transpose.
    products, shares
        ``(E, n)``: from ``W`` to entries of the upper triangle of ``Z'WZ``, by block; and
        ``(n, E)``, from those of a symmetric matrix to its quadratic forms.
    rows, columns
        Where the entries stand, ``(E,)``.
    """

    shape: Shape
    Z: csr_matrix
    transposed: csr_matrix
    products: csr_matrix
    shares: csr_matrix
    rows: Places
    columns: Places

    @property
    def first(self) -> ReTerm:
        """The eliminated term."""
        return self.shape.terms[self.shape.first]

    def by_level(self, j: int, v: Floats) -> Floats:
        """The part of a term, ``(l, k, ...)``: a view of ``v`` (q, ...)."""
        term, q = self.shape.terms[j], self.first.q
        if j == self.shape.first:
            return v[:q].reshape(term.k, term.l, *v.shape[1:]).swapaxes(0, 1)
        start = q + self.shape.offsets[j]
        return v[start : start + term.q].reshape(term.l, term.k, *v.shape[1:])

    def flat(self, parts: Sequence[Floats]) -> Floats:
        """One vector ``(q, ...)`` of parts ``(l, k, ...)`` by term."""
        v = np.empty((self.Z.shape[1], *parts[0].shape[2:]))
        for j, part in enumerate(parts):
            self.by_level(j, v)[:] = part
        return v

    def image(self, b: Floats) -> Floats:
        """``Z b``, ``(n, ...)``."""
        found = np.asarray(self.Z @ b.reshape(len(b), -1))
        return found.reshape(-1, *b.shape[1:])

    def sums(self, v: Floats) -> Floats:
        """``Z'v``, ``(q, ...)``."""
        found = np.asarray(self.transposed @ v.reshape(len(v), -1))
        return found.reshape(-1, *v.shape[1:])

    def scaled(
        self, templates: Mapping[int, Floats], v: Floats, *, transpose: bool = False
    ) -> Floats:
        """``Lambda v``, or ``Lambda' v``, at templates ``(B, k, k)``."""
        out = np.empty_like(v)
        for j, term in enumerate(self.shape.terms):
            T = templates[j].transpose(2, 1, 0) if transpose else templates[j].transpose(1, 2, 0)
            own, to = self.by_level(j, v), self.by_level(j, out)
            for a in range(term.k):
                to[:, a] = sum(T[a, b] * own[:, b] for b in range(term.k))
        return out

    def batch(self, W: Floats) -> Batch:
        """``Z'WZ`` at weights ``(n, B)``, without fixed effects and responses."""
        entries, B = np.asarray(self.products @ W), W.shape[1]
        k, l, m = self.first.k, self.first.l, self.shape.q
        own, side, rest = self._kinds
        N, R, S = np.zeros((k, k, l, B)), np.zeros((B, k * l * m)), np.zeros((B, m, m))
        i, j = self.rows, self.columns
        a, b, level = i[own] // l, j[own] // l, i[own] % l
        N[a, b, level] = N[b, a, level] = entries[own]
        R[:, i[side] * m + j[side] - k * l] = entries[side].T
        S[:, i[rest] - k * l, j[rest] - k * l] = entries[rest].T
        S[:, j[rest] - k * l, i[rest] - k * l] = entries[rest].T
        return Batch(
            shape=self.shape,
            rows=OwnRows(R.reshape(B, k, l, m)),
            N=N,
            S=S,
            zy=np.zeros((k, l, B)),
            sy=np.zeros((B, m)),
            yy=np.ones(B),
            nu=np.ones(1),
            constant=np.zeros(1),
        )

    @property
    def _kinds(self) -> tuple[slice, slice, slice]:
        """Entries of the eliminated term, of it with the remainder, and of the latter."""
        q = self.first.q
        start = int(np.count_nonzero(self.columns < q))
        end = start + int(np.count_nonzero((self.rows < q) & (self.columns >= q)))
        return slice(0, start), slice(start, end), slice(end, len(self.rows))

    def solved(self, factor: Factor, r: Floats) -> Floats:
        """``C~ r`` for right-hand sides ``(q, B)`` or ``(q, c, B)``."""
        k, l = self.first.k, self.first.l
        sides = r if r.ndim == 3 else r[:, None]
        first = sides[: k * l].reshape(k, l, *sides.shape[1:]).swapaxes(1, 2)
        b, x = solved(factor, first, sides[k * l :].transpose(2, 0, 1))
        flat = b.swapaxes(1, 2).reshape(k * l, *sides.shape[1:])
        return np.concatenate((flat, x.transpose(1, 2, 0))).reshape(r.shape)

    def leverages(self, factor: Factor) -> Floats:
        """``z'C~z`` of every row, ``(n, B)``."""
        k, l = self.first.k, self.first.l
        own, side, rest = self._kinds
        C, D, E = inverse_blocks(factor)
        i, j = self.rows, self.columns
        entries = (
            C[i[own] // l, j[own] // l, i[own] % l],
            D[:, i[side], j[side] - k * l].T,
            E[:, i[rest] - k * l, j[rest] - k * l].T,
        )
        return np.asarray(self.shares @ np.concatenate(entries))


def incidence(
    terms: Sequence[ReTerm], codes: Sequence[Codes], Z: Sequence[Floats | None]
) -> Incidence:
    """The columns of all terms; ``None`` stands for a column of ones."""
    shape, n = shape_of(terms, reml=False), len(codes[0])
    q = terms[shape.first].q
    places, values = [], []
    for j in order_of(terms):
        term, z = terms[j], Z[j]
        for a in range(term.k):
            own = codes[j] + a * term.l if j == shape.first else codes[j] * term.k + a
            places.append(own if j == shape.first else q + shape.offsets[j] + own)
            values.append(np.ones(n) if z is None else z[:, a])
    at: Places = np.stack(places, axis=1)
    value = np.stack(values, axis=1)
    size = sum(t.q for t in terms)
    columns = _by_row(at, value, size)
    first, second = np.triu_indices(at.shape[1])
    kind = (at[0, first] >= q).astype(np.intp) + (at[0, second] >= q)
    keys = (kind * size + at[:, first]) * size + at[:, second]
    found, index = np.unique(keys, return_inverse=True)
    index, product = index.reshape(keys.shape), value[:, first] * value[:, second]
    return Incidence(
        shape,
        columns,
        columns.T.tocsr(),
        _by_row(index, product, len(found)).T.tocsr(),
        _by_row(index, product * np.where(first == second, 1.0, 2.0), len(found)),
        found // size % size,
        found % size,
    )


def _by_row(places: Places, values: Floats, size: int) -> csr_matrix:
    """The matrix of which every row has ``values`` (n, m) at ``places`` (n, m) below ``size``."""
    n, m = places.shape
    starts = np.arange(0, n * m + 1, m)
    return csr_matrix((values.ravel(), places.ravel(), starts), shape=(n, size))
