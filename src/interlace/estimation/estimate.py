"""Estimation of theta, and everything that follows from (cross-products, theta)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from interlace.covariance.templates import canonical
from interlace.errors import InterlaceError
from interlace.estimation.certificate import Convergence, certificate_of
from interlace.estimation.chance import level_covariances
from interlace.estimation.changeover import DearerError
from interlace.estimation.criterion import Criterion, Evaluation
from interlace.estimation.identified import (
    PERHAPS,
    ROUNDING,
    Undetermined,
    determined,
    undetermined,
)
from interlace.estimation.moments import moment_start
from interlace.estimation.optimize import Minimum
from interlace.estimation.probed import Probed, changed_over, search
from interlace.estimation.unbounded import minimised, require_maximum
from interlace.machine.threads import threads_for
from interlace.solver.equations import Exact, Iterative
from interlace.solver.probes import Chance
from interlace.solver.sharp import Sharp
from interlace.sums.crossprod import CrossProducts
from interlace.sums.sizes import Powers, Units, in_units, units_of_basis
from interlace.sums.terms import Floats, split_theta

# The way to what is not in the range of doubles.
_DEVIATION = "a standard deviation is, see tidy(effects='ran_pars'), or give it in other units"
_ERRORS = "standard errors are, see coef_table() of the result, or give it in other units"
# Logarithm of a size of the response that is far from 1.
_FAR = 100.0
# lme4's limit on the diagonal of a template below which a fit is called singular.
SINGULAR_TOLERANCE = 1e-4

Watch = Callable[[int, Evaluation, float], None]


@dataclass(frozen=True, eq=False)
class Estimate:
    """An optimum of a criterion, in the user's units.

    ``templates`` are the working templates; everything else is derived from them.  ``point`` is the
    criterion there, if it is known already.
    """

    criterion: Criterion
    templates: tuple[Floats, ...]
    convergence: Convergence
    point: Evaluation | None = None

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again when asked for."""
        kept = ("criterion", "templates", "convergence")
        return {name: getattr(self, name) for name in kept} | {"point": None}

    @cached_property
    def evaluation(self) -> Evaluation:
        """The criterion at the optimum."""
        known = self.point
        if known is not None and known.criterion is self.criterion:
            pairs = zip(known.factor.templates, self.templates, strict=True)
            if all(np.array_equal(one, other) for one, other in pairs):
                return known
        return self.criterion.at(self.templates)

    @property
    def chance(self) -> Chance:
        """What random probes leave open."""
        return self.evaluation.factor.chance

    @property
    def A(self) -> CrossProducts:
        """The cross-products of the data."""
        return self.criterion.A

    @cached_property
    def units(self) -> Units | None:
        """Units in which all numbers are near 1; ``None`` where those of the user are fine."""
        found = _units(self.A)
        return None if found.plain else found

    @cached_property
    def tame(self) -> Estimate:
        """The same fit of the data in other :attr:`units`: squares are in range there."""
        if self.units is None:
            return self
        sums = with_basis(self.A, self.units)
        return replace(self, criterion=self.criterion.on(sums), point=None)

    @cached_property
    def theta(self) -> Floats:
        """Relative covariance parameters in lme4's order."""
        return self.criterion.theta(self.templates)

    @cached_property
    def user_templates(self) -> list[Floats]:
        """Lower-triangular template of every term."""
        return split_theta(self.A.terms, self.theta)

    @cached_property
    def sigma(self) -> float:
        """Residual standard deviation."""
        return float(np.sqrt(self.evaluation.sigma2) / self.A.basis.response_scale)

    @property
    def variance(self) -> float:
        """Residual variance."""
        if self.units is not None:
            power = 2 * self.units.sigma
            return float(in_units(self.tame.variance, power, "the residual variance", _DEVIATION))
        return self.sigma**2

    @cached_property
    def deviations(self) -> tuple[Floats, ...]:
        """Standard deviations of the random effects, ``(k,)`` per term."""
        if self.units is not None:
            pairs = zip(self.tame.deviations, self.units.effects, strict=True)
            return tuple(in_units(sd, one, "a standard deviation") for sd, one in pairs)
        return tuple(np.sqrt(np.diag(C)) for C in self.covariances)

    @cached_property
    def b_se(self) -> tuple[Floats, ...]:
        """Roots of the diagonals of :attr:`b_cov`, ``(l, k)`` per term."""
        if self.units is not None:
            pairs = zip(self.tame.b_se, self.units.effects, strict=True)
            return tuple(in_units(se, one, "a standard error") for se, one in pairs)
        return tuple(np.sqrt(np.diagonal(C, axis1=1, axis2=2)) for C in self.b_cov)

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects, ``(p,)``."""
        F = self.A.basis.fixed
        working: Floats = F[:-1, :-1] @ self.evaluation.factor.beta
        if self.units is not None:
            return in_units(self.tame.beta, self.units.coefficients, "a coefficient")
        return (working - F[:-1, -1]) / float(F[-1, -1])

    @cached_property
    def vcov(self) -> Floats:
        """Covariance of the fixed effects at the estimated theta, ``(p, p)``."""
        if self.units is not None:
            return in_squared_units(self.tame.vcov, self.units.coefficients, "of a coefficient")
        F = self.sigma * self.A.basis.fixed[:-1, :-1]
        return np.asarray(F @ self.evaluation.factor.vcov @ F.T, dtype=np.float64)

    @property
    def se(self) -> Floats:
        """Roots of the diagonal of :attr:`vcov`, ``(p,)``."""
        if self.units is not None:
            return in_units(self.tame.se, self.units.coefficients, "a standard error")
        return np.sqrt(np.diag(self.vcov))

    def require_near(self, what: str) -> None:
        """Refuse what squares numbers that leave the range of doubles when squared."""
        if self.units is not None and self.units.beyond_squares:
            raise InterlaceError(
                f"{what} squares numbers that are too large or too small for it: give the "
                "response, or the column, in other units, and fit again"
            )

    def require_sums(self, what: str, instead: str = "") -> None:
        """Refuse what refits from sums, where these have lost the residuals."""
        if isinstance(self.criterion.equations, Sharp):
            self.evaluation.dense(what, instead)

    @cached_property
    def b(self) -> tuple[Floats, ...]:
        """Conditional modes (BLUPs) of the random effects, ``(l, k)`` per term."""
        scale = self.A.basis.response_scale
        return tuple(
            f.b @ B.T / scale
            for f, B in zip(self.evaluation.factor.effects, self.A.basis.random, strict=True)
        )

    @cached_property
    def b_cov(self) -> tuple[Floats, ...]:
        """Conditional covariances of the random effects given beta, theta, sigma: ``(l, k, k)``.

        Estimated by the iterative solver; see
        :func:`interlace.estimation.chance.level_covariances`.
        """
        if self.units is not None:
            return tuple(
                in_squared_units(C, power, "of a random effect")
                for C, power in zip(self.tame.b_cov, self.units.effects, strict=True)
            )
        parts = level_covariances(self.criterion.equations, self.evaluation.factor)
        return tuple(
            (self.sigma * B) @ C @ (self.sigma * B).T
            for C, B in zip(parts, self.A.basis.random, strict=True)
        )

    @property
    def covariances(self) -> list[Floats]:
        """Covariance of the random effects of one level, ``sigma^2 T T'``, per term."""
        if self.units is not None:
            return [
                in_squared_units(C, power, "of a random effect")
                for C, power in zip(self.tame.covariances, self.units.effects, strict=True)
            ]
        return [(self.sigma * T) @ (self.sigma * T).T for T in self.user_templates]

    @property
    def n_family(self) -> int:
        """Parameters beside fixed effects and templates: the residual variance."""
        return 1

    @property
    def value(self) -> float:
        """Criterion at the optimum."""
        return self.evaluation.value

    @property
    def is_singular(self) -> bool:
        """Whether any template has a (nearly) zero diagonal entry."""
        return bool(self.singular_groups)

    @cached_property
    def singular_groups(self) -> tuple[str, ...]:
        """Keys of the grouping factors whose template has a (nearly) zero diagonal entry.

        Entries are taken per root mean square of their column of ``Z`` (1 for an intercept), so
        that neither units nor a constant in the weights matter.
        """
        return singular_groups(self.A, self.user_templates)

    @cached_property
    def undetermined(self) -> Undetermined:
        """Which variance parameters the data leave open; nothing is known of iterative fits."""
        eigenvalues = np.abs(self.convergence.newton_eigenvalues)
        floor = max(PERHAPS * eigenvalues.max(initial=0.0), ROUNDING * self.criterion.nu)
        flat = int((eigenvalues <= floor).sum())
        turns = sum(t.template.size - t.n_theta for t in self.A.terms)
        clear = flat <= turns and not self.is_singular
        if clear or not isinstance(self.criterion.equations, Exact):
            return determined(self.A.terms)
        return undetermined(self.evaluation)


def in_squared_units(C: Floats, power: Powers, what: str) -> Floats:
    """Covariances ``(..., k, k)`` of what is in units ``2^power`` (k,)."""
    variances = np.diagonal(C, axis1=-2, axis2=-1)
    in_units(variances, 2 * power, f"a variance {what}", _ERRORS)
    found: Floats = np.ldexp(C, power[:, None] + power)
    return found


def singular_groups(A: CrossProducts, templates: Sequence[Floats]) -> tuple[str, ...]:
    """Grouping factors of which a template has a (nearly) zero diagonal entry."""
    parts = zip(A.terms, templates, A.basis.root_mean_squares, strict=True)
    found = [t.group for t, T, size in parts if is_singular(T, size)]
    return tuple(dict.fromkeys(found))


def is_singular(T: Floats, sizes: Floats) -> bool:
    """Whether the triangular form of a template has a (nearly) zero diagonal entry.

    ``sizes`` (k,) are the root mean squares of the columns.
    """
    return bool((np.diag(canonical(sizes[:, None] * T)) < SINGULAR_TOLERANCE).any())


def estimate_theta(
    criterion: Criterion,
    *,
    theta0: Floats | None = None,
    mc_tolerance: float = 0.01,
    watch: Watch | None = None,
) -> Estimate:
    """Minimise a criterion from a moment estimate, or from ``theta0`` in lme4's order.

    Where a variance is zero or near it, it is searched again from elsewhere, and the best taken;
    see :mod:`interlace.estimation.basins`.

    With the iterative solver the number of probes is raised until the Monte-Carlo standard error of
    every entry of theta is below ``mc_tolerance`` times its statistical one.
    """
    require_maximum(criterion)
    start = _start(criterion, theta0)
    if isinstance(equations := criterion.equations, Iterative):
        return _estimate_iteratively(criterion, equations, start, mc_tolerance, watch)
    if abs(math.log(criterion.A.basis.response_scale)) > _FAR:
        # The units of the response add a constant that would hide digits of the criterion.
        near = criterion.on(with_basis(criterion.A, _units(criterion.A)))
        return replace(_minimised(near, start, watch), criterion=criterion, point=None)
    return _minimised(criterion, start, watch)


def _minimised(criterion: Criterion, templates: Sequence[Floats], watch: Watch | None) -> Estimate:
    """The best minimum, first from working templates, by the exact solver."""
    with threads_for(criterion.rows_at_once):
        best = minimised(criterion, criterion.pack(templates), watch=watch)
    return _estimate(criterion, best.found, certificate_of(best))


def _units(A: CrossProducts) -> Units:
    """Units in which the numbers behind cross-products are near 1."""
    return units_of_basis(A.basis, A.n, A.sum_log_w)


def with_basis(A: CrossProducts, units: Units) -> CrossProducts:
    """Cross-products of data in units, from those of the data themselves."""
    return replace(
        A,
        basis=units.of_basis(A.basis),
        sum_log_w=A.sum_log_w - A.n * units.weights * float(np.log(2.0)),
    )


def _start(criterion: Criterion, theta0: Floats | None) -> Sequence[Floats]:
    """Working templates to start from."""
    if theta0 is None:
        return moment_start(criterion)
    return criterion.working(split_theta(criterion.A.terms, theta0))


def _estimate(
    criterion: Criterion, found: Minimum[Evaluation], convergence: Convergence
) -> Estimate:
    """The estimate at the end of a search."""
    return Estimate(criterion, tuple(criterion.unpack(found.x)), convergence, found.point)


def _estimate_iteratively(
    criterion: Criterion,
    equations: Iterative,
    start: Sequence[Floats],
    mc_tolerance: float,
    watch: Watch | None,
) -> Estimate:
    """Minimise by the iterative solver, or by the exact one once that turns out to be quicker."""
    of = Probed(lambda solver: replace(criterion, solver=solver), criterion, mc_tolerance, watch)
    try:
        found, convergence = search(of, equations, criterion.pack(start))
    except DearerError as why:
        exact = replace(criterion, solver=Exact())
        theta0 = exact.theta(exact.unpack(why.x))
        estimate = estimate_theta(exact, theta0=theta0, watch=of.later(why.evaluations))
        return replace(estimate, convergence=changed_over(estimate.convergence, why))
    return _estimate(found.point.criterion, found, convergence)


class Chanced(Protocol):
    """An estimate, some of which may be left to chance."""

    @property
    def convergence(self) -> Convergence:
        """The certificate."""
        ...

    @property
    def chance(self) -> Chance:
        """What random probes leave open."""
        ...


def difference_error(one: Chanced, other: Chanced) -> float:
    """Monte-Carlo standard error of the difference of two minima; zero for the exact solver.

    The same seed and number of probes make pairs, whose errors partly cancel.
    """
    stated = np.array([e.convergence.criterion_error or 0.0 for e in (one, other)])
    paired = one.chance.paired(other.chance)
    if paired is None:
        return float(np.linalg.norm(stated))
    sampled = np.array([e.chance.error for e in (one, other)])
    left = np.maximum(stated**2 - sampled**2, 0.0).sum()
    return float(np.sqrt(paired**2 + left))
