"""Rows of a mixed model as numbers, and the same rows in a working basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from interlace.sums.cells import Codes
from interlace.sums.terms import Floats, ReTerm, inverse


@dataclass(frozen=True, eq=False)
class Basis:
    """Linear maps from the user's columns to the working columns.

    ``[X y] @ fixed`` (p + 1 columns) and ``Z_j @ random[j]`` (k_j columns) are the columns whose
    cross-products are stored.
    """

    fixed: Floats
    random: tuple[Floats, ...]

    @cached_property
    def log_det_fixed(self) -> float:
        """Log of the absolute determinant of the map of ``X``."""
        return float(np.linalg.slogdet(self.fixed[:-1, :-1])[1])

    @cached_property
    def root_mean_squares(self) -> tuple[Floats, ...]:
        """Root mean square of every column of ``Z_j``, weighted, ``(k_j,)`` each."""
        return tuple(lengths(inverse(B)) for B in self.random)

    @property
    def response_scale(self) -> float:
        """Working units of the response in one unit of ``y``."""
        return float(self.fixed[-1, -1])


def lengths(columns: Floats) -> Floats:
    """Lengths of columns, whose squares need not be in the range of doubles."""
    size = np.ldexp(1.0, np.frexp(np.abs(columns).max(axis=0, initial=0.0))[1])
    return np.asarray(np.sqrt(((columns / size) ** 2).sum(axis=0)) * size)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a mixed model as arrays, in the user's units.

    Parameters
    ----------
    y
        ``(n,)`` response.
    X
        ``(n, p)`` fixed-effects columns, redundant ones included.
    names
        Names of the columns of ``X``.
    Z
        Per term, ``(n, k)`` columns left of the bar.
    codes
        Per term, ``(n,)`` positions in its levels; terms of one group share the array.
    terms
        Random-effects terms, by decreasing number of levels.
    weights, offset
        ``(n,)`` or ``None``; ``offset`` sums the argument and the ``offset()`` terms.
    """

    y: Floats
    X: Floats
    names: tuple[str, ...]
    Z: tuple[Floats, ...]
    codes: tuple[Codes, ...]
    terms: tuple[ReTerm, ...]
    weights: Floats | None
    offset: Floats | None

    @property
    def response(self) -> Floats:
        """``y - offset``, ``(n,)``: what the fixed and random effects are fitted to."""
        return self.y if self.offset is None else self.y - self.offset

    def fixed(self, names: Sequence[str]) -> Floats:
        """Columns of ``X`` with these names: those with a coefficient, ``(n, len(names))``."""
        return np.asarray(self.X[:, columns_kept(self.names, names)])

    def part(self, which: Codes) -> Rows:
        """Some of the rows, with the levels of all."""
        return Rows(
            self.y[which],
            self.X[which],
            self.names,
            tuple(Z[which] for Z in self.Z),
            tuple(codes[which] for codes in self.codes),
            self.terms,
            None if self.weights is None else self.weights[which],
            None if self.offset is None else self.offset[which],
        )

    def is_ones(self, j: int) -> bool:
        """Whether term ``j`` is an intercept alone, held without memory of its own."""
        return is_ones(self.Z[j])

    @property
    def root_weights(self) -> Floats:
        """Square roots of the prior weights, ``(n,)``; ones without weights."""
        return np.broadcast_to(1.0, len(self.y)) if self.weights is None else np.sqrt(self.weights)

    def weighted(self, columns: Floats) -> Floats:
        """Columns ``(n, c)`` times the roots of the weights."""
        return columns if self.weights is None else columns * self.root_weights[:, None]

    @property
    def sparse(self) -> tuple[csr_matrix, ...]:
        """``Z_j`` as they multiply the effects of all levels, ``(n, q_j)``."""
        parts = zip(self.codes, self.Z, self.terms, strict=True)
        return tuple(by_level(codes, Z, term.q) for codes, Z, term in parts)

    @property
    def random_matrix(self) -> csr_matrix:
        """``Z = [Z_1, Z_2, ...]``, ``(n, q)``, random effects of a level side by side."""
        stacked: csr_matrix = hstack(self.sparse, format="csr")
        return stacked

    def in_basis(self, basis: Basis, names: Sequence[str]) -> WorkingRows:
        """The rows in the working basis of a model with the fixed effects ``names``."""
        return in_basis(basis, self.codes, self.Z, self.fixed(names))


@dataclass(frozen=True, eq=False)
class WorkingRows:
    """``m`` rows of ``[Z X]`` in the working basis, without a response.

    ``codes[j]`` (m,) is a level of term ``j``, or -1 for none: the row then has no effect of that
    term.  ``Z[j]`` is ``(m, k_j)``, ``X`` ``(m, p)``.
    """

    codes: tuple[Codes, ...]
    Z: tuple[Floats, ...]
    X: Floats

    def take(self, which: Codes) -> WorkingRows:
        """Some of the rows."""
        return WorkingRows(
            tuple(codes[which] for codes in self.codes),
            tuple(Z[which] for Z in self.Z),
            self.X[which],
        )

    def times(self, factors: Floats) -> WorkingRows:
        """Every row times its factor (m,)."""
        column = factors[:, None]
        return WorkingRows(self.codes, tuple(column * Z for Z in self.Z), column * self.X)


def in_basis(basis: Basis, codes: Sequence[Codes], Z: Sequence[Floats], X: Floats) -> WorkingRows:
    """Rows in the user's units to rows in the working basis; ``X`` has the kept columns (m, p)."""
    parts = zip(codes, Z, basis.random, strict=True)
    blocks = [
        (z if (c >= 0).all() else np.where((c >= 0)[:, None], z, 0.0)) @ B for c, z, B in parts
    ]
    return WorkingRows(tuple(codes), tuple(blocks), X @ basis.fixed[:-1, :-1])


def columns_kept(names: Sequence[str], kept: Sequence[str]) -> NDArray[np.bool_]:
    """Which of the columns ``names`` are among those ``kept`` for having a coefficient."""
    coefficients = set(kept)
    return np.array([name in coefficients for name in names], dtype=bool)


def is_ones(Z: Floats) -> bool:
    """Whether a block is the intercept that rows hold without storing it."""
    return Z.strides[0] == 0


def by_level(codes: Codes, Z: Floats, q: int) -> csr_matrix:
    """Rows ``Z`` (n, k) of one term at the places of their levels' effects, ``(n, q)``."""
    n, k = Z.shape
    columns = (codes[:, None] * k + np.arange(k)).ravel()
    return csr_matrix((Z.ravel(), columns, np.arange(n + 1) * k), shape=(n, q))
