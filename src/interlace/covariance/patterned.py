"""Templates of a few numbers: standard deviations and one correlation of all columns of a term.

``T = diag(d) M(phi)`` with a root ``M`` of the correlations and an angle ``phi`` in place of the
correlation ``rho``, so that both are smooth where ``rho`` is at a bound and at zero variances:

    ar1   M = L(phi), the Cholesky factor of rho^|i - j|, rho = sin phi: powers of sine and cosine
    cs    M = cos(phi) sqrt(k) J/k + sin(phi) sqrt(k / (k - 1)) (I - J/k)
    diag  M = I, without an angle

where ``J`` is all ones, so that ``rho = 1 - k / (k - 1) sin^2 phi`` for ``cs``.  Homogeneous ones
have one ``d = x`` for all columns, in which everything is even; heterogeneous ones ``d_i = x_i^2``,
since the sign of a single ``d_i`` would be another model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from interlace.covariance.templates import Diagonal, Floats, Full, Places, Template

# Correlation to start from; share of the way to a bound at which a correlation counts as being
# there, so that nothing is asked of its derivatives.
_START, _BOUND = 0.4, 1e-6


@dataclass(frozen=True)
class Patterned:
    """A template of one or ``k`` standard deviations and a correlation.

    Parameters
    ----------
    k
        Columns, two or more.
    kind
        ``"ar1"``, ``"cs"`` or ``"diag"``.
    homogeneous
        Whether all columns have one standard deviation.
    """

    k: int
    kind: str
    homogeneous: bool
    joint = 1
    indivisible = True

    @property
    def name(self) -> str:
        return f"{self.kind}-{'hom' if self.homogeneous else 'het'}"

    @property
    def deviations(self) -> int:
        """Number of standard deviations."""
        return 1 if self.homogeneous else self.k

    @property
    def correlates(self) -> bool:
        """Whether there is a correlation."""
        return self.kind != "diag"

    @property
    def size(self) -> int:
        return self.deviations + self.correlates

    @cached_property
    def entries(self) -> tuple[Places, Places]:
        """One place for each parameter at which a covariance matrix shows it."""
        own = np.arange(self.deviations)
        if not self.correlates:
            return own, own
        return np.append(own, 1), np.append(own, 0)

    def labels(self, columns: Sequence[str]) -> list[tuple[str, str]]:
        """Of every parameter whether it is ``"sd"`` or ``"rho"``, and of what."""
        sds = [("sd", self.kind if self.homogeneous else c) for c in columns[: self.deviations]]
        return sds + ([("rho", self.kind)] if self.correlates else [])

    def listed(self, *, backwards: bool) -> Places:
        return np.arange(self.size)

    def even(self, sizes: Floats) -> Floats:
        if not self.homogeneous:
            return sizes
        return np.full(self.k, np.sqrt((sizes**2).mean()))

    # -------------------------------------------------------------- by d and phi

    def _root(self, phi: Floats) -> tuple[Floats, Floats, Floats]:
        """``M`` and its two derivatives by ``phi`` (...), ``(..., k, k)``."""
        s, c = np.sin(phi)[..., None, None], np.cos(phi)[..., None, None]
        k = self.k
        if self.kind == "cs":
            J = np.full((k, k), 1.0 / k)
            one, rest = np.sqrt(k) * J, np.sqrt(k / (k - 1)) * (np.eye(k) - J)
            M = c * one + s * rest
            return M, c * rest - s * one, -M
        lag = np.maximum(np.subtract.outer(np.arange(k), np.arange(k)), 0)
        below = np.tri(k)
        first = below * (np.arange(k) == 0)
        rest = below - first
        power, lower, lowest = (s ** np.maximum(lag - m, 0) for m in range(3))
        one, two = lag * lower, lag * (lag - 1) * lowest
        M = first * power + rest * power * c
        slope = first * one * c + rest * (one * c**2 - power * s)
        bend = first * (two * c**2 - lag * power)
        return M, slope, bend + rest * (two * c**3 - (3 * lag + 1) * power * c)

    def _inside(self, z: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """``d`` (..., k, 1), ``M`` and its derivatives, of ``z`` (..., c)."""
        d = np.broadcast_to(z[..., : self.deviations], (*z.shape[:-1], self.k))[..., None]
        if not self.correlates:
            M = np.broadcast_to(np.eye(self.k), (*z.shape[:-1], self.k, self.k))
            return d, M, 0.0 * M, 0.0 * M
        return d, *self._root(z[..., -1])

    def _slopes(self, z: Floats) -> Floats:
        """Derivatives of ``T`` by ``z``, ``(..., k, k, c)``."""
        d, M, slope, _ = self._inside(z)
        by_d = M[..., None] * (1.0 if self.homogeneous else np.eye(self.k)[:, None, :])
        return np.concatenate((by_d, (d * slope)[..., None]), axis=-1)[..., : self.size]

    def _bends(self, z: Floats, G: Floats) -> Floats:
        """Second derivatives of ``T`` by ``z``, contracted with ``G``: ``(..., c, c)``."""
        d, _, slope, bend = self._inside(z)
        found = np.zeros((*z.shape, self.size))
        if self.correlates:
            across = (G * slope).sum(axis=-1)
            if self.homogeneous:
                across = across.sum(axis=-1, keepdims=True)
            found[..., :-1, -1] = found[..., -1, :-1] = across
            found[..., -1, -1] = (G * d * bend).sum(axis=(-2, -1))
        return found

    def _of(self, T: Floats) -> Floats:
        """``z`` (..., c) of a template of this structure, or near one that is not."""
        norms = np.sqrt((T**2).sum(axis=-1))
        d = norms
        if self.homogeneous:
            sign = np.where(T[..., 0, 0] < 0.0, -1.0, 1.0)
            d = (sign * np.sqrt((norms**2).mean(axis=-1)))[..., None]
            if self.kind == "cs":
                d = np.abs(d)
        if not self.correlates:
            return np.asarray(d)
        diagonal = np.diagonal(T, axis1=-2, axis2=-1)
        if self.kind == "cs":
            sums = T.sum(axis=-1)
            across = sums.sum(axis=-1) / np.sqrt(self.k)
            rest = (diagonal - sums / self.k).sum(axis=-1)
            along = np.sqrt(self.k / (self.k - 1)) * rest
        else:
            size = np.broadcast_to(d, norms.shape)
            along = (T[..., 1:, :] * T[..., :-1, :]).sum(axis=(-2, -1))
            across = (size[..., :-1] * diagonal[..., 1:]).sum(axis=-1)
        known = (along != 0.0) | (across != 0.0)
        phi = np.where(known, np.arctan2(along, across), self._angle(np.zeros(known.shape)))
        return np.concatenate((d, phi[..., None]), axis=-1)

    def _angle(self, rho: Floats) -> Floats:
        """``phi`` of correlations."""
        if self.kind == "ar1":
            return np.arcsin(np.clip(rho, -1.0, 1.0))
        share = (1.0 - rho) * (self.k - 1) / self.k
        return np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0)))

    def _correlation(self, phi: Floats) -> Floats:
        if self.kind == "ar1":
            return np.sin(phi)
        return np.asarray(1.0 - self.k / (self.k - 1) * np.sin(phi) ** 2, dtype=np.float64)

    # -------------------------------------------------------------- in the chart of the optimiser

    def _chart(self, xi: Floats) -> tuple[Floats, Floats, Floats]:
        """``z`` of free numbers, and its two derivatives: each depends on one number."""
        z, first, second = xi.copy(), np.ones(xi.shape), np.zeros(xi.shape)
        if not self.homogeneous:
            own = np.s_[..., : self.deviations]
            z[own], first[own], second[own] = xi[own] ** 2, 2.0 * xi[own], 2.0
        return z, first, second

    def __call__(self, xi: Floats) -> Floats:
        d, M, _, _ = self._inside(self._chart(xi)[0])
        return np.asarray(d * M)

    def pack(self, T: Floats) -> Floats:
        z = self._of(T)
        if not self.homogeneous:
            z[..., : self.deviations] = np.sqrt(z[..., : self.deviations])
        return z

    def jacobian(self, xi: Floats) -> Floats:
        z, first, _ = self._chart(xi)
        return np.asarray(self._slopes(z) * first[..., None, None, :])

    def second(self, xi: Floats, gradient: Floats) -> Floats:
        return self._turned(*self._chart(xi), gradient)

    def _turned(self, z: Floats, first: Floats, second: Floats, G: Floats) -> Floats:
        """Second derivatives by numbers each of which moves one entry of ``z``."""
        own = second * np.einsum("...ab,...abc->...c", G, self._slopes(z))
        bends = self._bends(z, G) * first[..., :, None] * first[..., None, :]
        return np.asarray(bends + own[..., None] * np.eye(self.size))

    def pull(self, T: Floats, G: Floats) -> Floats:
        return np.asarray(np.einsum("...ab,...abc->...c", G, self.jacobian(self.pack(T))))

    def moved(self, T: Floats, steps: Floats) -> Floats:
        return np.asarray(np.einsum("abc,mc->mab", self.jacobian(self.pack(T)), steps))

    def directions(self, T: Floats, u: Floats, e: Floats) -> Floats:
        D = self.jacobian(self.pack(T))
        own = np.einsum("...abc,...lb->...lac", D, u)
        return np.asarray(own + np.einsum("...adc,...ld->...lac", self._products(T, D), e))

    def directions_by_column(self, T: Floats, u: Floats, e: Floats) -> Floats:
        T = np.moveaxis(T, (0, 1), (-2, -1))
        D = self.jacobian(self.pack(T))
        own = np.einsum("...abc,b...->ac...", D, u)
        return np.asarray(own + np.einsum("...adc,d...->ac...", self._products(T, D), e))

    def shifts(self, T: Floats, e: Floats) -> Floats:
        return self.directions(T, e @ T, e)

    def rates(self, T: Floats) -> Floats:
        return np.eye(self.size)

    def _products(self, T: Floats, D: Floats) -> Floats:
        """``T D'`` of every direction."""
        return np.asarray(np.einsum("...ab,...dbc->...adc", T, D))

    def second_order(self, T: Floats, gamma: Floats) -> Floats:
        xi = self.pack(T)
        D = self.jacobian(xi)
        both = 2.0 * np.einsum("...abr,...ac,...cbs->...rs", D, gamma, D, optimize=True)
        return np.asarray(both + self.second(xi, 2.0 * gamma @ T))

    def scaling(self, R: Floats, T: Floats) -> Floats:
        xi = self.pack(T)
        found = np.sqrt(xi**2 + 1.0)
        found[self.deviations :] = 1.0
        return np.diag(found)

    def away(self, x: Floats, known: Floats) -> tuple[Floats, Floats]:
        apart = self.pack(self.canonical(self(x))) - self.pack(self.canonical(self(known)))
        return apart, apart

    def removals(self, T: Floats) -> Floats:
        xi = self.pack(T)
        steps = np.zeros((*xi.shape[:-1], self.k, self.size))
        for i in range(self.deviations):
            steps[..., i, i] = xi[..., i]
        if self.homogeneous:
            steps[...] = steps[..., :1, :]
        return steps

    def elsewhere(self, T: Floats) -> Floats | None:
        if not self.correlates:
            return None
        z = self._of(T)
        rho = self._correlation(z[..., -1])
        least = -1.0 if self.kind == "ar1" else -1.0 / (self.k - 1)
        z[..., -1] = self._angle(np.where(rho > 0.5 * least, 0.7 * least, 0.7))
        d = np.abs(z[..., : self.deviations])
        z[..., : self.deviations] = np.maximum(d, _START)
        d, M, _, _ = self._inside(z)
        return np.asarray(d * M)

    # -------------------------------------------------------------- in the chart of reports

    def reported(self, T: Floats) -> Floats:
        z = self._of(T)
        z[..., : self.deviations] = np.abs(z[..., : self.deviations])
        if self.correlates:
            z[..., -1] = self._correlation(z[..., -1])
        return z

    def of_reported(self, values: Floats) -> Floats:
        z = np.array(values, dtype=np.float64)
        if self.correlates:
            z[..., -1] = self._angle(z[..., -1])
        d, M, _, _ = self._inside(z)
        return np.asarray(d * M)

    def _reports(self, T: Floats) -> tuple[Floats, Floats, Floats]:
        """``z``, and its derivatives by what is reported: none of a correlation at a bound."""
        z = self._of(T)
        first, second = np.ones(z.shape), np.zeros(z.shape)
        if self.correlates:
            phi = z[..., -1]
            if self.kind == "ar1":
                g, h = np.cos(phi), -np.sin(phi)
            else:
                ratio = self.k / (self.k - 1)
                g, h = -ratio * np.sin(2.0 * phi), -2.0 * ratio * np.cos(2.0 * phi)
            inside = np.abs(g) > np.sqrt(_BOUND)
            safe = np.where(inside, g, 1.0)
            first[..., -1] = np.where(inside, 1.0 / safe, 0.0)
            second[..., -1] = np.where(inside, -h / safe**3, 0.0)
        return z, first, second

    def slopes(self, T: Floats) -> Floats:
        z, first, _ = self._reports(T)
        return np.moveaxis(self._slopes(z) * first[..., None, None, :], -1, -3)

    def bends(self, T: Floats, G: Floats) -> Floats:
        return self._turned(*self._reports(T), G)

    def tangents(self, B: Floats, T: Floats) -> Floats:
        half = self.slopes(T) @ T[..., None, :, :].swapaxes(-1, -2)
        inverse = np.linalg.inv(B)
        return np.asarray(inverse @ (half + half.swapaxes(-1, -2)) @ inverse.T)

    def distances(self, T: Floats, least: Floats) -> Floats:
        z = self._of(T)
        found = np.ones(z.shape)
        found[..., : self.deviations] = np.sqrt(
            z[..., : self.deviations] ** 2 + least[: self.deviations]
        )
        if self.correlates:
            rho = self._correlation(z[..., -1])
            found[..., -1] = np.maximum(1.0 - rho**2, _BOUND)
        return found

    def canonical(self, T: Floats, *, floor: float = 0.0) -> Floats:
        z = self._of(T)
        d = np.abs(z[: self.deviations])
        least = max(1e-12 * d.max(initial=0.0), floor)
        z[: self.deviations] = d = np.where(d > least, d, 0.0)
        if self.correlates:
            z[-1] = self._folded(z[-1], d, least)
        d, M, _, _ = self._inside(z)
        return np.asarray(d * M)

    def _folded(self, phi: float, d: Floats, least: float) -> float:
        """The angle between its bounds, at one of them where it is near, and the middle if open."""
        seen = int((d > 0.0).sum())
        if seen == 0 or (seen == 1 and not self.homogeneous):
            return float(self._angle(np.zeros(())))
        s, c = float(np.sin(phi)), abs(float(np.cos(phi)))
        c = 0.0 if d.max() * c <= least else c
        if self.kind == "cs":
            s = 0.0 if d.max() * abs(s) <= least else abs(s)
        return float(np.arctan2(s, c))

    def start(self, ratio: float) -> Floats:
        z = np.full(self.size, ratio)
        if self.correlates:
            z[-1] = self._angle(np.array(_START))
        d, M, _, _ = self._inside(z)
        return np.asarray(d * M)

    def part(self, columns: Sequence[int]) -> Template:
        return patterned(len(columns), self.kind, homogeneous=self.homogeneous)


def patterned(k: int, kind: str, *, homogeneous: bool) -> Template:
    """The template of a kind: any of one column is a variance."""
    return Full(k) if k == 1 else Patterned(k, kind, homogeneous)


# By the names under which they are stored; each takes the number of columns.
TEMPLATES: Mapping[str, Callable[[int], Template]] = {
    "full": Full,
    "diagonal": Diagonal,
    **{
        f"{kind}-{text}": partial(patterned, kind=kind, homogeneous=homogeneous)
        for kind in ("ar1", "cs", "diag")
        for text, homogeneous in (("hom", True), ("het", False))
        if (kind, text) != ("diag", "het")
    },
}
