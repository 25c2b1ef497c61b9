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


@dataclass(frozen=True)
class Decaying:
    """``rho`` to the power of the distance of two times: AR(1) in continuous time."""

    times: tuple[float, ...]
    size = 1

    @property
    def k(self) -> int:
        return len(self.times)

    @property
    def chart(self) -> Chart:
        return Between(low=0.0)

    def __call__(self, r: Floats) -> Floats:
        return self.apart(distances(self.times), r)

    def apart(self, d: Floats, r: Floats) -> Floats:
        """Correlations at distances."""
        return np.asarray(np.float64(r[0]) ** d)

    def jacobian(self, r: Floats) -> Floats:
        return np.asarray((distances(self.times) / r[0] * self(r))[:, :, None])

    def curvature(self, r: Floats) -> Floats:
        d = distances(self.times)
        return np.asarray((d * (d - 1.0) / r[0] ** 2 * self(r))[:, :, None, None])

    def start(self, C: Floats) -> Floats:
        return np.array([np.exp(-_rate(self.times, C, 1))])

    def names(self, labels: Sequence[str]) -> list[str]:
        return ["rho"]


@dataclass(frozen=True)
class Ranged:
    """``exp(-(d / range)^power)`` of the distance of two times: exponential (1), Gaussian (2)."""

    times: tuple[float, ...]
    power: int
    size = 1

    @property
    def k(self) -> int:
        return len(self.times)

    @property
    def chart(self) -> Chart:
        return Positive()

    def __call__(self, r: Floats) -> Floats:
        return self.apart(distances(self.times), r)

    def apart(self, d: Floats, r: Floats) -> Floats:
        """Correlations at distances."""
        return np.asarray(np.exp(-((d / r[0]) ** self.power)))

    def jacobian(self, r: Floats) -> Floats:
        s = self._scaled(r)
        return np.asarray((np.exp(-s) * self.power * s / r[0])[:, :, None])

    def curvature(self, r: Floats) -> Floats:
        s, p = self._scaled(r), self.power
        bent = p * p * s * s - p * (p + 1) * s
        return np.asarray((self(r) * bent / r[0] ** 2)[:, :, None, None])

    def _scaled(self, r: Floats) -> Floats:
        return np.asarray((distances(self.times) / r[0]) ** self.power)

    def start(self, C: Floats) -> Floats:
        return np.array([_rate(self.times, C, self.power) ** (-1.0 / self.power)])

    def names(self, labels: Sequence[str]) -> list[str]:
        return ["range"]


def distances(times: Sequence[float]) -> Floats:
    """Of every two times, ``(k, k)``."""
    return np.abs(np.subtract.outer(times, times)).astype(np.float64)


def _rate(times: Sequence[float], C: Floats, power: int) -> float:
    """``-log C / d^power`` on average over pairs, near neighbours counting most."""
    below = np.tril_indices(len(times), -1)
    d = distances(times)[below] ** power
    known = np.clip(C[below], _LEAST, 1.0 - _LEAST)
    return float((-np.log(known) / d).mean())
