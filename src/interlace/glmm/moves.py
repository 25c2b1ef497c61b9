"""How the modes answer to the parameters, and what that makes of errors of linear predictors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from interlace.glmm.laplace import Evaluation
from interlace.glmm.problem import Problem
from interlace.solver.rows import quadratic_forms
from interlace.sums.cells import Codes
from interlace.sums.rows import Basis, in_basis
from interlace.sums.terms import Floats

# Begins the message for fits of the iterative solver.
_ERRORS = "standard errors of predictions with random effects need"


class Optimum(Protocol):
    """Of an estimate, what errors of linear predictors need."""

    @property
    def problem(self) -> Problem: ...
    @property
    def x(self) -> Floats: ...
    @property
    def u(self) -> list[Floats]: ...
    @property
    def evaluation(self) -> Evaluation: ...
    @property
    def covariance(self) -> Floats: ...


def moves(optimum: Optimum) -> list[Floats]:
    """Derivatives of the modes ``b`` in the packed parameters, ``(l, k, r)`` a term.

    Effects are in the working basis.
    """
    problem, found = optimum.problem, optimum.evaluation
    templates, columns = found.at.templates, []
    for unit in np.eye(len(optimum.x)):
        to = problem.along(optimum.x, unit)
        # The prediction is linear in the step: that of a whole unit is the derivative.
        u = found.predicted(to)
        parts = zip(u, found.u, to.templates, templates, strict=True)
        columns.append([(new - old) @ T.T + old @ (to_T - T).T for new, old, to_T, T in parts])
    return [np.stack(column, axis=2) for column in zip(*columns, strict=True)]


def link_variances(
    optimum: Optimum, X: Floats, codes: Sequence[Codes], Z: Sequence[Floats]
) -> Floats:
    """Variance of ``x'(beta^ - beta) + sum of z'(b^ - b)``, ``(m,)``, parameters estimated.

    ``X`` has the kept columns, in the user's units; a code of -1 stands for no effect of the term.

    Notes
    -----
    ``z'C~z`` given the parameters, and ``J V J'``, ``J`` the derivatives of the linear predictor at
    the modes in all parameters and ``V`` their covariance.
    """
    given, J = link_slopes(optimum, X, codes, Z)
    return given + forms(J, optimum.covariance)


def link_slopes(
    optimum: Optimum, X: Floats, codes: Sequence[Codes], Z: Sequence[Floats]
) -> tuple[Floats, Floats]:
    """``z'C~z`` (m,) and ``J`` (m, r) of :func:`link_variances`."""
    problem = optimum.problem
    rows = in_basis(Basis(np.eye(1), problem.rows.random), codes, Z, np.zeros((len(X), 0)))
    t, _, r = problem.sizes
    J = np.concatenate(
        (np.zeros((len(X), t)), X @ problem.rows.fixed, np.zeros((len(X), r))), axis=1
    )
    known = [np.asarray(own >= 0) for own in codes]
    if not any(own.any() for own in known):
        return np.zeros(len(X)), J
    for own, some, z, db in zip(codes, known, rows.Z, moves(optimum), strict=True):
        J[some] += np.einsum("nk,nkr->nr", z[some], db[own[some]])
    return quadratic_forms(optimum.evaluation.equations.exact(_ERRORS), rows, fixed=False), J


def forms(J: Floats, V: Floats) -> Floats:
    """``j'V j`` of every row."""
    return np.asarray(np.einsum("ij,ij->i", J @ V, J))
