"""Mixed-model equations by orthogonal triangles: for random effects far larger than the residuals.

Cross-products hold ``r2`` as a difference of sums of the size of ``y'y``, and with standard
deviations of effects ``1e5`` times the residual's, ten of its sixteen digits are gone.  A triangle
``R`` with ``R'R = [Z X y]'[Z X y]``, taken from the rows, is of the size of their roots and loses
half as many: with ``[Z X y] = Q R`` all that a model says of its rows it says of ``R``, and

    [ R_Z Lambda  R_X  R_y ]
    [     I        0    0  ]  =  Q~ R~

gives ``log|A|``, ``log|R_X|^2`` and ``r2`` from the diagonal of ``R~`` without a difference.
``V^-1`` is relative to ``sigma^2``, and ``P`` is ``V^-1`` with the fixed effects projected out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.linalg import qr, solve_triangular

from interlace.errors import InterlaceError
from interlace.solver.exact import Factor, TermEffects
from interlace.solver.probes import WithoutChance
from interlace.solver.reverse import TermDerivatives
from interlace.sums.crossprod import CrossProducts
from interlace.sums.rows import Rows
from interlace.sums.terms import Floats, ReTerm

# Residuals below this share of the response are rounding errors of the rows themselves.
_UNKNOWN = 1e-12
# Singular values of a template from which on ``Z'PZ`` is known better through it than directly.
_LARGE = 0.1
# Columns, and flops of the triangle of the rows, that are still quick.
_COLUMNS, _FLOPS = 1200, 1e11


def is_quick(A: CrossProducts) -> bool:
    """Whether a triangle of all columns is small enough to be worked with."""
    m = sum(t.q for t in A.terms) + A.p + 1
    return m <= _COLUMNS and 2.0 * A.n * m**2 <= _FLOPS


def triangle(rows: Rows, A: CrossProducts) -> Floats:
    """``R`` (r, q + p + 1) of the rows ``[Z X y]`` in the working basis, weighted."""
    X = np.column_stack((rows.fixed(A.names), rows.response)) @ A.basis.fixed
    parts = zip(rows.sparse, A.terms, A.basis.random, strict=True)
    Z = [Z.toarray().reshape(A.n, t.l, t.k) @ B for Z, t, B in parts]
    columns = np.concatenate([*(z.reshape(A.n, -1) for z in Z), X], axis=1)
    R = qr(rows.weighted(columns), mode="r", overwrite_a=True, check_finite=False)[0]
    return np.asarray(R[: columns.shape[1]], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Sharp:
    """Equations of the cross-products ``A`` by the triangle ``R`` of their rows."""

    A: CrossProducts
    R: Floats

    def on(self, A: CrossProducts) -> Sharp:
        """Laid out for the same cross-products, of which alone there is a triangle."""
        if A is not self.A:
            raise InterlaceError(
                "the random effects are so much larger than the residuals that sums of squares "
                "lose the latter, and this would fit again from sums alone: subtract a round value "
                "of every group from the response, or give it with less variation between groups"
            )
        return self

    def responded(self, A: CrossProducts) -> Sharp:
        """Refused, see :meth:`on`."""
        return self.on(A)

    def at(self, A: CrossProducts, templates: Sequence[Floats]) -> SharpFactor:
        """The equations factored at working templates.

        Raises
        ------
        numpy.linalg.LinAlgError
            No residual variance is left.
        """
        on, q = self.on(A), sum(t.q for t in A.terms)
        M = np.zeros((len(on.R) + q, q + A.p + 1), order="F")
        M[: len(on.R)] = on.R
        for term, T, own in zip(A.terms, templates, _places(A.terms), strict=True):
            M[: len(on.R), own] = _turned(on.R[:, own], term, T)
        M[len(on.R) + np.arange(q), np.arange(q)] = 1.0
        Q, R = qr(M, mode="economic", overwrite_a=True, check_finite=False)
        size = float(np.linalg.norm(on.R[:, -1]))
        if not abs(R[-1, -1]) > _UNKNOWN * size or (np.diag(R) == 0.0).any():
            raise np.linalg.LinAlgError("no residual variance is left")
        return SharpFactor(
            on, tuple(templates), np.asarray(Q, np.float64), np.asarray(R, np.float64)
        )

    def rows_at_once(self, A: CrossProducts) -> int:
        """Rows of the largest matrix worked on: what several threads can share."""
        return len(self.R)


@dataclass(frozen=True, eq=False)
class SharpFactor(WithoutChance):
    """The triangle ``R~`` at given templates, and its orthonormal ``Q~``."""

    equations: Sharp
    templates: tuple[Floats, ...]
    Q: Floats
    R: Floats

    @property
    def A(self) -> CrossProducts:
        """The cross-products."""
        return self.equations.A

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Columns of every term."""
        return _places(self.A.terms)

    @property
    def q(self) -> int:
        """Number of random effects."""
        return len(self.R) - self.A.p - 1

    @property
    def logdet_u(self) -> float:
        """Log determinant of the equations of the random effects."""
        return 2.0 * float(np.log(np.abs(np.diag(self.R)[: self.q])).sum())

    @property
    def logdet_x(self) -> float:
        """Log determinant of ``X' V^-1 X``."""
        return 2.0 * float(np.log(np.abs(np.diag(self.R)[self.q : -1])).sum())

    @property
    def r2(self) -> float:
        """Penalised residual sum of squares."""
        return float(self.R[-1, -1] ** 2)

    @cached_property
    def solution(self) -> Floats:
        """``[u, beta]``."""
        return np.asarray(solve_triangular(self.R[:-1, :-1], self.R[:-1, -1]), dtype=np.float64)

    @property
    def beta(self) -> Floats:
        """Fixed effects in the working basis, ``(p,)``."""
        return self.solution[self.q :]

    @cached_property
    def inverse(self) -> Floats:
        """``R~^-1`` of the random and fixed effects."""
        return np.asarray(solve_triangular(self.R[:-1, :-1], np.eye(len(self.R) - 1)))

    @property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1`` in the working basis, ``(p, p)``."""
        own = self.inverse[self.q :, self.q :]
        return own @ own.T

    @cached_property
    def effects(self) -> tuple[TermEffects, ...]:
        """Random effects and residual cross-products of every term.

        ``e = Z' (y - X beta - Z b)`` is ``T^-T u`` in directions of large singular values,
        where the sum is far smaller than what it is of.
        """
        height = len(self.equations.R)
        residual = self.Q[:height, -1] * self.R[-1, -1]
        found = []
        for term, T, own in zip(self.A.terms, self.templates, self.places, strict=True):
            u = self.solution[own].reshape(term.l, term.k)
            direct = (self.equations.R[:, own].T @ residual).reshape(term.l, term.k)
            U, s, Vt = np.linalg.svd(T)
            large = s > _LARGE
            turned = np.where(large, (u @ Vt.T) / np.where(large, s, 1.0), direct @ U)
            e = turned @ U.T
            found.append(TermEffects(u @ T.T, e, e @ T))
        return tuple(found)

    def derivatives(self, *, reml: bool) -> tuple[TermDerivatives, ...]:
        """Trace parts of the derivatives with respect to every template."""
        size = len(self.R) - 1 if reml else self.q
        root = self.inverse[:size, :size]
        return tuple(
            self._derivatives(j, self._blocks(root, j), self.Q[: len(self.equations.R), :size])
            for j in range(len(self.A.terms))
        )

    def _blocks(self, root: Floats, j: int) -> Floats:
        """Diagonal blocks of the inverse that has this root, of one term, ``(l, k, k)``."""
        term = self.A.terms[j]
        own = root[self.places[j]].reshape(term.l, term.k, -1)
        return own @ own.transpose(0, 2, 1)

    def _derivatives(self, j: int, C: Floats, Q: Floats) -> TermDerivatives:
        """Of one term: ``T' (sum of Z'PZ) T`` is ``l I`` less the sum of the blocks ``C``."""
        term, T = self.A.terms[j], self.templates[j]
        Z = self.equations.R[:, self.places[j]]
        away = (Q.T @ Z).reshape(-1, term.l, term.k)
        direct = Z.reshape(-1, term.l, term.k)
        near = np.tensordot(direct, direct, ((0, 1), (0, 1)))
        near = near - np.tensordot(away, away, ((0, 1), (0, 1)))
        U, s, Vt = np.linalg.svd(T)
        both = np.logical_and.outer(s > _LARGE, s > _LARGE)
        through = Vt @ (term.l * np.eye(term.k) - C.sum(axis=0)) @ Vt.T
        through = through / np.where(both, np.outer(s, s), 1.0)
        PZZ = U @ np.where(both, through, U.T @ near @ U) @ U.T
        return TermDerivatives(PZZ @ T, 0.5 * (PZZ + PZZ.T), T @ C @ T.T)

    def projected(self, H: Sequence[Floats]) -> Floats:
        """``H' Z' P Z H`` for columns of random-effects coefficients: a sum of squares."""
        height = len(self.equations.R)
        columns = [
            self.equations.R[:, own] @ h.reshape(-1, h.shape[2])
            for own, h in zip(self.places, H, strict=True)
        ]
        V = np.concatenate(columns, axis=1)
        Q = self.Q[:, :-1]
        left = -Q @ (Q[:height].T @ V)
        left[:height] += V
        return left.T @ left

    def conditional_covariances(self) -> tuple[Floats, ...]:
        """Diagonal blocks of ``C~`` given the fixed effects, ``(l, k, k)`` per term."""
        root = self.inverse[: self.q, : self.q]
        return tuple(T @ self._blocks(root, j) @ T.T for j, T in enumerate(self.templates))

    def solve(
        self, random: Sequence[Floats], fixed: Floats | None = None
    ) -> tuple[tuple[Floats, ...], Floats]:
        """``[b; beta] = C~ [random; fixed]``, see :func:`interlace.solver.solve.solve`."""
        c = random[0].shape[2]
        parts = [np.swapaxes(T, 0, 1) @ r for T, r in zip(self.templates, random, strict=True)]
        stacked = [part.reshape(-1, c) for part in parts]
        size = self.q if fixed is None else len(self.R) - 1
        rhs = np.concatenate(stacked if fixed is None else [*stacked, fixed])
        root = self.inverse[:size, :size]
        found = root @ (root.T @ rhs)
        b = tuple(
            T @ found[own].reshape(t.l, t.k, c)
            for t, T, own in zip(self.A.terms, self.templates, self.places, strict=True)
        )
        return b, np.zeros((self.A.p, c)) if fixed is None else found[self.q :]

    def exact(self, what: str, instead: str = "") -> Factor:
        """Refused: the factor of the sums has lost the residuals."""
        raise InterlaceError(
            f"{what} sums of squares that hold the residuals, but the random effects are so much "
            f"larger that these are lost in them: subtract a round value of every group from the "
            f"response{instead}"
        )


def sizes(R: Floats, A: CrossProducts) -> list[Floats]:
    """Root mean squares of the effects over the residuals', ``(k,)`` per term.

    By least squares without a penalty, of least norm.

    Raises
    ------
    numpy.linalg.LinAlgError
        The effects reproduce the response.
    """
    columns = R[:, :-1]
    norms = np.linalg.norm(columns, axis=0)
    norms[norms == 0.0] = 1.0
    found, _, rank, _ = np.linalg.lstsq(columns / norms, R[:, -1], rcond=1e-11)
    left = R[:, -1] - (columns / norms) @ found
    residual = float(np.linalg.norm(left)) / np.sqrt(max(A.n - int(rank), 1))
    if not np.linalg.norm(left) > _UNKNOWN * np.linalg.norm(R[:, -1]):
        raise np.linalg.LinAlgError("no residual variance is left")
    effects = found / norms
    return [
        np.sqrt((effects[own].reshape(t.l, t.k) ** 2).mean(axis=0)) / residual
        for t, own in zip(A.terms, _places(A.terms), strict=True)
    ]


def rescaled(R: Floats, A: CrossProducts, factors: Sequence[Floats]) -> Floats:
    """The triangle with the columns of every term times factors ``(k,)``."""
    tiles = [np.tile(f, t.l) for f, t in zip(factors, A.terms, strict=True)]
    return np.asarray(R * np.concatenate([*tiles, np.ones(A.p + 1)]), dtype=np.float64)


def _places(terms: Sequence[ReTerm]) -> tuple[slice, ...]:
    """Columns of every term among the random effects."""
    ends = np.cumsum([0, *(t.q for t in terms)]).tolist()
    return tuple(slice(a, b) for a, b in pairwise(ends))


def _turned(columns: Floats, term: ReTerm, T: Floats) -> Floats:
    """``Z Lambda`` of one term."""
    return (columns.reshape(-1, term.l, term.k) @ T).reshape(len(columns), term.q)
