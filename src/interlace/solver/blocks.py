"""Small dense blocks, one per level, handled for all levels at once.

Arrays are ``(l, k, m)``: ``l`` levels, ``k`` columns of the term.  ``k`` is small and ``l`` may be
large, so loops run over ``k`` and numpy runs over ``l``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from interlace.sums.terms import Floats

# Beyond this many blocks one pass of numpy per column beats a matrix product per block.
_MANY = 200
# Largest matrix whose triangle is remembered.
_FEW = 64
# Columns of a symmetric matrix made at once, above the diagonal alone.
_STRIP = 64


def multiply(A: Floats, B: Floats) -> Floats:
    """``A[l] @ B[l]`` for every level, ``(l, k, j) x (l, j, m) -> (l, k, m)``."""
    inner = A.shape[2]
    if inner == 1:
        return A * B
    if len(A) < _MANY or inner > 4:
        return A @ B
    total = A[:, :, :1] * B[:, :1, :]
    for j in range(1, inner):
        total += A[:, :, j : j + 1] * B[:, j : j + 1, :]
    return total


def rows_times(A: Floats, M: Floats) -> Floats:
    """``A[l] @ M`` for every level with one matrix ``M``."""
    l, k, j = A.shape
    if j == 1 and M.shape[1] == 1:
        return A * float(M[0, 0])
    product: Floats = A.reshape(l * k, j) @ M
    return product.reshape(l, k, M.shape[1])


def congruence(A: Floats, T: Floats) -> Floats:
    """``T' A[l] T`` for symmetric blocks ``A[l]``."""
    if T.shape == (1, 1):
        return A * float(T[0, 0]) ** 2
    half = rows_times(A, T)
    return rows_times(np.ascontiguousarray(half.transpose(0, 2, 1)), T)


def from_upper(M: Floats) -> Floats:
    """The symmetric matrices with the upper triangles of ``M`` (..., m, m)."""
    m = M.shape[-1]
    if m <= _FEW:
        return np.where(_upper(m), M, M.swapaxes(-1, -2))
    full = M.copy()
    for own in strips(m):
        full[..., own, own] = from_upper(M[..., own, own])
        full[..., own.stop :, own] = M[..., own, own.stop :].swapaxes(-1, -2)
    return full


def strips(m: int) -> list[slice]:
    """The columns of a symmetric matrix ``(m, m)`` in even strips; the rows below them follow."""
    width = -(-m // -(-m // _STRIP))
    return [slice(a, min(a + width, m)) for a in range(0, m, width)]


def symmetric_product(A: Floats, B: Floats) -> Floats:
    """``A' B`` (m, m) where it is symmetric, ``A, B`` (n, m): hardly more than half the work."""
    if A.shape[1] <= _STRIP:
        return A.T @ B
    found = np.empty((A.shape[1], A.shape[1]))
    for own in strips(len(found)):
        found[: own.stop, own] = A[:, : own.stop].T @ B[:, own]
        found[own, : own.start] = found[: own.start, own].T
    return found


@lru_cache(maxsize=_FEW)
def _upper(m: int) -> NDArray[np.bool_]:
    """Where the upper triangle is, the diagonal included."""
    return np.triu(np.ones((m, m), dtype=bool))


@lru_cache(maxsize=_FEW)
def identity(k: int) -> Floats:
    """The identity, made once; not to be written to."""
    eye = np.eye(k)
    eye.flags.writeable = False
    return eye


def inner(A: Floats, B: Floats) -> Floats:
    """``sum over l and k of A[l, k]' B[l, k]``, ``(l, k, c) x (l, k, m) -> (c, m)``."""
    rows = A.shape[0] * A.shape[1]
    return A.reshape(rows, A.shape[2]).T @ B.reshape(rows, B.shape[2])


def by_column(A: Floats) -> Floats:
    """Blocks ``(l, k, j)`` side by side, ``(k, l j)``.

    Times :func:`by_row` of others they are :func:`sum_product`.
    """
    l, k, j = A.shape
    return A.transpose(1, 0, 2).reshape(k, l * j)


def by_row(B: Floats) -> Floats:
    """Blocks ``(l, j, m)`` one below the other, ``(l j, m)``."""
    return B.reshape(B.shape[0] * B.shape[1], B.shape[2])


def sum_product(A: Floats, B: Floats) -> Floats:
    """``sum over l of A[l] @ B[l]``, ``(l, k, j) x (l, j, m) -> (k, m)``."""
    return by_column(A) @ by_row(B)


def solved(A: Floats, B: Floats) -> Floats:
    """``A^-1 B``."""
    if A.shape == (1, 1):
        return B / float(A[0, 0])
    return np.asarray(np.linalg.solve(A, B), dtype=np.float64)


def spd_inverse(D: Floats) -> tuple[Floats, float]:
    """Inverses of symmetric positive definite blocks, and the sum of their log determinants.

    Every column is swept without pivoting, over all levels at once [1]_; the blocks met here are
    ``I`` plus a positive semidefinite matrix, for which that is stable.

    .. [1] Goodnight (1979), The American Statistician 33, 149-158.

    Raises
    ------
    numpy.linalg.LinAlgError
        A block is not positive definite, as where a file holds sums that no rows have.
    """
    k = D.shape[1]
    if k == 1:
        return 1.0 / D, _log_det(D)
    if k == 2:
        return _inverse_of_pairs(D)
    A = np.ascontiguousarray(D.transpose(1, 2, 0))  # levels last, so that numpy runs over them
    pivots = np.empty(A.shape[1:])
    with np.errstate(all="ignore"):  # what pivots are none is told below
        for j in range(k):
            pivots[j] = A[j, j]
            row = A[j] / pivots[j]
            A -= A[j][:, None] * row
            A[j] = A[:, j] = row
            A[j, j] = -1.0 / pivots[j]
        inverse = np.negative(A.transpose(2, 0, 1), order="C")
    return inverse, _log_det(pivots)


def _inverse_of_pairs(D: Floats) -> tuple[Floats, float]:
    """The same for two columns, written out."""
    first, ratio = D[:, 0, 0], D[:, 0, 1] / D[:, 0, 0]
    second = D[:, 1, 1] - ratio * D[:, 0, 1]
    inverse = np.empty_like(D)
    inverse[:, 1, 1] = 1.0 / second
    inverse[:, 0, 1] = inverse[:, 1, 0] = -ratio / second
    inverse[:, 0, 0] = 1.0 / first + ratio**2 / second
    _check_positive(first)
    return inverse, _log_det(first * second)


def _log_det(pivots: Floats) -> float:
    """Sum of the logarithms of pivots, which must be positive."""
    _check_positive(pivots)
    return float(np.log(pivots).sum())


def _check_positive(pivots: Floats) -> None:
    if (pivots <= 0.0).any():  # pivots without a value give a trial without one
        raise np.linalg.LinAlgError("a block is not positive definite")


def squares(A: Floats) -> Floats:
    """``A[l] A[l]'`` for every level, ``(l, k, m)`` to ``(l, k, k)``."""
    if A.shape[1] == 1:
        return np.asarray(np.einsum("lim,lim->l", A, A))[:, None, None]
    return A @ A.transpose(0, 2, 1)


def outer_by_column(a: Floats, b: Floats) -> Floats:
    """Symmetric part of ``sum over levels of a b'`` for every column, ``(m, k, k)``."""
    full = np.einsum("lim,ljm->mij", a, b, optimize=True)
    return np.asarray(0.5 * (full + full.transpose(0, 2, 1)), dtype=np.float64)


def outer_by_level(a: Floats, b: Floats) -> Floats:
    """Symmetric part of ``a b'`` for every level, summed over columns: ``(l, k, k)``."""
    full = np.einsum("lim,ljm->lij", a, b)
    return np.asarray(0.5 * (full + full.transpose(0, 2, 1)), dtype=np.float64)


def low_rank_blocks(U: Floats, core: Floats) -> Floats:
    """``U core U'`` for every level: ``(l, k, s)`` to ``(l, k, k)``."""
    return np.asarray(np.einsum("lis,ljs->lij", U @ core, U), dtype=np.float64)


def positive_part(blocks: Floats) -> Floats:
    """Nearest positive semidefinite blocks."""
    if blocks.shape[1] == 1:
        return np.maximum(blocks, 0.0)
    values, vectors = np.linalg.eigh(blocks)
    return np.asarray((vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.transpose(0, 2, 1))
