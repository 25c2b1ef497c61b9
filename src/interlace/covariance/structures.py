"""Structures of the covariance of a subject's residuals: maps, their scales and their names.

A structure is a frozen value: the map from free numbers ``xi`` to ``Sigma`` (k, k) with its
derivatives, as :class:`~interlace.covariance.templates.Map` has them.  The map goes through the
*natural* parameters ``psi``, those that SAS prints: variances, and correlations or covariances.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np

from interlace.covariance.charts import Side, Variances
from interlace.covariance.correlations import (
    AnteDependent,
    AutoRegressive,
    Banded,
    Correlation,
    Decaying,
    Exchangeable,
    Independent,
    Ranged,
    distances,
)
from interlace.covariance.templates import Floats, Map, Places

# Eigenvalues of a start, as a share of the largest.
_LEAST = 1e-2


@dataclass(frozen=True, eq=False)
class Natural:
    """Derivatives of ``Sigma`` by natural parameters, and of these by the free numbers.

    ``(k, k, c)``, ``(k, k, c, c)`` and ``(c, c)``.
    """

    first: Floats
    second: Floats
    turn: Floats


class Structure(Map, Protocol):
    """The covariance of ``k`` visits as a function of ``size`` free numbers."""

    @property
    def k(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def homogeneous(self) -> bool:
        """Whether all visits have the same variance."""
        ...

    @property
    def linear(self) -> bool:
        """Whether ``Sigma`` is linear in the natural parameters."""
        ...

    def start(self, S: Floats) -> Floats:
        """Free numbers near a covariance matrix."""
        ...

    def reported(self, xi: Floats, unit: float = 1.0) -> tuple[Floats, Floats]:
        """Standard deviations and correlations, ``(m,)``, and their Jacobian ``(m, size)``.

        ``unit`` multiplies standard deviations.
        """
        ...

    def names(self, labels: Sequence[str]) -> list[str]:
        """Of what is reported, given the labels of the visits."""
        ...

    def natural(self, xi: Floats) -> Natural:
        """Derivatives of ``Sigma`` by natural parameters."""
        ...


@dataclass(frozen=True)
class Unstructured:
    """Any covariance: ``Sigma = L L'`` with a lower triangle ``L`` as free numbers."""

    k: int
    homogeneous = False
    linear = True

    @property
    def size(self) -> int:
        return self.k * (self.k + 1) // 2

    @cached_property
    def _places(self) -> tuple[Places, Places]:
        return np.tril_indices(self.k)

    def _root(self, xi: Floats) -> Floats:
        L = np.zeros((self.k, self.k))
        L[self._places] = xi
        return L

    def __call__(self, xi: Floats) -> Floats:
        L = self._root(xi)
        return L @ L.T

    def jacobian(self, xi: Floats) -> Floats:
        a, b = self._places
        L, c = self._root(xi), np.arange(self.size)
        half = np.zeros((self.k, self.k, self.size))
        half[a, :, c] = L[:, b].T  # of entry (a, b): row a gets column b of L
        return half + half.transpose(1, 0, 2)

    def second(self, xi: Floats, gradient: Floats) -> Floats:
        a, b = self._places
        same = np.equal.outer(b, b)
        return np.asarray((gradient + gradient.T)[np.ix_(a, a)] * same, dtype=np.float64)

    def start(self, S: Floats) -> Floats:
        return np.asarray(np.linalg.cholesky(regular(S))[self._places])

    def reported(self, xi: Floats, unit: float = 1.0) -> tuple[Floats, Floats]:
        columns, rows = np.triu_indices(self.k)  # column by column, as templates are listed
        values, J = entries_of(self(xi), self.jacobian(xi), rows, columns)
        scale = np.where(rows == columns, unit, 1.0)
        return scale * values, scale[:, None] * J

    def names(self, labels: Sequence[str]) -> list[str]:
        pairs = [(a, b) for a in range(self.k) for b in range(a, self.k)]
        return [f"sd_{labels[a]}" if a == b else f"cor_{labels[b]}.{labels[a]}" for a, b in pairs]

    def natural(self, xi: Floats) -> Natural:
        a, b = self._places
        found = np.zeros((self.k, self.k, self.size))
        found[a, b, np.arange(self.size)] = found[b, a, np.arange(self.size)] = 1.0
        second = np.zeros((self.k, self.k, self.size, self.size))
        return Natural(found, second, self.jacobian(xi)[a, b])


@dataclass(frozen=True)
class Scaled:
    """Correlations times standard deviations: one for all visits, or each its own.

    ``psi`` has the variances, then the parameters of the correlation.
    """

    correlation: Correlation
    homogeneous: bool

    @property
    def k(self) -> int:
        return self.correlation.k

    @property
    def variances(self) -> int:
        """Number of variances."""
        return 1 if self.homogeneous else self.k

    @property
    def size(self) -> int:
        return self.variances + self.correlation.size

    @property
    def linear(self) -> bool:
        banded = isinstance(self.correlation, Exchangeable | Banded)
        return isinstance(self.correlation, Independent) or (banded and self.homogeneous)

    @cached_property
    def chart(self) -> Side:
        """From free numbers to ``psi``."""
        parts = (Variances(), self.correlation.chart)
        return Side(parts, (self.variances, self.correlation.size))

    def __call__(self, xi: Floats) -> Floats:
        f, R = self._factors(self.chart(xi))
        return f * R

    def jacobian(self, xi: Floats) -> Floats:
        return self._first(self.chart(xi)) @ self.chart.jacobian(xi)

    def second(self, xi: Floats, gradient: Floats) -> Floats:
        psi, J = self.chart(xi), self.chart.jacobian(xi)
        bent = np.tensordot(gradient, self._second(psi), gradient.ndim)
        along = np.tensordot(gradient, self._first(psi), gradient.ndim)
        return np.asarray(J.T @ bent @ J + np.einsum("a,abc->bc", along, self.chart.curvature(xi)))

    def start(self, S: Floats) -> Floats:
        S = regular(S)
        v = np.diag(S)
        r = self.correlation.start(S / np.sqrt(np.outer(v, v)))
        return self.chart.inverse(np.append(v.mean() if self.homogeneous else v, r))

    def reported(self, xi: Floats, unit: float = 1.0) -> tuple[Floats, Floats]:
        psi, J = self.chart(xi), self.chart.jacobian(xi)
        own = slice(0, self.variances)
        values, found, sd = psi.copy(), J.copy(), np.sqrt(psi[own])
        values[own] = unit * sd
        found[own] = unit * J[own] / (2.0 * sd[:, None])
        if isinstance(self.correlation, Decaying):
            values[-1:], slope, _ = self.correlation.printed(psi[-1:])
            found[-1] = slope * J[-1]
        return values, found

    def names(self, labels: Sequence[str]) -> list[str]:
        sds = ["sd"] if self.homogeneous else [f"sd_{label}" for label in labels]
        return [*sds, *self.correlation.names(labels)]

    def natural(self, xi: Floats) -> Natural:
        psi, J = self.chart(xi), self.chart.jacobian(xi)
        first, second = self._first(psi), self._second(psi)
        if isinstance(self.correlation, Decaying):
            _, slope, bend = self.correlation.printed(psi[-1:])
            turn = np.append(np.ones(self.variances), slope)
            first = first / turn
            second = second / np.multiply.outer(turn, turn)
            second[..., -1, -1] -= first[..., -1] * bend / slope**2
            J = turn[:, None] * J
        return Natural(first, second, J)

    def apart(self, d: Floats, xi: Floats) -> Floats:
        """Covariances at distances ``d``, where the correlation is one of these."""
        psi = self.chart(xi)
        if not isinstance(self.correlation, Ranged):
            raise TypeError(f"{type(self.correlation).__name__} is no function of distances")
        return np.asarray(psi[0] * self.correlation.apart(d, psi[1:]))

    # -------------------------------------------------------------- by psi

    def _factors(self, psi: Floats) -> tuple[Floats, Floats]:
        """``sqrt(v_i v_j)`` and the correlations."""
        sd = np.sqrt(np.broadcast_to(psi[: self.variances], self.k))
        return np.outer(sd, sd), self.correlation(psi[self.variances :])

    def _log_slopes(self, psi: Floats) -> tuple[Floats, Floats]:
        """``f_a / f`` and ``f_ab / f`` of ``f = sqrt(v_i v_j)`` by the variances."""
        v = psi[: self.variances]
        if self.homogeneous:
            return np.full((self.k, self.k, 1), 1.0 / v[0]), np.zeros((self.k, self.k, 1, 1))
        eye = np.eye(self.k)
        half = 0.5 * (eye[:, None, :] + eye[None, :, :])
        w = half / v
        return w, w[..., :, None] * w[..., None, :] - (half / v**2)[..., :, None] * eye

    def _first(self, psi: Floats) -> Floats:
        f, R = self._factors(psi)
        w, _ = self._log_slopes(psi)
        turned = self.correlation.jacobian(psi[self.variances :])
        return np.concatenate([(f * R)[..., None] * w, f[..., None] * turned], axis=-1)

    def _second(self, psi: Floats) -> Floats:
        m, r = self.variances, psi[self.variances :]
        f, R = self._factors(psi)
        w, ww = self._log_slopes(psi)
        found = np.zeros((*R.shape, self.size, self.size))
        found[..., :m, :m] = (f * R)[..., None, None] * ww
        mixed = (f[..., None] * w)[..., :, None] * self.correlation.jacobian(r)[..., None, :]
        found[..., :m, m:] = mixed
        found[..., m:, :m] = np.swapaxes(mixed, -1, -2)
        found[..., m:, m:] = f[..., None, None] * self.correlation.curvature(r)
        return found


def entries_of(Sigma: Floats, J: Floats, rows: Places, columns: Places) -> tuple[Floats, Floats]:
    """Standard deviations and correlations at entries of ``Sigma``, and their derivatives."""
    sd = np.sqrt(np.diag(Sigma))
    slopes = np.einsum("iic->ic", J) / (2.0 * sd[:, None])
    own = rows == columns
    size = sd[rows] * sd[columns]
    cor = Sigma[rows, columns] / size
    relative = slopes[rows] / sd[rows][:, None] + slopes[columns] / sd[columns][:, None]
    turned = J[rows, columns] / size[:, None] - cor[:, None] * relative
    return np.where(own, sd[rows], cor), np.where(own[:, None], slopes[rows], turned)


def regular(S: Floats) -> Floats:
    """A covariance matrix with no eigenvalue near zero: a start for what must be regular."""
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors * np.maximum(values, _LEAST * values.max())) @ vectors.T)


# Times of visits (k,), points (k, d), or those of many subjects (G, k, d).
Points = Sequence[float] | Floats
# By name; each takes the points of the visits, which only some of them read.
_Maker = Callable[[Points], Structure]


def _scaled(kind: Callable[[int], Correlation], homogeneous: bool, times: Points) -> Scaled:
    return Scaled(kind(len(times)), homogeneous)


def _ranged(power: int, times: Points) -> Scaled:
    return Scaled(Ranged(_distances(times), power), True)


def _distances(times: Points) -> Floats:
    """Of times or points."""
    points = np.asarray(times, dtype=np.float64)
    return distances(points[:, None] if points.ndim == 1 else points)


STRUCTURES: Mapping[str, _Maker] = {
    "us": lambda times: Unstructured(len(times)),
    "toep": partial(_scaled, Banded, True),
    "toeph": partial(_scaled, Banded, False),
    "ar1": partial(_scaled, AutoRegressive, True),
    "ar1h": partial(_scaled, AutoRegressive, False),
    "cs": partial(_scaled, Exchangeable, True),
    "csh": partial(_scaled, Exchangeable, False),
    "ad": partial(_scaled, AnteDependent, True),
    "adh": partial(_scaled, AnteDependent, False),
    "diag": partial(_scaled, Independent, False),
    "id": partial(_scaled, Independent, True),
    "car1": lambda times: Scaled(Decaying(_distances(times)), True),
    "sp_exp": partial(_ranged, 1),
    "sp_gau": partial(_ranged, 2),
}
# Structures of numeric times, and what ``hom=`` makes of a name.
OF_TIMES = ("car1", "sp_exp", "sp_gau")
OF_POINTS = ("sp_exp", "sp_gau")
HETEROGENEOUS = {"toep": "toeph", "ar1": "ar1h", "cs": "csh", "ad": "adh", "id": "diag"}
