"""Charts: free numbers of a search -> variances and correlations, with two derivatives.

A chart reaches every value that a parameter may have and no other: variances above 0, correlations
inside their bounds, autocorrelations that make a positive definite matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from interlace.covariance.templates import Floats

# Share of the way to a bound at which a search may begin.
_INSIDE = 0.98


class Chart(Protocol):
    """A smooth map ``x`` (m,) -> parameters (m,), one to one."""

    def __call__(self, x: Floats) -> Floats:
        """The parameters."""
        ...

    def jacobian(self, x: Floats) -> Floats:
        """``(m, m)``: parameters by free numbers."""
        ...

    def curvature(self, x: Floats) -> Floats:
        """``(m, m, m)``: second derivatives of every parameter."""
        ...

    def inverse(self, values: Floats) -> Floats:
        """Free numbers of parameters; those at or beyond a bound are moved inside."""
        ...


@dataclass(frozen=True)
class Variances:
    """``exp(2 x)``: ``x`` is the log of a standard deviation."""

    def __call__(self, x: Floats) -> Floats:
        return np.exp(2.0 * x)

    def jacobian(self, x: Floats) -> Floats:
        return np.diag(2.0 * np.exp(2.0 * x))

    def curvature(self, x: Floats) -> Floats:
        return _diagonal(4.0 * np.exp(2.0 * x))

    def inverse(self, values: Floats) -> Floats:
        return 0.5 * np.log(values)


@dataclass(frozen=True)
class Positive:
    """``exp(x)``."""

    def __call__(self, x: Floats) -> Floats:
        return np.exp(x)

    def jacobian(self, x: Floats) -> Floats:
        return np.diag(np.exp(x))

    def curvature(self, x: Floats) -> Floats:
        return _diagonal(np.exp(x))

    def inverse(self, values: Floats) -> Floats:
        return np.log(values)


@dataclass(frozen=True)
class Between:
    """Numbers between two bounds: ``tanh`` of ``x``, stretched."""

    low: float = -1.0
    high: float = 1.0

    def __call__(self, x: Floats) -> Floats:
        return self._middle + self._half * np.tanh(x)

    def jacobian(self, x: Floats) -> Floats:
        return np.diag(self._half * (1.0 - np.tanh(x) ** 2))

    def curvature(self, x: Floats) -> Floats:
        t = np.tanh(x)
        return _diagonal(-2.0 * self._half * t * (1.0 - t**2))

    def inverse(self, values: Floats) -> Floats:
        return np.arctanh(np.clip((values - self._middle) / self._half, -_INSIDE, _INSIDE))

    @property
    def _middle(self) -> float:
        return 0.5 * (self.low + self.high)

    @property
    def _half(self) -> float:
        return 0.5 * (self.high - self.low)


@dataclass(frozen=True)
class Autocorrelations:
    """Autocorrelations at the lags 1 to m, from ``tanh`` of ``x`` as partial autocorrelations.

    The recursion of Levinson and Durbin takes any partial autocorrelations inside (-1, 1) to a
    positive definite Toeplitz matrix, and reaches every one [1]_.

    .. [1] Barndorff-Nielsen and Schou (1973), Journal of Multivariate Analysis 3, 408-419.
    """

    def __call__(self, x: Floats) -> Floats:
        return _levinson(np.tanh(x))

    def jacobian(self, x: Floats) -> Floats:
        return _jets(x).gradient

    def curvature(self, x: Floats) -> Floats:
        return _jets(x).hessian

    def inverse(self, values: Floats) -> Floats:
        partial, row, left = np.zeros(len(values)), np.zeros(0), 1.0
        lags = np.zeros(len(values))
        for j, wanted in enumerate(values):
            known = float(row @ lags[:j][::-1])
            p = float(np.clip((wanted - known) / left, -_INSIDE, _INSIDE))
            partial[j], lags[j] = p, known + p * left
            row, left = np.append(row - p * row[::-1], p), left * (1.0 - p**2)
        return np.arctanh(partial)


def _levinson(partial: Floats) -> Floats:
    """Autocorrelations of partial ones."""
    lags, row, left = np.zeros(len(partial)), np.zeros(0), 1.0
    for j, p in enumerate(partial):
        lags[j] = row @ lags[:j][::-1] + p * left
        row, left = np.append(row - p * row[::-1], p), left * (1.0 - p**2)
    return lags


@dataclass(frozen=True)
class Side:
    """Charts side by side, each for some of the numbers."""

    charts: tuple[Chart, ...]
    sizes: tuple[int, ...]

    def __call__(self, x: Floats) -> Floats:
        return np.concatenate([c(part) for c, part in self._parts(x)])

    def jacobian(self, x: Floats) -> Floats:
        found = np.zeros((len(x), len(x)))
        for own, (chart, part) in zip(self._slices, self._parts(x), strict=True):
            found[own, own] = chart.jacobian(part)
        return found

    def curvature(self, x: Floats) -> Floats:
        found = np.zeros((len(x), len(x), len(x)))
        for own, (chart, part) in zip(self._slices, self._parts(x), strict=True):
            found[own, own, own] = chart.curvature(part)
        return found

    def inverse(self, values: Floats) -> Floats:
        return np.concatenate([c.inverse(part) for c, part in self._parts(values)])

    def _parts(self, x: Floats) -> Sequence[tuple[Chart, Floats]]:
        return [(c, x[own]) for c, own in zip(self.charts, self._slices, strict=True)]

    @property
    def _slices(self) -> list[slice]:
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]


# ------------------------------------------------------------------ values with two derivatives


@dataclass(frozen=True, eq=False)
class Jet:
    """A value with its first and second derivatives: ``(...)``, ``(..., m)``, ``(..., m, m)``."""

    value: Floats
    gradient: Floats
    hessian: Floats

    def __add__(self, other: Jet) -> Jet:
        return Jet(
            self.value + other.value, self.gradient + other.gradient, self.hessian + other.hessian
        )

    def __sub__(self, other: Jet) -> Jet:
        return Jet(
            self.value - other.value, self.gradient - other.gradient, self.hessian - other.hessian
        )

    def __mul__(self, other: Jet) -> Jet:
        a, b = self.value[..., None], other.value[..., None]
        cross = self.gradient[..., :, None] * other.gradient[..., None, :]
        return Jet(
            self.value * other.value,
            a * other.gradient + b * self.gradient,
            a[..., None] * other.hessian
            + b[..., None] * self.hessian
            + cross
            + np.swapaxes(cross, -1, -2),
        )

    def at(self, i: int) -> Jet:
        """Of one entry of a vector."""
        return Jet(np.asarray(self.value[i]), self.gradient[i], self.hessian[i])

    def sum(self) -> Jet:
        """Over the first axis."""
        return Jet(self.value.sum(axis=0), self.gradient.sum(axis=0), self.hessian.sum(axis=0))


def _stacked(jets: Sequence[Jet], m: int) -> Jet:
    """Jets of numbers as one of a vector."""
    if not jets:
        return Jet(np.zeros(0), np.zeros((0, m)), np.zeros((0, m, m)))
    return Jet(
        np.stack([j.value for j in jets]),
        np.stack([j.gradient for j in jets]),
        np.stack([j.hessian for j in jets]),
    )


def _jets(x: Floats) -> Jet:
    """Autocorrelations with their derivatives by the free numbers."""
    m, chart = len(x), Between()
    partial = Jet(chart(x), chart.jacobian(x), chart.curvature(x))
    one = Jet(np.ones(()), np.zeros(m), np.zeros((m, m)))
    lags: list[Jet] = []
    row, left = _stacked([], m), one
    for j in range(m):
        p = partial.at(j)
        found = (row * _stacked(lags[::-1], m)).sum() + p * left
        lags.append(found)
        each = [row.at(i) - p * row.at(j - 1 - i) for i in range(j)]
        row, left = _stacked([*each, p], m), left * (one - p * p)
    return _stacked(lags, m)


def _diagonal(second: Floats) -> Floats:
    """Second derivatives of parameters of which each has a number of its own."""
    m = len(second)
    found = np.zeros((m, m, m))
    own = np.arange(m)
    found[own, own, own] = second
    return found
