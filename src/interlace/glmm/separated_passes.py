"""Separation of rows that are not held: the linear program over some rows, checked on all.

A direction that separates all rows separates some of them.  It is sought among a sample, then tried
on every row; those that it does not fit join the sample, until a direction fits all or there is
none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interlace.glmm.separation import (
    ENTRY,
    FAR,
    LARGE,
    Separated,
    separating,
    signs_of,
    user_columns,
)
from interlace.glmm.stored import Block
from interlace.glmm.streamed import StreamedProblem
from interlace.sums.terms import Floats

# Rows of a block that join the sample at a time, and rounds at most.
_JOIN, _ROUNDS = 200, 50


def separated_passes(problem: StreamedProblem, beta: Floats, se: Floats) -> tuple[Separated, ...]:
    """Coefficients without a finite estimate, where anything looks like it."""
    sample = problem.sample
    X, signs = user_columns(sample), signs_of(sample)
    if signs is None or not _suspicious(problem, beta, se):
        return ()
    for _ in range(_ROUNDS):
        d = separating(X, signs)
        if not d.any():
            return ()
        wrong = _unfit(problem, d)
        if not len(wrong[1]):
            return tuple(_named(problem, d))
        X, signs = np.concatenate((X, wrong[0])), np.concatenate((signs, wrong[1]))
    return ()


def _suspicious(problem: StreamedProblem, beta: Floats, se: Floats) -> bool:
    """Whether working coefficients and their standard errors call for the linear program."""
    if bool((se > LARGE).any()) or not bool(np.isfinite(se).all()):
        return True
    ends = np.array([np.inf, -np.inf, 0.0])

    def add(found: tuple[float, float, float]) -> None:
        ends[:] = min(ends[0], found[0]), max(ends[1], found[1]), ends[2] + found[2]

    def work(block: Block) -> tuple[float, float, float]:
        part = block.problem.rows.X @ beta
        return float(part.min()), float(part.max()), float(part.sum())

    problem.stored.visit(work, add)
    mean = ends[2] / problem.stored.n
    return bool(max(mean - ends[0], ends[1] - mean) > FAR)


def _unfit(problem: StreamedProblem, d: Floats) -> tuple[Floats, Floats]:
    """Some of the rows along which the direction lowers the likelihood, and their signs."""
    parts: list[tuple[Floats, Floats]] = []

    def work(block: Block) -> tuple[Floats, Floats]:
        X, signs = user_columns(block.problem), signs_of(block.problem)
        assert signs is not None
        along = X @ d
        size = np.abs(X) @ np.abs(d)
        rises = np.where(signs == 0.0, -np.abs(along), signs * along)
        wrong = np.flatnonzero(rises < -ENTRY * np.maximum(size, ENTRY))[:_JOIN]
        return X[wrong], signs[wrong]

    problem.stored.visit(work, parts.append)
    return np.concatenate([X for X, _ in parts]), np.concatenate([s for _, s in parts])


def _named(problem: StreamedProblem, d: Floats) -> Iterator[Separated]:
    """The coefficients of a direction, and the response of all rows with a dummy variable."""
    p = len(d)
    ends = np.stack((np.full(p, np.inf), np.full(p, -np.inf)))
    plain = np.ones(p, dtype=bool)
    varies = np.zeros(p, dtype=bool)

    def work(block: Block) -> tuple[Floats, Floats]:
        signs = signs_of(block.problem)
        assert signs is not None
        return user_columns(block.problem), signs

    def add(found: tuple[Floats, Floats]) -> None:
        X, signs = found
        for j in range(p):
            ones = X[:, j] != 0.0
            plain[j] &= bool((np.abs(X[ones, j] - 1.0) < 1e-9).all())
            varies[j] |= not ones.all()
            if ones.any():
                low, high = signs[ones].min(), signs[ones].max()
                ends[:, j] = min(ends[0, j], low), max(ends[1, j], high)

    problem.stored.visit(work, add)
    for j in np.flatnonzero(np.abs(d) > ENTRY):
        alike = plain[j] and varies[j] and ends[0, j] == ends[1, j] != 0.0
        value = ("0" if ends[0, j] < 0.0 else "1") if alike else None
        yield Separated(problem.rows.names[j], float(np.sign(d[j])), value)
