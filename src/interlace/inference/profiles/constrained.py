"""The ML deviance with one quantity held fixed: what a profile likelihood minimises.

A :class:`Path` is a family of constrained problems, one for every ``psi``, the coordinate of the
quantity that is held: a fixed effect, a standard deviation or a correlation of random effects, or
the residual standard deviation.  ``path.at(psi, phi)`` is the deviance there as a function of the
free ``phi``, with exact gradient and Newton matrix, and its derivatives along ``psi``.

Fixed effect
    ``psi = c' beta``.  The profiled deviance of the templates stays, with ``r2`` replaced by
    ``r2 + (psi - c' beta)^2 / c' C c``, ``C = (X' V^-1 X)^-1``: least squares under one linear
    constraint.
Variance parameters
    The deviance that is left when only ``beta`` is profiled out, ``D(T, sigma) = log|A| +
    n log(2 pi sigma^2) + r2(T) / sigma^2``, in absolute templates ``tau = sigma T``.  It does not
    change under ``tau -> tau Q`` with orthogonal ``Q``.  A standard deviation is the length of a
    row of ``tau``: the row is held at ``(psi, 0, .., 0)``.  A correlation is the cosine between
    two rows: they are held at ``s_a (1, 0, ..)`` and ``s_b (sin psi, cos psi, 0, ..)``, where
    ``s = s-hat r^2`` keeps lengths from turning negative; ``r = 0`` is an ordinary point.

Rows are those of the user's templates; everything else is in the working basis, so that neither
units nor an origin far away matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

import numpy as np
from scipy.linalg.lapack import dtrtrs

from interlace.covariance.templates import Map
from interlace.estimation.criterion import Criterion, Evaluation
from interlace.estimation.estimate import Estimate
from interlace.estimation.likelihood import gaussian_at
from interlace.estimation.optimize import Point
from interlace.solver.exact import Factor, TermEffects
from interlace.sums.terms import Floats

# What is added to the diagonals of singular templates for another start.
_LIFT = 0.3

# Begins the message for fits of the iterative solver.
_PROFILES = "profiles need"


class PathPoint(Point, Protocol):
    """The deviance and its derivatives at one ``(psi, phi)``.

    ``gradient`` and ``newton_matrix`` are those with respect to ``phi``; ``slope, curvature`` the
    first and second derivative along ``psi``, ``cross`` the mixed ones.
    """

    @property
    def slope(self) -> float: ...
    @property
    def curvature(self) -> float: ...
    @property
    def cross(self) -> Floats: ...


class Path(Protocol):
    """Constrained problems by ``psi``.

    ``start`` and ``free`` are ``psi`` and ``phi`` at the estimate, ``unit`` a natural step of
    ``psi``, ``lower, upper`` its range.
    """

    @property
    def start(self) -> float: ...
    @property
    def free(self) -> Floats: ...
    @property
    def unit(self) -> float: ...
    @property
    def lower(self) -> float: ...
    @property
    def upper(self) -> float: ...

    def templates(self, psi: float, phi: Floats) -> list[Floats]:
        """Relative working templates at one point."""
        ...

    def at(self, psi: float, phi: Floats) -> PathPoint:
        """The deviance at one point."""
        ...

    def tidy(self, phi: Floats) -> Floats:
        """The representative of ``phi`` among those that stand for the same."""
        ...

    def alternatives(self) -> list[Floats]:
        """Other values of ``phi`` to start from, in case there are several minima."""
        ...


# ------------------------------------------------------------------ a fixed effect


@dataclass(frozen=True, eq=False)
class CoefficientPath:
    """Coefficient ``j`` of the fixed effects held; ``phi`` are the packed working templates."""

    estimate: Estimate
    j: int
    lower: float = -np.inf
    upper: float = np.inf

    @cached_property
    def c(self) -> Floats:
        """``c' beta`` of the working coefficients is the user's, up to shift and scale."""
        return self.estimate.A.basis.fixed[self.j, :-1]

    @property
    def start(self) -> float:
        return float(self.estimate.beta[self.j])

    @property
    def unit(self) -> float:
        return float(np.sqrt(self.estimate.vcov[self.j, self.j]))

    @property
    def free(self) -> Floats:
        return self.estimate.criterion.pack(self.estimate.templates)

    def templates(self, psi: float, phi: Floats) -> list[Floats]:
        """``phi``, unpacked."""
        return self.estimate.criterion.unpack(phi)

    def tidy(self, phi: Floats) -> Floats:
        """As it is."""
        return phi

    def at(self, psi: float, phi: Floats) -> CoefficientPoint:
        """The profiled deviance of the templates under the constraint."""
        F = self.estimate.A.basis.fixed
        target = psi * F[-1, -1] + F[self.j, -1]
        return CoefficientPoint(self.estimate.criterion(phi), self.c, float(target))

    def alternatives(self) -> list[Floats]:
        """Regular templates, if those of the estimate are singular."""
        lifted = regular_templates(self.estimate)
        return [] if lifted is None else [self.estimate.criterion.pack(lifted)]


@dataclass(frozen=True, eq=False)
class CoefficientPoint:
    """Profiled deviance with ``c' beta = target`` in the working basis."""

    evaluation: Evaluation
    c: Floats
    target: float

    @cached_property
    def _direction(self) -> tuple[Floats, float]:
        return _direction(self.evaluation.dense(_PROFILES), self.c)

    @property
    def _excess(self) -> float:
        """How far the target is from the unconstrained solution."""
        return self.target - float(self.c @ self.evaluation.factor.beta)

    @cached_property
    def r2(self) -> float:
        """Penalised residual sum of squares under the constraint."""
        return self.evaluation.factor.r2 + self._excess**2 / self._direction[1]

    @cached_property
    def value(self) -> float:
        n = self.evaluation.criterion.nu
        return self.evaluation.value + n * float(np.log(self.r2 / self.evaluation.factor.r2))

    @cached_property
    def _shift(self) -> tuple[TermEffects, ...]:
        """Change of the effects when the target moves by ``c' C c``."""
        factor = self.evaluation.dense(_PROFILES)
        parts = zip(factor.images(self._direction[0]), factor.templates, strict=True)
        return tuple(TermEffects(b[:, :, 0], e[:, :, 0], e[:, :, 0] @ T) for (b, e), T in parts)

    @cached_property
    def effects(self) -> tuple[TermEffects, ...]:
        """Effects and residual cross-products under the constraint."""
        step = self._excess / self._direction[1]
        return tuple(
            TermEffects(f.b + step * d.b, f.e + step * d.e, f.u + step * d.u)
            for f, d in zip(self.evaluation.factor.effects, self._shift, strict=True)
        )

    @cached_property
    def beta(self) -> Floats:
        """Fixed effects under the constraint."""
        factor, size = self.evaluation.factor, self._direction[1]
        moved = self.evaluation.dense(_PROFILES).vcov @ self.c
        return np.asarray(factor.beta + self._excess / size * moved)

    @property
    def _rate(self) -> float:
        return self.evaluation.criterion.nu / self.r2

    @property
    def gradient(self) -> Floats:
        parts = zip(self.evaluation.derivatives, self.effects, strict=True)
        return self.evaluation.pulled([2.0 * (d.W - self._rate * (f.e.T @ f.u)) for d, f in parts])

    @cached_property
    def newton_matrix(self) -> Floats:
        """As :attr:`Evaluation.newton_matrix`, with ``P`` of the other fixed effects.

        That ``P`` is the one of all plus ``w w' / c' C c``, ``w = V^-1 X C c``, and ``Z' w`` is
        what ``_shift`` holds.
        """
        H = _all_directions(self.evaluation, self.effects)
        q, a = _against(H, self._shift), _against(H, self.effects)
        B = self.evaluation.factor.projected(H) + np.outer(q, q) / self._direction[1]
        first = self._rate * (B - np.outer(a, a) / self.r2)
        return first + _second_order(self.evaluation, self.effects, self._rate)

    @property
    def _scale(self) -> float:
        """Working units of the coefficient in one of the user's."""
        return self.evaluation.criterion.A.basis.response_scale

    @property
    def slope(self) -> float:
        return 2.0 * self._rate * self._scale * self._excess / self._direction[1]

    @property
    def curvature(self) -> float:
        n = self.evaluation.criterion.nu
        return 2.0 * self._rate * self._scale**2 / self._direction[1] - self.slope**2 / n

    @property
    def cross(self) -> Floats:
        moved = [d.e.T @ f.u + f.e.T @ d.u for f, d in zip(self.effects, self._shift, strict=True)]
        pulls = [f.e.T @ f.u for f in self.effects]
        pulled, n = self.evaluation.pulled, self.evaluation.criterion.nu
        change = 2.0 * self._rate * self._scale / self._direction[1] * pulled(moved)
        return 2.0 * self._rate * self.slope / n * pulled(pulls) - change


def regular_templates(estimate: Estimate) -> list[Floats] | None:
    """Templates near those of a singular estimate that are not; ``None`` if it is regular."""
    if not estimate.is_singular:
        return None
    return [T + _LIFT * np.eye(len(T)) for T in estimate.templates]


def _direction(factor: Factor, c: Floats) -> tuple[Floats, float]:
    """How ``[-b, -beta, 1]`` on the remainder, ``(m, 1)``, moves with ``c' beta``; ``c' C c``.

    It moves by ``M^-1 [0; c] / c' C c``; the first part is without the divisor.
    """
    plan, L = factor.plan, factor.L[:-1, :-1]
    v = np.zeros((len(factor.L), 1))
    v[plan.q_dense : -1, 0] = c
    half, _ = dtrtrs(L, v[:-1], lower=1)
    back, _ = dtrtrs(L, half, lower=1, trans=1)
    v[:-1] = -np.asarray(back)
    for j in plan.dense:
        term, a, T = factor.A.terms[j], plan.offsets[j], factor.templates[j]
        rows = v[a : a + term.q, 0]
        rows[:] = (rows.reshape(term.l, term.k) @ T.T).ravel()
    return v, float(half[:, 0] @ half[:, 0])


# ------------------------------------------------------------------ variance parameters


M = TypeVar("M", bound=Map, covariant=True)


@dataclass(frozen=True, eq=False)
class TemplatePath(Generic[M]):
    """A variance parameter held, by way of a map ``(phi, psi) -> (packed tau, log sigma)``.

    ``others`` are other values of ``phi`` to start from; the deviance is even in the first
    ``even`` entries of ``phi``.
    """

    criterion: Criterion
    map: M
    start: float
    free: Floats
    unit: float
    lower: float
    upper: float
    others: tuple[Floats, ...] = ()
    even: int = 0

    def _relative(self, x: Floats) -> list[Floats]:
        """Relative templates from ``x``."""
        return self.criterion.unpack(x[:-1] * np.exp(-x[-1]))

    def templates(self, psi: float, phi: Floats) -> list[Floats]:
        """``tau / sigma``."""
        return self._relative(self.map(np.append(phi, psi)))

    def at(self, psi: float, phi: Floats) -> TemplatePoint:
        """The deviance of absolute templates and ``sigma`` under the constraint."""
        xi = np.append(phi, psi)
        x = self.map(xi)
        point = self.criterion.at(self._relative(x))
        return TemplatePoint(point, float(x[-1]), self.map, xi)

    def tidy(self, phi: Floats) -> Floats:
        """The first ``even`` entries positive: the deviance is even in them."""
        return np.concatenate((np.abs(phi[: self.even]), phi[self.even :]))

    def alternatives(self) -> list[Floats]:
        """Other starting values."""
        return list(self.others)


@dataclass(frozen=True, eq=False)
class TemplatePoint:
    """Deviance of absolute templates and ``log sigma`` (working units), seen through a map."""

    evaluation: Evaluation
    log_sigma: float
    map: Map
    xi: Floats

    @cached_property
    def value(self) -> float:
        A, factor = self.evaluation.criterion.A, self.evaluation.factor
        log_variance = 2.0 * (self.log_sigma - np.log(A.basis.response_scale))
        return factor.logdet_u + gaussian_at(A.n, log_variance, self._fit) - A.sum_log_w

    @cached_property
    def _pull(self) -> Floats:
        """``e' u / sigma^2``, packed."""
        products = [f.e.T @ f.u for f in self.evaluation.factor.effects]
        return self.evaluation.pulled(products) * float(np.exp(-2.0 * self.log_sigma))

    @cached_property
    def _template_gradient(self) -> Floats:
        """With respect to the relative templates at fixed ``sigma``, packed."""
        traces = self.evaluation.pulled([d.W for d in self.evaluation.derivatives])
        return 2.0 * (traces - self._pull)

    @cached_property
    def _relative(self) -> Floats:
        """The relative templates, packed."""
        return self.evaluation.criterion.pack(self.evaluation.factor.templates)

    @property
    def _fit(self) -> float:
        """``r2 / sigma^2``."""
        return self.evaluation.factor.r2 * float(np.exp(-2.0 * self.log_sigma))

    @cached_property
    def outer_gradient(self) -> Floats:
        """With respect to ``(tau, log sigma)``, where ``T = tau / sigma``."""
        g = self._template_gradient
        last = 2.0 * (self.evaluation.criterion.A.n - self._fit) - float(g @ self._relative)
        return np.append(g * np.exp(-self.log_sigma), last)

    @cached_property
    def outer_newton_matrix(self) -> Floats:
        """With respect to ``(tau, log sigma)``.

        Average information and the second-order part for the templates, exact for ``sigma``.
        """
        effects, shrink = self.evaluation.factor.effects, float(np.exp(-self.log_sigma))
        H = _all_directions(self.evaluation, effects)
        M = np.empty((len(self._relative) + 1,) * 2)
        M[:-1, :-1] = self.evaluation.factor.projected(H) * shrink**2
        M[:-1, :-1] += _second_order(self.evaluation, effects, shrink**2)
        M[:-1, -1] = M[-1, :-1] = 4.0 * self._pull
        M[-1, -1] = 4.0 * self._fit
        J = np.diag(np.append(np.full(len(M) - 1, shrink), 1.0))
        J[:-1, -1] = -self._relative
        M = J.T @ M @ J
        g = self._template_gradient
        M[:-1, -1] -= shrink * g
        M[-1, :-1] -= shrink * g
        M[-1, -1] += g @ self._relative
        return M

    @cached_property
    def _gradient(self) -> Floats:
        return self.outer_gradient @ self.map.jacobian(self.xi)

    @cached_property
    def _newton_matrix(self) -> Floats:
        J = self.map.jacobian(self.xi)
        inner: Floats = J.T @ self.outer_newton_matrix @ J
        return inner + self.map.second(self.xi, self.outer_gradient)

    @property
    def gradient(self) -> Floats:
        return self._gradient[:-1]

    @property
    def newton_matrix(self) -> Floats:
        return self._newton_matrix[:-1, :-1]

    @property
    def slope(self) -> float:
        return float(self._gradient[-1])

    @property
    def curvature(self) -> float:
        return float(self._newton_matrix[-1, -1])

    @property
    def cross(self) -> Floats:
        return self._newton_matrix[:-1, -1]


def _all_directions(evaluation: Evaluation, effects: Sequence[TermEffects]) -> list[Floats]:
    """Working vectors of every free entry, per term ``(l, k, c)``."""
    terms, templates = evaluation.criterion.A.terms, evaluation.factor.templates
    parts = zip(terms, templates, effects, strict=True)
    return [t.template.directions(T, f.u, f.e) for t, T, f in parts]


def _against(H: Sequence[Floats], effects: Sequence[TermEffects]) -> Floats:
    """``h' e`` for every working vector."""
    parts = zip(H, effects, strict=True)
    return np.concatenate([np.tensordot(f.e, h, ((0, 1), (0, 1))) for h, f in parts])


def _second_order(evaluation: Evaluation, effects: Sequence[TermEffects], rate: float) -> Floats:
    """Second-order part of the templates: ``2 Gamma`` for every two entries of one column."""
    terms, places = evaluation.criterion.A.terms, evaluation.criterion.places
    M = np.zeros((places[-1].stop, places[-1].stop))
    parts = zip(
        terms, evaluation.factor.templates, evaluation.derivatives, effects, places, strict=True
    )
    for term, T, d, f, own in parts:
        M[own, own] = term.template.second_order(T, d.PZZ - rate * (f.e.T @ f.e))
    return M
