"""A least-squares regression in every group, all groups at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlace.sums.crossprod import Codes, group_sums
from interlace.sums.terms import Floats

# A column depends on those before it in a group when less than this share of its norm is left.
_DEPENDENT = 1e-7
# A group is fitted exactly when less than this share of the norm of its response is left.
_NOTHING = 1e-12


@dataclass(frozen=True, eq=False)
class GroupFits:
    """Regressions of one response on the same columns in each of ``l`` groups.

    Attributes
    ----------
    coef
        ``(l, c)``; NaN for a column that depends on earlier ones in the group.
    residuals, hat
        ``(n,)``: weighted residuals, and leverages within the group.
    sigma
        ``(n,)``, residual standard deviation of the group of each row; NaN without degrees of
        freedom, or where the group is fitted exactly.
    """

    coef: Floats
    residuals: Floats
    hat: Floats
    sigma: Floats


def group_fits(codes: Codes, l: int, columns: Floats, y: Floats) -> GroupFits:
    """Regress ``y`` (n,) on ``columns`` (n, c), both weighted already, within every group.

    Gram-Schmidt by group, twice for accuracy; columns that depend on earlier ones are left out.

    Examples
    --------
    >>> codes = np.array([0, 0, 1, 1, 1])
    >>> y = np.array([1.0, 3.0, 2.0, 2.0, 5.0])
    >>> fits = group_fits(codes, 2, np.ones((5, 1)), y)
    >>> fits.coef[:, 0].round(9).tolist(), fits.residuals.round(9).tolist()
    ([2.0, 3.0], [-1.0, 1.0, -1.0, -1.0, 2.0])
    """
    powers = np.frexp(np.abs(columns).max(axis=0, initial=0.0))[1]  # squares stay in range
    power = int(np.frexp(np.abs(y).max(initial=0.0))[1])
    columns, y = np.ldexp(columns, -powers), np.ldexp(y, -power)
    Q, R, kept = _orthonormal(codes, l, columns)
    c = columns.shape[1]
    t = np.zeros((l, c))
    rest = y.copy()
    for _ in range(2):
        share = group_sums(codes, l, Q * rest[:, None])
        rest = rest - (Q * share[codes]).sum(axis=1)
        t += share
    spare = np.bincount(codes, minlength=l) - kept.sum(axis=1)
    squares = group_sums(codes, l, rest[:, None] ** 2)[:, 0]
    total = group_sums(codes, l, y[:, None] ** 2)[:, 0]
    some = (spare > 0) & (squares > _NOTHING**2 * total)
    sigma = np.sqrt(np.where(some, squares / np.maximum(spare, 1), np.nan))
    coef = np.linalg.solve(R, t[:, :, None])[:, :, 0] if c else t
    coef = np.ldexp(np.where(kept, coef, np.nan), power - powers)
    hat = (Q**2).sum(axis=1)
    return GroupFits(coef, np.ldexp(rest, power), hat, np.ldexp(sigma[codes], power))


def _orthonormal(codes: Codes, l: int, columns: Floats) -> tuple[Floats, Floats, Codes]:
    """Orthonormal columns within groups, ``R`` (l, c, c), and which were independent (l, c)."""
    c = columns.shape[1]
    Q = np.zeros(columns.shape)
    R = np.zeros((l, c, c))
    kept = np.zeros((l, c), dtype=bool)
    for j, column in enumerate(columns.T):
        rest = column.copy()
        before = np.sqrt(group_sums(codes, l, column[:, None] ** 2)[:, 0])
        for _ in range(2):
            share = group_sums(codes, l, Q[:, :j] * rest[:, None]) if j else np.zeros((l, 0))
            rest = rest - (Q[:, :j] * share[codes]).sum(axis=1)
            R[:, :j, j] += share
        norm = np.sqrt(group_sums(codes, l, rest[:, None] ** 2)[:, 0])
        kept[:, j] = norm > _DEPENDENT * before
        safe = np.where(kept[:, j], norm, 1.0)
        Q[:, j] = np.where(kept[codes, j], rest / safe[codes], 0.0)
        R[:, :j, j] *= kept[:, j, None]
        R[:, j, j] = safe
    return Q, R, kept
