"""The estimate of a model whose residual variances follow a few numbers, and the search for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from interlace.estimation.basins import across, elsewhere, identity, suspect
from interlace.estimation.certificate import Convergence, certificate
from interlace.estimation.changeover import DearerError
from interlace.estimation.criterion import Criterion
from interlace.estimation.estimate import Estimate
from interlace.estimation.moments import moment_start
from interlace.estimation.optimize import Minimum, minimize
from interlace.estimation.probed import Probed, changed_over, search
from interlace.estimation.scaled import ScaledCriterion, ScaledEvaluation
from interlace.machine.threads import threads_for
from interlace.solver.equations import Exact, Iterative
from interlace.solver.probes import Chance
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats

Watch = Callable[[int, ScaledEvaluation, float], None]
# Values of the criterion that are one; what may be left to gain where its digits are lost.
_SAME, _LEFT = 1e-9, 1e-8


@dataclass(frozen=True, eq=False)
class ScaledEstimate:
    """An optimum of a criterion with residual variances by row, in the user's units.

    ``templates`` are the working templates, ``eta`` the numbers that the variances follow;
    everything else is that of the model with the weights that these give.  ``point`` is the
    criterion there, if it is known already.
    """

    criterion: ScaledCriterion
    templates: tuple[Floats, ...]
    eta: Floats
    convergence: Convergence
    point: ScaledEvaluation | None = None

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again when asked for."""
        kept = ("criterion", "templates", "eta", "convergence")
        return {name: getattr(self, name) for name in kept} | {"point": None}

    @cached_property
    def evaluation(self) -> ScaledEvaluation:
        """The criterion at the optimum."""
        known = self.point
        if known is not None and known.criterion is self.criterion:
            pairs = zip(known.point.factor.templates, self.templates, strict=True)
            same = all(np.array_equal(one, other) for one, other in pairs)
            if same and np.array_equal(known.eta, self.eta):
                return known
        return self.criterion.at(self.templates, self.eta)

    @cached_property
    def weighted(self) -> Estimate:
        """The model of independent residuals with the weights found, as if they were given."""
        point = self.evaluation.point
        return Estimate(point.criterion, self.templates, self.convergence, point)

    @property
    def chance(self) -> Chance:
        """What random probes leave open."""
        return self.weighted.chance

    @property
    def A(self) -> CrossProducts:
        """The cross-products at the weights found."""
        return self.weighted.A

    @property
    def beta(self) -> Floats:
        """Fixed effects, ``(p,)``."""
        return self.weighted.beta

    @property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1``, ``(p, p)``."""
        return self.weighted.vcov

    @property
    def b(self) -> tuple[Floats, ...]:
        """Conditional modes of the random effects, ``(l, k)`` per term."""
        return self.weighted.b

    @property
    def b_cov(self) -> tuple[Floats, ...]:
        """Their covariances given all parameters, ``(l, k, k)`` per term."""
        return self.weighted.b_cov

    @property
    def b_se(self) -> tuple[Floats, ...]:
        """Roots of the diagonals of :attr:`b_cov`, ``(l, k)`` per term."""
        return self.weighted.b_se

    @property
    def covariances(self) -> list[Floats]:
        """Covariance of the random effects of one level, per term."""
        return self.weighted.covariances

    @property
    def user_templates(self) -> list[Floats]:
        """Templates in the user's units, zeros exact."""
        return list(self.weighted.user_templates)

    @property
    def theta(self) -> Floats:
        """Relative covariance parameters: over the residual standard deviation at ``eta = 0``."""
        return self.weighted.theta

    @property
    def sigma(self) -> float:
        """Residual standard deviation at ``eta = 0`` and weight 1."""
        return self.weighted.sigma

    @property
    def value(self) -> float:
        """Criterion at the optimum."""
        return self.evaluation.value

    @property
    def n_family(self) -> int:
        """Parameters beside fixed effects and templates: ``sigma`` and ``eta``."""
        return 1 + len(self.eta)

    @property
    def singular_groups(self) -> tuple[str, ...]:
        """Grouping factors of which a variance is zero."""
        return self.weighted.singular_groups

    @property
    def is_singular(self) -> bool:
        """Whether a variance, or a combination of random effects, is zero."""
        return self.weighted.is_singular

    def templates_in(self, base: Criterion) -> list[Floats]:
        """The templates in the basis of another criterion."""
        return base.working(self.user_templates)

    @cached_property
    def root_weights(self) -> Floats:
        """Over ``sigma``, what makes the variance of every row 1: ``(n,)``."""
        return np.sqrt(self.evaluation.W)


def estimate_scaled(
    criterion: ScaledCriterion,
    *,
    near: ScaledEstimate | None = None,
    mc_tolerance: float = 0.01,
    watch: Watch | None = None,
) -> ScaledEstimate:
    """Minimise from moments, with equal variances, or from another estimate of the same terms.

    A variance of zero is no start, because zero is stationary: moments are taken in its place.
    Where a variance of random effects is zero or near it, and where correlations are parameters of
    their own, the criterion is searched again from elsewhere, and the lowest minimum is taken.

    With the iterative solver the number of probes is raised until the Monte-Carlo standard error of
    every entry of theta and of ``eta`` is below ``mc_tolerance`` times its statistical one; it is
    searched once, or by the exact solver from where that turns out to be quicker.

    Raises
    ------
    numpy.linalg.LinAlgError
        No residual variance is left.
    """
    base, q = criterion.base, criterion.scales.shape[1]
    start = np.append(base.pack(moment_start(base)), np.zeros(q))
    if near is not None and not near.is_singular:
        start = np.append(base.pack(near.templates_in(base)), near.eta)
    if not isinstance(equations := base.equations, Iterative):
        return _searched(criterion, start, watch)
    reported = Reported(base, criterion.n_templates)
    of = Probed(criterion.solved_by, reported, mc_tolerance, watch)
    try:
        found, convergence = search(of, equations, start)
    except DearerError as why:
        estimate = _searched(criterion.solved_by(Exact()), why.x, of.later(why.evaluations))
        return replace(estimate, convergence=changed_over(estimate.convergence, why))
    return _estimate(found, convergence)


def _searched(criterion: ScaledCriterion, start: Floats, watch: Watch | None) -> ScaledEstimate:
    """The best minimum by the exact solver."""
    with threads_for(criterion.base.rows_at_once):
        best = minimize(criterion, start, watch=watch, doubt=ScaledEvaluation.doubt)
        n, starts = best.n_evaluations, 1
        for x in _again(criterion, best):
            try:
                found = minimize(criterion, x, doubt=ScaledEvaluation.doubt)
            except np.linalg.LinAlgError:
                continue  # nothing can be evaluated there, so that nothing is found
            n, starts = n + found.n_evaluations, starts + 1
            lower = found.point.value < best.point.value - _SAME
            if found.converged >= best.converged and (lower or not best.converged):
                best = found
    convergence = replace(certificate(best), n_evaluations=n, n_starts=starts)
    lost = best.point.doubt(best.x) > 0.0 and convergence.predicted_gain < _LEFT
    if not convergence.converged and lost:
        message = "what is left to gain is below the rounding of weights that differ by far"
        convergence = replace(convergence, converged=True, message=message)
    return _estimate(best, convergence)


def _estimate(found: Minimum[ScaledEvaluation], convergence: Convergence) -> ScaledEstimate:
    """The estimate at the end of a search."""
    x, criterion = found.x, found.point.criterion
    t = criterion.n_templates
    templates = tuple(criterion.base.unpack(x[:t]))
    return ScaledEstimate(criterion, templates, x[t:], convergence, found.point)


@dataclass(frozen=True, eq=False)
class Reported:
    """Theta in lme4's order, and ``eta`` after it, as functions of what a search moves."""

    base: Criterion
    n_templates: int

    def unpack(self, x: Floats) -> list[Floats]:
        """All parameters as one vector, in a list."""
        return [x]

    def theta(self, templates: Sequence[Floats]) -> Floats:
        """The reported ones."""
        (x,) = templates
        t = self.n_templates
        return np.append(self.base.theta(self.base.unpack(x[:t])), x[t:])


def _again(criterion: ScaledCriterion, best: Minimum[ScaledEvaluation]) -> Iterator[Floats]:
    """Where to search again: other templates, with the variances of the rows as they were found."""
    base, terms, t = criterion.base, criterion.A.terms, criterion.n_templates
    templates, eta = base.unpack(best.x[:t]), best.x[t:]
    starts = list(across(terms, templates))
    if not best.converged or bool(suspect(terms, templates)):
        newton = best.point.newton_matrix[:t, :t]
        units = [identity(B) for B in criterion.A.basis.random]
        starts += elsewhere(terms, templates, newton, units, loose=False)
    for start in starts:
        yield np.append(base.pack(start), eta)
