"""Covariances of the subjects of all groups, as one map of the free numbers of a search.

Subjects of a group share ``Sigma`` (V, V) at all visits.  :class:`Separate` gives every group a
structure of its own.  :class:`Joined` has one structure for all, scaled row by row and with random
effects of the subject beside it,

    Sigma_g = D_g S D_g + sum over terms Z_gj T_j T_j' Z_gj',   D_g = diag(exp(B_g eta)),

so that variances may differ between strata or follow a covariate.  :class:`Beside` adds the numbers
of random effects that subjects share with each other, of which ``Sigma`` knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from interlace.covariance.grouped import Grouped
from interlace.covariance.structures import Natural, Structure
from interlace.covariance.templates import Floats, Places, Template

# Standard deviation of random effects to begin with, over that of the residuals.
_START = 0.5


class Stack(Protocol):
    """A smooth map ``x`` (size,) -> ``(G, V, V)``."""

    @property
    def size(self) -> int: ...
    @property
    def homogeneous(self) -> bool:
        """Whether all residuals have one variance."""
        ...

    @property
    def own(self) -> Sequence[Places]:
        """Which of the free numbers every group depends on."""
        ...

    @property
    def turns(self) -> int:
        """Directions of ``x`` that change nothing."""
        ...

    def __call__(self, x: Floats) -> Floats:
        """``(G, V, V)``."""
        ...

    def jacobians(self, x: Floats) -> list[Floats]:
        """Per group ``(V, V, c)``, by its own free numbers."""
        ...

    def second(self, x: Floats, gradients: Floats) -> Floats:
        """Second derivatives ``(size, size)``, contracted with gradients (G, V, V)."""
        ...

    def start(self, moments: Floats) -> Floats:
        """Free numbers near covariances ``(G, V, V)``."""
        ...

    def residual(self, x: Floats) -> Floats:
        """Covariances of residuals alone, a scaling of rows left out: of all groups, or of one.

        ``(G or 1, V, V)``; of joined groups one for every kind that has numbers of its own.
        """
        ...

    def noise(self, x: Floats) -> Floats:
        """Covariance of residuals alone, rows scaled: ``(G, V, V)``."""
        ...

    def reported(self, x: Floats, unit: float) -> tuple[Floats, Floats]:
        """Parameters of the residuals and their Jacobian ``(m, size)``."""
        ...

    def names(self, labels: Sequence[str]) -> list[str]:
        """Of what is reported, given the labels of the visits."""
        ...

    def naturals(self, x: Floats) -> list[Natural]:
        """Derivatives by the parameters that SAS prints, per group."""
        ...

    @property
    def linear(self) -> bool:
        """Whether the map is linear in these."""
        ...

    @property
    def designs(self) -> Sequence[Floats]:
        """``Z`` of the random terms of the subject, ``(G, V, k)``."""
        ...

    @property
    def templates(self) -> tuple[Template, ...]:
        """Of all random terms, those of the subject first, in the order of their numbers."""
        ...

    def templates_at(self, x: Floats) -> list[Floats]:
        """Their templates."""
        ...

    @property
    def within(self) -> Separate | Joined:
        """What subjects do not share, a map of the first of the free numbers."""
        ...


@dataclass(frozen=True)
class Separate:
    """A structure for each of some groups, with numbers of its own."""

    structure: Structure
    groups: int
    turns = 0
    templates = ()

    @property
    def within(self) -> Separate:
        return self

    @property
    def size(self) -> int:
        return self.groups * self.structure.size

    @property
    def homogeneous(self) -> bool:
        return self.structure.homogeneous and self.groups == 1

    @property
    def linear(self) -> bool:
        return self.structure.linear

    @cached_property
    def own(self) -> Sequence[Places]:
        return list(np.arange(self.size).reshape(self.groups, self.structure.size))

    def __call__(self, x: Floats) -> Floats:
        return np.stack([self.structure(x[own]) for own in self.own])

    def jacobians(self, x: Floats) -> list[Floats]:
        return [self.structure.jacobian(x[own]) for own in self.own]

    def second(self, x: Floats, gradients: Floats) -> Floats:
        found = np.zeros((self.size, self.size))
        for own, gradient in zip(self.own, gradients, strict=True):
            found[np.ix_(own, own)] = self.structure.second(x[own], gradient)
        return found

    def start(self, moments: Floats) -> Floats:
        return np.concatenate([self.structure.start(S) for S in moments])

    def residual(self, x: Floats) -> Floats:
        return self(x)

    def noise(self, x: Floats) -> Floats:
        return self(x)

    def reported(self, x: Floats, unit: float) -> tuple[Floats, Floats]:
        values, J = np.empty(self.size), np.zeros((self.size, self.size))
        for own in self.own:
            values[own], J[np.ix_(own, own)] = self.structure.reported(x[own], unit)
        return values, J

    def names(self, labels: Sequence[str]) -> list[str]:
        return self.structure.names(labels)

    @property
    def designs(self) -> Sequence[Floats]:
        return ()

    def templates_at(self, x: Floats) -> list[Floats]:
        return []

    def naturals(self, x: Floats) -> list[Natural]:
        return [self.structure.natural(x[own]) for own in self.own]


@dataclass(frozen=True, eq=False)
class Joined:
    """One structure for all groups, with a scale of every row and random effects.

    Parameters
    ----------
    structure
        ``S``: one for all groups, or, at points of their own, ``(G, V, V)`` of the same numbers.
    scales
        ``B`` (G, V, q): logs of standard deviations by the numbers ``eta``.
    ratios
        Of every ``eta``: its name, and whether ``exp(eta)`` is reported, a ratio.
    units
        ``(q,)``: ``eta`` is reported over them.
    templates, Z
        Of the random terms: ``T_j`` as maps, and ``Z_j`` (G, V, k).
    """

    structure: Structure
    scales: Floats
    ratios: tuple[tuple[str, bool], ...]
    units: Floats
    templates: tuple[Template, ...] = ()
    Z: tuple[Floats, ...] = ()
    linear = False

    @property
    def within(self) -> Joined:
        return self

    @property
    def groups(self) -> int:
        """Groups."""
        return len(self.scales)

    @property
    def size(self) -> int:
        return self._ends[-1]

    @property
    def homogeneous(self) -> bool:
        return self.structure.homogeneous and not self.ratios

    @cached_property
    def _ends(self) -> list[int]:
        sizes = [self.structure.size, len(self.ratios), *(t.size for t in self.templates)]
        return list(np.cumsum(sizes).tolist())

    @cached_property
    def own(self) -> Sequence[Places]:
        return [np.arange(self.size)] * self.groups

    @property
    def turns(self) -> int:
        return sum(t.size - len(t.entries[0]) for t in self.templates)

    def parts(self, x: Floats) -> tuple[Floats, Floats, list[Floats]]:
        """Numbers of the structure, ``eta``, and the templates."""
        xi, eta, *rest = np.split(x, self._ends[:-1])
        return xi, eta, [t(part) for t, part in zip(self.templates, rest, strict=True)]

    def _scaled(self, x: Floats) -> tuple[Floats, Floats]:
        """``d d'`` of every group, ``(G, V, V)``, and ``S`` of all or each."""
        xi, eta, _ = self.parts(x)
        d = np.exp(self.scales @ eta)
        return d[:, :, None] * d[:, None, :], _each(self.structure(xi), 2)

    def __call__(self, x: Floats) -> Floats:
        found = self.noise(x)
        for T, Z in zip(self.parts(x)[2], self.Z, strict=True):
            found = found + (Z @ T) @ np.swapaxes(Z @ T, 1, 2)
        return found

    def jacobians(self, x: Floats) -> list[Floats]:
        outer, S = self._scaled(x)
        xi, _, templates = self.parts(x)
        by_scale = (outer * S)[..., None] * self._pairs
        found = [outer[..., None] * self._slopes(xi), by_scale]
        for t, T, Z in zip(self.templates, templates, self.Z, strict=True):
            half = np.einsum("gva,abc,gwb->gvwc", Z, t.jacobian(t.pack(T)), Z @ T, optimize=True)
            found.append(half + np.swapaxes(half, 1, 2))
        return list(np.concatenate(found, axis=3))

    def _slopes(self, xi: Floats) -> Floats:
        """Derivatives of ``S`` of all or each."""
        return _each(self.structure.jacobian(xi), 3)

    @cached_property
    def _pairs(self) -> Floats:
        """``B_s + B_t``, ``(G, V, V, q)``."""
        return self.scales[:, :, None, :] + self.scales[:, None, :, :]

    def second(self, x: Floats, gradients: Floats) -> Floats:
        outer, S = self._scaled(x)
        xi, _, _ = self.parts(x)
        found, (m, n) = np.zeros((self.size, self.size)), self._ends[:2]
        weights = gradients * outer
        shared = self.structure(xi).ndim == 2
        found[:m, :m] = self.structure.second(xi, weights.sum(axis=0) if shared else weights)
        found[m:n, m:n] = np.einsum("gst,gsta,gstb->ab", weights * S, self._pairs, self._pairs)
        mixed = weights[..., None] * self._slopes(xi)
        found[:m, m:n] = np.einsum("gstc,gsta->ca", mixed, self._pairs, optimize=True)
        found[m:n, :m] = found[:m, m:n].T
        placed = zip(self.templates, self.parts(x)[2], self.Z, self._ends[2:], strict=True)
        for t, T, Z, end in placed:
            own = slice(end - t.size, end)
            found[own, own] = t.second_order(T, np.einsum("gva,gvw,gwb->ab", Z, gradients, Z))
        return found

    def start(self, moments: Floats) -> Floats:
        parts = [self.structure.start(moments.mean(axis=0)), np.zeros(len(self.ratios))]
        sd = float(np.sqrt(np.trace(moments.mean(axis=0)) / moments.shape[1]))
        for t, Z in zip(self.templates, self.Z, strict=True):
            size = np.sqrt((Z**2).mean(axis=(0, 1)))
            T = _START * sd * np.diag(1.0 / np.where(size > 0.0, size, 1.0))
            parts.append(t.pack(T))
        return np.concatenate(parts)

    def residual(self, x: Floats) -> Floats:
        xi = self.parts(x)[0]
        if isinstance(self.structure, Grouped):
            return self.structure.each(xi)
        return _each(self.structure(xi), 2)[:1]

    def noise(self, x: Floats) -> Floats:
        outer, S = self._scaled(x)
        return np.asarray(outer * S)

    def reported(self, x: Floats, unit: float) -> tuple[Floats, Floats]:
        xi, eta, _ = self.parts(x)
        values, own = self.structure.reported(xi, unit)
        as_ratio = np.array([ratio for _, ratio in self.ratios], dtype=bool)
        scales = np.where(as_ratio, np.exp(eta), eta / self.units)
        J = np.zeros((len(values) + len(eta), self.size))
        J[: len(values), : len(xi)] = own
        at = np.arange(len(eta))
        J[len(values) + at, len(xi) + at] = np.where(as_ratio, scales, 1.0 / self.units)
        return np.append(values, scales), J

    def names(self, labels: Sequence[str]) -> list[str]:
        return [*self.structure.names(labels), *(name for name, _ in self.ratios)]

    @property
    def designs(self) -> Sequence[Floats]:
        return self.Z

    def templates_at(self, x: Floats) -> list[Floats]:
        return self.parts(x)[2]

    def naturals(self, x: Floats) -> list[Natural]:
        """By the free numbers, less what is due to these not being natural.

        Natural are the variances of the strata or the rate, the parameters of the correlation, and
        the covariances of the random effects, in which ``Sigma`` is linear.
        """
        second = np.zeros((self.groups, *self.scales.shape[1:2] * 2, self.size, self.size))
        n = self._ends[1]
        J = self._turn(x)
        second[..., :n, :n] = np.einsum("ac,...ab,bd->...cd", J, self._bent(x), J, optimize=True)
        eye = np.eye(self.size)
        return [Natural(D, S, eye) for D, S in zip(self.jacobians(x), second, strict=True)]

    def _turn(self, x: Floats) -> Floats:
        """Natural parameters of the residuals by the free numbers: strata take the first along."""
        xi, eta, _ = self.parts(x)
        own, m = self.structure.natural(xi).turn, len(xi)
        J = np.eye(m + len(eta))
        J[:m, :m] = own
        v = self._variance(x)
        for i, (_, ratio) in enumerate(self.ratios):
            if ratio:
                J[m + i, :m] = np.exp(2.0 * eta[i]) * own[0]
                J[m + i, m + i] = 2.0 * v * np.exp(2.0 * eta[i])
        return J

    def _variance(self, x: Floats) -> float:
        """Of the residuals at scale 1."""
        return float(self.residual(x)[0, 0, 0])

    def _bent(self, x: Floats) -> Floats:
        """Second derivatives of the residuals' part by their natural parameters."""
        outer, S = self._scaled(x)
        xi, eta, _ = self.parts(x)
        n, m, v = self.structure.natural(xi), len(xi), self._variance(x)
        first, second = _each(n.first, 3), _each(n.second, 4)
        if not self.ratios:
            return np.asarray(outer[..., None, None] * second)
        V = outer * S
        strata = np.array([ratio for _, ratio in self.ratios], dtype=bool)
        # Of the logarithm of the scale: by the first variance, and by the rest.
        pairs = np.where(strata, 0.5, 1.0) * self._pairs
        rest = pairs / np.where(strata, v * np.exp(2.0 * eta), 1.0)
        base = (1.0 - pairs[..., strata].sum(axis=-1, keepdims=True)) / v
        w = np.concatenate([base, rest], axis=-1)
        found = np.zeros((*V.shape, m + len(eta), m + len(eta)))
        ww = w[..., :, None] * w[..., None, :]
        each = np.concatenate([[v], np.where(strata, v * np.exp(2.0 * eta), np.inf)])
        at = [0, *range(m, m + len(eta))]
        bent = ww - (w / each)[..., :, None] * np.eye(len(at))
        found[(..., *np.ix_(at, at))] = V[..., None, None] * bent
        turned = outer[..., None] * first[..., 1:]
        mixed = w[..., :, None] * turned[..., None, :]
        for i, j in enumerate(at):
            found[..., j, 1:m] += mixed[..., i, :]
            found[..., 1:m, j] += mixed[..., i, :]
        found[..., 1:m, 1:m] += outer[..., None, None] * second[..., 1:, 1:]
        return found


@dataclass(frozen=True, eq=False)
class Beside:
    """Covariances within subjects, and templates of random effects that subjects share.

    The numbers of ``across`` follow those of ``within``; ``Sigma`` does not depend on them.
    """

    within: Separate | Joined
    across: tuple[Template, ...]

    @property
    def size(self) -> int:
        return self.within.size + sum(t.size for t in self.across)

    @property
    def homogeneous(self) -> bool:
        return self.within.homogeneous

    @property
    def linear(self) -> bool:
        return self.within.linear

    @property
    def own(self) -> Sequence[Places]:
        return self.within.own

    @property
    def turns(self) -> int:
        return self.within.turns + sum(t.size - len(t.entries[0]) for t in self.across)

    def inner(self, x: Floats) -> Floats:
        """The numbers of ``within``."""
        return x[: self.within.size]

    def __call__(self, x: Floats) -> Floats:
        return self.within(self.inner(x))

    def jacobians(self, x: Floats) -> list[Floats]:
        return self.within.jacobians(self.inner(x))

    def second(self, x: Floats, gradients: Floats) -> Floats:
        found, m = np.zeros((self.size, self.size)), self.within.size
        found[:m, :m] = self.within.second(self.inner(x), gradients)
        return found

    def start(self, moments: Floats) -> Floats:
        sd = float(np.sqrt(np.trace(moments.mean(axis=0)) / moments.shape[1]))
        across = [t.pack(t.start(_START * sd)) for t in self.across]
        return np.concatenate([self.within.start(moments), *across])

    def residual(self, x: Floats) -> Floats:
        return self.within.residual(self.inner(x))

    def noise(self, x: Floats) -> Floats:
        return self.within.noise(self.inner(x))

    def reported(self, x: Floats, unit: float) -> tuple[Floats, Floats]:
        values, own = self.within.reported(self.inner(x), unit)
        J = np.zeros((len(values), self.size))
        J[:, : self.within.size] = own
        return values, J

    def names(self, labels: Sequence[str]) -> list[str]:
        return self.within.names(labels)

    def naturals(self, x: Floats) -> list[Natural]:
        return self.within.naturals(self.inner(x))

    @property
    def designs(self) -> Sequence[Floats]:
        return self.within.designs

    @property
    def templates(self) -> tuple[Template, ...]:
        return (*self.within.templates, *self.across)

    def templates_at(self, x: Floats) -> list[Floats]:
        sizes = [t.size for t in self.across]
        parts = np.split(x[self.within.size :], np.cumsum(sizes)[:-1])
        shared = [t(part) for t, part in zip(self.across, parts, strict=True)]
        return [*self.within.templates_at(self.inner(x)), *shared]


def _each(values: Floats, dimensions: int) -> Floats:
    """Values of all groups as if of each."""
    return values[None] if values.ndim == dimensions else values
