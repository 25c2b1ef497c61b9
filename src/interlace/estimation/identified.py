"""Which variance parameters the data do not determine: directions in which the criterion is flat.

At an optimum the Newton matrix has zero eigenvalues for the rotations ``T -> T Q`` of every term
whose effects vary together, which change no covariance.  Any other zero is a change of the
covariances that leaves the criterion alone: the data cannot tell.  Templates are taken relative to
``(T T' + I)^(1/2)``, so that a large or a zero variance is no false alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.linalg import block_diag

from interlace.covariance.templates import Floats
from interlace.estimation.criterion import Evaluation
from interlace.estimation.search import FLAT, Mask
from interlace.solver.blocks import solved
from interlace.sums.rows import Basis
from interlace.sums.terms import ReTerm, places

# Relative curvature below which a direction may be flat, as long as the optimum is not polished.
PERHAPS = 1e-4
# Curvature per residual degree of freedom that is rounding error.
ROUNDING = 1e-10
# Shares of a unit vector that count as nothing: of a direction that is a rotation, of a change of
# one entry.
_ROTATION, _NOTHING = 0.1, 1e-3
# Singular values of a template that are zero.
_ZERO = 1e-3


@dataclass(frozen=True, eq=False)
class Undetermined:
    """What the data leave open.

    Per term, ``entries`` (k, k) says which covariances do, in the user's columns, and ``changes``
    (m, k, 2 k) what moves with every effect along ``m`` directions that span what is open: its
    covariances, and where they are zero their roots.
    ``residual`` says whether the residual variance is among it.
    """

    entries: tuple[Mask, ...]
    changes: tuple[Floats, ...]
    residual: bool

    def __bool__(self) -> bool:
        return any(bool(open_.any()) for open_ in self.entries)

    @property
    def correlations(self) -> tuple[Mask, ...]:
        """Which correlations are open: those of an open covariance, or of an open variance."""
        variances = [np.diag(open_) for open_ in self.entries]
        return tuple(
            open_ | own[:, None] | own[None, :]
            for open_, own in zip(self.entries, variances, strict=True)
        )


def determined(terms: Sequence[ReTerm]) -> Undetermined:
    """Nothing is open."""
    return Undetermined(
        tuple(np.zeros((t.k, t.k), dtype=bool) for t in terms),
        tuple(np.zeros((0, t.k, 2 * t.k)) for t in terms),
        residual=False,
    )


def undetermined(point: Evaluation) -> Undetermined:
    """What the data leave open at an optimum of the exact solver.

    Only where there may be something the last digits of the optimum are looked for first.  ML takes
    the variance of effects that the fixed effects reproduce for zero, whatever it is, which REML
    leaves open: singular fits by ML are looked at as by REML, too.
    """
    found = _of(point)
    criterion = point.criterion
    if found or criterion.reml or not _singular(point) or criterion.A.n <= criterion.A.p:
        return found
    return _of(criterion.on(criterion.A, reml=True).at(point.factor.templates), overlap=True)


def _singular(point: Evaluation) -> bool:
    """Whether some template is."""
    return any(np.linalg.svd(T, compute_uv=False)[-1] < _ZERO for T in point.factor.templates)


def _of(point: Evaluation, *, overlap: bool = False) -> Undetermined:
    """The same by the criterion of a point, which need not be an optimum for an ``overlap``."""
    terms = point.criterion.A.terms
    flat, rotations, _ = _spaces(point, PERHAPS)
    changes = [np.zeros((0, t.k, t.k)) for t in terms]
    if overlap or flat.shape[1] > rotations.shape[1]:
        if not overlap:
            point = _stepped(_stepped(point))
        flat, rotations, S = _spaces(point, FLAT)
        open_ = S @ _beyond(flat, rotations)
        changes = template_changes(terms, point.factor.templates, open_)
    factor = point.factor
    residual = np.zeros(len(changes[0]))
    for D, effects in zip(changes, factor.effects, strict=True):
        residual -= 2.0 * np.einsum("mab,lb,la->m", D, effects.u, effects.e) / factor.r2
    return in_users_columns(point.criterion.A.basis, factor.templates, changes, residual)


def template_changes(
    terms: Sequence[ReTerm], templates: Sequence[Floats], open_: Floats
) -> list[Floats]:
    """Changes ``(m, k, k)`` of the templates of every term along packed directions ``(c, m)``."""
    return [
        t.template.moved(T, np.ascontiguousarray(open_[own].T))
        for t, T, own in zip(terms, templates, places(terms), strict=True)
    ]


def _stepped(point: Evaluation) -> Evaluation:
    """A Newton step further in the directions that are clearly curved."""
    values, vectors = np.linalg.eigh(point.newton_matrix)
    size = np.abs(values)
    curved = size > max(PERHAPS * size.max(initial=0.0), ROUNDING * point.criterion.nu)
    along = np.where(curved, vectors.T @ point.gradient, 0.0) / np.where(curved, size, 1.0)
    x = point.criterion.pack(point.factor.templates) - vectors @ along
    return point.criterion(np.asarray(x, dtype=np.float64))


def _spaces(point: Evaluation, limit: float) -> tuple[Floats, Floats, Floats]:
    """Directions of no curvature, those of them that are rotations, and the scaling of both.

    Orthonormal columns, of packed templates relative to the scaling.
    """
    terms, templates = point.criterion.A.terms, point.factor.templates
    scale = [_root(T) for T in templates]
    parts = zip(terms, scale, templates, strict=True)
    S = block_diag(*(t.template.scaling(R, T) for t, R, T in parts))
    values, vectors = np.linalg.eigh(S.T @ point.newton_matrix @ S)
    size = np.abs(values)
    floor = max(limit * size.max(initial=0.0), ROUNDING * point.criterion.nu)
    turns = _rotations(terms, templates, scale)
    U, s, _ = np.linalg.svd(turns, full_matrices=False)
    return vectors[:, size <= floor], U[:, s > 1e-3], S


def _root(T: Floats) -> Floats:
    """``(T T' + I)^(1/2)``."""
    values, vectors = np.linalg.eigh(T @ T.T)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0) + 1.0)) @ vectors.T)


def _rotations(
    terms: Sequence[ReTerm], templates: Sequence[Floats], scale: Sequence[Floats]
) -> Floats:
    """Directions ``T Omega``, ``Omega`` antisymmetric, relative to the scales, as columns."""
    size = sum(t.template.size for t in terms)
    columns = [np.zeros((size, 0))]
    for term, T, R, own in zip(terms, templates, scale, places(terms), strict=True):
        if term.template.joint > 1:
            turned = term.template.pack(solved(R, T) @ _turns(term.k))
            column = np.zeros((size, len(turned)))
            column[own] = turned.T
            columns.append(column)
    return np.concatenate(columns, axis=1)


@lru_cache
def _turns(k: int) -> Floats:
    """All antisymmetric ``Omega`` of two entries, ``(., k, k)``; not to be written to."""
    a, b = np.tril_indices(k, -1)
    turns = np.zeros((len(a), k, k))
    turns[np.arange(len(a)), a, b] = 1.0
    turns -= turns.transpose(0, 2, 1)
    turns.flags.writeable = False
    return turns


def _beyond(flat: Floats, rotations: Floats) -> Floats:
    """The part of a space that another does not span; orthonormal columns."""
    left, size, _ = np.linalg.svd(flat - rotations @ (rotations.T @ flat), full_matrices=False)
    return np.asarray(left[:, size > 1.0 - _ROTATION])


def in_users_columns(
    basis: Basis, templates: Sequence[Floats], changes: Sequence[Floats], residual: Floats
) -> Undetermined:
    """Entries of the covariances that change, with columns of root mean square 1.

    ``residual`` (m,) are the relative changes of the residual variance that go with them.
    """
    entries, users = [], []
    parts = zip(changes, templates, basis.random, basis.root_mean_squares, strict=True)
    for D, T, B, sizes in parts:
        DB, TB = sizes[:, None] * (B @ D), sizes[:, None] * (B @ T)
        first = DB @ TB.T + TB @ DB.swapaxes(1, 2) + residual[:, None, None] * (TB @ TB.T)
        null = _left_null(TB) @ DB
        second = null @ null.swapaxes(1, 2)
        moved = np.abs(first).max(axis=0, initial=0.0) + np.abs(second).max(axis=0, initial=0.0)
        whole = 1.0 + np.abs(np.diag(TB @ TB.T))
        entries.append(moved > _NOTHING * np.sqrt(whole[:, None] * whole[None, :]))
        users.append(np.concatenate((first, null), axis=2))
    moves = bool(np.abs(residual).max(initial=0.0) > _NOTHING)
    return Undetermined(tuple(entries), tuple(users), moves)


def _left_null(T: Floats) -> Floats:
    """Projection off the columns of a template: there a change counts by its square."""
    U, s, _ = np.linalg.svd(T)
    flat = U[:, s < _ZERO]
    return np.asarray(flat @ flat.T)
