"""Conjugate gradients for many right-hand sides at once, and what their coefficients say.

All columns share every product with the matrix, so that its indices are read once; a column that
has converged drops out.  Started at zero with ``f`` as right-hand side, the coefficients of a
column are the Lanczos tridiagonal matrix of ``(M, f)``, from which ``f' g(M) f`` follows for any
smooth ``g`` by Gauss quadrature (Golub and Meurant, 2010, Matrices, Moments and Quadrature, ch. 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlace.errors import InterlaceError
from interlace.sums.terms import Floats

MAX_ITERATIONS = 5000


@dataclass(frozen=True, eq=False)
class Iterated:
    """Solutions ``x`` (q, c) of ``M x = f``, and how they were found.

    ``first`` (q, c) is ``M f``.  ``alpha`` and ``beta`` (steps, c) are the step lengths and the
    ratios of squared residuals, NaN after a column converged; ``steps`` (c,) counts its iterations.
    """

    x: Floats
    first: Floats
    alpha: Floats
    beta: Floats
    steps: NDArray[np.intp]


def solve(
    multiply: Callable[[Floats], Floats],
    f: Floats,
    limit: Floats,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> Iterated:
    """Solve ``M x = f`` for every column of ``f`` (q, c).

    Parameters
    ----------
    multiply
        ``M`` times ``(q, any)``; symmetric positive definite.
    f
        Right-hand sides.
    limit
        ``(c,)`` norms of the residuals to reach.

    Raises
    ------
    InterlaceError
        A column needs more than ``max_iterations``.
    numpy.linalg.LinAlgError
        ``M`` is not positive definite along a direction that was met.
    """
    x, first = np.zeros_like(f), np.zeros_like(f)
    steps = np.zeros(f.shape[1], dtype=np.intp)
    alphas: list[Floats] = []
    betas: list[Floats] = []
    live = np.flatnonzero(_squares(f) > limit**2)
    r = f[:, live]
    p, part, rr = r.copy(), np.zeros_like(r), _squares(r)
    goal = limit[live] ** 2
    for step in range(max_iterations):
        if not len(live):
            return Iterated(x, first, _table(alphas, f), _table(betas, f), steps)
        Mp = multiply(p)
        if step == 0:
            first[:, live] = Mp
        curvature = np.einsum("qc,qc->c", p, Mp)
        if (curvature <= 0.0).any():
            raise np.linalg.LinAlgError("the equations are not positive definite")
        alpha = rr / curvature
        part += alpha * p
        r -= alpha * Mp
        new = _squares(r)
        alphas.append(_spread(alpha, live, f))
        betas.append(_spread(new / rr, live, f))
        steps[live] += 1
        going = new > goal
        if not going.all():
            done = ~going
            x[:, live[done]] = part[:, done]
            live, goal = live[going], goal[going]
            r, p, part = (np.ascontiguousarray(block[:, going]) for block in (r, p, part))
        p *= (new / rr)[going]
        p += r
        rr = new[going]
    raise InterlaceError(
        f"conjugate gradients did not converge in {max_iterations} iterations (residual "
        f"{float(np.sqrt((rr / goal).max())):.1g} times the tolerance): the random effects are "
        f"nearly confounded; leave out or merge a factor, or use solver='exact'"
    )


def quadrature(solved: Iterated, column: int) -> tuple[Floats, Floats]:
    """Nodes and weights (sum 1) with ``f' g(M) f = |f|^2 sum(weights g(nodes))``."""
    m = int(solved.steps[column])
    alpha, beta = solved.alpha[:m, column], solved.beta[: m - 1, column]
    diagonal = 1.0 / alpha
    diagonal[1:] += beta / alpha[:-1]
    T = np.diag(diagonal)
    beside = np.arange(m - 1)
    T[beside, beside + 1] = T[beside + 1, beside] = np.sqrt(beta) / alpha[:-1]
    nodes, vectors = np.linalg.eigh(T)
    return nodes, vectors[0] ** 2


def norms(block: Floats) -> Floats:
    """Norms of the columns."""
    return np.asarray(np.sqrt(_squares(block)), dtype=np.float64)


def _squares(block: Floats) -> Floats:
    """Squared norms of the columns."""
    return np.asarray(np.einsum("qc,qc->c", block, block), dtype=np.float64)


def _spread(values: Floats, live: NDArray[np.intp], f: Floats) -> Floats:
    """Values of the columns still in work, NaN for the others."""
    row = np.full(f.shape[1], np.nan)
    row[live] = values
    return row


def _table(rows: list[Floats], f: Floats) -> Floats:
    """Rows as one array ``(steps, c)``."""
    return np.array(rows).reshape(len(rows), f.shape[1])
