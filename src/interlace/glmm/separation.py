"""Coefficients without a finite estimate: separation of the rows, and levels that are all alike.

A direction along which no row's likelihood falls and some row's rises for ever is found by a linear
program over the distinct rows (Konis, 2007, Computational algorithms for detecting separated data
in binary regression models, DPhil thesis, Oxford).  Random effects change nothing: it holds for
every value of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from interlace.glmm.ordinal import Ordinal
from interlace.glmm.problem import Problem
from interlace.sums.terms import Floats

# Links whose mean reaches its bounds only at infinity.
_OPEN = ("logit", "probit", "cloglog", "cauchit")
# A linear predictor this far from the mean of all, or a standard error of a working coefficient
# this large, arouses suspicion; entries of the direction below this are zero.
FAR, LARGE, ENTRY = 10.0, 20.0, 1e-7


@dataclass(frozen=True, eq=False)
class Separated:
    """A coefficient without a finite estimate.

    ``sign`` is that of the infinity; ``value`` the response of all rows with a dummy variable, or
    ``None`` where a combination of columns separates the rows.
    """

    name: str
    sign: float
    value: str | None


def suspicious(problem: Problem, beta: Floats, se: Floats) -> bool:
    """Whether working coefficients and their standard errors call for the linear program."""
    part = problem.rows.X @ beta
    far = float(np.abs(part - part.mean()).max(initial=0.0)) > FAR
    return far or bool((se > LARGE).any()) or not bool(np.isfinite(se).all())


def directions_to_infinity(problem: Problem) -> Iterator[Separated]:
    """The coefficients of a direction that separates the rows, if there is one."""
    if isinstance(problem.family, Ordinal):
        d = _between_thresholds(problem, problem.family)
        for j in np.flatnonzero(np.abs(d) > ENTRY):
            yield Separated(problem.rows.names[j], float(np.sign(d[j])), None)
        return
    signs = signs_of(problem)
    if signs is None:
        return
    X = user_columns(problem)
    d = separating(X, signs)
    for j in np.flatnonzero(np.abs(d) > ENTRY):
        yield Separated(problem.rows.names[j], float(np.sign(d[j])), _alike(X[:, j], signs))


def separating(X: Floats, signs: Floats) -> Floats:
    """A direction ``d`` (p,) with ``s x'd >= 0`` in all rows; zero if none separates them.

    ``signs`` are 1 where the response is at its top, -1 where it is at its bottom, and 0 in
    between, where ``x'd`` must vanish.
    """
    size = np.abs(X).max(axis=0)
    scaled = X / np.where(size > 0.0, size, 1.0)
    distinct = np.unique(np.column_stack((scaled, signs)), axis=0)
    rows, s = distinct[:, :-1], distinct[:, -1]
    A, between = s[s != 0, None] * rows[s != 0], rows[s == 0]
    found = scipy.optimize.linprog(  # scipy opens its chapters on first use
        -A.sum(axis=0),
        A_ub=-A,
        b_ub=np.zeros(len(A)),
        A_eq=between if len(between) else None,
        b_eq=np.zeros(len(between)) if len(between) else None,
        bounds=[(-1.0, 1.0)] * X.shape[1],
        method="highs",
    )
    if found.x is None or -float(found.fun or 0.0) <= ENTRY * len(A):
        return np.zeros(X.shape[1])
    return np.asarray(found.x / np.where(size > 0.0, size, 1.0))


def _between_thresholds(problem: Problem, family: Ordinal) -> Floats:
    """A direction (p,) that, thresholds moving too, takes no row out of its category."""
    X, code, k = user_columns(problem), family.codes(problem.y), family.categories - 1
    above, below = code < k, code > 0  # rows with a threshold above them, and below
    unit = np.eye(k)
    held = np.concatenate(
        (
            np.column_stack((-X[above], unit[code[above]])),
            np.column_stack((X[below], -unit[code[below] - 1])),
        )
    )
    return separating(held, np.ones(len(held)))[: X.shape[1]]


def pure_groups(problem: Problem) -> list[str]:
    """Grouping factors of a binomial response each level of which is all failures or successes."""
    if problem.family.name != "binomial":
        return []
    found = []
    for term, sums in zip(problem.rows.terms, problem.successes, strict=True):
        successes, trials = sums.T
        if ((successes == 0) | (successes == trials)).all() and "Intercept" in term.columns:
            found.append(term.group)
    return list(dict.fromkeys(found))


def signs_of(problem: Problem) -> Floats | None:
    """Signs of all rows, see :func:`separating`.

    ``None`` for a family and link whose coefficients are always finite.
    """
    name, link, y = problem.family.name, problem.family.link.name, problem.y
    if name == "binomial" and link in _OPEN:
        top: NDArray[np.bool_] = y == problem.trials
        return np.where(top, 1.0, np.where(y == 0, -1.0, 0.0))
    if name in ("poisson", "negative-binomial") and link == "log":
        return np.where(y == 0, -1.0, 0.0)
    return None


def user_columns(problem: Problem) -> Floats:
    """The user's columns kept, zeros restored that the change of basis left as rounding."""
    X = problem.rows.X @ np.linalg.inv(problem.rows.fixed)
    size = np.abs(X).max(axis=0)
    return np.asarray(np.round(X / size, 10) * size)


def _alike(column: Floats, signs: Floats) -> str | None:
    """The response of all rows with a dummy variable, if they have the same."""
    ones = column == column.max()
    if not np.isin(np.round(column / column.max(), 9), (0.0, 1.0)).all() or ones.all():
        return None
    if (signs[ones] == -1.0).all():
        return "0"
    return "1" if (signs[ones] == 1.0).all() else None
