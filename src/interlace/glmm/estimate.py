"""Estimation: the search for the optimum, and everything that follows from the optimum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from interlace.errors import InterlaceError
from interlace.estimation.certificate import Convergence
from interlace.estimation.criterion import reported_theta
from interlace.estimation.estimate import is_singular
from interlace.estimation.identified import (
    Undetermined,
    determined,
    in_users_columns,
    template_changes,
)
from interlace.glmm.curvature import (
    FLAT,
    Approximation,
    certificate,
    differenced,
    moving,
    polished,
    upright,
)
from interlace.glmm.families import Family
from interlace.glmm.laplace import Evaluation, Laplace
from interlace.glmm.links import unbounded
from interlace.glmm.points import Watch
from interlace.glmm.probing import Solving, stated, threads_of, with_solver
from interlace.glmm.problem import Parameters, Problem
from interlace.glmm.search import Search, lowest, whole_of
from interlace.glmm.separated_passes import separated_passes
from interlace.glmm.separation import Separated, directions_to_infinity, suspicious
from interlace.glmm.start import start_of
from interlace.glmm.streamed import StreamedProblem
from interlace.glmm.working import Working
from interlace.solver.probes import Chance
from interlace.sums.terms import Floats, split_theta

# Share of the largest curvature below which a direction has none (differences of gradients tell
# 1e-6, and the flattest determined ones of small models have 1e-3), and of a unit vector that makes
# it one of the templates.
_OPEN, _MOSTLY = 1e-5, 0.5


@dataclass(frozen=True, eq=False)
class GeneralEstimate:
    """An optimum of a generalised model, in the user's units.

    Attributes
    ----------
    problem, approximation
        What was fitted, and how its likelihood was approximated.
    x, u
        Packed parameters, and spherical effects at the modes.
    hessian
        Second derivatives of the criterion in the packed parameters.
    convergence, n_steps
        The certificate, and the steps taken in the searches for modes.
    optimum
        The criterion there as the search left it, of rows added up where many share a pattern;
        ``None`` after unpickling.
    known
        The value there, where a batch has found it.
    """

    problem: Problem
    approximation: Approximation
    x: Floats
    u: list[Floats]
    hessian: Floats
    convergence: Convergence
    n_steps: int
    optimum: Evaluation | None = None
    known: float | None = None

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again when asked for."""
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        # without rows nothing could be computed again
        return state if isinstance(self.problem, StreamedProblem) else state | {"optimum": None}

    @property
    def A(self) -> Working:
        """Names, terms and sizes of the model, by the name that other estimates have for them."""
        return self.problem.rows

    @property
    def family(self) -> Family:
        """The family, with its link."""
        return self.problem.family

    @cached_property
    def at(self) -> Parameters:
        """Working templates, fixed effects and auxiliary coefficients."""
        return self.problem.unpack(self.x)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The criterion at the optimum, of single rows."""
        if self.optimum is not None and self.optimum.problem is self.problem:
            return self.optimum
        found = self.approximation(self.problem, self.at, self.u)
        assert found is not None
        return found

    @property
    def summed(self) -> Evaluation:
        """The criterion at the optimum, of rows or of sums over rows."""
        return self.evaluation if self.optimum is None else self.optimum

    @property
    def chance(self) -> Chance:
        """What random probes leave open."""
        return self.summed.equations.chance

    @cached_property
    def value(self) -> float:
        """Minus twice the log-likelihood at the optimum, without the penalty of a prior."""
        found = self.summed.value if self.known is None else self.known
        return found - self.problem.penalty(self.at.beta)

    @cached_property
    def theta(self) -> Floats:
        """Templates in lme4's order and the user's units: standard deviations where scalar."""
        return reported_theta(self.A.terms, self.A.basis, self.at.templates)

    @cached_property
    def user_templates(self) -> list[Floats]:
        """Lower-triangular template of every term."""
        return split_theta(self.A.terms, self.theta)

    @property
    def covariances(self) -> list[Floats]:
        """Covariance of the random effects of one level, per term."""
        return [T @ T.T for T in self.user_templates]

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects, ``(p,)``."""
        return self.A.fixed @ self.at.beta

    @cached_property
    def vcov(self) -> Floats:
        """Covariance of the fixed effects, all parameters estimated, ``(p, p)``."""
        t, p, _ = self.problem.sizes
        return self.A.fixed @ self.covariance[t : t + p, t : t + p] @ self.A.fixed.T

    @cached_property
    def covariance(self) -> Floats:
        """Covariance of all packed parameters: twice the inverse of the second derivatives.

        Rotations of a template, which change nothing, are left out; a direction without curvature
        has an infinite variance.
        """
        Q = upright(self.problem, self.at, self.approximation)
        values, vectors = np.linalg.eigh(Q.T @ self.hessian @ Q)
        floor = FLAT * np.abs(values).max(initial=0.0)
        scaled = Q @ vectors * np.sqrt(2.0 / np.maximum(values, floor))
        return np.asarray(scaled @ scaled.T)

    @cached_property
    def undetermined(self) -> Undetermined:
        """Which variances and covariances the data leave open: directions without curvature."""
        terms = self.A.terms
        Q = upright(self.problem, self.at, self.approximation)
        values, vectors = np.linalg.eigh(Q.T @ self.hessian @ Q)
        flat = np.abs(values) <= _OPEN * np.abs(values).max(initial=0.0)
        open_ = (Q @ vectors[:, flat])[: self.problem.sizes[0]]
        open_ = open_[:, np.linalg.norm(open_, axis=0) > _MOSTLY]  # others are coefficients'
        if not open_.shape[1]:
            return determined(terms)
        changes = template_changes(terms, self.at.templates, open_)
        nothing = np.zeros(open_.shape[1])
        return in_users_columns(self.A.basis, self.at.templates, changes, nothing)

    @cached_property
    def gamma(self) -> Floats:
        """Auxiliary coefficients."""
        return self.at.gamma

    @property
    def n_family(self) -> int:
        """Auxiliary coefficients."""
        return len(self.gamma)

    @cached_property
    def family_coefficients(self) -> Floats:
        """Auxiliary coefficients in the user's units, ``(r,)``."""
        parts = self.problem.parts
        return parts.basis @ self.gamma + parts.shift @ self.beta

    @cached_property
    def family_covariance(self) -> Floats:
        """Their covariance, ``(r, r)``."""
        p = self.A.p
        return self.joint_covariance[p:, p:]

    @cached_property
    def user_slopes(self) -> Floats:
        """Derivatives of fixed effects and auxiliary coefficients, in the user's units, in the
        packed parameters: ``(p + r, .)``.
        """
        (t, p, r), parts = self.problem.sizes, self.problem.parts
        J = np.zeros((p + r, t + p + r))
        J[:p, t : t + p] = self.A.fixed
        J[p:, t : t + p] = parts.shift @ self.A.fixed
        J[p:, t + p :] = parts.basis
        return J

    @cached_property
    def joint_covariance(self) -> Floats:
        """Covariance of the fixed effects and the auxiliary coefficients, ``(p + r, p + r)``."""
        J = self.user_slopes
        return np.asarray(J @ self.covariance @ J.T)

    @property
    def auxiliary(self) -> float | None:
        """The dispersion, size or precision of a family that has one, the same for every row."""
        scale = self.problem.parts.scale
        named = bool(self.family.auxiliary) and scale[0] == "log"
        return float(np.exp(self.gamma[0])) if named else None

    @cached_property
    def omega(self) -> Floats:
        """The auxiliary predictors of every row, ``(K, n)``."""
        return self.problem.omega(self.gamma)

    @cached_property
    def b(self) -> tuple[Floats, ...]:
        """Conditional modes of the random effects, ``(l, k)`` per term."""
        parts = zip(self.u, self.at.templates, self.A.random, strict=True)
        return tuple(u @ T.T @ B.T for u, T, B in parts)

    @cached_property
    def b_cov(self) -> tuple[Floats, ...]:
        """Conditional covariances of the random effects given all parameters: ``(l, k, k)``."""
        parts = zip(self.summed.equations.level_covariances(), self.A.random, strict=True)
        return tuple(B @ C @ B.T for C, B in parts)

    @property
    def b_se(self) -> tuple[Floats, ...]:
        """Roots of the diagonals of :attr:`b_cov`, ``(l, k)`` per term."""
        return tuple(np.sqrt(np.diagonal(C, axis1=1, axis2=2)) for C in self.b_cov)

    @cached_property
    def eta(self) -> Floats:
        """Linear predictor of every row at the modes."""
        b = [u @ T.T for u, T in zip(self.u, self.at.templates, strict=True)]
        return self.problem.fixed_part(self.at.beta) + self.A.image(b)

    @cached_property
    def singular_groups(self) -> tuple[str, ...]:
        """Keys of the grouping factors whose template has a (nearly) zero diagonal entry.

        Entries are taken per root mean square of their column, in working units of the linear
        predictor.
        """
        sizes = self.A.basis.root_mean_squares
        found = [
            t.group
            for t, T, size in zip(self.A.terms, self.user_templates, sizes, strict=True)
            if is_singular(T, size)
        ]
        return tuple(dict.fromkeys(found))

    @cached_property
    def separated(self) -> tuple[Separated, ...]:
        """Coefficients without a finite estimate, looked for where anything hints at it."""
        problem = self.problem
        t, p, _ = problem.sizes
        se = np.sqrt(np.diag(self.covariance)[t : t + p])
        if problem.precision is not None:
            return ()
        if isinstance(problem, StreamedProblem):
            return separated_passes(problem, self.at.beta, se)
        if not suspicious(problem, self.at.beta, se):
            return ()
        return tuple(directions_to_infinity(problem))

    @property
    def is_singular(self) -> bool:
        """Whether any template has a (nearly) zero diagonal entry."""
        return bool(self.singular_groups)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # trial steps are checked
def estimate_general(
    problem: Problem,
    approximation: Approximation,
    *,
    near: GeneralEstimate | None = None,
    watch: Watch | None = None,
    solving: Solving | None = None,
) -> GeneralEstimate:
    """Minimise the criterion over templates, fixed effects and auxiliary coefficients together.

    The search starts at the optimum ``near``, of another response for the same rows, unless that is
    singular, where every criterion is stationary.  With ``solving`` the solver is chosen, otherwise
    it is that of the problem.
    """
    plain = approximation.nodes == 1 and not approximation.restricted
    if not plain:
        problem = replace(problem, probes=None)
    summed = problem.collapsed()
    if solving is not None and plain:
        summed = with_solver(summed, solving)
    with threads_of(summed):
        found = _estimated(summed, approximation, near, watch, (solving or Solving()).mc_tolerance)
    if summed.rows is problem.rows:
        return found
    return replace(found, problem=replace(problem, probes=found.problem.probes))


def _estimated(
    summed: Problem,
    approximation: Approximation,
    near: GeneralEstimate | None,
    watch: Watch | None,
    mc_tolerance: float,
) -> GeneralEstimate:
    """The estimate of rows added up, by the solver of the problem."""
    at, u = _near(summed, approximation, near) or begun(summed, approximation)
    start, free = summed.pack(*at), moving(summed, approximation)
    search = Search(summed, approximation, u, start, free)
    search, found, left = lowest(search, watch, mc_tolerance)
    point, summed = whole_of(found.point), search.problem
    if not isinstance(point, Evaluation):
        raise InterlaceError(
            "the likelihood is no number where the search starts: with their offset, linear "
            "predictors of rows leave the range in which means are numbers; check offset=, "
            "exposure= and the units of the columns"
        )
    x = summed.pack(*point.at)
    Q = upright(summed, point.at, approximation)
    hessian = differenced(approximation, x, point, Q)
    to, there = polished(approximation, x, point, hessian, Q)
    if there is not point:
        x, point = to, there
        Q = upright(summed, point.at, approximation)
        hessian = differenced(approximation, x, point, Q)
    convergence = certificate(found, point.gradient, hessian, Q)
    return GeneralEstimate(
        problem=summed,
        approximation=approximation,
        x=x,
        u=point.u,
        hessian=hessian,
        convergence=convergence if left is None else stated(convergence, point, left),
        n_steps=search.n_steps,
        optimum=point,
    )


def maximised(estimate: GeneralEstimate) -> GeneralEstimate:
    """The estimate by maximum likelihood, of one that integrates over fixed effects too."""
    if not estimate.approximation.restricted:
        return estimate
    return estimate_general(estimate.problem, Laplace(), near=estimate)


def _near(
    problem: Problem, approximation: Approximation, near: GeneralEstimate | None
) -> tuple[Parameters, list[Floats]] | None:
    """The optimum of another response, if it has a likelihood and is no stationary point."""
    if near is None or near.is_singular or approximation(problem, near.at, near.u) is None:
        return None
    return near.at, near.u


def begun(problem: Problem, approximation: Approximation) -> tuple[Parameters, list[Floats]]:
    """A start that has a likelihood.

    Links whose domain is bounded may have no mode inside it unless the variances are small.

    Raises
    ------
    InterlaceError
        There is none even then.
    """
    link = problem.family.link
    for joint in (True, False):
        if isinstance(problem, StreamedProblem):
            at, u = problem.begun()
        else:
            at, u = start_of(problem, joint=joint)
        if unbounded(link):
            return at, u
        for share in (1.0, 0.3, 0.1, 0.01):
            smaller = Parameters([share * T for T in at.templates], at.beta, at.gamma)
            if approximation(problem, smaller, u) is not None:
                return smaller, u
    raise InterlaceError(
        f"with link={link.name!r} the random effects of family={problem.family.name!r} drive means "
        f"out of their range, so that the likelihood has no maximum inside it: use another link"
    )
