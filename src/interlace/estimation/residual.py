"""The estimate of a model with a residual structure: what follows from its optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import accumulate, pairwise

import numpy as np

from interlace.covariance.stacks import Stack
from interlace.errors import InterlaceError
from interlace.estimation.basins import raised
from interlace.estimation.certificate import Convergence, certificate
from interlace.estimation.criterion import reported_theta
from interlace.estimation.crossed import CrossedEvaluation
from interlace.estimation.estimate import singular_groups
from interlace.estimation.optimize import Minimum, minimize
from interlace.estimation.structured import (
    StructuredCriterion,
    StructuredEvaluation,
)
from interlace.machine.threads import threads_for
from interlace.solver.probes import CERTAIN, Chance
from interlace.sums.crossprod import CrossProducts
from interlace.sums.terms import Floats, split_theta

Watch = Callable[[int, StructuredEvaluation, float], None]
# Eigenvalues of the information, scaled to a unit diagonal, that leave a direction open.
_OPEN = 1e-9
# Eigenvalues of a correlation matrix that count as zero.
_SINGULAR = 1e-8
# Steps from the start, in the free numbers, of further searches where one did not end.
_ELSEWHERE = (0.5, -0.5)
# Subjects below which, and an eigenvalue of correlations below which, there may be several minima;
# how many further searches there are then, how far they begin, and what counts as lower.
_FEW, _NEAR, _MORE, _SPREAD, _LOWER = 150, 0.1, 6, 0.8, 1e-6
# Random effects to start from over the usual ones, and as a share of what they can be.
_LARGE, _SHARE = 3.0, 0.9
# A search has run into a known minimum where its value is what the quadratic model there says, to
# this share, and little is left to gain.
_LIKE, _LITTLE = 0.3, 5.0

_Found = Minimum[StructuredEvaluation]


@dataclass(frozen=True, eq=False)
class StructuredEstimate:
    """An optimum of a criterion with a residual structure, in the user's units.

    ``x`` are the free numbers of all groups; everything else is derived from them.
    """

    criterion: StructuredCriterion
    x: Floats
    convergence: Convergence

    def __getstate__(self) -> dict[str, object]:
        """Fields alone: what is derived is computed again when asked for."""
        return {name: getattr(self, name) for name in ("criterion", "x", "convergence")}

    @property
    def chance(self) -> Chance:
        """Nothing is left to chance."""
        return CERTAIN

    @cached_property
    def evaluation(self) -> StructuredEvaluation:
        """The criterion at the optimum."""
        return self.criterion(self.x)

    @property
    def A(self) -> CrossProducts:
        """Labels, and cross-products without regard to subjects."""
        return self.criterion.A

    @property
    def unit(self) -> float:
        """One working unit of the response in the user's units."""
        return 1.0 / self.A.basis.response_scale

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects, ``(p,)``."""
        F = self.A.basis.fixed
        working: Floats = F[:-1, :-1] @ self.evaluation.beta
        return np.asarray((working - F[:-1, -1]) / float(F[-1, -1]))

    @cached_property
    def vcov(self) -> Floats:
        """``(X' V^-1 X)^-1``, ``(p, p)``."""
        return self.in_users(self.evaluation.C)

    def in_users(self, C: Floats) -> Floats:
        """A covariance of the working fixed effects as one of the fixed effects."""
        F = self.unit * self.A.basis.fixed[:-1, :-1]
        return np.asarray(F @ C @ F.T, dtype=np.float64)

    @cached_property
    def residual_covariances(self) -> Floats:
        """Covariance of residuals at all visits, of every group with one of its own."""
        return self.unit**2 * self.criterion.stack.residual(self.x)

    @property
    def degenerate(self) -> bool:
        """Whether a covariance of visits is singular: the likelihood has no maximum then."""
        return is_degenerate(self.evaluation)

    # -------------------------------------------------------------- random effects of subjects

    @property
    def templates(self) -> list[Floats]:
        """Working templates of the random terms, in working units of the response."""
        found = zip(self.criterion.order, self.criterion.stack.templates_at(self.x), strict=True)
        return [T for _, T in sorted(found, key=lambda pair: pair[0])]

    @property
    def template_places(self) -> list[slice]:
        """Of the random terms' numbers among the free ones."""
        sizes = [t.size for t in self.criterion.stack.templates]
        ends = accumulate(sizes, initial=len(self.x) - sum(sizes))
        found = zip(self.criterion.order, pairwise(ends), strict=True)
        return [slice(*ends) for _, ends in sorted(found)]

    @property
    def effect_bases(self) -> list[Floats]:
        """Working effects to effects in the user's units."""
        return [self.unit * B for B in self.A.basis.random]

    @property
    def user_templates(self) -> list[Floats]:
        """Templates of the random terms in the user's units."""
        return [B @ T for B, T in zip(self.effect_bases, self.templates, strict=True)]

    @property
    def covariances(self) -> list[Floats]:
        """Covariance of the random effects of one subject, per term."""
        return [T @ T.T for T in self.user_templates]

    @cached_property
    def theta(self) -> Floats:
        """Entries of the templates over the residual standard deviation, in lme4's order."""
        if not self.A.terms:
            return np.zeros(0)
        sigma = np.sqrt(self.criterion.stack.residual(self.x)[0, 0, 0])
        return reported_theta(self.A.terms, self.A.basis, [T / sigma for T in self.templates])

    @property
    def n_family(self) -> int:
        """Parameters beside fixed effects and templates: those of the residual structure."""
        return len(self.x) - sum(t.template.size for t in self.A.terms)

    @property
    def singular_groups(self) -> tuple[str, ...]:
        """Grouping factors of which a variance is zero."""
        return singular_groups(self.A, split_theta(self.A.terms, self.theta))

    @property
    def is_singular(self) -> bool:
        """Whether a variance, or a combination of random effects, is zero."""
        return bool(self.A.terms) and bool(self.singular_groups)

    @cached_property
    def b(self) -> tuple[Floats, ...]:
        """Conditional modes of the random effects, ``G Z' V^-1 r``: ``(l, k)`` per term."""
        return tuple(
            self._scored(j) @ T @ T.T @ B.T
            for j, (B, T) in enumerate(zip(self.effect_bases, self.templates, strict=True))
        )

    def _scored(self, j: int) -> Floats:
        """``Z' V^-1 r`` of a term, ``(l, k)``."""
        at, P, place = self.evaluation, self.criterion.patterns, self.criterion.order.index(j)
        if place >= len(self._designs):
            assert isinstance(at, CrossedEvaluation)
            return at.crossing.own(place - len(self._designs), at.left)[:, :, -1]
        Z = self._designs[place]
        found = np.zeros((P.n_subjects, Z.shape[2]))
        own = Z[P.groups[P.kept.pattern]]
        found[P.kept.subjects] = np.einsum("svk,sv->sk", own, at.images[:, :, -1])
        return found

    @cached_property
    def b_cov(self) -> tuple[Floats, ...]:
        """Their covariances given all parameters, ``G - G Z' V^-1 Z G``: ``(l, k, k)``."""
        found = []
        for j, (B, T) in enumerate(zip(self.effect_bases, self.templates, strict=True)):
            place = self.criterion.order.index(j)
            if place < len(self._designs):
                own = T @ T.T
                left = own - own @ self.evaluation.inner_blocks(self._designs[place]) @ own
            else:
                assert isinstance(self.evaluation, CrossedEvaluation)
                at, place = self.evaluation, place - len(self._designs)
                left = at.crossing.diagonal(place, at.M)
            found.append(B @ left @ B.T)
        return tuple(found)

    @property
    def b_se(self) -> tuple[Floats, ...]:
        """Roots of the diagonals of :attr:`b_cov`, ``(l, k)`` per term."""
        variances = [np.diagonal(C, axis1=1, axis2=2) for C in self.b_cov]
        return tuple(np.sqrt(np.maximum(v, 0.0)) for v in variances)

    @property
    def _designs(self) -> Sequence[Floats]:
        """Working ``Z`` of the random terms of the subject, by group and visit."""
        return self.criterion.stack.designs

    @property
    def value(self) -> float:
        """Criterion at the optimum."""
        return self.evaluation.value

    # -------------------------------------------------------------- parameters of the structure

    @cached_property
    def expected(self) -> Floats:
        """``tr(P V_a P V_b)`` for the free numbers; without projection for ML."""
        return self.evaluation.expected(self.evaluation.jacobians)

    @cached_property
    def information(self) -> Floats:
        """Second derivatives of the criterion: twice their average with the expected, less that."""
        at = self.evaluation
        return 2.0 * at.average(at.jacobians) - self.expected + at.bends

    @cached_property
    def x_covariance(self) -> Floats:
        """Covariance of the free numbers: twice the inverse of :attr:`information`.

        Directions that change nothing are left out.

        Raises
        ------
        InterlaceError
            The data leave a parameter of the structure open.
        """
        H = 0.5 * (self.information + self.information.T)
        unit = 1.0 / np.sqrt(np.maximum(np.diag(H), np.finfo(np.float64).tiny))
        values, vectors = np.linalg.eigh(H * np.outer(unit, unit))
        live = values > _OPEN
        if not np.isfinite(values).all() or (~live).sum() > self.criterion.stack.turns:
            raise InterlaceError(
                "the data do not determine all parameters of the residual structure, so that "
                "degrees of freedom and standard errors that depend on them are not known: take "
                "a structure with fewer parameters, or ddf='normal', 'residual' or 'between-within'"
            )
        half = unit[:, None] * vectors[:, live]
        return np.asarray(2.0 * (half / values[live]) @ half.T)

    @cached_property
    def parameters(self) -> tuple[Floats, Floats]:
        """Reported parameters of the residuals, and their covariance."""
        values, J = self.criterion.stack.reported(self.x, self.unit)
        return values, np.asarray(J @ self.x_covariance @ J.T)


def is_degenerate(at: StructuredEvaluation) -> bool:
    """Whether a correlation matrix of visits has an eigenvalue near zero.

    With few subjects seen at the same visits a combination of these may have a variance of zero:
    the likelihood grows without bound on the way there.
    """
    return least_eigenvalue(at) < _SINGULAR


def least_eigenvalue(at: StructuredEvaluation) -> float:
    """The least eigenvalue of the correlations of all visits, in any group."""
    S = at.covariances
    sd = np.sqrt(np.diagonal(S, axis1=1, axis2=2))
    return float(np.linalg.eigvalsh(S / (sd[:, :, None] * sd[:, None, :])).min())


def estimate_structured(
    criterion: StructuredCriterion,
    *,
    start: Floats | None = None,
    watch: Watch | None = None,
) -> StructuredEstimate:
    """Minimise a criterion from the moments of the residuals of least squares.

    A search that does not end is tried again from elsewhere, and so is one that may have ended in
    one of several minima; the lowest is taken.  From another ``start`` the search from the moments
    is one of these.
    """
    usual = criterion.start()
    with threads_for(criterion.patterns.V):
        best = minimize(criterion, usual if start is None else start, watch=watch)
        n, seen = best.n_evaluations, [best]
        for x in _again(criterion, usual, seen, moments=start is not None):
            other = minimize(criterion, x, watch=watch, leave=partial(_known, seen))
            n += other.n_evaluations
            seen.append(other)
    best = reduce(_better, seen)
    convergence = replace(certificate(best), n_evaluations=n, n_starts=len(seen))
    if best.converged and is_degenerate(best.point):
        # Rounding can end a search on its way to where the likelihood has no bound.
        why = "the covariance of the residuals is singular"
        convergence = replace(convergence, converged=False, message=why)
    return StructuredEstimate(criterion, best.x, convergence)


def _again(
    criterion: StructuredCriterion, usual: Floats, seen: Sequence[_Found], *, moments: bool
) -> Iterator[Floats]:
    """Where to search again, after what was ``seen``; ``usual`` is the start from moments.

    There may be several minima with few subjects, where the covariance is not far from singular,
    and where random effects of the subject tell nearly what correlated residuals tell.
    """
    if moments:
        yield usual
    for step in _ELSEWHERE:
        if (best := reduce(_better, seen)).converged or not _regular(best):
            break
        yield usual + step
    best, stack = reduce(_better, seen), criterion.stack
    few = criterion.patterns.n_subjects < _FEW
    if few and _regular(best) and (stack.templates or not best.converged):
        yield from _apart(criterion, usual, best.x)
    several = bool(stack.designs) and not stack.homogeneous
    sure = best.converged and _regular(best)
    if few and sure and (several or least_eigenvalue(best.point) < _NEAR):
        for step in np.random.default_rng(0).normal(size=(_MORE, len(usual))):
            yield usual + _SPREAD * step


def _apart(criterion: StructuredCriterion, usual: Floats, best: Floats) -> Iterator[Floats]:
    """Starts with large random effects, and with none of them zero, without correlation or with."""
    stack = criterion.stack
    own = len(usual) - sum(t.size for t in stack.templates)
    alone = stack.start(stack(usual) * np.eye(criterion.patterns.V))
    yield np.append(alone[:own], usual[own:])
    if not stack.templates:
        return
    templates = stack.templates_at(best)
    sd = float(np.sqrt(np.diagonal(stack.residual(best), axis1=1, axis2=2).mean()))
    higher = _packed(stack, [raised(T, sd) for T in templates])
    yield np.append(usual[:own], _packed(stack, [_LARGE * T for T in stack.templates_at(usual)]))
    yield np.append(best[:own], higher)
    yield np.append(alone[:own], higher)
    if stack.designs:
        yield _most(stack, usual)
    turned = [t.elsewhere(T) for t, T in zip(stack.templates, templates, strict=True)]
    if any(T is not None for T in turned):
        pairs = zip(turned, templates, strict=True)
        yield np.append(best[:own], _packed(stack, [T if U is None else U for U, T in pairs]))


def _packed(stack: Stack, templates: Sequence[Floats]) -> Floats:
    """The numbers of the templates of all random terms."""
    pairs = zip(stack.templates, templates, strict=True)
    return np.concatenate([t.pack(T) for t, T in pairs])


def _most(stack: Stack, usual: Floats) -> Floats:
    """A start with as much of the moments as can be due to random effects of the subject."""
    S, templates = stack(usual), stack.templates_at(usual)
    halves = [Z @ T for Z, T in zip(stack.designs, templates, strict=False)]
    shared = sum((h @ np.swapaxes(h, 1, 2) for h in halves), np.zeros(S.shape))
    root = np.linalg.inv(np.linalg.cholesky(S))
    share = _SHARE / float(np.linalg.eigvalsh(root @ shared @ np.swapaxes(root, 1, 2)).max())
    x = stack.start(S - share * shared)
    count = sum(t.size for t in stack.templates)
    x[len(x) - count :] = np.sqrt(share) * usual[len(x) - count :]
    return x


def _regular(found: _Found) -> bool:
    """Whether a search is at a point, and not on its way to where the likelihood has no bound."""
    return bool(np.isfinite(found.point.value)) and not is_degenerate(found.point)


def _better(best: _Found, other: _Found) -> _Found:
    """The lower of two minima, of which what has no bound and what was not found are none."""
    for known in (_regular, lambda found: found.converged):
        if known(other) != known(best):
            return other if known(other) else best
    return other if other.point.value < best.point.value - _LOWER else best


def _known(seen: Sequence[_Found], x: Floats, point: StructuredEvaluation, gain: float) -> bool:
    """Whether a search is in the bowl of a known minimum, as the quadratic model there says."""
    for known in seen:
        excess = point.value - known.point.value
        if known.converged and -_LOWER < excess < _LITTLE and gain < _LITTLE:
            away = x - known.x
            model = 0.5 * float(away @ known.point.newton_matrix @ away)
            if abs(model - excess) <= _LIKE * excess + _LOWER:
                return True
    return False
