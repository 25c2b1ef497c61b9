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
from itertools import accumulate, pairwise
from typing import Generic, Protocol, TypeVar

import numpy as np
from scipy.linalg import null_space
from scipy.linalg.lapack import dtrtrs

from interlace.criterion import Criterion, Evaluation, directions, n_free
from interlace.estimate import Estimate
from interlace.solver.exact import Factor, TermEffects
from interlace.terms import Floats


class PathPoint(Protocol):
    """The deviance and its derivatives at one ``(psi, phi)``.

    ``gradient`` and ``newton_matrix`` are those with respect to ``phi``; ``slope, curvature`` the
    first and second derivative along ``psi``, ``cross`` the mixed ones.
    """

    @property
    def evaluation(self) -> Evaluation: ...
    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Floats: ...
    @property
    def newton_matrix(self) -> Floats: ...
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

    def at(self, psi: float, phi: Floats) -> PathPoint:
        """The deviance at one point."""
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

    def at(self, psi: float, phi: Floats) -> CoefficientPoint:
        """The profiled deviance of the templates under the constraint."""
        F = self.estimate.A.basis.fixed
        target = psi * F[-1, -1] + F[self.j, -1]
        return CoefficientPoint(self.estimate.criterion(phi), self.c, float(target))

    def alternatives(self) -> list[Floats]:
        """None: continuation is enough."""
        return []


@dataclass(frozen=True, eq=False)
class CoefficientPoint:
    """Profiled deviance with ``c' beta = target`` in the working basis."""

    evaluation: Evaluation
    c: Floats
    target: float

    @cached_property
    def _direction(self) -> tuple[Floats, float]:
        return _direction(self.evaluation.factor, self.c)

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
        factor = self.evaluation.factor
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

    @property
    def _rate(self) -> float:
        return self.evaluation.criterion.nu / self.r2

    @property
    def gradient(self) -> Floats:
        parts = zip(self.evaluation.derivatives, self.effects, strict=True)
        return self.evaluation.criterion.pack(
            [2.0 * (d.W - self._rate * (f.e.T @ f.u)) for d, f in parts]
        )

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
        pack, n = self.evaluation.criterion.pack, self.evaluation.criterion.nu
        change = 2.0 * self._rate * self._scale / self._direction[1] * pack(moved)
        return 2.0 * self._rate * self.slope / n * pack(pulls) - change


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


class Map(Protocol):
    """Free quantities ``xi = (phi, psi)`` to ``x = (packed tau, log sigma)``."""

    def __call__(self, xi: Floats) -> Floats:
        """``x``, ``(N + 1,)``."""
        ...

    def jacobian(self, xi: Floats) -> Floats:
        """``dx / dxi``."""
        ...

    def second(self, xi: Floats, gradient: Floats) -> Floats | float:
        """Second derivatives of ``x`` contracted with a gradient with respect to it."""
        ...


M = TypeVar("M", bound=Map, covariant=True)


@dataclass(frozen=True, eq=False)
class TemplatePath(Generic[M]):
    """A variance parameter held, by way of a map."""

    criterion: Criterion
    map: M
    start: float
    free: Floats
    unit: float
    lower: float
    upper: float
    others: tuple[Floats, ...] = ()

    def at(self, psi: float, phi: Floats) -> TemplatePoint:
        """The deviance of absolute templates and ``sigma`` under the constraint."""
        xi = np.append(phi, psi)
        x = self.map(xi)
        templates = [tau * np.exp(-x[-1]) for tau in self.criterion.unpack(x[:-1])]
        return TemplatePoint(self.criterion.at(templates), float(x[-1]), self.map, xi)

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
        value = factor.logdet_u + A.n * (np.log(2.0 * np.pi) + log_variance) - A.sum_log_w
        return float(value + factor.r2 * np.exp(-2.0 * self.log_sigma))

    @cached_property
    def _pull(self) -> Floats:
        """``e' u / sigma^2``, packed."""
        products = [f.e.T @ f.u for f in self.evaluation.factor.effects]
        return self.evaluation.criterion.pack(products) * np.exp(-2.0 * self.log_sigma)

    @cached_property
    def _template_gradient(self) -> Floats:
        """With respect to the relative templates at fixed ``sigma``, packed."""
        traces = self.evaluation.criterion.pack([d.W for d in self.evaluation.derivatives])
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


@dataclass(frozen=True, eq=False)
class LinearMap:
    """``x = J xi``."""

    J: Floats

    def __call__(self, xi: Floats) -> Floats:
        return self.J @ xi

    def jacobian(self, xi: Floats) -> Floats:
        return self.J

    def second(self, xi: Floats, gradient: Floats) -> float:
        return 0.0


@dataclass(frozen=True, eq=False)
class DeviationMap:
    """``x = J (phi, length sinh(psi))``: linear in what is small, logarithmic in what is large."""

    J: Floats
    length: float

    def __call__(self, xi: Floats) -> Floats:
        return self.J[:, :-1] @ xi[:-1] + self.J[:, -1] * (self.length * np.sinh(xi[-1]))

    def jacobian(self, xi: Floats) -> Floats:
        J = self.J.copy()
        J[:, -1] *= self.length * np.cosh(xi[-1])
        return J

    def second(self, xi: Floats, gradient: Floats) -> Floats:
        M = np.zeros((len(xi), len(xi)))
        M[-1, -1] = float(gradient @ self.J[:, -1]) * self.length * np.sinh(xi[-1])
        return M


@dataclass(frozen=True, eq=False)
class CorrelationMap:
    """Two rows ``C tau`` of a template at a given angle; the rest is linear.

    ``phi`` begins with the square roots ``r`` of the two lengths, in units of ``lengths``; ``J``
    maps ``phi`` without them.  ``rows`` is where the template starts in ``x``, ``lift`` (k, 2) the
    pseudo-inverse of ``C``.
    """

    J: Floats
    lift: Floats
    lengths: Floats
    rows: int

    def _own(self, x: Floats) -> Floats:
        """The entries of the template in (columns of) ``x``, a view ``(k, k, ...)``."""
        k = len(self.lift)
        return x[self.rows : self.rows + k * k].reshape(k, k, *x.shape[1:])

    def __call__(self, xi: Floats) -> Floats:
        x = self.J @ xi[2:-1]
        a, b = self.lengths * xi[:2] ** 2
        tau = self._own(x)
        tau[:, 0] += self.lift @ (a, b * np.sin(xi[-1]))
        tau[:, 1] += self.lift[:, 1] * (b * np.cos(xi[-1]))
        return x

    def jacobian(self, xi: Floats) -> Floats:
        J = np.zeros((len(self.J), len(xi)))
        J[:, 2:-1] = self.J
        own = self._own(J)
        s, c = np.sin(xi[-1]), np.cos(xi[-1])
        rate_a, rate_b = 2.0 * self.lengths * xi[:2]
        b = self.lengths[1] * xi[1] ** 2
        first, second = self.lift.T
        own[:, 0, 0] = rate_a * first
        own[:, 0, 1], own[:, 1, 1] = rate_b * s * second, rate_b * c * second
        own[:, 0, -1], own[:, 1, -1] = b * c * second, -b * s * second
        return J

    def second(self, xi: Floats, gradient: Floats) -> Floats:
        G = self.lift.T @ self._own(gradient)[:, :2]
        s, c = np.sin(xi[-1]), np.cos(xi[-1])
        along, across = G[1, 0] * s + G[1, 1] * c, G[1, 0] * c - G[1, 1] * s
        M = np.zeros((len(xi), len(xi)))
        M[0, 0] = 2.0 * self.lengths[0] * G[0, 0]
        M[1, 1] = 2.0 * self.lengths[1] * along
        M[1, -1] = M[-1, 1] = 2.0 * self.lengths[1] * xi[1] * across
        M[-1, -1] = -self.lengths[1] * xi[1] ** 2 * along
        return M


def sigma_path(estimate: Estimate) -> TemplatePath[LinearMap]:
    """The residual standard deviation held; ``psi`` is its log, in working units."""
    x = _absolute(estimate)
    unit = float(np.exp(x[-1]))
    return TemplatePath(
        estimate.criterion,
        LinearMap(np.diag(np.append(np.full(len(x) - 1, unit), 1.0))),
        start=float(x[-1]),
        free=x[:-1] / unit,
        unit=1.0 / np.sqrt(2.0 * estimate.A.n),
        lower=-np.inf,
        upper=np.inf,
    )


def deviation_path(estimate: Estimate, term: int, row: int) -> TemplatePath[DeviationMap]:
    """Standard deviation ``v = length sinh(psi)`` of one column of a term held, in working units.

    ``length`` is that of the map.  The row is ``c' tau`` with ``c`` a row of the basis: ``tau =
    c / c'c (v, 0, ..) + N Phi``, ``N`` orthonormal and orthogonal to ``c``.
    """
    x, (start, stop) = _absolute(estimate), _places(estimate)[term]
    c, unit = estimate.A.basis.random[term][row], float(np.exp(x[-1]))
    others: tuple[Floats, ...] = ()
    if estimate.A.terms[term].correlated:
        k = len(c)
        tau = x[start:stop].reshape(k, k)
        tau = tau @ _rotation(c[None] @ tau)
        N = null_space(c[None])
        held = float(c @ tau[:, 0])
        own, inner = np.kron(N, np.eye(k)), N.T @ tau
        fixed = np.kron(c / (c @ c), np.eye(k)[0])
        mirrored = inner * np.where(np.arange(k) == 0, -1.0, 1.0)
        others = (mirrored.ravel() / unit, inner.ravel() / unit)[: k - 1]
        phi = inner.ravel()
    else:
        own = np.delete(np.eye(len(c)), row, axis=1)
        fixed = np.eye(len(c))[row] / c[row]
        held, phi = abs(float(c[row] * x[start + row])), np.delete(x[start:stop], row)
    rest = np.delete(x, np.s_[start:stop])
    rest[:-1] /= unit
    J = _surround(own * unit, fixed, (start, stop), len(x), unit)
    length = 0.5 * held if held > 0.0 else unit * float(np.linalg.norm(c))
    return TemplatePath(
        estimate.criterion,
        DeviationMap(J, length),
        start=float(np.arcsinh(held / length)),
        free=np.concatenate((phi / unit, rest)),
        unit=0.1,
        lower=0.0,
        upper=np.inf,
        others=tuple(np.concatenate((other, rest)) for other in others),
    )


def correlation_path(
    estimate: Estimate, term: int, a: int, b: int
) -> TemplatePath[CorrelationMap] | None:
    """Correlation of two columns of a term held; ``psi`` is its arc sine.

    ``None`` if one of the two has no variance at the estimate: then every correlation fits alike.
    """
    x, (start, stop) = _absolute(estimate), _places(estimate)[term]
    C, unit = estimate.A.basis.random[term][[a, b]], float(np.exp(x[-1]))
    k = C.shape[1]
    tau = x[start:stop].reshape(k, k)
    tau = tau @ _rotation(C @ tau)
    pair = C @ tau
    lengths = np.linalg.norm(pair, axis=1)
    if estimate.user_templates[term][[a, b]].any(axis=1).sum() < 2:
        return None
    N = null_space(C)
    rest = np.delete(x, np.s_[start:stop])
    rest[:-1] /= unit
    linear = np.concatenate(((N.T @ tau).ravel() / unit, rest))
    own = np.kron(N, np.eye(k)) * unit
    J = _surround(own, np.zeros(k * k), (start, stop), len(x), unit)[:, :-1]
    starts = [np.concatenate((r, linear)) for r in ((1.0, 0.1), (0.1, 1.0), (1.0, 1.0))]
    return TemplatePath(
        estimate.criterion,
        CorrelationMap(J, np.linalg.pinv(C), lengths, start),
        start=float(np.arctan2(pair[1, 0], abs(pair[1, 1]))),
        free=starts[-1],
        unit=0.3,
        lower=-0.5 * np.pi,
        upper=0.5 * np.pi,
        others=tuple(starts[:k]),
    )


def _absolute(estimate: Estimate) -> Floats:
    """``(packed tau, log sigma)`` of an estimate in working units."""
    sigma = np.sqrt(estimate.evaluation.factor.r2 / estimate.criterion.nu)
    packed = estimate.criterion.pack(estimate.templates)
    return np.append(sigma * packed, np.log(sigma))


def _places(estimate: Estimate) -> list[tuple[int, int]]:
    """Where the entries of every term begin and end in a packed vector."""
    return list(pairwise(accumulate((n_free(t) for t in estimate.A.terms), initial=0)))


def _rotation(rows: Floats) -> Floats:
    """Orthogonal ``Q`` that makes ``rows @ Q`` lower triangular with a diagonal >= 0."""
    Q, R = np.linalg.qr(rows.T, mode="complete")
    signs = np.ones(Q.shape[1])
    diagonal = np.diag(R)
    signs[: len(diagonal)] = np.where(diagonal < 0.0, -1.0, 1.0)
    return np.asarray(Q * signs, dtype=np.float64)


def _surround(own: Floats, held: Floats, place: tuple[int, int], size: int, unit: float) -> Floats:
    """Jacobian of ``x`` (size,): ``own`` for one term, then the others and ``log sigma``, ``held``.

    Free quantities are in units of ``unit``.
    """
    start, stop = place
    rest = np.delete(np.arange(size), np.s_[start:stop])
    J = np.zeros((size, own.shape[1] + len(rest) + 1))
    J[start:stop, : own.shape[1]] = own
    J[rest, own.shape[1] + np.arange(len(rest))] = unit
    J[-1, -2] = 1.0
    J[start:stop, -1] = held
    return J


def _all_directions(evaluation: Evaluation, effects: Sequence[TermEffects]) -> list[Floats]:
    """Working vectors of every free entry, per term ``(l, k, c)``."""
    terms, templates = evaluation.criterion.A.terms, evaluation.factor.templates
    return [directions(t, T, f.u, f.e) for t, T, f in zip(terms, templates, effects, strict=True)]


def _against(H: Sequence[Floats], effects: Sequence[TermEffects]) -> Floats:
    """``h' e`` for every working vector."""
    parts = zip(H, effects, strict=True)
    return np.concatenate([np.tensordot(f.e, h, ((0, 1), (0, 1))) for h, f in parts])


def _second_order(evaluation: Evaluation, effects: Sequence[TermEffects], rate: float) -> Floats:
    """Second-order part of the templates: ``2 Gamma`` for every two entries of one column."""
    terms = evaluation.criterion.A.terms
    ends = list(accumulate((n_free(t) for t in terms), initial=0))
    M = np.zeros((ends[-1], ends[-1]))
    parts = zip(terms, evaluation.derivatives, effects, pairwise(ends), strict=True)
    for term, d, f, (start, stop) in parts:
        gamma, index = d.PZZ - rate * (f.e.T @ f.e), np.arange(term.k)
        if term.correlated:
            for b in index:
                M[start + b : stop : term.k, start + b : stop : term.k] = 2.0 * gamma
        else:
            M[start + index, start + index] = 2.0 * np.diag(gamma)
    return M
