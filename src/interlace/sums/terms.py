"""Random-effects terms: the labels of one ``(expr | group)`` and its theta <-> template map.

A term with ``k`` columns and ``l`` levels has one ``k x k`` template ``T``, repeated for every
level; ``sigma^2 T T'`` is the covariance of its random effects.  ``theta`` stacks the free entries
of all templates, column by column, in the order of the terms, as lme4 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReTerm:
    """Labels of one random-effects term; no rows, no state.

    Parameters
    ----------
    group
        Key of the grouping factor: ``"g"``, or ``"a:b"`` for an interaction.
    columns
        Names of the ``k`` columns left of the bar, in formulaic's spelling.
    levels
        Labels of the ``l`` levels, in the order of the codes.
    free
        ``(k, k)`` mask of the free entries of the reported template: the lower triangle, or the
        diagonal alone for ``||``.
    backwards
        Whether terms with equally many levels, and the columns of one with ``||``, are listed from
        the last to the first, as lme4 does in models whose terms it has to sort.
    """

    group: str
    columns: tuple[str, ...]
    levels: NDArray[np.generic]
    free: NDArray[np.bool_]
    backwards: bool = False

    @property
    def k(self) -> int:
        """Columns per level."""
        return len(self.columns)

    @property
    def l(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @property
    def q(self) -> int:
        """Number of random effects, ``l * k``."""
        return self.l * self.k

    @cached_property
    def correlated(self) -> bool:
        """Whether any off-diagonal entry of the template is free."""
        return bool(self.free[np.tril_indices(self.k, -1)].any())

    @cached_property
    def free_index(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the free entries in lme4's order: column by column."""
        columns, rows = np.nonzero(self.free.T)
        if self.backwards and not self.correlated:
            return rows[::-1], columns[::-1]
        return rows, columns

    @property
    def n_theta(self) -> int:
        """Number of free entries."""
        return int(self.free.sum())

    def template(self, theta: Floats) -> Floats:
        """Lower-triangular template with ``theta`` (``n_theta`` values) in its free entries."""
        T = np.zeros((self.k, self.k))
        T[self.free_index] = theta
        return T

    def theta(self, template: Floats) -> Floats:
        """Free entries of a template, the inverse of :meth:`template`."""
        return template[self.free_index]


def full(k: int) -> NDArray[np.bool_]:
    """Mask of a correlated term: the whole lower triangle is free."""
    return np.tril(np.ones((k, k), dtype=bool))


def diagonal(k: int) -> NDArray[np.bool_]:
    """Mask of an uncorrelated term (``||``): the diagonal alone is free."""
    return np.eye(k, dtype=bool)


def split_theta(terms: Sequence[ReTerm], theta: Floats) -> list[Floats]:
    """Templates of all terms from one stacked ``theta``."""
    ends = np.cumsum([term.n_theta for term in terms])
    parts = np.split(np.asarray(theta, dtype=np.float64), ends[:-1])
    return [term.template(part) for term, part in zip(terms, parts, strict=True)]


def join_theta(terms: Sequence[ReTerm], templates: Sequence[Floats]) -> Floats:
    """One stacked ``theta`` from the templates of all terms, the inverse of :func:`split_theta`."""
    return np.concatenate([t.theta(T) for t, T in zip(terms, templates, strict=True)])


def canonical(template: Floats, *, floor: float = 0.0) -> Floats:
    """Lower-triangular template with a diagonal >= 0 and the same ``T T'``.

    ``T T'`` does not change under ``T -> T Q`` with orthogonal ``Q``.  Rows of ``T`` are
    orthogonalised in turn (twice, for accuracy); a row that depends on those above it gets a zero
    on the diagonal and leaves its column empty, as the Cholesky factor of a singular covariance
    matrix does, so the representative is unique at singular templates too.  Diagonal entries of at
    most ``floor`` become exactly 0.
    """
    k = len(template)
    lower, basis = np.zeros((k, k)), np.zeros((k, k))
    scale = np.abs(template).max(initial=0.0)
    for i, row in enumerate(template):
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
