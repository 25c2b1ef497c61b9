"""Correlations of the visits of a subject: maps from a few parameters, with two derivatives.

Each is a frozen value.  Its parameters are those that are printed (correlations, a range), not
those of a search: a :class:`~interlace.covariance.charts.Chart` leads from these to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from interlace.covariance.charts import Autocorrelations, Between, Chart, Positive
from interlace.covariance.templates import Floats

# Correlations below which a search does not begin where only positive ones are possible.
_LEAST = 0.05


class Correlation(Protocol):
    """Correlations of ``k`` visits as a function of ``size`` parameters ``r``."""

    @property
    def k(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def chart(self) -> Chart: ...

    def __call__(self, r: Floats) -> Floats:
        """``(k, k)``."""
        ...

    def jacobian(self, r: Floats) -> Floats:
        """``(k, k, m)``."""
        ...

    def curvature(self, r: Floats) -> Floats:
        """``(k, k, m, m)``."""
        ...

    def start(self, C: Floats) -> Floats:
        """Parameters near a matrix of correlations."""
        ...

    def names(self, labels: Sequence[str]) -> list[str]:
        """Of the parameters, given those of the visits."""
        ...


@dataclass(frozen=True)
class Independent:
    """No correlation."""

    k: int
    size = 0
    chart = Between()

    def __call__(self, r: Floats) -> Floats:
        return np.eye(self.k)

    def jacobian(self, r: Floats) -> Floats:
        return np.zeros((self.k, self.k, 0))

    def curvature(self, r: Floats) -> Floats:
        return np.zeros((self.k, self.k, 0, 0))

    def start(self, C: Floats) -> Floats:
        return np.zeros(0)

    def names(self, labels: Sequence[str]) -> list[str]:
        return []


@dataclass(frozen=True)
class Exchangeable:
    """The same correlation of every two visits: compound symmetry."""

    k: int

    @property
    def size(self) -> int:
        return min(self.k - 1, 1)

    @property
    def chart(self) -> Chart:
        return Between(low=-1.0 / max(self.k - 1, 1))

    def __call__(self, r: Floats) -> Floats:
        return np.eye(self.k) + self.jacobian(r) @ r

    def jacobian(self, r: Floats) -> Floats:
        return np.repeat((1.0 - np.eye(self.k))[:, :, None], self.size, axis=2)

    def curvature(self, r: Floats) -> Floats:
        return np.zeros((self.k, self.k, self.size, self.size))

    def start(self, C: Floats) -> Floats:
        below = C[np.tril_indices(self.k, -1)]
        return np.full(self.size, below.mean() if below.size else 0.0)

    def names(self, labels: Sequence[str]) -> list[str]:
        return ["rho"][: self.size]


@dataclass(frozen=True)
class AutoRegressive:
    """``rho`` to the power of the number of visits between two."""

    k: int

    @property
    def size(self) -> int:
        return min(self.k - 1, 1)

    @property
    def chart(self) -> Chart:
        return Between()

    @property
    def _lags(self) -> Floats:
        return np.abs(np.subtract.outer(np.arange(self.k), np.arange(self.k))).astype(np.float64)

    def __call__(self, r: Floats) -> Floats:
        return _power(r[0], self._lags) if self.size else np.eye(self.k)

    def jacobian(self, r: Floats) -> Floats:
        if not self.size:
            return np.zeros((self.k, self.k, 0))
        d = self._lags
        return (d * _power(r[0], d - 1.0))[:, :, None]

    def curvature(self, r: Floats) -> Floats:
        if not self.size:
            return np.zeros((self.k, self.k, 0, 0))
        d = self._lags
        return (d * (d - 1.0) * _power(r[0], d - 2.0))[:, :, None, None]

    def start(self, C: Floats) -> Floats:
        next_ = np.diagonal(C, 1)
        return np.full(self.size, next_.mean() if next_.size else 0.0)

    def names(self, labels: Sequence[str]) -> list[str]:
        return ["rho"][: self.size]


def _power(rho: float, d: Floats) -> Floats:
    """``rho^d`` for whole ``d``; 1 for negative ``d``, which a factor 0 then removes."""
    return np.asarray(np.float64(rho) ** np.maximum(d, 0.0).astype(np.intp))


@dataclass(frozen=True)
class Banded:
    """One correlation for every number of visits between two: Toeplitz."""

    k: int

    @property
    def size(self) -> int:
        return self.k - 1

    @property
    def chart(self) -> Chart:
        return Autocorrelations()

    def __call__(self, r: Floats) -> Floats:
        return np.eye(self.k) + self.jacobian(r) @ r

    def jacobian(self, r: Floats) -> Floats:
        lags = np.abs(np.subtract.outer(np.arange(self.k), np.arange(self.k)))
        return np.asarray(lags[:, :, None] == np.arange(1, self.k), dtype=np.float64)

    def curvature(self, r: Floats) -> Floats:
        return np.zeros((self.k, self.k, self.size, self.size))

    def start(self, C: Floats) -> Floats:
        return np.array([np.diagonal(C, lag).mean() for lag in range(1, self.k)])

    def names(self, labels: Sequence[str]) -> list[str]:
        return [f"rho_{lag}" for lag in range(1, self.k)]


@dataclass(frozen=True)
class AnteDependent:
    """A correlation for every two neighbours; of others the product of those between them."""

    k: int

    @property
    def size(self) -> int:
        return self.k - 1

    @property
    def chart(self) -> Chart:
        return Between()

    def __call__(self, r: Floats) -> Floats:
        found = np.eye(self.k)
        for i in range(self.k - 1):
            found[i, i + 1 :] = found[i + 1 :, i] = np.cumprod(r[i:])
        return found

    def jacobian(self, r: Floats) -> Floats:
        # Of R_ij with i <= m < j by r_m: R_im R_(m+1)j.
        R, found = self(r), np.zeros((self.k, self.k, self.size))
        for m in range(self.size):
            block = np.outer(R[: m + 1, m], R[m + 1, m + 1 :])
            found[: m + 1, m + 1 :, m] = block
            found[m + 1 :, : m + 1, m] = block.T
        return found

    def curvature(self, r: Floats) -> Floats:
        R, found = self(r), np.zeros((self.k, self.k, self.size, self.size))
        for m in range(self.size):
            for n in range(m + 1, self.size):
                block = R[m + 1, n] * np.outer(R[: m + 1, m], R[n + 1, n + 1 :])
                for a, b in ((m, n), (n, m)):
                    found[: m + 1, n + 1 :, a, b] = block
                    found[n + 1 :, : m + 1, a, b] = block.T
        return found

    def start(self, C: Floats) -> Floats:
        return np.diagonal(C, 1).copy()

    def names(self, labels: Sequence[str]) -> list[str]:
        pairs = zip(labels[1:], labels[:-1], strict=True)
        return [f"cor_{later}.{earlier}" for later, earlier in pairs]


@dataclass(frozen=True, eq=False)
class Ranged:
    """``exp(-(d / range)^power)`` of the distance of two points: exponential (1), Gaussian (2).

    ``d`` (k, k), or (G, k, k) for subjects at points of their own: correlations are so many too.
    """

    d: Floats
    power: int
    size = 1

    @property
    def k(self) -> int:
        return int(self.d.shape[-1])

    @property
    def chart(self) -> Chart:
        return Positive()

    def __call__(self, r: Floats) -> Floats:
        return self.apart(self.d, r)

    def apart(self, d: Floats, r: Floats) -> Floats:
        """Correlations at distances."""
        return np.asarray(np.exp(-((d / r[0]) ** self.power)))

    def jacobian(self, r: Floats) -> Floats:
        s = self._scaled(r)
        return np.asarray((np.exp(-s) * self.power * s / r[0])[..., None])

    def curvature(self, r: Floats) -> Floats:
        s, p = self._scaled(r), self.power
        bent = p * p * s * s - p * (p + 1) * s
        return np.asarray((np.exp(-s) * bent / r[0] ** 2)[..., None, None])

    def _scaled(self, r: Floats) -> Floats:
        return np.asarray((self.d / r[0]) ** self.power)

    def start(self, C: Floats) -> Floats:
        d = self.d.reshape(-1, self.k, self.k)[0]
        return np.array([_rate(d, C, self.power) ** (-1.0 / self.power)])

    def names(self, labels: Sequence[str]) -> list[str]:
        return ["range"]


@dataclass(frozen=True, eq=False)
class Decaying(Ranged):
    """``rho^d``: AR(1) in continuous time.

    Sought as a range, ``rho = exp(-1 / range)``: where a unit of time is long, correlations between
    near rows are left when ``rho`` is too small for a number.
    """

    power: int = 1

    def names(self, labels: Sequence[str]) -> list[str]:
        return ["rho"]

    def printed(self, r: Floats) -> tuple[Floats, Floats, Floats]:
        """``rho``, and the derivatives ``d rho / d range`` and ``d^2 rho / d range^2``."""
        rho = np.exp(-1.0 / r)
        return rho, rho / r**2, rho * (1.0 / r**4 - 2.0 / r**3)


def distances(points: Floats) -> Floats:
    """Of every two points (..., k, d), ``(..., k, k)``."""
    apart = points[..., :, None, :] - points[..., None, :, :]
    if apart.shape[-1] == 1:
        return np.asarray(np.abs(apart[..., 0]))
    return np.asarray(np.sqrt((apart**2).sum(axis=-1)))


def _rate(d: Floats, C: Floats, power: int) -> float:
    """``-log C / d^power`` on average over pairs, near neighbours counting most."""
    below = np.tril_indices(len(d), -1)
    known = np.clip(C[below], _LEAST, 1.0 - _LEAST)
    return float((-np.log(known) / d[below] ** power).mean())
