"""Ways to hold a standard deviation, a correlation or ``sigma`` while all else is free.

Each is a map from free quantities and the one held to absolute templates and ``log sigma``, and a
function that builds the :class:`~interlace.inference.profiles.constrained.TemplatePath` at an
estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import null_space

from interlace.estimation.estimate import Estimate
from interlace.inference.profiles.constrained import TemplatePath, regular_templates
from interlace.sums.terms import Floats, places


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
        held = self.length * float(np.sinh(xi[-1]))
        return np.asarray(self.J[:, :-1] @ xi[:-1] + self.J[:, -1] * held)

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
        others=tuple(other[:-1] / unit for other in _regular(estimate)),
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
    rest = _rest(x, (start, stop), unit)
    regular = [_rest(other, (start, stop), unit) for other in _regular(estimate)]
    J = _surround(np.asarray(own * unit), fixed, (start, stop), len(x), unit)
    length = max(0.5 * held, 0.2 * unit * float(np.linalg.norm(c)))
    return TemplatePath(
        estimate.criterion,
        DeviationMap(J, length),
        start=float(np.arcsinh(held / length)),
        free=np.concatenate((phi / unit, rest)),
        unit=0.1,
        lower=0.0,
        upper=np.inf,
        others=tuple(np.concatenate((part, rest)) for part in others)
        + tuple(np.concatenate((phi / unit, part)) for part in regular),
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
    rest = _rest(x, (start, stop), unit)
    linear = np.concatenate(((N.T @ tau).ravel() / unit, rest))
    own = np.asarray(np.kron(N, np.eye(k)) * unit)
    J = _surround(own, np.zeros(k * k), (start, stop), len(x), unit)[:, :-1]
    starts = [np.concatenate((r, linear)) for r in ((1.0, 0.1), (0.1, 1.0), (1.0, 1.0))]
    return TemplatePath(
        estimate.criterion,
        CorrelationMap(J, np.asarray(np.linalg.pinv(C)), lengths, start),
        start=float(np.arctan2(pair[1, 0], abs(pair[1, 1]))),
        free=starts[-1],
        unit=0.3,
        lower=-0.5 * np.pi,
        upper=0.5 * np.pi,
        others=tuple(starts[:k]),
        even=2,
    )


def _absolute(estimate: Estimate, templates: Sequence[Floats] | None = None) -> Floats:
    """``(packed tau, log sigma)`` of an estimate in working units, or with other templates."""
    sigma = np.sqrt(estimate.evaluation.sigma2)
    packed = estimate.criterion.pack(estimate.templates if templates is None else templates)
    return np.append(sigma * packed, np.log(sigma))


def _regular(estimate: Estimate) -> list[Floats]:
    """:func:`_absolute` with regular templates in place of singular ones, if there are any."""
    lifted = regular_templates(estimate)
    return [] if lifted is None else [_absolute(estimate, lifted)]


def _rest(x: Floats, place: tuple[int, int], unit: float) -> Floats:
    """``x`` without the entries of one term, templates in units of ``unit``."""
    rest = np.delete(x, np.s_[place[0] : place[1]])
    rest[:-1] /= unit
    return rest


def _places(estimate: Estimate) -> list[tuple[int, int]]:
    """Where the entries of every term begin and end in a packed vector."""
    return [(own.start, own.stop) for own in places(estimate.A.terms)]


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
