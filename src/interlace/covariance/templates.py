"""Templates of random-effects terms: maps from free entries to ``T``, with their derivatives.

The effects of one level of a term have the covariance ``sigma^2 T T'``.  What ``T`` may be is a
frozen value, a :class:`Template`; all that depends on its structure is asked of that value.  Every
template has two charts.  The optimiser works with ``pack(T)``, for which ``template(x)`` is the map
back; a chart may cover more than one representative of ``T T'`` (flat directions are left out of a
Newton step).  Reports have ``theta``, the entries at :attr:`Template.entries` of
:meth:`Template.canonical`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


class Map(Protocol):
    """A smooth map from free quantities ``xi`` (c,) to an array."""

    def __call__(self, xi: Floats) -> Floats:
        """The array."""
        ...

    def jacobian(self, xi: Floats) -> Floats:
        """Its first derivatives: the shape of the array, then ``c``."""
        ...

    def second(self, xi: Floats, gradient: Floats) -> Floats | float:
        """Its second derivatives ``(c, c)``, contracted with a gradient of its shape."""
        ...


class Template(Map, Protocol):
    """The structure of a template ``(k, k)``.

    ``xi`` may have leading axes, which are those of the templates then.
    """

    @property
    def name(self) -> str:
        """Of the structure, as it is stored."""
        ...

    @property
    def k(self) -> int:
        """Columns of the term."""
        ...

    @property
    def size(self) -> int:
        """Free entries in the chart of the optimiser."""
        ...

    @property
    def joint(self) -> int:
        """Columns whose effects vary together.

        Where they are several, any regular mixture of them spans the same covariances.
        """
        ...

    @property
    def entries(self) -> tuple[Places, Places]:
        """Rows and columns of the entries reported as ``theta``, column by column."""
        ...

    def listed(self, *, backwards: bool) -> Places:
        """The order in which ``entries`` are listed; see :class:`interlace.sums.terms.ReTerm`."""
        ...

    def pack(self, T: Floats) -> Floats:
        """Free entries ``(..., c)`` of ``(..., k, k)``; the inverse of the map."""
        ...

    def directions(self, T: Floats, u: Floats, e: Floats) -> Floats:
        """``h = D u + T D' e`` for the derivative ``D`` of ``T`` by every free entry.

        ``T`` is ``(..., k, k)``, ``u, e`` are ``(..., l, k)``; returns ``(..., l, k, c)``.
        """
        ...

    def directions_by_column(self, T: Floats, u: Floats, e: Floats) -> Floats:
        """The same for ``(k, k, ...)`` and ``(k, ...)``: ``(k, c, ...)``."""
        ...

    def pull(self, T: Floats, G: Floats) -> Floats:
        """A gradient by the entries of ``T`` (..., k, k) as one by the free entries (..., c)."""
        ...

    def shifts(self, T: Floats, e: Floats) -> Floats:
        """``S e`` for a basis of the symmetric ``S`` by which ``T T'`` may move.

        ``e`` is ``(l, k)``; returns ``(l, k, r)``.  Where ``u = T' e``, :meth:`directions` are
        these times :meth:`rates`, and they are fewer: no rotation of ``T`` is among them.
        """
        ...

    def rates(self, T: Floats) -> Floats:
        """Derivatives ``(r, c)`` of ``T T'`` by the free entries, in that basis."""
        ...

    def moved(self, T: Floats, steps: Floats) -> Floats:
        """What small steps (m, c) of the free entries change in ``T`` (k, k): ``(m, k, k)``."""
        ...

    def second_order(self, T: Floats, gamma: Floats) -> Floats:
        """Second derivatives of ``tr(Gamma T T')`` by the free entries: ``(..., c, c)``.

        With ``Gamma`` (..., k, k) the derivative of a function by ``T T'``, what the map to
        ``T T'`` adds to its second derivatives: ``2 tr(D_r' Gamma D_s)``, and for maps that bend
        the second derivatives of ``T``.
        """
        ...

    def scaling(self, R: Floats, T: Floats) -> Floats:
        """``(c, c)``: free entries relative to ``R = (T T' + I)^(1/2)``, as ``E -> R E``."""
        ...

    def away(self, x: Floats, known: Floats) -> tuple[Floats, Floats]:
        """Difference of free entries, the first rotated or with signs so that it is least.

        The second is the same seen from ``x`` as it is: there the known ones are the rotated ones.
        """
        ...

    def removals(self, T: Floats) -> Floats:
        """Free entries that a singular value of ``T`` (..., k, k) stands for, ``(..., k, c)``.

        Without them the value is zero.
        """
        ...

    @property
    def indivisible(self) -> bool:
        """Whether the structure is one of all columns: it is kept or left out as a whole."""
        ...

    def elsewhere(self, T: Floats) -> Floats | None:
        """Where another minimum may be: of a correlation, on its other side; else ``None``."""
        ...

    def even(self, sizes: Floats) -> Floats:
        """Sizes (k,) of columns by which these may be divided."""
        ...

    def labels(self, columns: Sequence[str]) -> list[tuple[str, str]]:
        """Names of the parameters in place of columns; none where those say it all.

        Of each whether it is ``"sd"`` or ``"rho"``, and of what.
        """
        ...

    # What is reported as theta, in the order of ``entries``.

    def reported(self, T: Floats) -> Floats:
        """``(..., k, k)`` to ``(..., m)``."""
        ...

    def of_reported(self, values: Floats) -> Floats:
        """The template of what is reported."""
        ...

    def slopes(self, T: Floats) -> Floats:
        """Derivatives of the template by what is reported, ``(..., m, k, k)``."""
        ...

    def bends(self, T: Floats, G: Floats) -> Floats | float:
        """Its second derivatives, contracted with ``G``: ``(..., m, m)``."""
        ...

    def tangents(self, B: Floats, T: Floats) -> Floats:
        """Symmetric ``E`` (..., m, k, k) that span how the covariance of the columns ``Z B`` moves.

        ``T`` (..., k, k) is the template of the columns ``Z``.
        """
        ...

    def distances(self, T: Floats, least: Floats) -> Floats:
        """Over which a gradient bends: an entry itself, squares at least ``least`` (k,) by row."""
        ...

    def canonical(self, T: Floats, *, floor: float = 0.0) -> Floats:
        """The representative of ``T T'`` that is reported: lower triangular, diagonal >= 0.

        Diagonal entries of at most ``floor`` become exactly 0.
        """
        ...

    def start(self, ratio: float) -> Floats:
        """A template with the standard deviation ``ratio`` in every column."""
        ...

    def part(self, columns: Sequence[int]) -> Template:
        """The structure of some of the columns."""
        ...


@dataclass(frozen=True)
class Entries:
    """Templates of ``k`` columns of which some entries are free, and reported as they are."""

    k: int
    indivisible = False

    @property
    def entries(self) -> tuple[Places, Places]:
        raise NotImplementedError

    def even(self, sizes: Floats) -> Floats:
        return sizes

    def elsewhere(self, T: Floats) -> None:
        return None

    def labels(self, columns: Sequence[str]) -> list[tuple[str, str]]:
        return []

    def reported(self, T: Floats) -> Floats:
        return T[..., *self.entries]

    def of_reported(self, values: Floats) -> Floats:
        T = np.zeros((*values.shape[:-1], self.k, self.k))
        T[..., *self.entries] = values
        return T

    def slopes(self, T: Floats) -> Floats:
        rows, columns = self.entries
        units = np.zeros((len(rows), self.k, self.k))
        units[np.arange(len(rows)), rows, columns] = 1.0
        return np.broadcast_to(units, (*T.shape[:-2], *units.shape))

    def bends(self, T: Floats, G: Floats) -> float:
        return 0.0

    def tangents(self, B: Floats, T: Floats) -> Floats:
        # Any symmetric matrix with these entries, whatever the columns: the span is the same.
        units = self.slopes(T)
        return np.maximum(units, units.swapaxes(-1, -2))

    def distances(self, T: Floats, least: Floats) -> Floats:
        return self.reported(np.sqrt(T**2 + least[:, None]))


@dataclass(frozen=True)
class Full(Entries):
    """Any covariance of ``k`` columns: all entries of a square ``T`` are free.

    ``T -> T Q`` with orthogonal ``Q`` changes nothing, so ``k (k - 1) / 2`` directions are flat
    rather than curved, and a singular optimum is an ordinary stationary point.
    """

    name = "full"

    @property
    def size(self) -> int:
        return self.k**2

    @property
    def joint(self) -> int:
        return self.k

    @property
    def entries(self) -> tuple[Places, Places]:
        return _triangle(self.k)

    def listed(self, *, backwards: bool) -> Places:
        return np.arange(len(self.entries[0]))

    def __call__(self, xi: Floats) -> Floats:
        return xi.reshape(*xi.shape[:-1], self.k, self.k)

    def pack(self, T: Floats) -> Floats:
        return T.reshape(*T.shape[:-2], self.size)

    def jacobian(self, xi: Floats) -> Floats:
        return np.eye(self.size).reshape(self.k, self.k, self.size)

    def second(self, xi: Floats, gradient: Floats) -> float:
        return 0.0

    def directions(self, T: Floats, u: Floats, e: Floats) -> Floats:
        # For entry (a, b): u_b in row a, plus e_a times column b of T.
        own = _eye(self.k)[:, :, None] * u[..., None, None, :]
        h = own + T[..., None, :, None, :] * e[..., None, :, None]
        return h.reshape(*u.shape, self.size)

    def directions_by_column(self, T: Floats, u: Floats, e: Floats) -> Floats:
        h = T[:, None] * e[None, :, None]
        for a in range(self.k):
            h[a, a] += u
        return h.reshape(self.k, self.size, *u.shape[1:])

    def shifts(self, T: Floats, e: Floats) -> Floats:
        found: Floats = e @ _symmetric(self.k)
        return found.reshape(len(e), self.k, -1)

    def rates(self, T: Floats) -> Floats:
        rows, columns = _triangle(self.k)
        eye = _eye(self.k)[..., None]
        both = eye[rows] * T[columns, None] + eye[columns] * T[rows, None]
        return both.reshape(len(rows), self.size)

    def pull(self, T: Floats, G: Floats) -> Floats:
        return self.pack(G)

    def moved(self, T: Floats, steps: Floats) -> Floats:
        return self(steps)

    def second_order(self, T: Floats, gamma: Floats) -> Floats:
        both = (2.0 * gamma)[..., :, None, :, None] * _eye(self.k)[:, None, :]
        return both.reshape(*gamma.shape[:-2], self.size, self.size)

    def scaling(self, R: Floats, T: Floats) -> Floats:
        return np.asarray(np.kron(R, _eye(self.k)), dtype=np.float64)

    def away(self, x: Floats, known: Floats) -> tuple[Floats, Floats]:
        T, T0 = self(x), self(known)
        U, _, Vt = np.linalg.svd(T.T @ T0)
        apart = T @ (U @ Vt) - T0
        return self.pack(apart), self.pack(apart @ (U @ Vt).T)

    def removals(self, T: Floats) -> Floats:
        return self.pack(_singular_parts(T))

    def canonical(self, T: Floats, *, floor: float = 0.0) -> Floats:
        return canonical(T, floor=floor)

    def start(self, ratio: float) -> Floats:
        return ratio * np.eye(self.k)

    def part(self, columns: Sequence[int]) -> Full:
        return Full(len(columns))


@dataclass(frozen=True)
class Diagonal(Entries):
    """Independent columns, each with a variance of its own: ``||``."""

    name = "diagonal"

    @property
    def size(self) -> int:
        return self.k

    @property
    def joint(self) -> int:
        return 1

    @property
    def entries(self) -> tuple[Places, Places]:
        return np.arange(self.k), np.arange(self.k)

    def listed(self, *, backwards: bool) -> Places:
        order = np.arange(self.k)
        return order[::-1] if backwards else order

    def __call__(self, xi: Floats) -> Floats:
        return xi[..., :, None] * _eye(self.k)

    def pack(self, T: Floats) -> Floats:
        return np.diagonal(T, axis1=-2, axis2=-1)

    def jacobian(self, xi: Floats) -> Floats:
        return _eye(self.k)[:, :, None] * _eye(self.k)

    def second(self, xi: Floats, gradient: Floats) -> float:
        return 0.0

    def directions(self, T: Floats, u: Floats, e: Floats) -> Floats:
        scale = u + self.pack(T)[..., None, :] * e
        return _eye(self.k) * scale[..., None, :]

    def directions_by_column(self, T: Floats, u: Floats, e: Floats) -> Floats:
        h = np.zeros((self.k, self.k, *u.shape[1:]))
        for a in range(self.k):
            h[a, a] = u[a] + T[a, a] * e[a]
        return h

    def shifts(self, T: Floats, e: Floats) -> Floats:
        return _eye(self.k) * e[:, None, :]

    def rates(self, T: Floats) -> Floats:
        return 2.0 * T * _eye(self.k)

    def pull(self, T: Floats, G: Floats) -> Floats:
        return self.pack(G)

    def moved(self, T: Floats, steps: Floats) -> Floats:
        return self(steps)

    def second_order(self, T: Floats, gamma: Floats) -> Floats:
        return 2.0 * gamma * _eye(self.k)

    def scaling(self, R: Floats, T: Floats) -> Floats:
        return np.diag(np.diag(R))

    def away(self, x: Floats, known: Floats) -> tuple[Floats, Floats]:
        apart = np.abs(x) - np.abs(known)
        return apart, np.where(x < 0.0, -apart, apart)

    def removals(self, T: Floats) -> Floats:
        return self.pack(_singular_parts(T))

    def canonical(self, T: Floats, *, floor: float = 0.0) -> Floats:
        size = np.abs(np.diag(T))
        least = max(1e-12 * size.max(initial=0.0), floor)
        return np.diag(np.where(size > least, size, 0.0))

    def start(self, ratio: float) -> Floats:
        return ratio * np.eye(self.k)

    def part(self, columns: Sequence[int]) -> Diagonal:
        return Diagonal(len(columns))


def _singular_parts(T: Floats) -> Floats:
    """``T`` (..., k, k) as a sum of its singular parts, ``(..., k, k, k)``."""
    U, s, Vt = np.linalg.svd(T)
    return np.asarray(s[..., None, None] * U.swapaxes(-1, -2)[..., None] * Vt[..., None, :])


@lru_cache(maxsize=64)
def _eye(k: int) -> Floats:
    """The identity, made once; not to be written to."""
    eye = np.eye(k)
    eye.flags.writeable = False
    return eye


@lru_cache(maxsize=64)
def _triangle(k: int) -> tuple[Places, Places]:
    """Rows and columns of a lower triangle, column by column, made once."""
    columns, rows = np.triu_indices(k)
    rows.flags.writeable = columns.flags.writeable = False
    return rows, columns


@lru_cache(maxsize=64)
def _symmetric(k: int) -> Floats:
    """A basis of the symmetric matrices, entry by entry of a lower triangle: ``(k, k r)``."""
    rows, columns = _triangle(k)
    found = np.zeros((k, k, len(rows)))
    count = np.arange(len(rows))
    found[rows, columns, count] = found[columns, rows, count] = 1.0
    found.flags.writeable = False
    return found.reshape(k, -1)


def canonical(template: Floats, *, floor: float = 0.0) -> Floats:
    """Lower-triangular template with a diagonal >= 0 and the same ``T T'``.

    ``T T'`` does not change under ``T -> T Q`` with orthogonal ``Q``.  Rows of ``T`` are
    orthogonalised in turn (twice, for accuracy); a row that depends on those above it gets a zero
    on the diagonal and leaves its column empty, as the Cholesky factor of a singular covariance
    matrix does, so the representative is unique at singular templates too.  Diagonal entries, and
    whole rows, of at most ``floor`` become exactly 0.
    """
    k = len(template)
    if k == 1:
        size = np.abs(template)
        return np.where(size > floor, size, 0.0)
    lower, basis = np.zeros((k, k)), np.zeros((k, k))
    scale = np.abs(template).max(initial=0.0)
    for i, row in enumerate(template):
        if row @ row <= floor**2:
            continue
        first = basis @ row
        rest = row - first @ basis
        again = basis @ rest
        rest = rest - again @ basis
        norm = float(np.sqrt(rest @ rest))
        lower[i] = first + again
        if norm > max(1e-12 * scale, floor):
            lower[i, i] = norm
            basis[i] = rest / norm
    return lower
