"""Fits by the iterative solver: the choice of it, and what random probes leave open in them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from interlace.estimation.certificate import Convergence
from interlace.estimation.chance import SEARCH, criterion_error_at, monte_carlo_errors
from interlace.estimation.changeover import largest_share, probes_needed
from interlace.estimation.criterion import reported_theta
from interlace.glmm.equations import Iterated
from interlace.glmm.laplace import Evaluation
from interlace.glmm.problem import Problem
from interlace.machine.threads import threads_for
from interlace.solver.choose import choose_solver
from interlace.solver.equations import Iterative
from interlace.solver.probes import Probes, covariance_of_mean
from interlace.sums.terms import Floats, pull

# Length of a step from which on the error of the gradient is that at the optimum.
_SHORT = 0.1


@dataclass(frozen=True)
class Solving:
    """Which solver was asked for, the seed of its probes, and the error that they may leave."""

    solver: str = "auto"
    seed: int = 0
    mc_tolerance: float = 0.01


def with_solver(problem: Problem, solving: Solving) -> Problem:
    """The problem with its solver chosen.

    Raises
    ------
    InterlaceError
        The solver, or with ``"auto"`` both, would need more memory than there is.
    """
    found = choose_solver(problem.pattern, solving.solver, solving.seed)
    return replace(problem, probes=found.probes if isinstance(found, Iterative) else None)


def threads_of(problem: Problem) -> AbstractContextManager[None]:
    """One thread for the linear algebra where the iterative solver forms nothing dense.

    Products with its sparse blocks have threads of their own, as many as there are when these are
    laid out.
    """
    if problem.probes is None:
        return nullcontext()
    _ = problem.layout
    return threads_for(0)


@dataclass(frozen=True, eq=False)
class Left:
    """Monte-Carlo and statistical errors of theta, fixed effects and auxiliary coefficients.

    ``criterion`` is the error of the criterion.
    """

    chance: Floats
    statistical: Floats
    criterion: float

    @property
    def share(self) -> float:
        """The largest of the former over the latter."""
        return largest_share(self.chance, self.statistical)


def left_open(problem: Problem, x: Floats, point: Evaluation, gain: float) -> Left:
    """What probes leave open at an optimum, and the search, which promised a ``gain``."""
    estimated = Estimated(point)
    chance, statistical = monte_carlo_errors(_Reported(problem), x, estimated)
    chance = np.hypot(chance, statistical * np.sqrt(max(gain, SEARCH**2)))
    return Left(chance, statistical, criterion_error_at(estimated))


def more_probes(problem: Problem, left: Left, mc_tolerance: float) -> Probes | None:
    """Probes with which less is left open than is tolerated; ``None`` if these are enough."""
    assert problem.probes is not None
    more = probes_needed(problem.probes.count, problem.layout.q, left.share / mc_tolerance)
    return None if more is None else replace(problem.probes, count=more)


def stated(certificate: Convergence, point: Evaluation, left: Left) -> Convergence:
    """The certificate of an optimum with the errors that probes leave."""
    n = sum(term.n_theta for term in point.problem.rows.terms)
    return replace(
        certificate,
        solver="iterative",
        monte_carlo_error=left.chance[:n],
        criterion_error=left.criterion,
        n_probes=point.equations.n_probes,
        n_iterations=point.equations.n_iterations,
        statistical_error=left.statistical[:n],
    )


@dataclass(eq=False)
class Doubt:
    """How far the values at the ends of a step may be from what the gradient says.

    Value and gradient are estimated from the same probes by two different formulas.  The value's
    error is taken to change by as much of itself as the templates do.  That of the gradient changes
    little once steps are short, and is found at the first of them.
    """

    covariance: Floats | None = None

    def __call__(self, point: Evaluation, step: Floats) -> float:
        """``step`` of all parameters."""
        error, size = point.equations.chance.error, float(np.linalg.norm(step))
        if not error:
            return 0.0
        smallest = min(float(np.abs(T).max()) for T in point.at.templates)
        along = size * error
        if size < _SHORT and self.covariance is None:
            self.covariance = Estimated(point).gradient_covariance
        if self.covariance is not None:
            along = float(np.sqrt(max(float(step @ self.covariance @ step), 0.0)))
        return 3.0 * (along + min(1.0, size / max(smallest, 1e-3)) * error)


@dataclass(frozen=True, eq=False)
class Estimated:
    """The criterion at a point as an estimate from random probes."""

    point: Evaluation

    @property
    def value(self) -> float:
        """Of the criterion."""
        return self.point.value

    @property
    def newton_matrix(self) -> Floats:
        """Near its second derivatives."""
        return self.point.newton_matrix

    @property
    def value_error(self) -> float:
        """Standard error of the value."""
        return self.point.equations.chance.error

    @cached_property
    def gradient_covariance(self) -> Floats:
        """Covariance of the error of the gradient, enlarged as standard errors are."""
        if not self.point.equations.chance.m:
            return np.zeros((len(self.point.gradient),) * 2)
        return covariance_of_mean(gradient_shares(self.point))


def gradient_shares(point: Evaluation) -> Floats:
    """Share of every probe in the gradient, ``(m, r)``; the mean, and what is known, are meant.

    The gradient is linear in traces and leverages: see :mod:`interlace.glmm.laplace`.
    """
    equations, problem, e = point.equations, point.problem, point.e
    assert isinstance(equations, Iterated)
    random, fixed = point.probe_sums()
    a = equations.solve(random)
    for side, own in zip(point.fixed_sums[0], a, strict=True):
        fixed = fixed - np.tensordot(side, own, axes=((0, 1), (0, 1)))
    q = [r - z for r, z in zip(random, equations.moved(a), strict=True)]
    each = []
    for i in range(equations.n_probes):
        G = []
        for traces, own, v, T in zip(
            equations.chance.traces, q, e, point.at.templates, strict=True
        ):
            qe = own[:, :, i].T @ v
            G.append((2.0 * traces[i] + qe + qe.T) @ T)
        pulled = pull(problem.rows.terms, point.at.templates, G)
        each.append(np.concatenate((pulled, fixed[:, i])))
    return np.stack(each)


@dataclass(frozen=True, eq=False)
class _Reported:
    """Theta in lme4's order and all other parameters as functions of the packed ones."""

    problem: Problem

    def unpack(self, x: Floats) -> list[Floats]:
        """All parameters as one vector, in a list."""
        return [x]

    def theta(self, templates: Sequence[Floats]) -> Floats:
        """The reported ones."""
        (x,) = templates
        rows, at = self.problem.rows, self.problem.unpack(x)
        theta = reported_theta(rows.terms, rows.basis, at.templates)
        return np.concatenate((theta, at.beta, at.gamma))
